//! Requests as the Functions host proxies them (`enableProxyingHttpRequest`): P1 to P8.

use crate::functions_host::{Body, FunctionsHost, Mode, Request};
use crate::support::{App, ID, guests};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;
use uuid::Uuid;

#[test]
fn p1_the_client_stands_in_the_forwarded_headers() {
    let app = App::new("{}").function("describe", guests::DESCRIBE);
    let host = FunctionsHost::start(&app, Mode::Proxying);
    let request = Request::get("/api/describe").with("X-Forwarded-For", "192.0.2.7").with("User-Agent", "curl");
    let request = request.with("Content-Language", "de").with("X-Azure-Functions-InvocationId", "spoofed");
    let text = host.request_as(Uuid::parse_str(ID).unwrap(), request).text();
    // The scheme is that of `X-Forwarded-Proto`, which a client cannot choose here.
    assert!(text.contains("authority: app.example\n") && text.contains("Scheme::Http)"), "{text}");
    assert!(text.contains("header: x-forwarded-for=127.0.0.1\n"), "{text}");
    assert!(text.contains("header: user-agent=curl\n") && text.contains("header: content-language=de\n"), "{text}");
    assert!(host.handler().closing_line("answered").contains(ID));
    // Azure's front end has ended TLS.
    let secure = host.handler().connect().ask(format!(
        "GET /api/describe HTTP/1.1\r\nHost: 127.0.0.1:{}\r\nX-Forwarded-Host: app.example\r\nX-Forwarded-Proto: https\r\n\
         X-Forwarded-For: 192.0.2.7\r\nx-ms-invocation-id: {ID}\r\n\r\n",
        host.handler().port
    ));
    let text = secure.text();
    assert!(text.contains("authority: app.example\n") && text.contains("Scheme::Https"), "{text}");
    assert!(text.contains("header: x-forwarded-for=192.0.2.7\n"), "{text}");
}

#[test]
fn p2_a_chunked_upload_reaches_the_guest() {
    let app = App::new("{}").function("sink", guests::SINK);
    let host = FunctionsHost::start(&app, Mode::Proxying);
    let chunks = Body::Chunked(vec![vec![b'x'; 70_000], b"end".to_vec()]);
    assert_eq!(host.request(Request::new("POST", "/api/sink", chunks)).text(), "70003");
}

#[test]
fn p3_a_stream_arrives_chunk_by_chunk() {
    let app = App::new("{}").function("stream", guests::STREAM);
    let host = FunctionsHost::start(&app, Mode::Proxying);
    let mut open = host.open(Request::get("/api/stream?ms=3600000"));
    assert_eq!(open.head().header("content-type"), Some("text/event-stream"));
    // The guest pauses for an hour now.
    assert_eq!(open.chunk().unwrap(), b"data: 1\n\n");
}

