//! One invocation on its way to a guest. Whatever shape it arrived in, it is taken apart once, where it arrives, and handed
//! down like this.

use http::header::{HeaderMap, HeaderName, HeaderValue};
use http::request::Parts;
use http::uri::{Authority, Scheme};
use std::sync::Arc;

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// What a guest is asked.
pub struct Invocation<B> {
    /// The name of the function.
    pub function: Arc<str>,
    /// The invocation's id.
    pub id: Arc<str>,
    /// Where the client sent it.
    pub origin: Origin,
    /// The trace that it belongs to.
    pub trace: TraceContext,
    /// Method, target and headers as the guest sees them; the `Host` header repeats the authority.
    pub head: Parts,
    /// The body.
    pub body: B,
}

/// Where the client sent a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// The scheme that the client used.
    pub scheme: Scheme,
    /// The authority that the client used.
    pub authority: Authority,
}

/// The two headers of W3C Trace Context, as they were received: nobody has checked what they say.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct TraceContext {
    /// `traceparent`.
    pub parent: Option<HeaderValue>,
    /// `tracestate`, which means nothing without the other.
    pub state: Option<HeaderValue>,
}

impl TraceContext {
    /// Reads both. A `traceparent` of several lines is none, several lines of `tracestate` are one list (W3C Trace Context, sections
    /// 3.2 and 3.3).
    pub fn of(headers: &HeaderMap) -> Self {
        let mut parents = headers.get_all(TRACEPARENT).iter();
        let (Some(parent), None) = (parents.next(), parents.next()) else { return Self::default() };
        let mut states = headers.get_all(TRACESTATE).iter();
        let first = states.next().cloned();
        let state = states.fold(first, |list, line| {
            HeaderValue::from_bytes(&[list?.as_bytes(), b",", line.as_bytes()].concat()).ok()
        });
        Self { parent: Some(parent.clone()), state }
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_has_one_parent_and_one_list_of_states() {
        let read = |lines: &[(&'static str, &'static str)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in lines.iter().copied() {
                headers.append(name, HeaderValue::from_static(value));
            }
            let TraceContext { parent, state } = TraceContext::of(&headers);
            [parent, state].map(|value| value.map(|value| value.to_str().expect("text").to_owned()))
        };
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(read(&[]), [None, None]);
        assert_eq!(read(&[("traceparent", "00-a-b-01")]), [some("00-a-b-01"), None]);
        assert_eq!(
            read(&[("tracestate", "a=1"), ("traceparent", "p"), ("tracestate", "b=2"), ("tracestate", "c=3")]),
            [some("p"), some("a=1,b=2,c=3")]
        );
        assert_eq!(read(&[("traceparent", "p"), ("traceparent", "q"), ("tracestate", "a=1")]), [None, None]);
    }
}
