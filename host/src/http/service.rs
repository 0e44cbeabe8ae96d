//! The path of one request, from its head to the body of its response.

use super::Stop;
use super::admin;
use super::closing::Closing;
use super::cors::Access;
use super::event::Event;
use super::event_room::EventRoom;
use super::exchange::Exchange;
use super::home;
use super::received::Received;
use super::request_body::RequestBody;
use super::respond::{self, HostResponse};
use super::response_body::{ResponseBody, Sending, Timeout};
use super::sendable::Sendable;
use super::spool::Room;
use crate::config::{Config, Role};
use crate::guest::Guest;
use crate::guest::published::Published;
use crate::live::{self, Live};
use crate::observe::machine::Machine;
use crate::observe::record::{Outcome, Sinks};
use crate::protocol::forwarded::Caller;
use crate::protocol::receipt::Receipt;
use crate::protocol::routes::{Route, Router};
use crate::protocol::{forwarded, media_type};
use crate::run::{Pool, Reply};
use http::header::{CONNECTION, EXPECT, HeaderValue};
use http::request::Parts;
use http::uri::Authority;
use http::{Method, Request, Response, Version};
use http_body::Body as _;
use hyper::body::Incoming;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Instant;
use tokio::time::timeout_at;
use tokio_util::task::TaskTracker;

/// What a [`Service`] is made of.
pub struct Setup {
    /// The configuration.
    pub config: Config,
    /// One for each of `config.functions`.
    pub guests: Arc<[Arc<Published>]>,
    /// Where guests run.
    pub pool: Pool,
    /// Where this process runs.
    pub machine: Arc<Machine>,
    /// Whom every finished invocation is told.
    pub sinks: Sinks,
    /// What people who look on are shown.
    pub live: Arc<Live>,
    /// The address that is listened on.
    pub local: SocketAddr,
    /// Owner of guests that outlive their response.
    pub tasks: TaskTracker,
    /// How it is told to stop.
    pub stop: Stop,
}

/// Everything that responds to requests. Shared by all connections.
pub struct Service {
    /// What it was given.
    pub setup: Setup,
    router: Router,
    /// For request bodies that are read ahead of their guests.
    pub room: Arc<Room>,
    events: EventRoom,
    /// The address that is listened on, as a request would name it.
    authority: Authority,
}

impl Service {
    /// Prepares what all requests share.
    pub fn new(setup: Setup) -> Self {
        let authority = Authority::try_from(setup.local.to_string()).expect("a socket address is an authority");
        let (router, room) = (Router::new(&setup.config), Room::new(setup.config.spool));
        let events = EventRoom::new(setup.config.total_memory);
        Self { setup, router, room, events, authority }
    }

