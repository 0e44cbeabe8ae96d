//! One file over https, and over http on this machine. Its version is its `ETag`.

use super::{Fetched, Source, Why, read, refused};
use http::header::{ETAG, IF_NONE_MATCH};
use reqwest::StatusCode;
use url::Url;

/// Asks for the file, unless it still has this version.
pub async fn fetch(source: &Source, url: &Url, known: Option<&str>) -> Result<Fetched, Why> {
    let mut request = source.authenticated(source.client.get(url.clone()));
    if let Some(known) = known {
        request = request.header(IF_NONE_MATCH, known);
    }
    let response = request.send().await?;
    match response.status() {
        StatusCode::OK => {}
        StatusCode::NOT_MODIFIED if known.is_some() => return Ok(Fetched::Unchanged),
        status => return Err(refused(status)),
    }
    let version = response.headers().get(ETAG).and_then(|tag| Some(tag.to_str().ok()?.to_owned()));
    Ok(Fetched::Guest { wasm: read(response, source.max_size).await?, version })
}
