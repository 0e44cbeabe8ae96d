//! Every response that the host gives itself, and so the only place where a fault becomes a status.
//!
//! The client reads a reason and the invocation's id; what the operator needs stands in the outcome.

use super::closing::Closing;
use super::request_body::TooLong;
use super::response_body::{ResponseBody, Timeout};
use crate::config::Function;
use crate::draw::Page;
use crate::invocation::BodyError;
use crate::live::Stream;
use crate::observe::record::Outcome;
use crate::pool::Refusal;
use crate::protocol::envelope::Bad;
use crate::protocol::forwarded::BadHead;
use crate::run::Fault;
use crate::sandbox::hit::Hit;
use bytes::Bytes;
use http::header::{
    ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER,
};
use http::{Method, Response, StatusCode};

/// A response that the host gives in place of a guest.
#[derive(Debug)]
pub struct HostResponse {
    status: StatusCode,
    content: Content,
    header: Option<Box<(HeaderName, HeaderValue)>>,
    /// What the operator reads.
    outcome: Outcome,
    /// One word for what is counted.
    kind: Option<&'static str>,
}

#[derive(Debug)]
enum Content {
    None,
    /// A page in HTML, and what it may do.
    Page(Page),
    /// JSON.
    Report(String),
    /// Server-sent events.
    Stream(Box<Stream>),
    /// An error in JSON.
    Error {
        /// One word for programs.
        reason: &'static str,
        /// One sentence for people.
        message: String,
    },
}

impl HostResponse {
    fn new(status: StatusCode, reason: &'static str, message: impl Into<String>) -> Self {
        let message = message.into();
        let outcome = Outcome::Refused(message.clone());
        Self { status, content: Content::Error { reason, message }, header: None, outcome, kind: Some(reason) }
    }

    fn success(status: StatusCode, content: Content) -> Self {
        Self { status, content, header: None, outcome: Outcome::Answered, kind: None }
    }

    /// A page that shows the pool. It is shown in no page of others.
    pub fn page(page: Page) -> Self {
        let policy = HeaderValue::try_from(format!("{}; frame-ancestors 'none'", page.policy));
        Self::success(StatusCode::OK, Content::Page(page))
            .with(CONTENT_SECURITY_POLICY, policy.expect("hashes and words are a header's value"))
    }

    /// What is new of the pool.
    pub fn report(report: String) -> Self {
        Self::success(StatusCode::OK, Content::Report(report)).with(CACHE_CONTROL, HeaderValue::from_static("no-store"))
    }

    /// The same, whenever something changes.
    pub fn stream(stream: Stream) -> Self {
        let content = Content::Stream(Box::new(stream));
        Self::success(StatusCode::OK, content).with(CACHE_CONTROL, HeaderValue::from_static("no-store"))
    }

    /// The pool is not shown.
    pub fn not_shown(status: StatusCode, why: &str) -> Self {
        Self::new(status, "not-shown", why)
    }

    /// To a browser's question before the request itself; what it may do stands in the headers.
    pub fn preflight() -> Self {
        Self::success(StatusCode::NO_CONTENT, Content::None)
    }

    /// `/admin/functions/NAME` has taken the request.
    pub fn accepted() -> Self {
        Self::success(StatusCode::ACCEPTED, Content::None)
    }

    /// `/admin/functions/NAME` does not take the request.
    pub fn not_started(status: StatusCode, why: impl Into<String>) -> Self {
        Self::new(status, "not-started", why)
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
    pub fn no_tunnel() -> Self {
        Self::new(StatusCode::NOT_IMPLEMENTED, "connect", "CONNECT is not supported").closing()
    }

    /// What should be an envelope for the function is none.
    pub fn bad_envelope(function: &str, bad: &Bad) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad-envelope", format!("function {function}: {bad}"))
    }

