//! One request, from its head to the body of its answer.

use super::Stop;
use super::body::{RequestBody, ResponseBody, Sending};
use super::closing::{Closing, Journal, Outcome};
use super::cors;
use super::exchange::Exchange;
use super::received::Received;
use super::respond::{self, Refused};
use super::spool::Room;
use crate::config::function_json::{AuthLevel, Trigger};
use crate::config::settings::Limits;
use crate::config::{Config, Role};
use crate::guest::published::Published;
use crate::observe::machine::Machine;
use crate::protocol::forwarded;
use crate::protocol::routes::{Route, Router};
use crate::run::{Call, Fault, Pool, Reply};
use crate::sandbox::hit::Hit;
use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, EXPECT, HOST, HeaderMap};
use http::uri::Authority;
use http::{HeaderValue, Method, Request, Response, StatusCode, Version};
use http_body::Body as _;
use hyper::body::Incoming;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::time::timeout_at;
use tokio_util::task::TaskTracker;

/// Everything that answers requests. Shared by all connections.
pub struct Service {
    /// The configuration.
    pub config: Config,
    router: Router,
    /// One for each of `config.functions`.
    guests: Arc<[Arc<Published>]>,
    pool: Pool,
    machine: Arc<Machine>,
    journal: Arc<Journal>,
    /// For request bodies that are read ahead of their guests.
    pub room: Arc<Room>,
    local: SocketAddr,
    /// The same, as a request would name it.
    authority: Authority,
    /// Owner of guests that outlive their answer.
    tasks: TaskTracker,
    stop: Stop,
}

/// What is known once a guest has answered.
struct Answered {
    reply: Reply,
    /// The announced length, if any.
    length: Option<u64>,
    /// The body, if the guest left all of it at once.
    whole: Option<Bytes>,
}

impl Service {
    /// `guests` has one place for each of `config.functions`; `local` is the address that is listened on.
    pub fn new(
        config: Config,
        guests: Arc<[Arc<Published>]>,
        pool: Pool,
        machine: Arc<Machine>,
        local: SocketAddr,
        tasks: TaskTracker,
        stop: Stop,
    ) -> Self {
        let authority = Authority::try_from(local.to_string()).expect("a socket address is an authority");
        let journal = Arc::new(Journal::new(&config));
        let room = Room::new(config.spool);
        Self {
            router: Router::new(&config),
            journal,
            room,
            config,
            guests,
            pool,
            machine,
            local,
            authority,
            tasks,
            stop,
        }
    }

