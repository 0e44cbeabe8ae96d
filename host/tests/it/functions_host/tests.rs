//! The played host against what was seen of the real one: the tables of docs/azure.md. Its envelopes, and what it makes of answers,
//! are compared with the captures where they are made, in `flexwasm::send`.

use super::answer;
use super::translate::{enveloped, forwarded, proxied};
use super::wire::{Pool, TIMES_AGAIN};
use super::{AfterExit, Age, Body, Request, Telemetry};
use crate::support::{ID, PATIENCE};
use flexwasm::send::verdict::{Answer, Verdict};
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::Duration;
use uuid::Uuid;

const PORT: u16 = 9000;

fn id() -> Uuid {
    Uuid::parse_str(ID).unwrap()
}

fn forward(request: Request) -> Request {
    forwarded(Telemetry::None, request, id()).unwrap()
}

fn proxy(request: Request) -> Request {
    proxied(Telemetry::None, request, id(), PORT)
}

#[test]
fn paths_and_queries_are_those_of_the_table() {
    let both = |target: &str| (forward(Request::get(target)).target, proxy(Request::get(target)).target);
    assert_eq!(both("/api/a%2Fb"), ("/api/a%2Fb".into(), "/api/a%252Fb".into()));
    assert_eq!(both("/api/c%252Fd"), ("/api/c%2Fd".into(), "/api/c%252Fd".into()));
    let query = "/api/x?a=1&a=2&k&p=%2C%2B+z";
    assert_eq!(both(query), ("/api/x?a=1,2&k=&p=,%2B%20z".into(), query.into()));
}

#[test]
fn headers_are_those_of_the_table() {
    let client = Request::get("/api/x")
        .with("X-Forwarded-For", "192.0.2.7")
        .with("User-Agent", "curl/8")
        .with("Content-Language", "de")
        .with("X-Azure-Functions-InvocationId", "spoofed");
    let expect = |request: &Request, headers: &[(&str, Option<&str>)]| {
        for (name, value) in headers {
            assert_eq!(request.header(name), *value, "{name}");
        }
    };
    let spoofed = format!("spoofed, {ID}");
    let sent = forward(client.clone());
    expect(
        &sent,
        &[
            ("Host", Some("app.example")),
            ("X-Forwarded-For", Some("192.0.2.7")),
            ("X-Forwarded-Host", None),
            ("X-Azure-Functions-InvocationId", Some(&spoofed)),
            ("x-ms-invocation-id", None),
            ("User-Agent", Some("curl/8 Azure-Functions-Host/4.1037.0.0")),
            ("Content-Language", None),
        ],
    );
    let sent = proxy(client);
    expect(
        &sent,
        &[
            ("Host", Some("127.0.0.1:9000")),
            ("X-Forwarded-For", Some("127.0.0.1")),
            ("X-Forwarded-Host", Some("app.example")),
            ("X-Azure-Functions-InvocationId", Some(ID)),
            ("x-ms-invocation-id", Some(ID)),
            ("User-Agent", Some("curl/8")),
            ("Content-Language", Some("de")),
        ],
    );
}

#[test]
fn a_chunked_request_is_refused_in_forwarding_and_chunked_in_proxying() {
    let request = Request::new("POST", "/api/x", Body::Chunked(vec![b"hello".to_vec()]));
    assert!(forwarded(Telemetry::None, request.clone(), id()).is_none());
    let sent = proxy(request);
    assert_eq!((sent.header("transfer-encoding"), sent.header("content-length")), (Some("chunked"), None));
    let sent = enveloped(Telemetry::None, false, "OnQueue", b"{}".to_vec(), id(), PORT);
    assert_eq!((&*sent.method, &*sent.target), ("POST", "/OnQueue"));
    assert_eq!(sent.header("transfer-encoding"), Some("chunked"));
    assert_eq!(sent.header("content-type"), Some("application/json; charset=utf-8"));
    let under_core_tools = enveloped(Telemetry::None, true, "OnQueue", b"{}".to_vec(), id(), PORT);
    assert_eq!(under_core_tools.header("content-length"), Some("2"));
}

#[test]
fn traceparent_has_three_forms() {
    const CLIENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let sent = |telemetry, client: Request| {
        let all = [forwarded(telemetry, client.clone(), id()).unwrap(), proxied(telemetry, client.clone(), id(), PORT)];
        all.map(|request| request.header("traceparent").map(str::to_owned))
    };
    let (without, with) = (Request::get("/"), Request::get("/").with("traceparent", CLIENT));
    assert_eq!(sent(Telemetry::None, without.clone()), [None, None]);
    for telemetry in [Telemetry::None, Telemetry::ApplicationInsights] {
        assert_eq!(sent(telemetry, with.clone()), [Some(CLIENT.to_owned()), Some(CLIENT.to_owned())]);
    }
    for (telemetry, flags) in [(Telemetry::ApplicationInsights, "-00"), (Telemetry::Otlp, "-01")] {
        for value in sent(telemetry, without.clone()) {
            assert!(
                value.as_ref().is_some_and(|value| value.len() == CLIENT.len() && value.ends_with(flags)),
                "{value:?}"
            );
        }
    }
    for value in sent(Telemetry::Otlp, with) {
        let value = value.unwrap();
        assert!(value[..36] == CLIENT[..36] && value[36..52] != CLIENT[36..52], "{value}");
    }
}