    /// A function that gets envelopes was sent something that another page may have sent as well.
    pub fn no_envelope() -> Self {
        let message = "this function is called with an envelope: send content-type: application/json";
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "no-envelope", message)
    }

    /// The envelope cannot be read to its end.
    pub fn unread(error: &BodyError) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad-request", error.to_string()).closing()
    }

    /// A guest's answer to an event cannot be told to Azure, or tells that the event has failed.
    pub fn bad_answer(function: &str, message: &str, bad: &Bad) -> Self {
        let outcome = Outcome::Faulted(format!("function {function}, event {message:?}: {bad}"));
        let words = "the event failed; the log has the reason";
        Self { outcome, ..Self::new(StatusCode::INTERNAL_SERVER_ERROR, "event-failed", words) }
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

    /// No request may reach the function, because Azure does not accept its route.
    pub fn route_refused(function: &Function) -> Self {
        let message = format!("function {} has no route that Azure accepts; `flexwasm check` says why", function.name);
        let outcome = Outcome::Refused(function.refused.as_deref().unwrap_or_default().to_owned());
        Self { outcome, ..Self::new(StatusCode::SERVICE_UNAVAILABLE, "route-refused", message) }
    }

    /// The deadline came before the guest's head.
    pub fn deadline(timeout: Timeout) -> Self {
        let message = format!("no answer within {} s", timeout.limit.as_secs_f64());
        Self { outcome: timeout.outcome(), ..Self::new(StatusCode::GATEWAY_TIMEOUT, "deadline", message) }
    }

    fn closing(self) -> Self {
        self.with(CONNECTION, HeaderValue::from_static("close"))
    }

    /// The response, with the invocation's id where there is one. It ends the invocation.
    pub fn send(self, mut closing: Closing) -> Response<ResponseBody> {
        closing.record.status = Some(self.status);
        closing.record.outcome = self.outcome;
        closing.record.kind = self.kind;
        let mut response = match self.content {
            Content::None => response(self.status, None, ResponseBody::Host(None)),
            Content::Page(page) => own(self.status, Some("text/html; charset=utf-8"), page.html),
            Content::Report(report) => own(self.status, Some("application/json"), report),
            Content::Stream(stream) => response(self.status, Some("text/event-stream"), ResponseBody::Live(stream)),
            Content::Error { reason, message } => {
                let id = closing.record.id.as_deref();
                let error =
                    serde_json::json!({ "error": { "reason": reason, "message": message, "invocation_id": id } });
                own(self.status, Some("application/json"), error.to_string())
            }
        };
        response.headers_mut().extend(self.header.map(|header| *header));
        response
    }
}

impl From<Refusal> for HostResponse {
    fn from(refusal: Refusal) -> Self {
        let reason = match refusal {
            Refusal::QueueFull { .. } | Refusal::ShareFull { .. } => "queue-full",
            Refusal::WaitedTooLong { .. } | Refusal::WaitedForShare { .. } => "waited-too-long",
            Refusal::Closed => "shutting-down",
        };
        Self::new(StatusCode::SERVICE_UNAVAILABLE, reason, refusal.to_string()).with(RETRY_AFTER, 1)
    }
}

impl From<Fault> for HostResponse {
    fn from(fault: Fault) -> Self {
        let message = "the function failed; the log has the reason";
        let (outcome, kind) = (Outcome::Faulted(fault.to_string()), Some(fault.kind()));
        Self { outcome, kind, ..Self::new(StatusCode::INTERNAL_SERVER_ERROR, "guest-failed", message) }
    }
}

impl From<BadHead> for HostResponse {
    fn from(problem: BadHead) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad-request", problem.to_string()).closing()
    }
}

impl From<TooLong> for HostResponse {
    fn from(TooLong { limit }: TooLong) -> Self {
        let message = format!("the request body is longer than {limit} bytes");
        let outcome = Outcome::Refused(Hit::RequestBody(limit).explained());
        let refused = Self { outcome, ..Self::new(StatusCode::PAYLOAD_TOO_LARGE, "request-body-too-large", message) };
        // What is left of the body is not read: nothing else can follow on this connection.
        refused.closing()
    }
}

/// To the ping of the Functions host, which is no invocation.
pub fn ready() -> Response<ResponseBody> {
    own(StatusCode::OK, Some("text/plain"), "flexwasm is ready\n")
}

fn own(status: StatusCode, content_type: Option<&'static str>, words: impl Into<Bytes>) -> Response<ResponseBody> {
    response(status, content_type, ResponseBody::Host(Some(words.into())))
}

fn response(status: StatusCode, content_type: Option<&'static str>, body: ResponseBody) -> Response<ResponseBody> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().extend(content_type.map(|value| (CONTENT_TYPE, HeaderValue::from_static(value))));
    response
}
