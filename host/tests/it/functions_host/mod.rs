//! The Azure Functions host, played as version 4.1037 was seen to behave towards its custom handler.
//!
//! A client's request goes through [`FunctionsHost::request`] (or [`FunctionsHost::open`], which reads the answer as it comes)
//! and reaches the handler as forwarding or proxying sends it. [`FunctionsHost::invoke`] sends an [`Envelope`] and reads what it
//! answers as JSON mode does. The handler is started, probed and started again as the Functions host does it. There is no thread
//! that watches it: every request looks first whether the handler has ended, and waits while it is started again.
//!
//! Routing, keys and the limits before the handler are not played: what a test sends reaches the handler.

pub mod answer;
pub mod envelope;
pub mod queue;
mod tests;
pub mod translate;
pub mod wire;

use crate::support::{App, Client, Host, PATIENCE, Response, free_port};
use flexwasm::send::envelope::Envelope;
use flexwasm::send::verdict::Verdict;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};
use uuid::Uuid;

/// How requests to plain HTTP functions are passed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// `enableForwardingHttpRequest`
    Forwarding,
    /// `enableProxyingHttpRequest`
    Proxying,
}

/// Which telemetry the app has; it decides what becomes of `traceparent`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Telemetry {
    None,
    ApplicationInsights,
    Otlp,
}

/// What the Functions host makes of exit codes changed over time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Age {
    /// A handler that ends with 0 is never started again.
    Before2026,
    /// One that ends with 0 is started again uncounted, and since August 2026 one that ends with 143.
    August2026,
}

/// What happens after the handler has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AfterExit {
    Nothing,
    Restart,
    /// The third of these (within 30 minutes of each other, which no test takes) stops the Functions host.
    CountedRestart,
}

impl Age {
    pub fn after_exit(self, code: i32) -> AfterExit {
        match (self, code) {
            (_, 200) | (Self::August2026, 0 | 143) => AfterExit::Restart,
            (Self::Before2026, 0) => AfterExit::Nothing,
            _ => AfterExit::CountedRestart,
        }
    }
}

/// How many counted ends of the handler stop the Functions host.
const ENDS: u32 = 3;

/// What a client sends, and what is sent on.
#[derive(Debug, Clone)]
pub struct Request {
    pub method: String,
    pub target: String,
    pub headers: Vec<(String, String)>,
    pub body: Body,
}

#[derive(Debug, Clone)]
pub enum Body {
    Sized(Vec<u8>),
    Chunked(Vec<Vec<u8>>),
}

impl Request {
    pub fn new(method: &str, target: &str, body: Body) -> Self {
        let headers = vec![("Host".to_owned(), "app.example".to_owned())];
        Self { method: method.to_owned(), target: target.to_owned(), headers, body }
    }

    pub fn get(target: &str) -> Self {
        Self::new("GET", target, Body::Sized(Vec::new()))
    }

    pub fn post(target: &str, body: impl Into<Vec<u8>>) -> Self {
        Self::new("POST", target, Body::Sized(body.into()))
    }

    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| &**value)
    }

    /// Puts one value in the place of all that have this name.
    fn set(&mut self, name: &str, value: &str) {
        self.headers.retain(|(known, _)| !known.eq_ignore_ascii_case(name));
        self.headers.push((name.to_owned(), value.to_owned()));
    }

    fn has_body(&self) -> bool {
        !matches!(&self.body, Body::Sized(bytes) if bytes.is_empty())
    }

    fn head(&self) -> String {
        let lines: String = self.headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        format!("{} {} HTTP/1.1\r\n{lines}\r\n", self.method, self.target)
    }
}

/// What can be said about an app that is run.
pub struct Settings<'a> {
    pub mode: Mode,
    pub age: Age,
    pub telemetry: Telemetry,
    /// App settings.
    pub environment: &'a [(&'a str, &'a str)],
}

impl From<Mode> for Settings<'_> {
    fn from(mode: Mode) -> Self {
        Self { mode, age: Age::August2026, telemetry: Telemetry::None, environment: &[] }
    }
}

