//! Requests that guests send: what is granted, how many, and over which connections.
//!
//! | limit | what it counts |
//! |---|---|
//! | `grants.hosts` | scheme, name and port, and methods and paths where they are named; denied otherwise |
//! | a granted name | must not resolve to an address of private use, unless that very address is granted |
//! | `limits.outgoing` | requests of one invocation |
//! | `limits.outgoingConcurrent` | of these, under way at the same time, until the answer's body is read or dropped |
//!
//! What a grant adds to a request ([`credentials`]) is added here, after the guest has let go of it.

mod addresses;
mod client;
mod credentials;
mod identity;
mod retry_after;
mod upload;

pub use client::{CONNECTIONS, Client};
pub use identity::{Token, Tokens};
pub use retry_after::retry_after;
pub use upload::Cut;

use crate::config::hosts::{Name, Target, default_port};
use crate::observe::trace::{Calling, Came, Tag};
use bytes::Bytes;
use client::Failure;
use http::header::{HOST, HeaderValue};
use http::uri::{PathAndQuery, Scheme, Uri};
use http::{Method, Request, Response};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt as _;
use std::borrow::Cow;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering};
use std::task::{Context, Poll, ready};
use wasmtime_wasi_http::{Error, RequestOptions, WasiBody, WasiHttpHooks};

/// Bytes that an outgoing body takes in one write, in either direction.
const CHUNK_BYTES: usize = 64 << 10;

/// How many requests one invocation may send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// In all (`limits.outgoing`).
    pub requests: u32,
    /// At the same time (`limits.outgoingConcurrent`).
    pub concurrent: u32,
}

/// A limit that keeps a request from being sent, with its value. In words: key, value, and what to do about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reached {
    Requests(u32),
    Concurrent(u32),
}

impl fmt::Display for Reached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (key, limit, remedy) = match self {
            Self::Requests(limit) => ("outgoing", limit, "send fewer requests"),
            Self::Concurrent(limit) => ("outgoingConcurrent", limit, "read an answer to its end before it sends more"),
        };
        write!(f, "limits.{key} of {limit} reached: raise it, or let the guest {remedy}")
    }
}

/// Sends the requests of one instance, and does what WASI asks of us for them.
pub struct Sender {
    function: Arc<str>,
    /// None where nothing may be sent.
    client: Option<Arc<Client>>,
    /// The part of the guest that sends at this moment, with its client, where it is not the guest itself.
    pub part: Option<(Arc<str>, Option<Arc<Client>>)>,
    limits: Limits,
    /// Which invocation it sends them for.
    pub tag: Tag,
    /// Of this invocation, once it has tried to send a request.
    tally: Option<Arc<Tally>>,
    /// Whether the instance is gone; where it may send requests.
    cut: Option<Arc<AtomicBool>>,
}

/// What one invocation has sent.
#[derive(Default)]
struct Tally {
    sent: AtomicU32,
    under_way: AtomicU32,
    /// What the log has a line about already, a bit for each [`About`]: a guest could flood the log with its tries.
    told: AtomicU8,
}

/// Why a request is not sent.
#[derive(Clone, Copy)]
enum About {
    Grants = 1,
    Address = 2,
    Limit = 4,
    ConcurrentLimit = 8,
    Header = 16,
    Token = 32,
}

/// A request under way. It is over when this is dropped.
struct UnderWay(Arc<Tally>);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.under_way.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Tally {
    /// Whether nothing has been said about it yet.
    fn is_news(&self, about: About) -> bool {
        self.told.fetch_or(about as u8, Ordering::Relaxed) & about as u8 == 0
    }

    /// Counts a request, if it may be sent.
    fn admit(self: &Arc<Self>, limits: Limits) -> Result<UnderWay, Reached> {
        let below = |counter: &AtomicU32, limit: u32| {
            let add = |count: u32| (count < limit).then_some(count + 1);
            counter.try_update(Ordering::AcqRel, Ordering::Acquire, add).is_ok()
        };
        if !below(&self.under_way, limits.concurrent) {
            return Err(Reached::Concurrent(limits.concurrent));
        }
        let under_way = UnderWay(Arc::clone(self));
        if below(&self.sent, limits.requests) { Ok(under_way) } else { Err(Reached::Requests(limits.requests)) }
    }
}

