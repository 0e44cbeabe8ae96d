//! Guests that are not files of the app: fetched from a web server, or from an OCI registry.
//!
//! A server is trusted with nothing beyond the guest that it delivers: what is read has a bound, each fetch has a deadline, a redirect
//! is followed only where it cannot give anything away, and no error repeats a URL's query.

mod http;
mod oci;

use crate::config::source::{Credentials, Location, Remote};
use crate::config::units::spell_size;
use crate::tls;
use reqwest::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use reqwest::redirect::{Attempt, Policy};
use reqwest::{Client, RequestBuilder, Response, StatusCode};
use rustls::ClientConfig;
use std::error::Error;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;

/// How long a connection may take, encryption included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How long one fetch may take in all.
const TIMEOUT: Duration = Duration::from_secs(120);

/// The most redirects of one request.
const MAX_REDIRECTS: usize = 5;

/// A remote source of one function.
#[derive(Debug)]
pub struct Source {
    remote: Remote,
    max_size: u64,
    timeout: Duration,
    client: Client,
}

/// The result of asking a source.
#[derive(Debug, PartialEq, Eq)]
pub enum Fetched {
    /// The source still has the version that the caller knows.
    Unchanged,
    /// A guest, which has not been looked into.
    Guest {
        /// The file.
        wasm: Vec<u8>,
        /// What to ask with next time: an entity tag, or the digest of a manifest. None if the server sends none.
        version: Option<String>,
    },
}

/// Why there is no guest: one line for a person, without secrets.
#[derive(Debug, thiserror::Error)]
#[error("{asked} {why}")]
pub struct FetchError {
    asked: String,
    why: Failure,
}

/// What went wrong, as the end of a line that begins with the source.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(
        "cannot be reached ({0}): check guest.source and the network and, for https, that its certificate is trusted"
    )]
    Unreachable(String),
    #[error("did not answer in whole within {0:?}: look at the server and the network")]
    Slow(Duration),
    #[error("broke off its answer ({0}): look at the server and the network")]
    BrokenOff(String),
    #[error("answered {0}: {1}")]
    Status(StatusCode, &'static str),
    #[error("{0}: let guest.source name the place itself")]
    Redirect(String),
    #[error("does not say how long its answer is, so that a part of it could pass for the whole: look at the server")]
    Endless,
    #[error("has a guest of more than guest.maxSize, {}: raise it, or make the guest smaller", spell_size(*.0))]
    TooLarge(u64),
    #[error("{0}")]
    Registry(String),
}

impl Source {
    /// Prepares for fetching from `remote` guests of at most `max_size` bytes. Opens no connection.
    ///
    /// # Errors
    /// When the certificates that the system trusts cannot be used.
    pub fn new(remote: &Remote, max_size: u64) -> Result<Self, String> {
        let unusable = |error: &dyn Error| format!("cannot ask {remote}: {}", root_cause(error));
        let tls = tls::config().map_err(|error| unusable(&error))?;
        Self::trusting(tls, remote, max_size).map_err(|error| unusable(&error.without_url()))
    }

    fn trusting(tls: ClientConfig, remote: &Remote, max_size: u64) -> Result<Self, reqwest::Error> {
        let client = Client::builder()
            .user_agent(concat!("flexwasm/", env!("CARGO_PKG_VERSION")))
            .tls_backend_preconfigured(tls)
            // Whatever a resolver says, because requests to this name are not encrypted.
            .resolve_to_addrs("localhost", &[(Ipv4Addr::LOCALHOST, 0).into(), (Ipv6Addr::LOCALHOST, 0).into()])
            .no_proxy()
            .connect_timeout(CONNECT_TIMEOUT)
            // It would carry a signature along.
            .referer(false)
            .redirect(Policy::custom(|attempt| match check_redirect(&attempt) {
                Ok(()) => attempt.follow(),
                Err(why) => attempt.error(why),
            }))
            .build()?;
        Ok(Self { remote: remote.clone(), max_size, timeout: TIMEOUT, client })
    }