/// A running Functions host with flexwasm as its custom handler.
pub struct FunctionsHost<'a> {
    app: &'a App,
    settings: Settings<'a>,
    pool: wire::Pool,
    handlers: Mutex<Handlers>,
    /// Connections whose clients have left without the handler being told.
    abandoned: Mutex<Vec<Client>>,
}

struct Handlers {
    /// Every process that was started; the last one is the present one.
    all: Vec<Arc<Host>>,
    /// What answered the readiness probe of the last one.
    probe: Option<Response>,
    counted: u32,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Running,
    /// The handler has ended with 0, and nobody cares.
    Abandoned,
    Stopped,
}

impl<'a> FunctionsHost<'a> {
    /// Starts the handler and waits until it answers the readiness probe.
    pub fn start(app: &'a App, settings: impl Into<Settings<'a>>) -> Self {
        let pool = wire::Pool::new(free_port());
        let handlers = Handlers { all: Vec::new(), probe: None, counted: 0, state: State::Running };
        let host =
            Self { app, settings: settings.into(), pool, handlers: handlers.into(), abandoned: Mutex::default() };
        host.spawn(&mut host.handlers.lock().unwrap());
        host
    }

    /// The process that was started last.
    pub fn handler(&self) -> Arc<Host> {
        Arc::clone(self.handlers.lock().unwrap().all.last().unwrap())
    }

    /// How many processes were started.
    pub fn starts(&self) -> usize {
        self.handlers.lock().unwrap().all.len()
    }

    /// What answered the last readiness probe.
    pub fn probe(&self) -> Response {
        self.handlers.lock().unwrap().probe.clone().unwrap()
    }

    /// Looks whether the handler has ended, starts it again where the rules say so, and tells whether there is one.
    pub fn supervise(&self) -> bool {
        let mut handlers = self.handlers.lock().unwrap();
        while handlers.state == State::Running {
            let Some(code) = handlers.all.last().unwrap().ended() else { return true };
            self.pool.clear();
            match self.settings.age.after_exit(code) {
                AfterExit::Nothing => handlers.state = State::Abandoned,
                AfterExit::Restart => self.spawn(&mut handlers),
                AfterExit::CountedRestart => {
                    handlers.counted += 1;
                    if handlers.counted == ENDS {
                        handlers.state = State::Stopped;
                    } else {
                        self.spawn(&mut handlers);
                    }
                }
            }
        }
        false
    }

    /// Whether the handler has ended so often that the Functions host stopped itself.
    pub fn is_stopped(&self) -> bool {
        self.handlers.lock().unwrap().state == State::Stopped
    }

    /// Starts the handler and asks `GET /` every 25 ms. Whatever answers is ready (S2, S3).
    fn spawn(&self, handlers: &mut Handlers) {
        let handler = Arc::new(self.app.spawn(self.pool.port, self.settings.environment));
        handlers.all.push(Arc::clone(&handler));
        let until = Instant::now() + PATIENCE;
        while handler.ended().is_none() {
            assert!(Instant::now() < until, "the handler was not ready within customHandler.initializationTimeout");
            if let Some(answer) = self.ask() {
                handlers.probe = Some(answer);
                return;
            }
            thread::sleep(Duration::from_millis(25));
        }
    }

    /// Asks as the readiness probe does, which is a ping later: the request says nothing about itself (S4).
    pub fn ping(&self) -> Response {
        self.ask().expect("a handler that listens answers")
    }

    fn ask(&self) -> Option<Response> {
        let mut ping = Request::get("/");
        ping.set("Host", &format!("127.0.0.1:{}", self.pool.port));
        let (mut client, head) = self.pool.once(&ping).ok()?;
        let answer = client.body(head, false);
        self.pool.put(client, &answer);
        Some(answer)
    }

    /// A request of a client, and the whole answer that the client gets.
    pub fn request(&self, request: Request) -> Response {
        self.request_as(Uuid::new_v4(), request)
    }

    /// The same, as the invocation with this id.
    pub fn request_as(&self, id: Uuid, request: Request) -> Response {
        let to_head = request.method == "HEAD";
        let (mut client, head) = match self.send(id, request) {
            Ok(answered) => answered,
            Err(answer) => return answer,
        };
        let mut answer = client.body(head, to_head);
        self.pool.put(client, &answer);
        if self.settings.mode == Mode::Forwarding {
            if !answer.complete {
                return of_the_host(500);
            }
            if answer.header("transfer-encoding").is_some() {
                answer.headers.retain(|(name, _)| name != "transfer-encoding");
                answer.headers.push(("content-length".to_owned(), answer.body.len().to_string()));
            }
        }
        answer
    }