    /// Responds to one request. Never fails: whatever goes wrong is a response too, or the end of the connection.
    pub async fn respond(&self, request: Request<Incoming>, exchange: Arc<Exchange>) -> Response<ResponseBody> {
        let arrived = Instant::now();
        let (head, incoming) = request.into_parts();
        exchange.begin(!incoming.is_end_stream());
        let body = Received::new(incoming, &exchange);
        let expects = head.headers.contains_key(EXPECT);
        let mut response = if forwarded::is_ping(self.setup.config.role, &head) {
            // What it still has belongs to the connection.
            drop(body);
            respond::ready()
        } else {
            self.respond_on_record(head, body, arrived, &exchange).await
        };
        if exchange.has_request_body()
            && (response.headers().contains_key(CONNECTION) || !exchange.rest.is_short(expects).await)
        {
            exchange.close();
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        match response.body() {
            ResponseBody::Host(_) => exchange.end(),
            // One that is read ends by itself before this.
            ResponseBody::Live(_) => {
                let end = arrived + live::LIFETIME + self.setup.config.head_timeout;
                exchange.respond(end.into(), false);
            }
            ResponseBody::Whole(_) | ResponseBody::Guest(_) => {}
        }
        response
    }

    /// Responds to what is no ping: whatever comes of it, it leaves a record.
    async fn respond_on_record(
        &self,
        head: Parts,
        body: Received,
        arrived: Instant,
        exchange: &Arc<Exchange>,
    ) -> Response<ResponseBody> {
        let Setup { config, sinks, stop, .. } = &self.setup;
        let access = Access::new(config.cors.as_ref(), &head);
        let mut closing = Closing::new(sinks, &head, body.flow(), arrived, stop.now.clone());
        let version = head.version;
        let responded = if access.is_preflight {
            Err(HostResponse::preflight())
        } else {
            self.invoke(head, body, arrived, &mut closing).await
        };
        let mut response = match responded {
            Ok(invoked) => self.send(invoked, version, closing, exchange),
            Err(own) => own.send(closing),
        };
        access.write(response.headers_mut());
        response
    }

    /// Lets the guest respond whose function has the path, within the deadline and the body's limit.
    ///
    /// # Errors
    /// What the host responds in its place.
    async fn invoke(
        &self,
        head: Parts,
        body: Received,
        arrived: Instant,
        closing: &mut Closing,
    ) -> Result<Invoked, HostResponse> {
        let Setup { config, pool, .. } = &self.setup;
        let caller = forwarded::caller(config.role, &head, &self.authority)?;
        if head.method == Method::CONNECT {
            return Err(HostResponse::no_tunnel());
        }
        let caller = Caller { trace: caller.trace.entered(config.telemetry.sampler()), ..caller };
        closing.record.id = Some(Arc::clone(&caller.id));
        closing.record.trace = Some(caller.trace.clone());
        if let Some(name) = admin::function(config.role, &head) {
            let asked = admin::Asked { config, local: self.setup.local, tasks: &self.setup.tasks, name };
            return Err(asked.answer(&head, body).await.unwrap_or_else(|refused| refused));
        }
        let (index, shape) = self.route(&head, closing)?;
        let function = &config.functions[index];
        if function.builtin.is_some() {
            return Err(self.show(&head));
        }
        let limits = &function.limits;
        let timeout = Timeout { deadline: (arrived + limits.timeout).into(), limit: limits.timeout };
        let guest = self.guest(index)?;
        let (body, watch) = RequestBody::new(body, limits.request_body)?;

        let queued = &mut closing.record.queued;
        let run = pin!(async {
            let asked = Instant::now();
            let lease = pool.admit(&guest, timeout.deadline).await;
            *queued = asked.elapsed();
            let lease = lease?;
            if shape == Shape::Envelope {
                return Event { function, guest: &guest, room: &self.events, caller, body }.answer(lease).await;
            }
            let method = head.method.clone();
            let reply = lease.invoke(forwarded::decode(config.role, function, caller, head, body)).await?;
            Ok::<_, HostResponse>((Sendable::new(reply, &method, limits)?, Outcome::Answered))
        });
        let ran = watch.until(pin!(timeout_at(timeout.deadline, run))).await?;
        let (sendable, success) = ran.unwrap_or_else(|_| Err(HostResponse::deadline(timeout)))?;
        closing.success = success;
        Ok(Invoked { sendable, timeout, limit: limits.response_body })
    }

    /// The function with the path, which is noted.
    fn route(&self, head: &Parts, closing: &mut Closing) -> Result<(usize, Shape), HostResponse> {
        let Setup { config, .. } = &self.setup;
        let route = self.router.find(&config.functions, &head.method, head.uri.path());
        if let Route::Function(index) | Route::Envelope(index) | Route::Refused(index) = route {
            closing.record.function = Some(Arc::clone(&config.functions[index].name));
            closing.record.route = Some(Arc::clone(self.router.path(index)));
        }
        match route {
            Route::Function(index) => Ok((index, Shape::Forwarded)),
            Route::Envelope(_) if head.method != Method::POST => Err(HostResponse::wrong_method(&[Method::POST])),
            // A page of another origin can send a form or a text without being asked about it.
            Route::Envelope(_) if !media_type(&head.headers).eq_ignore_ascii_case("application/json") => {
                Err(HostResponse::no_envelope())
            }
            Route::Envelope(index) => Ok((index, Shape::Envelope)),
            Route::Refused(index) => Err(HostResponse::route_refused(&config.functions[index])),
            Route::WrongMethod(allowed) => Err(HostResponse::wrong_method(&allowed)),
            Route::NotFound if config.role == Role::StandAlone && head.uri.path() == "/" => Err(self.show(head)),
            Route::NotFound => Err(HostResponse::not_found()),
        }
    }

    /// Shows what the pool does.
    fn show(&self, head: &Parts) -> HostResponse {
        let Setup { config, live, local, stop, .. } = &self.setup;
        home::answer(config, live, *local, head, &stop.gently).unwrap_or_else(|refused| refused)
    }

    /// The function's guest, if it is loaded.
    fn guest(&self, index: usize) -> Result<Arc<Guest>, HostResponse> {
        let (published, name) = (&self.setup.guests[index], &self.setup.config.functions[index].name);
        published.guest().ok_or_else(|| match published.problem() {
            Some(why) => HostResponse::broken(name, &why),
            None => HostResponse::loading(name),
        })
    }

    /// Sends what a guest has replied.
    fn send(
        &self,
        invoked: Invoked,
        version: Version,
        mut closing: Closing,
        exchange: &Arc<Exchange>,
    ) -> Response<ResponseBody> {
        let Setup { config, machine, tasks, .. } = &self.setup;
        let Invoked { sendable: Sendable { reply, length, whole, bodiless }, timeout, limit } = invoked;
        let Reply { mut head, body, identity, timings, not_parked } = reply;
        let queued = closing.record.queued;
        forwarded::encode(
            &mut head,
            &Receipt { headers: config.headers, identity: &identity, machine, queued, timings },
        );
        closing.record.status = Some(head.status);
        closing.ran(&identity, timings, not_parked);
        let ends_with_connection = version == Version::HTTP_10 && length.is_none() && whole.is_none();
        exchange.respond(timeout.deadline, ends_with_connection);
        let (exchange, tasks) = (Arc::clone(exchange), tasks.clone());
        let sending = Sending { exchange, timeout, tasks, closing, limit, length, bodiless };
        let body = match whole {
            Some(bytes) => ResponseBody::whole(bytes, sending),
            None => ResponseBody::guest(body, sending),
        };
        Response::from_parts(head, body)
    }
}

/// How the Functions host has put a request on the wire.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Shape {
    Forwarded,
    Envelope,
}

/// What a guest has replied in time.
struct Invoked {
    sendable: Sendable,
    timeout: Timeout,
    /// `limits.responseBody`.
    limit: Option<u64>,
}