    /// Asks for the guest. `known` is the version that the caller has: if the source still has that one, this returns
    /// [`Fetched::Unchanged`] and reads no guest.
    ///
    /// # Errors
    /// The source has no guest, or none within the bounds. Asking again may help.
    pub async fn fetch(&self, known: Option<&str>) -> Result<Fetched, FetchError> {
        let fetching = async {
            match &self.remote.location {
                Location::Http(url) => http::fetch(self, url, known).await,
                Location::Oci(artifact) => oci::fetch(self, artifact, known).await,
            }
        };
        let in_time = tokio::time::timeout(self.timeout, fetching).await;
        let fetched = in_time.unwrap_or(Err(Failure::Slow(self.timeout)));
        fetched.map_err(|why| FetchError { asked: self.remote.to_string(), why })
    }

    /// Whether asking again can ever give another guest. It cannot if the source names an artifact by its digest.
    pub fn can_change(&self) -> bool {
        !matches!(&self.remote.location, Location::Oci(artifact) if artifact.is_pinned())
    }

    /// The request with the credentials of the source, if it has any.
    fn with_credentials(&self, request: RequestBuilder) -> RequestBuilder {
        match &self.remote.credentials {
            Some(Credentials { username, password }) => request.basic_auth(username, Some(password)),
            None => request,
        }
    }
}

/// Where a redirect may lead: to the server that it comes from, or to an encrypted one, which gets no credentials (reqwest drops
/// them where scheme, host or port change).
fn check_redirect(attempt: &Attempt<'_>) -> Result<(), String> {
    if attempt.previous().len() > MAX_REDIRECTS {
        return Err(format!("redirects more than {MAX_REDIRECTS} times"));
    }
    let (to, from) = (attempt.url(), attempt.previous().last());
    if to.scheme() == "https" || from.is_some_and(|from| from.origin() == to.origin()) {
        return Ok(());
    }
    Err(format!("redirects to {}, which is not encrypted", to.origin().ascii_serialization()))
}

/// Sends a request and waits for the head of its answer.
async fn send(request: RequestBuilder) -> Result<Response, Failure> {
    request.send().await.map_err(|error| {
        let why = root_cause(&error);
        match error {
            error if error.is_redirect() => Failure::Redirect(why),
            error if error.is_connect() => Failure::Unreachable(why),
            _ => Failure::BrokenOff(why),
        }
    })
}

/// The response, if its status is 200.
fn successful(response: Response) -> Result<Response, Failure> {
    let remedy = match response.status() {
        StatusCode::OK => return Ok(response),
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
            "check guest.username and guest.password, or the signature in guest.source, which may have expired"
        }
        StatusCode::NOT_FOUND | StatusCode::GONE => "check guest.source",
        status if status.is_server_error() => "look at the server",
        _ => "200 is expected: check guest.source",
    };
    Err(Failure::Status(response.status(), remedy))
}

/// Reads a body of at most `most` bytes.
async fn read(mut response: Response, most: u64, too_large: impl Fn(u64) -> Failure) -> Result<Vec<u8>, Failure> {
    if ![CONTENT_LENGTH, TRANSFER_ENCODING].iter().any(|header| response.headers().contains_key(header)) {
        return Err(Failure::Endless);
    }
    let announced = response.content_length().unwrap_or(0);
    if announced > most {
        return Err(too_large(most));
    }
    let mut body = Vec::with_capacity(announced as usize);
    let broken = |error: reqwest::Error| Failure::BrokenOff(root_cause(&error));
    while let Some(chunk) = response.chunk().await.map_err(broken)? {
        if (body.len() + chunk.len()) as u64 > most {
            return Err(too_large(most));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// The innermost reason. reqwest's own words, which come first, hold the URL.
pub(crate) fn root_cause(error: &dyn Error) -> String {
    let mut innermost = error;
    while let Some(inner) = innermost.source() {
        innermost = inner;
    }
    innermost.to_string()
}

#[cfg(test)]
mod tests;