    /// A request of a client that reads the answer as it comes, or leaves before it has come. It is sent once.
    pub fn open(&self, request: Request) -> Open<'_, 'a> {
        assert!(self.supervise(), "there is no handler");
        let request = self.translate(Uuid::new_v4(), request).unwrap();
        let Ok((client, None)) = self.pool.send(&request) else { panic!("the request could not be sent") };
        Open { host: self, client: Some(client) }
    }

    /// Proxying closes the connection of a client that has left; forwarding tells the handler nothing.
    fn left(&self, client: Client) {
        if self.settings.mode == Mode::Forwarding {
            self.abandoned.lock().unwrap().push(client);
        }
    }

    /// Sends an envelope as JSON mode does, and reads what it answers.
    pub fn invoke(&self, envelope: &Envelope) -> Verdict {
        if !self.supervise() {
            return Verdict::Failed("there is no handler".to_owned());
        }
        let (telemetry, id, port) = (self.settings.telemetry, Uuid::new_v4(), self.pool.port);
        let body = envelope.to_string().into_bytes();
        answer::ask(&self.pool, translate::enveloped(telemetry, false, &envelope.function, body, id, port))
    }

    fn translate(&self, id: Uuid, request: Request) -> Option<Request> {
        let telemetry = self.settings.telemetry;
        match self.settings.mode {
            Mode::Forwarding => translate::forwarded(telemetry, request, id),
            Mode::Proxying => Some(translate::proxied(telemetry, request, id, self.pool.port)),
        }
    }

    /// The connection and the head of the answer, or the answer that the Functions host gives itself.
    fn send(&self, id: Uuid, request: Request) -> Result<(Client, Response), Response> {
        let request = self.translate(id, request).ok_or_else(|| of_the_host(500))?;
        match self.settings.mode {
            Mode::Forwarding if !self.supervise() => Err(of_the_host(500)),
            Mode::Forwarding => self.pool.once(&request).map_err(|_| of_the_host(500)),
            Mode::Proxying => self.pool.again(&request, || self.supervise()).ok_or_else(|| of_the_host(502)),
        }
    }
}

/// A request that is sent and whose answer may not have come; its client leaves when this is dropped.
pub struct Open<'h, 'a> {
    host: &'h FunctionsHost<'a>,
    client: Option<Client>,
}

impl Open<'_, '_> {
    fn client(&mut self) -> &mut Client {
        self.client.as_mut().unwrap()
    }

    /// The head of the answer. Forwarding would hold it back until the whole answer is there.
    pub fn head(&mut self) -> Response {
        assert_eq!(self.host.settings.mode, Mode::Proxying);
        self.client().response_head()
    }

    /// One chunk of a chunked body; an empty one ends it, none means that the body broke off.
    pub fn chunk(&mut self) -> Option<Vec<u8>> {
        self.client().chunk()
    }
}

impl Drop for Open<'_, '_> {
    fn drop(&mut self) {
        self.client.take().into_iter().for_each(|client| self.host.left(client));
    }
}

/// Sends this text as the envelope of an invocation with the id [`ID`](crate::support::ID), and returns the answer as it came.
pub fn deliver(handler: &Host, function: &str, envelope: &str) -> Response {
    let (mut client, early) = dispatch(handler, function, envelope);
    let head = early.unwrap_or_else(|| client.response_head());
    client.body(head, false)
}

/// The same, for one that reads the answer later, or never.
pub fn dispatch(handler: &Host, function: &str, envelope: &str) -> (Client, Option<Response>) {
    let id = crate::support::ID.parse().unwrap();
    let request =
        translate::enveloped(Telemetry::None, false, function, envelope.as_bytes().to_vec(), id, handler.port);
    wire::Pool::new(handler.port).send(&request).unwrap_or_else(|_| panic!("it could not be sent"))
}

fn of_the_host(status: u16) -> Response {
    Response { status, headers: Vec::new(), body: Vec::new(), complete: true }
}