impl Sender {
    /// Sends for an instance of `function`, which begins with the invocation of this tag.
    pub fn new(function: Arc<str>, client: Option<Arc<Client>>, limits: Limits, tag: Tag) -> Self {
        let cut = client.is_some().then(Arc::default);
        Self { function, client, part: None, limits, tag, tally: None, cut }
    }

    /// A part of the guest may send requests, whether the guest itself may or not.
    pub fn may_send(&mut self) {
        self.cut.get_or_insert_default();
    }

    /// What has to be dropped before the instance's store.
    pub fn cut(&self) -> Cut {
        Cut(self.cut.clone())
    }

    /// Whether a request of this invocation is under way.
    pub fn is_busy(&self) -> bool {
        self.tally.as_ref().is_some_and(|tally| tally.under_way.load(Ordering::Acquire) > 0)
    }

    /// Another invocation has begun: it may send as many requests as the first.
    pub fn begin(&mut self, tag: Tag) {
        self.tag = tag;
        self.tally = None;
    }

    /// Says what happened to a request, such as why it was not sent, once for each reason.
    fn teller(&self, tally: &Arc<Tally>) -> impl Fn(About, fmt::Arguments<'_>) + Send + Sync + use<> {
        let (function, Tag { id, trace, .. }, tally) =
            (Arc::clone(&self.function), self.tag.clone(), Arc::clone(tally));
        move |about, why| {
            if tally.is_news(about) {
                tracing::warn!(%function, %id, trace_id = %trace.trace_id(), span_id = %trace.span_id(), "a request of the guest {why}");
            }
        }
    }
}

type Pending<T> = Box<dyn Future<Output = T> + Send>;
type Sent = (Response<WasiBody>, Pending<Result<(), Error>>);

impl WasiHttpHooks for Sender {
    fn p2_outgoing_body_chunk_size(&mut self) -> usize {
        CHUNK_BYTES
    }

    fn p3_outgoing_body_chunk_size(&mut self) -> usize {
        CHUNK_BYTES
    }

    fn send_request(
        &mut self,
        request: Request<WasiBody>,
        options: Option<RequestOptions>,
        _: Pending<Result<(), Error>>,
    ) -> Pending<Result<Sent, Error>> {
        // From here on the body has a reader (`sandbox::bodies`).
        request.body().is_end_stream();
        let (target, mut request) = match prepare(request) {
            Ok(prepared) => prepared,
            Err(error) => return failed(error),
        };
        let tally = Arc::clone(self.tally.get_or_insert_default());
        let tell = self.teller(&tally);
        let (client, whose) = match &self.part {
            Some((name, client)) => (client, format!("grants.hosts of {name}").into()),
            None => (&self.client, Cow::Borrowed("grants.hosts")),
        };
        let Some((client, cut)) = client.clone().filter(|client| client.allows(&target)).zip(self.cut.clone()) else {
            tell(About::Grants, format_args!("was not sent: {whose} does not name {target}"));
            return failed(Error::HttpRequestDenied);
        };
        let Some(granted) = client.grant_of(&target, request.method(), request.uri().path()) else {
            tell(
                About::Grants,
                format_args!("was not sent: {whose} names {target}, but neither this method nor this path"),
            );
            return failed(Error::HttpRequestDenied);
        };
        let under_way = match tally.admit(self.limits) {
            Ok(under_way) => under_way,
            Err(reached) => {
                let about = if matches!(reached, Reached::Requests(_)) { About::Limit } else { About::ConcurrentLimit };
                tell(about, format_args!("was not sent: {reached}"));
                return failed(Error::ConnectionLimitReached);
            }
        };
        if let Some(name) = granted.strip(request.headers_mut()) {
            tell(About::Header, format_args!("lost its header {name}: grants.hosts decides about it for {target}"));
        }
        let method = request.method().clone();
        let mut calling = self.tag.trace.call(&method, &target, request.headers_mut());
        Box::new(async move {
            let name = target.to_string();
            if let Err(why) = granted.add(request.headers_mut()).await {
                tell(About::Token, format_args!("was not sent: there is no token for {name}: {why}"));
                let error = Error::InternalError(Some("the host has no token for this server".to_owned()));
                if let Some(calling) = &mut calling {
                    calling.came(Came::failed(&error));
                }
                return Err(error);
            }
            let sent = client.send(target, request, options.unwrap_or_default(), cut).await;
            if let Some(calling) = &mut calling {
                calling.came(match &sent {
                    Ok(response) => Came::Answer(response.status()),
                    Err(Failure::Private(_)) => Came::failed(&Error::DestinationIpProhibited),
                    Err(Failure::Http(error)) => Came::failed(error),
                });
            }
            let response = match sent {
                Ok(response) => response,
                Err(Failure::Private(address)) => {
                    tell(
                        About::Address,
                        format_args!(
                            "was not sent: {name} resolves to {address}, an address of private use: if it is meant, let grants.hosts name that address too"
                        ),
                    );
                    return Err(Error::DestinationIpProhibited);
                }
                Err(Failure::Http(error)) => return Err(error),
            };
            let under_way = Some((under_way, calling));
            let response = response.map(|body| Counted { body, under_way }.boxed_unsync());
            let done: Pending<Result<(), Error>> = Box::new(async { Ok(()) });
            Ok((response, done))
        })
    }
}