    /// Answers one request. Never fails: whatever goes wrong is an answer too, or the end of the connection.
    pub async fn answer(&self, request: Request<Incoming>, exchange: Arc<Exchange>) -> Response<ResponseBody> {
        let arrived = Instant::now();
        exchange.begin(!request.body().is_end_stream());
        let expects = request.headers().contains_key(EXPECT);
        let cors = cors::Call::new(self.config.cors.as_ref(), &request);
        let mut response = cors.answer(self.respond(request, arrived, &exchange)).await;
        if exchange.has_request_body() {
            let closes = response.headers().contains_key(CONNECTION) || !exchange.rest.is_short(expects).await;
            if closes {
                exchange.close();
                response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
        }
        if let ResponseBody::Own(_) = response.body() {
            exchange.end();
        }
        response
    }

    async fn respond(
        &self,
        request: Request<Incoming>,
        arrived: Instant,
        exchange: &Arc<Exchange>,
    ) -> Response<ResponseBody> {
        let (head, incoming) = request.into_parts();
        let incoming = Received::new(incoming, exchange);
        if forwarded::is_ping(self.config.role, &head) {
            return respond::own(StatusCode::OK, "text/plain", "flexwasm is ready\n");
        }
        let mut closing = Closing::new(&self.journal, &head, arrived, self.stop.now.clone());
        let origin = match forwarded::origin(self.config.role, &head, &self.authority) {
            Ok(origin) => origin,
            Err(problem) => return Refused::from(problem).response(closing),
        };
        if head.method == Method::CONNECT {
            return Refused::tunnel().response(closing);
        }
        closing.id = Some(Arc::clone(&origin.id));
        let index = match self.router.find(&self.config.functions, &head.method, head.uri.path()) {
            Route::Function(index) => index,
            Route::Envelope(index) => {
                closing.function = Some(index);
                return Refused::envelope(&self.config.functions[index].name).response(closing);
            }
            Route::Refused(index) => {
                closing.function = Some(index);
                return Refused::function(&self.config.functions[index]).response(closing);
            }
            Route::WrongMethod(allowed) => return Refused::wrong_method(&allowed).response(closing),
            Route::NotFound if self.config.role == Role::StandAlone && head.uri.path() == "/" => {
                closing.outcome = Outcome::Answered;
                closing.status = Some(StatusCode::OK);
                return self.home_page();
            }
            Route::NotFound => return Refused::not_found().response(closing),
        };

        closing.function = Some(index);
        let function = &self.config.functions[index];
        let (is_head, version) = (head.method == Method::HEAD, head.version);
        let deadline = (arrived + function.limits.timeout).into();
        let request = Request::from_parts(head, incoming);
        let call = Call { request, scheme: origin.scheme, authority: origin.authority, id: origin.id };
        let answered = self.run(index, call, deadline, &mut closing.queued).await;
        let Answered { reply, length, whole } = match answered {
            Ok(answered) => answered,
            Err(refused) => return refused.response(closing),
        };

        let Reply { mut head, body, identity, timings, not_parked } = reply;
        respond::remove_annotations(&mut head.headers);
        respond::annotate(&mut head.headers, self.config.headers, &identity, &self.machine, closing.queued, timings);
        closing.status = Some(head.status);
        closing.ran = Some((identity, timings));
        closing.not_parked = not_parked;
        let bodiless = is_bodiless(is_head, head.status);
        exchange.answer(deadline, version == Version::HTTP_10 && length.is_none() && whole.is_none());
        let sending = Sending {
            exchange: Arc::clone(exchange),
            deadline,
            tasks: self.tasks.clone(),
            closing,
            limit: function.limits.response_body,
            length,
            bodiless,
        };
        let body = match whole {
            Some(bytes) => ResponseBody::whole(bytes, sending),
            None => ResponseBody::guest(body, sending),
        };
        Response::from_parts(head, body)
    }

    /// Runs the function's guest until the head of its answer is there, within the deadline and the body's limit.
    async fn run(
        &self,
        index: usize,
        call: Call<Received>,
        deadline: tokio::time::Instant,
        queued: &mut Duration,
    ) -> Result<Answered, Refused> {
        let function = &self.config.functions[index];
        let guest = self.guests[index].guest().ok_or_else(|| match self.guests[index].problem() {
            Some(why) => Refused::broken(&function.name, &why),
            None => Refused::loading(&function.name),
        })?;
        let Call { request, scheme, authority, id } = call;
        let (mut head, incoming) = request.into_parts();
        let is_head = head.method == Method::HEAD;
        let limit = function.limits.request_body;
        if incoming.size_hint().lower() > limit {
            return Err(Refused::body_too_large(limit));
        }
        if let Trigger::Http { auth, .. } = function.trigger {
            forwarded::remove_key(self.config.role, auth != AuthLevel::Anonymous, &mut head);
        }
        if head.headers.get(HOST).is_none_or(|host| host != authority.as_str()) {
            let host = HeaderValue::try_from(authority.as_str()).expect("an authority is a header value");
            head.headers.insert(HOST, host);
        }
        let (body, mut beyond) = RequestBody::new(incoming, limit);
        let call = Call { request: Request::from_parts(head, body), scheme, authority, id };

        let invoke = async {
            let asked = Instant::now();
            let lease = self.pool.admit(&guest, deadline).await;
            *queued = asked.elapsed();
            let mut reply = lease?.invoke(call).await?;
            within(&reply.head.headers, &function.limits).map_err(Fault::from)?;
            let length = sendable(&mut reply).map_err(Fault::BadHead)?;
            if let Some(size) = reply.body.known_size() {
                if let Some(most) = function.limits.response_body.filter(|most| size > *most) {
                    return Err(Fault::from(Hit::ResponseBody(most)).into());
                }
                let bodiless = is_bodiless(is_head, reply.head.status);
                match length.filter(|_| !bodiless) {
                    Some(length) if size < length => return Err(Fault::Unfinished.into()),
                    Some(length) if size > length => return Err(Fault::TOO_LONG.into()),
                    _ => {}
                }
            }
            let whole = reply.body.take_whole();
            Ok(Answered { reply, length, whole })
        };
        let too_long = async {
            match &mut beyond {
                Some(beyond) => beyond.await,
                None => std::future::pending().await,
            }
        };
        let answered = tokio::select! {
            biased;
            Ok(()) = too_long => return Err(Refused::body_too_large(limit)),
            answered = timeout_at(deadline, invoke) => answered,
        };
        // A guest may have turned the broken body into an answer of its own within the same poll.
        if beyond.is_some_and(|mut beyond| beyond.try_recv().is_ok()) {
            return Err(Refused::body_too_large(limit));
        }
        answered.unwrap_or_else(|_| Err(Refused::deadline(function.limits.timeout)))
    }

    fn home_page(&self) -> Response<ResponseBody> {
        let occupancy = self.pool.occupancy();
        let rows: String = self
            .urls()
            .map(|(name, methods, url)| {
                format!("<tr><td>{name}</td><td>{methods}</td><td><a href=\"{url}\">{url}</a></td></tr>\n")
            })
            .collect();
        let page = format!(
            "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\"><title>flexwasm</title>\n\
             <h1>flexwasm {}</h1>\n<p>{} of {} instances are busy, {} requests are waiting.</p>\n\
             <table><tr><th>Function</th><th>Methods</th><th>URL</th></tr>\n{rows}</table>\n</html>\n",
            env!("CARGO_PKG_VERSION"),
            occupancy.busy,
            occupancy.slots,
            occupancy.waiting,
        );
        respond::own(StatusCode::OK, "text/html; charset=utf-8", page)
    }

    /// Name, methods and URL of every plain HTTP function.
    pub fn urls(&self) -> impl Iterator<Item = (&str, String, String)> {
        self.config.functions.iter().filter_map(|function| {
            let Trigger::Http { route, methods, .. } = &function.trigger else { return None };
            let methods = methods
                .as_ref()
                .map_or("any".to_owned(), |methods| methods.iter().map(Method::as_str).collect::<Vec<_>>().join(","));
            let path = [self.config.route_prefix.as_str(), &route.to_string()]
                .map(|part| part.trim_matches('/').to_owned())
                .into_iter()
                .filter(|part| !part.is_empty())
                .collect::<Vec<_>>()
                .join("/");
            let path = if self.config.role == Role::Serve { String::new() } else { path };
            Some((&*function.name, methods, format!("http://{}/{path}", self.local)))
        })
    }
}

/// Whether the answer has no body on the wire, whatever the guest writes and announces.
fn is_bodiless(is_head: bool, status: StatusCode) -> bool {
    is_head || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
}

/// Holds the head of an answer to its limits; each line counts with its colon, space and end.
fn within(headers: &HeaderMap, limits: &Limits) -> Result<(), Hit> {
    if headers.len() > limits.response_headers as usize {
        return Err(Hit::ResponseHeaders(limits.response_headers));
    }
    let bytes: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
    if bytes as u64 > limits.response_head {
        return Err(Hit::ResponseHead(limits.response_head));
    }
    Ok(())
}

/// Checks what hyper would trip over: the status, and the length if one is announced.
fn sendable(reply: &mut Reply) -> Result<Option<u64>, &'static str> {
    let head = &mut reply.head;
    if head.status.is_informational() {
        return Err("an informational status cannot end an exchange");
    }
    if head.status == StatusCode::NO_CONTENT {
        head.headers.remove(CONTENT_LENGTH);
    }
    let mut lengths = head.headers.get_all(CONTENT_LENGTH).iter();
    let length = match (lengths.next(), lengths.next()) {
        (None, _) => return Ok(None),
        (Some(length), None) => length.to_str().ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit())),
        (Some(_), Some(_)) => None,
    };
    length.and_then(|text| text.parse().ok()).map(Some).ok_or("its content-length is not one number")
}
