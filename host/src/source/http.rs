//! A guest that is one file of a web server. Its version is the entity tag.

use super::{Failure, Fetched, Source, read, send, successful};
use reqwest::header::{ETAG, HeaderValue, IF_NONE_MATCH};
use reqwest::{StatusCode, Url};

pub(super) async fn fetch(source: &Source, url: &Url, known: Option<&str>) -> Result<Fetched, Failure> {
    let mut request = source.with_credentials(source.client.get(url.clone()));
    let known = known.and_then(|version| HeaderValue::from_str(version).ok());
    if let Some(version) = &known {
        request = request.header(IF_NONE_MATCH, version);
    }
    let response = send(request).await?;
    let tag = response.headers().get(ETAG);
    let same_tag = response.status() == StatusCode::OK && known.is_some() && known.as_ref() == tag;
    if same_tag || (response.status() == StatusCode::NOT_MODIFIED && known.is_some()) {
        return Ok(Fetched::Unchanged);
    }
    let version = tag.and_then(|tag| tag.to_str().ok()).map(str::to_owned);
    let wasm = read(successful(response)?, source.max_size, Failure::TooLarge).await?;
    Ok(Fetched::Guest { wasm, version })
}