#[test]
fn exit_codes_mean_different_things_to_hosts_of_two_ages() {
    use AfterExit::{CountedRestart, Nothing, Restart};
    let table = [(0, Nothing, Restart), (143, CountedRestart, Restart), (200, Restart, Restart)];
    for (code, before, now) in table {
        assert_eq!((Age::Before2026.after_exit(code), Age::August2026.after_exit(code)), (before, now), "{code}");
    }
    for code in [1, 134, 137, 139] {
        assert_eq!(Age::Before2026.after_exit(code), CountedRestart);
        assert_eq!(Age::August2026.after_exit(code), CountedRestart);
    }
}

/// A handler on a port of its own; `serve` has each connection, and its result is what it saw.
fn scripted<T: Send + 'static>(serve: impl FnOnce(TcpListener) -> T + Send + 'static) -> (Pool, thread::JoinHandle<T>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let pool = Pool::new(listener.local_addr().unwrap().port());
    (pool, thread::spawn(move || serve(listener)))
}

fn read_head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        head.extend(byte);
    }
    String::from_utf8(head).unwrap()
}

#[test]
fn nothing_is_read_before_all_is_sent() {
    const LENGTH: usize = 32 << 20;
    let (pool, handler) = scripted(|listener| {
        let (mut stream, _) = listener.accept().unwrap();
        read_head(&mut stream);
        let answer = vec![b'x'; LENGTH];
        write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {LENGTH}\r\n\r\n").unwrap();
        // More than the sockets hold: it cannot be written while nobody reads.
        stream.set_write_timeout(Some(Duration::from_millis(300))).unwrap();
        let mut written = 0;
        let stuck = loop {
            match stream.write(&answer[written..]) {
                Ok(0) => break false,
                Ok(some) => written += some,
                Err(error) => break error.kind() == ErrorKind::WouldBlock,
            }
        };
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        let mut body = vec![0; LENGTH];
        stream.read_exact(&mut body).unwrap();
        stream.write_all(&answer[written..]).unwrap();
        stuck
    });
    let (mut client, head) = pool.once(&proxy(Request::post("/api/echo", vec![b'y'; LENGTH]))).ok().unwrap();
    assert_eq!(client.body(head, false).body.len(), LENGTH);
    assert!(handler.join().unwrap());
}

#[test]
fn connections_are_used_again_unless_they_were_closed() {
    let (pool, handler) = scripted(|listener| {
        let (mut first, _) = listener.accept().unwrap();
        for _ in 0..2 {
            read_head(&mut first);
            first.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").unwrap();
        }
        drop(first);
        let (mut second, _) = listener.accept().unwrap();
        read_head(&mut second);
        second.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").unwrap();
    });
    for time in 0..3 {
        if time == 2 {
            // Until the end of the connection has arrived.
            crate::support::eventually("the kept connection ends", || {
                pool.idle.lock().unwrap().first_mut().unwrap().is_stale()
            });
        }
        let (mut client, head) = pool.once(&proxy(Request::get("/"))).ok().unwrap();
        let answer = client.body(head, false);
        pool.put(client, &answer);
    }
    handler.join().unwrap();
}

#[test]
fn a_post_is_never_sent_again_and_a_get_ten_times() {
    for (request, times) in [(Request::post("/", "x"), 1), (Request::get("/"), 1 + TIMES_AGAIN)] {
        let (pool, handler) = scripted(move |listener| {
            for _ in 0..times {
                let (mut stream, _) = listener.accept().unwrap();
                read_head(&mut stream);
            }
            listener.set_nonblocking(true).unwrap();
            listener
        });
        assert!(pool.again(&proxy(request), || true).is_none());
        // Nobody has come since.
        assert!(handler.join().unwrap().accept().is_err());
    }
}

#[test]
fn redirects_are_followed_in_json_mode() {
    let (pool, handler) = scripted(|listener| {
        let (mut stream, _) = listener.accept().unwrap();
        let posted = read_head(&mut stream);
        let mut chunked = [0; b"2\r\n{}\r\n0\r\n\r\n".len()];
        stream.read_exact(&mut chunked).unwrap();
        stream.write_all(b"HTTP/1.1 302 Found\r\nLocation: /other\r\nContent-Length: 0\r\n\r\n").unwrap();
        let followed = read_head(&mut stream);
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Type: text/json\r\nContent-Length: 2\r\n\r\n{}").unwrap();
        (posted, followed)
    });
    let request = enveloped(Telemetry::None, false, "OnQueue", b"{}".to_vec(), id(), pool.port);
    assert_eq!(answer::ask(&pool, request), Verdict::Done(Answer::default()));
    let (posted, followed) = handler.join().unwrap();
    assert!(posted.starts_with("POST /OnQueue HTTP/1.1\r\n"), "{posted}");
    assert!(followed.starts_with("GET /other HTTP/1.1\r\n"), "{followed}");
}
