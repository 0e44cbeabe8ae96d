//! The only place where a fault becomes a status, and where diagnostic headers are added.
//!
//! The client reads a reason and the invocation's id; what the operator needs stands in the closing line.

use super::body::ResponseBody;
use super::closing::{Closing, Outcome};
use crate::config::Function;
use crate::config::settings::Headers;
use crate::observe::machine::{Machine, current_thread};
use crate::observe::text::Text;
use crate::pool::{Fault, Refusal, Timings};
use crate::protocol::forwarded::BadHead;
use crate::sandbox::Identity;
use crate::sandbox::hit::Hit;
use bytes::Bytes;
use http::header::{ALLOW, CONNECTION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use http::{Method, Response, StatusCode};
use std::time::Duration;

const INSTANCE: HeaderName = HeaderName::from_static("x-flexwasm-instance");
const HOST: HeaderName = HeaderName::from_static("x-flexwasm-host");
const SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");

/// An answer that the host gives in place of a guest.
#[derive(Debug)]
pub struct Refused {
    status: StatusCode,
    /// One word for programs.
    reason: &'static str,
    /// One sentence for people.
    message: String,
    header: Option<Box<(HeaderName, HeaderValue)>>,
    /// What the operator reads.
    pub outcome: Outcome,
}

impl Refused {
    fn new(status: StatusCode, reason: &'static str, message: impl Into<String>) -> Self {
        let message = message.into();
        Self { status, reason, outcome: Outcome::Refused(message.clone()), message, header: None }
    }

    fn with(mut self, name: HeaderName, value: impl Into<HeaderValue>) -> Self {
        self.header = Some(Box::new((name, value.into())));
        self
    }

    /// No function has this path.
    pub fn not_found() -> Self {
        Self::new(StatusCode::NOT_FOUND, "not-found", "no function answers this path")
    }

    /// A function has this path, for other methods.
    pub fn wrong_method(allowed: &[Method]) -> Self {
        let list = allowed.iter().map(Method::as_str).collect::<Vec<_>>().join(", ");
        let value = HeaderValue::try_from(&list).expect("methods are tokens");
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed", format!("this path answers {list}"))
            .with(ALLOW, value)
    }

    /// CONNECT asks for a tunnel, which nobody here digs.
    pub fn tunnel() -> Self {
        Self::new(StatusCode::NOT_IMPLEMENTED, "connect", "CONNECT is not supported").closing()
    }

    /// The function is called with a JSON envelope.
    pub fn envelope(function: &str) -> Self {
        let message = format!(
            "function {function} is called with a JSON envelope, which this version of flexwasm does not support: give it \
             exactly one httpTrigger input and one http output, and set customHandler.enableProxyingHttpRequest and \
             enableForwardingHttpRequest in host.json"
        );
        Self::new(StatusCode::NOT_IMPLEMENTED, "envelope", message)
    }

    /// The function's guest is still being compiled or tried out.
    pub fn loading(function: &str) -> Self {
        let message = format!("the guest of function {function} is still being loaded");
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "guest-loading", message).with(RETRY_AFTER, 1)
    }

    /// The function's guest could not be loaded.
    pub fn broken(function: &str, why: &str) -> Self {
        let message = format!("the guest of function {function} could not be loaded; `flexwasm check` says why");
        let outcome = Outcome::Refused(why.to_owned());
        Self { outcome, ..Self::new(StatusCode::SERVICE_UNAVAILABLE, "guest-not-loaded", message) }
    }

    /// The function answers nobody, because its route is none.
    pub fn function(function: &Function) -> Self {
        let message = format!("function {} has no route that Azure accepts; `flexwasm check` says why", function.name);
        let outcome = Outcome::Refused(function.refused.as_deref().unwrap_or_default().to_owned());
        Self { outcome, ..Self::new(StatusCode::SERVICE_UNAVAILABLE, "route-refused", message) }
    }

    /// The request body is longer than the function accepts.
    pub fn body_too_large(limit: u64) -> Self {
        let message = format!("the request body is longer than {limit} bytes");
        let outcome = Outcome::Refused(Hit::RequestBody(limit).explained());
        let refused = Self { outcome, ..Self::new(StatusCode::PAYLOAD_TOO_LARGE, "request-body-too-large", message) };
        // What is left of the body is not read: nothing else can follow on this connection.
        refused.closing()
    }

    /// The deadline came before the guest's head.
    pub fn deadline(timeout: Duration) -> Self {
        let message = format!("no answer within {} s", timeout.as_secs_f64());
        Self { outcome: Outcome::Deadline, ..Self::new(StatusCode::GATEWAY_TIMEOUT, "deadline", message) }
    }

    fn closing(self) -> Self {
        self.with(CONNECTION, HeaderValue::from_static("close"))
    }

    /// The response, with the invocation's id where there is one, and its line in the log.
    pub fn response(self, mut closing: Closing) -> Response<ResponseBody> {
        let error = serde_json::json!({
            "error": { "reason": self.reason, "message": self.message, "invocation_id": closing.id.as_deref() }
        });
        closing.status = Some(self.status);
        closing.outcome = self.outcome;
        let mut response = own(self.status, "application/json", error.to_string());
        response.headers_mut().extend(self.header.map(|header| *header));
        response
    }
}

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Self {
        let reason = match refusal {
            Refusal::QueueFull { .. } | Refusal::ShareFull { .. } => "queue-full",
            Refusal::WaitedTooLong { .. } | Refusal::WaitedForShare { .. } => "waited-too-long",
            Refusal::Closed => "shutting-down",
        };
        Self::new(StatusCode::SERVICE_UNAVAILABLE, reason, refusal.to_string()).with(RETRY_AFTER, 1)
    }
}

