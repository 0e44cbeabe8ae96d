//! One invocation on its way to a guest. Whatever shape it arrived in, it is taken apart once, where it arrives, and handed
//! down like this.

pub mod bindings;

pub use crate::observe::trace::{Tag, TraceContext};

use bindings::Bindings;
use http::request::Parts;
use http::uri::{Authority, Scheme};
use std::sync::Arc;

/// What a guest is asked.
pub struct Invocation<B> {
    /// The name of the function.
    pub function: Arc<str>,
    /// Its id, the trace that its guest reads from the headers, and where the guest's lines go.
    pub tag: Tag,
    /// Where the client sent it.
    pub origin: Origin,
    /// Method, target and headers as the guest sees them; the `Host` header repeats the authority.
    pub head: Parts,
    /// The body.
    pub body: B,
    /// What it has beside request and answer, if it has anything.
    pub bindings: Option<Arc<dyn Bindings>>,
}

/// Where the client sent a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// The scheme that the client used.
    pub scheme: Scheme,
    /// The authority that the client used.
    pub authority: Authority,
}

/// Why a request's body cannot be read on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// The client broke off, or what was read ahead is lost.
    #[error("the request's body broke off")]
    BrokenOff,
    /// It goes on behind so many bytes, which are all that the function accepts.
    #[error("the request's body is longer than {0} bytes")]
    TooLong(u64),
}

/// As a guest is told.
impl From<BodyError> for wasmtime_wasi_http::Error {
    fn from(error: BodyError) -> Self {
        match error {
            // WASI's own variant for it would write a line to the log.
            BodyError::BrokenOff => Self::ConnectionTerminated,
            BodyError::TooLong(limit) => Self::HttpRequestBodySize(Some(limit)),
        }
    }
}