fn failed(error: Error) -> Pending<Result<Sent, Error>> {
    Box::new(async { Err(error) })
}

/// Reads where a request goes, and makes it one that can be sent there.
fn prepare(mut request: Request<WasiBody>) -> Result<(Target, Request<WasiBody>), Error> {
    if request.method() == Method::CONNECT {
        return Err(Error::HttpRequestMethodInvalid);
    }
    let uri = request.uri();
    let tls = uri.scheme() == Some(&Scheme::HTTPS);
    let authority = uri.authority().filter(|authority| !authority.as_str().contains('@'));
    let authority = authority.ok_or(Error::HttpRequestUriInvalid)?;
    let name = Name::parse(authority.host()).ok_or(Error::HttpRequestUriInvalid)?;
    let port = match (authority.port_u16(), authority.port()) {
        (Some(port), _) => port,
        (None, None) => default_port(tls),
        (None, Some(_)) => return Err(Error::HttpRequestUriInvalid),
    };
    let target = Target { tls, name, port };
    let path = uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
    *request.uri_mut() = Uri::from(path);
    let host = HeaderValue::try_from(target.authority()).expect("a host name is a header value");
    request.headers_mut().insert(HOST, host);
    Ok((target, request))
}

/// A body that counts as under way until it is read or dropped.
struct Counted<B> {
    body: B,
    under_way: Option<(UnderWay, Option<Calling>)>,
}

impl<B: Body<Data = Bytes, Error = Error> + Unpin> Body for Counted<B> {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        if !matches!(frame, Some(Ok(_))) {
            self.under_way = None;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// What WASI asks for where there is no instance yet: the default answers, and nothing is sent.
pub struct Nobody;

impl WasiHttpHooks for Nobody {
    fn send_request(
        &mut self,
        _: Request<WasiBody>,
        _: Option<RequestOptions>,
        _: Pending<Result<(), Error>>,
    ) -> Pending<Result<Sent, Error>> {
        failed(Error::HttpRequestDenied)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_is_told_once() {
        let tally = Tally::default();
        let told = [About::Grants, About::Limit, About::Grants, About::Limit].map(|about| tally.is_news(about));
        assert_eq!(told, [true, true, false, false]);
    }

    #[test]
    fn every_limit_names_a_setting_its_value_and_what_to_do() {
        for (reached, words) in [
            (Reached::Requests(3), "limits.outgoing of 3 reached: raise it, or let the guest send fewer requests"),
            (
                Reached::Concurrent(2),
                "limits.outgoingConcurrent of 2 reached: raise it, or let the guest read an answer to its end before it sends more",
            ),
        ] {
            assert_eq!(reached.to_string(), words);
        }
    }
}