/// Through a client that reads while it sends, which the Functions host does not.
#[test]
fn p2_p3_chunks_pass_in_both_directions_before_the_end() {
    let host = App::new("{}").function("echo", guests::ECHO).start();
    let mut client = host.connect();
    client.write("POST /api/echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
    client.write("5\r\nhello\r\n");
    assert_eq!(client.response_head().status, 200);
    assert_eq!(client.chunk().unwrap(), b"hello");
    client.write("5\r\nagain\r\n");
    assert_eq!(client.chunk().unwrap(), b"again");
    client.write("0\r\n\r\n");
    assert_eq!(client.chunk().unwrap(), b"");
    assert!(host.closing_line("answered").contains("sent_bytes=10"));
}

#[test]
fn p4_a_client_that_leaves_frees_the_slot() {
    let app = App::new(r#"{"pool": {"size": 1}, "queue": {"length": 1}}"#)
        .function("sleep", guests::SLEEP)
        .function("stream", guests::STREAM)
        .function("spin", guests::SPIN)
        .function("counter", guests::COUNTER);
    let host = FunctionsHost::start(&app, Mode::Proxying);
    let sleep = "/api/sleep?ms=3600000";
    for request in [Request::get(sleep), Request::get("/api/spin"), Request::post(sleep, vec![b'x'; 20_000])] {
        let said = format!("{} {}", request.method, request.target);
        let running = host.open(request);
        let mut next = host.handler().waiting("/api/counter");
        drop(running);
        assert_eq!(next.response(false).text(), "1", "{said}");
    }
    // A client that leaves with half of its request.
    let mut client = host.handler().connect();
    client.write(format!("POST {sleep} HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nunread"));
    let mut next = host.handler().waiting("/api/counter");
    drop(client);
    assert_eq!(next.response(false).text(), "1");
    // In the middle of an answer.
    let mut open = host.open(Request::get("/api/stream?ms=10"));
    open.head();
    open.chunk().unwrap();
    drop(open);
    assert_eq!(host.request(Request::get("/api/counter")).text(), "1");
    host.handler().closing_line("client-gone");
}

#[test]
fn p5_a_silent_stream_lives_until_the_deadline_and_no_longer() {
    let settings = r#"{"limits": {"timeout": "4s"}}"#;
    let app = App::new("{}").routed("stream", guests::STREAM, r#""authLevel": "anonymous""#, settings);
    let host = FunctionsHost::start(&app, Mode::Proxying);
    let mut open = host.open(Request::get("/api/stream?ms=2500&count=2"));
    open.head();
    assert_eq!(open.chunk().unwrap(), b"data: 1\n\n");
    assert_eq!(open.chunk().unwrap(), b"data: 2\n\n");
    // The second pause goes beyond the deadline: the body breaks off, visibly.
    assert_eq!(open.chunk(), None);
    host.handler().closing_line("deadline");
}

#[test]
fn p6_the_path_is_not_decoded_again() {
    let app = App::new("{}").routed("x", guests::DESCRIBE, r#""route": "x/{id}""#, "{}");
    let host = FunctionsHost::start(&app, Mode::Proxying);
    for encoded in ["a%2Fb", "a%252Fb"] {
        let text = host.request(Request::get(&format!("/api/x/{encoded}?q=%252F&q=2&k"))).text();
        assert!(text.contains("path: /api/x/a%252Fb?q=%252F&q=2&k\n"), "{text}");
    }
}

#[test]
fn p7_headers_of_the_connection_are_not_the_guests() {
    let app = App::new("{}").function("hop", guests::HOP);
    let host = FunctionsHost::start(&app, Mode::Proxying);
    let answer = host.request(Request::get("/api/hop"));
    assert_eq!(answer.text(), "set: []");
    assert_eq!((answer.header("connection"), answer.header("upgrade")), (None, None));
}

/// Sixteen uploads on as many connections, with four slots: nothing fails, and memory stays below what the four would take that run.
#[test]
fn p8_large_uploads_in_parallel_need_little_memory() {
    const UPLOADS: usize = 16;
    const LENGTH: usize = 16 << 20;
    let app =
        App::new(r#"{"pool": {"size": 4}, "queue": {"length": 16, "timeout": "200s"}}"#).function("sink", guests::SINK);
    let host = app.start();
    let before = host.resident();
    let (peak, over) = (AtomicU64::new(0), AtomicBool::new(false));
    thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Acquire) {
                peak.fetch_max(host.resident(), Ordering::AcqRel);
                thread::sleep(Duration::from_millis(20));
            }
        });
        let upload = || {
            let mut client = host.connect();
            client.write(format!("POST /api/sink HTTP/1.1\r\nHost: a\r\nContent-Length: {LENGTH}\r\n\r\n"));
            let piece = vec![b'x'; 1 << 20];
            (0..LENGTH / piece.len()).for_each(|_| client.write(&piece));
            assert_eq!(client.response(false).text(), LENGTH.to_string());
            // Keep-alive: the connection serves on.
            assert_eq!(client.ask("POST /api/sink HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n").text(), "0");
        };
        let uploads: Vec<_> = (0..UPLOADS).map(|_| scope.spawn(upload)).collect();
        let failed = uploads.into_iter().filter_map(|upload| upload.join().err()).count();
        // Whether they failed or not, or the thread above would not end.
        over.store(true, Ordering::Release);
        assert_eq!(failed, 0, "of {UPLOADS} uploads");
    });
    let grown = peak.into_inner().saturating_sub(before);
    assert!(grown < 48 << 20, "memory grew by {} MiB", grown >> 20);
}

#[test]
fn p8_above_capacity_requests_wait_then_get_503() {
    let app =
        App::new(r#"{"pool": {"size": 1}, "queue": {"length": 1, "timeout": "5s"}}"#).function("sleep", guests::SLEEP);
    let host = FunctionsHost::start(&app, Mode::Proxying);
    let _running = host.open(Request::get("/api/sleep?ms=3600000"));
    let mut waiting = host.handler().waiting("/api/sleep");
    let full = host.request(Request::get("/api/sleep"));
    assert_eq!((full.status, full.header("retry-after")), (503, Some("1")));
    assert_eq!(full.reason(), "queue-full");
    let waited = waiting.response(false);
    assert_eq!((waited.status, waited.reason().as_str()), (503, "waited-too-long"));
    assert_eq!(waited.header("retry-after"), Some("1"));
}

/// The Functions host keeps connections, sends all of a request first, and never sends a POST again: an answer that comes
/// before its request is read must not cost a neighbour its own.
#[test]
fn every_post_is_answered_beside_a_function_that_does_not_read() {
    const POSTS: usize = 10_000;
    const CONNECTIONS: usize = 16;
    let app = App::new(r#"{"pool": {"size": 16}}"#).function("sink", guests::SINK).function("counter", guests::COUNTER);
    let host = FunctionsHost::start(&app, Mode::Proxying);
    let (next, largest) = (AtomicUsize::new(0), vec![b'x'; 1 << 20]);
    let one = |number: usize| {
        // From 100 bytes to 0.8 MiB, by powers of two, so that small ones are as many as large ones.
        let length = (100 << (number % 14)) + number % 100;
        let (function, expected) =
            if number.is_multiple_of(10) { ("counter", "1".to_owned()) } else { ("sink", length.to_string()) };
        let answer = host.request(Request::post(&format!("/api/{function}"), &largest[..length]));
        let right = answer.status == 200 && answer.text() == expected;
        (!right).then(|| format!("{function}, {length} bytes: {} {:?}", answer.status, answer.text()))
    };
    let wrong: Vec<String> = thread::scope(|scope| {
        let caller = || {
            let numbers =
                std::iter::from_fn(|| Some(next.fetch_add(1, Ordering::Relaxed)).filter(|next| *next < POSTS));
            numbers.filter_map(one).collect::<Vec<_>>()
        };
        let callers: Vec<_> = (0..CONNECTIONS).map(|_| scope.spawn(caller)).collect();
        callers.into_iter().flat_map(|caller| caller.join().unwrap()).collect()
    });
    assert!(wrong.is_empty(), "{} of {POSTS} were not answered: {:?}", wrong.len(), &wrong[..wrong.len().min(5)]);
}