impl From<Fault> for Refused {
    fn from(fault: Fault) -> Self {
        let message = "the function failed; the log has the reason";
        let outcome = Outcome::Faulted(fault.to_string());
        Self { outcome, ..Self::new(StatusCode::INTERNAL_SERVER_ERROR, "guest-failed", message) }
    }
}

impl From<BadHead> for Refused {
    fn from(problem: BadHead) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad-request", problem.to_string()).closing()
    }
}

/// An answer in the host's own words.
pub fn own(status: StatusCode, content_type: &'static str, text: impl Into<Bytes>) -> Response<ResponseBody> {
    let mut response = Response::new(ResponseBody::Own(Some(text.into())));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// Adds what the configuration asks for to a guest's answer: which instance, on which host, how long.
pub fn annotate(
    headers: &mut HeaderMap,
    which: Headers,
    identity: &Identity,
    machine: &Machine,
    queued: Duration,
    timings: Timings,
) {
    if which == Headers::Off {
        return;
    }
    let Identity { instance, slot, pool_size, served, generation, digest } = identity;
    let mut text = Text::new();
    let mut set = |name: HeaderName, text: &mut Text| {
        // A host name that is no header value stays out.
        if let Ok(value) = HeaderValue::from_bytes(text.as_bytes()) {
            headers.append(name, value);
        }
        text.clear();
    };
    text.number(*instance).add("; slot=").number(*slot).add("; pool=").number(*pool_size);
    text.add("; served=").number(*served).add("; generation=").number(*generation).add("; digest=").add(digest.short().as_ref());
    set(INSTANCE, &mut text);
    if which == Headers::Full {
        let (thread, name) = current_thread();
        let host = machine.azure_instance.as_ref().unwrap_or(&machine.host_name);
        text.add("\"").add(host).add("\"; pid=").number(machine.process_id);
        text.add("; thread=").number(thread).add("; name=\"").add(&name);
        text.add("\"; kernel=\"").add(&machine.kernel).add("\"; pagemap-scan=").add(machine.scan.word());
        set(HOST, &mut text);
        text.add("queue;dur=").millis(queued).add(", instantiate;dur=").millis(timings.instantiate);
        text.add(", guest;dur=").millis(timings.head);
        set(SERVER_TIMING, &mut text);
    }
}

/// Removes what only the host may say, before [`annotate`] says it.
pub fn remove_annotations(headers: &mut HeaderMap) {
    headers.remove(INSTANCE);
    headers.remove(HOST);
}
