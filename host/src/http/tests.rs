//! The front without guests: which requests leave a record, and what is counted.

use super::Stop;
use super::exchange::Exchange;
use super::received::Received;
use super::service::{Service, Setup};
use super::spool::Room;
use crate::config::function_json::{AuthLevel, Trigger};
use crate::config::local_settings::Cors;
use crate::config::route::Template;
use crate::config::settings::HostPatch;
use crate::config::{AppSettings, Circumstances, Config, Function, Grants, Role, serve};
use crate::live::Live;
use crate::observe::machine::Machine;
use crate::observe::record::{Record, Sink};
use crate::pool::Capacity;
use crate::run::Pool;
use bytes::Bytes;
use http::{Method, Request, Response};
use http_body::Body as _;
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Wake, Waker};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

/// Sends `request` to `respond` over a connection of its own, and reads what comes back.
async fn ask<B>(request: &str, respond: impl AsyncFn(Request<Incoming>, Arc<Exchange>) -> Response<B>) -> String
where
    B: http_body::Body<Data = Bytes> + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let (mut client, server) = tokio::io::duplex(64 << 10);
    let exchange = Arc::new(Exchange::new(Duration::from_secs(60)));
    let respond = service_fn(|request| {
        let (respond, exchange) = (&respond, Arc::clone(&exchange));
        async move { Ok::<_, Infallible>(respond(request, exchange).await) }
    });
    let served = http1::Builder::new().keep_alive(false).serve_connection(TokioIo::new(server), respond);
    let asked = async {
        client.write_all(request.as_bytes()).await.expect("written");
        let mut said = String::new();
        client.read_to_string(&mut said).await.expect("text");
        said
    };
    tokio::join!(asked, served).0
}

/// What was taken, in words.
#[derive(Default)]
struct Taken(Mutex<Vec<String>>);

impl Sink for Taken {
    fn take(&self, record: &Record) {
        let words = format!(
            "{} {} {:?} {:?} {} {:?} id={}",
            record.method(),
            record.path(),
            record.function.as_deref().unwrap_or_default(),
            record.route.as_deref().unwrap_or_default(),
            record.outcome.word(),
            record.status.map(|status| status.as_u16()),
            record.id.is_some(),
        );
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(words);
    }
}

fn config(role: Role) -> Config {
    let given =
        Circumstances { machine_memory: 1 << 30, listen: None, cache_folders: Vec::new(), control_sockets: Vec::new() };
    let mut config = serve("x.wasm".into(), &HostPatch::default(), Grants::default(), &AppSettings::new(), &given);
    let template = config.functions[0].clone();
    let function = |name: &str, route: &str, methods: Option<Vec<Method>>| {
        let route = Template::parse(route).expect("a valid template");
        let trigger = Trigger::Http { route, methods, auth: AuthLevel::Anonymous };
        Function { name: name.into(), trigger, ..template.clone() }
    };
    let mut refused = function("refused", "refused", None);
    refused.refused = Some("its route".into());
    let queue = Function { name: "queue".into(), trigger: Trigger::Envelope, ..template.clone() };
    config.functions = vec![function("posted", "posted/{id}", Some(vec![Method::POST])), refused, queue];
    config.route_prefix = "api".to_owned();
    config.cors = Some(Cors { origins: None, credentials: false });
    config.role = role;
    config
}

fn service(role: Role, taken: &Arc<Taken>) -> Service {
    let config = config(role);
    let guests: Arc<[_]> = config.functions.iter().map(|_| Arc::default()).collect();
    let (slots, queue_length, queue_timeout) = (1, 1, Duration::from_secs(1));
    let pool = Pool::new(Capacity { slots, queue_length, queue_timeout, total_memory: 1 << 20 });
    let machine = Arc::new(Machine::read(None));
    Service::new(Setup {
        live: Arc::new(Live::new(&config, &machine, pool.clone(), &guests)),
        guests,
        pool,
        machine,
        sinks: Arc::new([Arc::clone(taken) as Arc<dyn Sink>]),
        local: config.listen,
        tasks: TaskTracker::new(),
        stop: Stop::default(),
        config,
    })
}

