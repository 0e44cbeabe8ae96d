//! Guests from elsewhere: one file over https, or one layer of an artifact in an OCI registry.
//!
//! Whatever a source sends is held to `guest.maxSize` while it arrives. Redirects to another server are followed over https only and
//! lose the credentials, and what went wrong is told without a query, which may be a secret. oci-client was looked at and not taken:
//! it reads manifests, tokens and errors without a bound, and follows redirects and token services anywhere.

mod registry;
#[cfg(test)]
mod tests;
mod web;

use crate::config::source::{Credentials, Place, Remote};
use crate::outgoing::trusting;
use registry::Registry;
use reqwest::redirect::{Action, Attempt, Policy};
use reqwest::{Client, RequestBuilder, Response, StatusCode};
use std::error::Error as _;
use std::time::Duration;

/// Until a connection is there.
const CONNECT: Duration = Duration::from_secs(10);
/// Until all of a guest is there.
const WHOLE: Duration = Duration::from_secs(120);
/// Redirects in a row.
const REDIRECTS: usize = 5;

/// A source of one function.
pub struct Source {
    client: Client,
    remote: Remote,
    max_size: u64,
    /// How to get on with a registry; none for a file.
    registry: Option<Registry>,
}

/// What a source has.
#[derive(Debug, PartialEq, Eq)]
pub enum Fetched {
    /// What the caller knows.
    Unchanged,
    /// Something else.
    Guest {
        /// All of it.
        wasm: Vec<u8>,
        /// What the source calls it, so that it need not be fetched again. None if it has no name for it.
        version: Option<String>,
    },
}

/// Why nothing came: the source, what happened, and what to do.
#[derive(Debug, thiserror::Error)]
#[error("{remote} {why}")]
pub struct FetchError {
    remote: String,
    why: Why,
}

/// What happened.
#[derive(Debug, thiserror::Error)]
enum Why {
    #[error("cannot be fetched ({0})")]
    Lost(String),
    #[error("answers with status {0}{1}")]
    Status(StatusCode, &'static str),
    #[error("is larger than {}, which guest.maxSize allows: raise it, or build a smaller guest", crate::config::units::spell_size(*.0))]
    TooLarge(u64),
    #[error("{0}")]
    Wrong(String),
}

impl From<reqwest::Error> for Why {
    fn from(error: reqwest::Error) -> Self {
        let error = error.without_url();
        let mut words = error.to_string();
        let mut cause = error.source();
        while let Some(error) = cause {
            words = format!("{words}: {error}");
            cause = error.source();
        }
        Self::Lost(words)
    }
}

impl Source {
    /// Reads the certificates that the system trusts, which takes some ten milliseconds.
    ///
    /// # Errors
    /// They cannot be used.
    pub fn new(remote: &Remote, max_size: u64) -> Result<Self, String> {
        let trust = trusting().map_err(|error| error.to_string())?;
        let client = Client::builder()
            .tls_backend_preconfigured(trust)
            .connect_timeout(CONNECT)
            .timeout(WHOLE)
            .redirect(Policy::custom(redirected))
            // It would tell the next server the query.
            .referer(false)
            .no_proxy()
            .user_agent(concat!("flexwasm/", env!("CARGO_PKG_VERSION")))
            .build();
        let client = client.map_err(|error| error.without_url().to_string())?;
        let registry = match &remote.place {
            Place::Http(_) => None,
            Place::Oci(artifact) => Some(Registry::new(artifact.clone())),
        };
        Ok(Self { client, remote: remote.clone(), max_size, registry })
    }

    /// Whether it may have another guest tomorrow.
    pub fn can_change(&self) -> bool {
        !matches!(&self.remote.place, Place::Oci(artifact) if artifact.is_pinned())
    }

    /// Fetches what the source has, unless that is what it called `known`.
    ///
    /// # Errors
    /// [`FetchError`], in the words of whoever runs the app.
    pub async fn fetch(&self, known: Option<&str>) -> Result<Fetched, FetchError> {
        let fetched = match (&self.remote.place, &self.registry) {
            (Place::Http(url), _) => web::fetch(self, url, known).await,
            (_, Some(registry)) => registry.fetch(self, known).await,
            (Place::Oci(_), None) => unreachable!("made with it"),
        };
        fetched.map_err(|why| FetchError { remote: self.remote.to_string(), why })
    }

    /// A request with the credentials, if there are any.
    fn authenticated(&self, request: RequestBuilder) -> RequestBuilder {
        match &self.remote.credentials {
            Some(Credentials { username, password }) => request.basic_auth(username, Some(password)),
            None => request,
        }
    }
}

/// Follows to the same server, and to another over https.
fn redirected(attempt: Attempt<'_>) -> Action {
    let next = attempt.url();
    let stays = attempt.previous().last().is_some_and(|before| before.origin() == next.origin());
    if attempt.previous().len() > REDIRECTS {
        return attempt.error(format!("more than {REDIRECTS} redirects"));
    }
    if !next.username().is_empty() || next.password().is_some() {
        return attempt.error("a redirect with a user or password in it");
    }
    if stays || next.scheme() == "https" {
        return attempt.follow();
    }
    attempt.error("a redirect to another server without encryption")
}

/// Reads a body of at most `most` bytes.
async fn read(mut response: Response, most: u64) -> Result<Vec<u8>, Why> {
    if response.content_length().is_some_and(|length| length > most) {
        return Err(Why::TooLarge(most));
    }
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        if (body.len() + chunk.len()) as u64 > most {
            return Err(Why::TooLarge(most));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// What a status means for whoever runs the app.
fn refused(status: StatusCode) -> Why {
    let advice = match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
            ": set guest.username and guest.password, or renew the key in the app setting of guest.source"
        }
        StatusCode::NOT_FOUND => ": it is not there; check guest.source",
        _ => "",
    };
    Why::Status(status, advice)
}