#[tokio::test]
async fn every_request_but_the_ping_leaves_one_record() {
    let taken = Arc::<Taken>::default();
    let (host, alone) = (service(Role::CustomHandler, &taken), service(Role::StandAlone, &taken));
    for (service, head, record) in [
        (&host, "GET / HTTP/1.1\r\nHost: a\r\n", ""),
        (&host, "GET /x?code=key HTTP/1.1\r\nHost: a\r\n", r#"GET /x "" "" refused Some(404) id=true"#),
        (&host, "PUT /api/posted/7 HTTP/1.1\r\nHost: a\r\n", r#"PUT /api/posted/7 "" "" refused Some(405) id=true"#),
        (
            &host,
            "POST /api/posted/7 HTTP/1.1\r\nHost: a\r\n",
            r#"POST /api/posted/7 "posted" "/api/posted/{id}" refused Some(503) id=true"#,
        ),
        (
            &host,
            "GET /api/refused HTTP/1.1\r\nHost: a\r\n",
            r#"GET /api/refused "refused" "/api/refused" refused Some(503) id=true"#,
        ),
        (&host, "POST /queue HTTP/1.1\r\nHost: a\r\n", r#"POST /queue "queue" "/queue" refused Some(415) id=true"#),
        (&host, "GET /queue HTTP/1.1\r\nHost: a\r\n", r#"GET /queue "queue" "/queue" refused Some(405) id=true"#),
        (&host, "GET /x HTTP/1.1\r\nHost: a\r\nHost: b\r\n", r#"GET /x "" "" refused Some(400) id=false"#),
        (&host, "CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n", r#"CONNECT  "" "" refused Some(501) id=false"#),
        (&alone, "GET / HTTP/1.1\r\nHost: localhost\r\n", r#"GET / "" "" answered Some(200) id=true"#),
        (
            &alone,
            "OPTIONS /api/posted/7 HTTP/1.1\r\nHost: a\r\nOrigin: http://b\r\nAccess-Control-Request-Method: POST\r\n",
            r#"OPTIONS /api/posted/7 "" "" answered Some(204) id=false"#,
        ),
    ] {
        let said =
            ask(&format!("{head}\r\n"), async |request, exchange| service.respond(request, exchange).await).await;
        let records = std::mem::take(&mut *taken.0.lock().unwrap_or_else(PoisonError::into_inner));
        assert_eq!(records.join("\n"), record, "{head}");
        let status = record.split(['(', ')']).nth(1).unwrap_or("200");
        assert!(said.starts_with(&format!("HTTP/1.1 {status} ")), "{said}");
    }
}

/// Notes that it was woken.
#[derive(Default)]
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[tokio::test]
async fn a_guest_that_reads_on_behind_its_response_asks_anew() {
    let request = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n";
    ask(request, async |request: Request<Incoming>, exchange| {
        let mut body = Received::new(request.into_body(), &exchange);
        let flow = body.flow().expect("there is a body");
        body.frame().await.expect("a frame").expect("whole");
        let woken = Arc::<Woken>::default();
        let waker = Waker::from(Arc::clone(&woken));
        assert!(Pin::new(&mut body).poll_frame(&mut Context::from_waker(&waker)).is_pending());
        // The client reads nothing, so that the connection asks for what comes next.
        let blocked = Some(Duration::from_millis(200));
        flow.poll_ahead(&mut Context::from_waker(Waker::noop()), blocked, &Room::new(None)).expect("there is room");
        exchange.respond(Instant::now() + Duration::from_secs(60), false);
        assert!(!woken.0.load(Ordering::Relaxed));
        exchange.end();
        assert!(woken.0.load(Ordering::Relaxed));
        drop(body);
        exchange.rest.forget();
        Response::new(Empty::<Bytes>::new())
    })
    .await;
}

#[tokio::test]
async fn what_was_read_of_a_body_is_counted_also_when_its_rest_is_left() {
    let request = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n4\r\ndefg\r\n0\r\n\r\n";
    for (frames, bytes) in [(0, 0), (1, 3), (2, 7)] {
        let taken = Mutex::new(None);
        ask(request, async |request: Request<Incoming>, exchange| {
            let mut body = Received::new(request.into_body(), &exchange);
            let flow = body.flow().expect("there is a body");
            for _ in 0..frames {
                body.frame().await.expect("a frame").expect("whole");
            }
            drop(body);
            exchange.rest.forget();
            *taken.lock().unwrap_or_else(PoisonError::into_inner) = Some(flow.taken());
            Response::new(Empty::<Bytes>::new())
        })
        .await;
        assert_eq!(taken.into_inner().expect("not poisoned"), Some(bytes), "{frames}");
    }
}
