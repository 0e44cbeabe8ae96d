//! What a client may rely on from one request of a connection to the next, and what an answer without a body may say.

use crate::support::{App, Client, Host, eventually, guests, post};
use std::thread;

/// `count` requests of each of `connections` pooled connections, as the Functions host sends them: the whole request first, the
/// connection kept unless the answer says otherwise, and no POST sent again. Every tenth goes to a function that does not read.
fn pool(host: &Host, connections: usize, count: usize) {
    let port = host.port;
    let client = move |seed: usize| {
        let mut kept: Option<Client> = None;
        for number in seed * count..(seed + 1) * count {
            // From 100 bytes to 1 MB, as many short as long, in an order of its own.
            let length = 100 << (number * 7 % 14);
            let unread = ["/api/early", "/api/traps", "/api/nothing", "/api/late"][number / 10 % 4];
            let path = if number % 10 == 0 { unread } else { "/api/sink" };
            let mut connection = kept.take().unwrap_or_else(|| Client::connect(port));
            connection.write(if number % 3 == 0 { chunked(path, length) } else { post(path, &"x".repeat(length)) });
            let answer = connection.response(false);
            assert!(answer.status != 0 && answer.complete, "{path} of {length} bytes, the {number}th: {answer:?}");
            if path == "/api/sink" {
                assert_eq!(answer.text(), length.to_string());
            }
            kept = (answer.header("connection") != Some("close")).then_some(connection);
        }
    };
    let clients: Vec<_> = (0..connections).map(|seed| thread::spawn(move || client(seed))).collect();
    clients.into_iter().for_each(|client| client.join().unwrap());
}

/// A request with a chunked body in two pieces.
fn chunked(path: &str, length: usize) -> String {
    let (head, body) =
        post(path, &"x".repeat(length)).split_once("\r\n\r\n").map(|(a, b)| (a.to_owned(), b.to_owned())).unwrap();
    let head = head.replace(&format!("Content-Length: {length}"), "Transfer-Encoding: chunked");
    let (first, second) = body.split_at(length / 2);
    format!("{head}\r\n\r\n{:x}\r\n{first}\r\n{:x}\r\n{second}\r\n0\r\n\r\n", first.len(), second.len())
}

fn unread() -> Host {
    let app = App::new(r#"{"pool": {"size": 32}}"#).function("sink", guests::SINK).function("early", guests::STATUS);
    app.function("traps", guests::TRAP_BEFORE).function("late", guests::LATE).start()
}

#[test]
fn a_pooled_connection_never_leaves_a_request_without_an_answer() {
    pool(&unread(), 16, 625);
}

#[test]
fn a_short_rest_keeps_the_connection_and_a_long_one_is_said_to_close_it() {
    let host = unread();
    for (path, status) in [("/api/early?code=307", 307), ("/api/traps", 500), ("/api/nothing", 404), ("/api/late", 200)]
    {
        let mut client = host.connect();
        // In pieces, so that the answer is there before the rest of the request.
        for body in ["x".repeat(60_000), "x".repeat(256 << 10)] {
            let request = post(path, &body);
            let (first, rest) = request.split_at(request.len() - 50_000);
            client.write(first);
            let answer = client.response(false);
            assert_eq!((answer.status, answer.header("connection")), (status, None), "{path}");
            client.write(rest);
            assert_eq!(client.get("/api/sink").text(), "0", "{path}");
        }
    }
    // Of a guest that a tick has interrupted between its answer and its end nobody knows yet whether it reads the rest.
    for (path, status) in [("/api/traps", 500), ("/api/nothing", 404)] {
        for (request, missing) in [(post(path, &"x".repeat((256 << 10) + 1)), 50_000), (chunked(path, 1000), 5)] {
            let mut client = host.connect();
            client.write(&request[..request.len() - missing]);
            let answer = client.response(false);
            assert_eq!((answer.status, answer.header("connection")), (status, Some("close")), "{path}");
            assert!(client.is_closed());
        }
    }
}

#[test]
fn a_client_that_waits_for_100_continue_is_not_waited_for() {
    let host = unread();
    let request = post("/api/early", "x").replacen("\r\n\r\n", "\r\nExpect: 100-continue\r\n\r\n", 1);
    let mut client = host.connect();
    let answer = client.ask(request.trim_end_matches('x'));
    assert_eq!((answer.status, answer.header("connection")), (200, Some("close")));
}

#[test]
fn an_answer_without_a_body_keeps_its_length() {
    for guest in [guests::ANNOUNCE, guests::P3_ANNOUNCE] {
        let host = App::new("{}").function("announce", guest).start();
        let mut client = host.connect();
        for _ in 0..2 {
            let answer = client.head("/api/announce?length=1234");
            assert_eq!((answer.status, answer.header("content-length")), (200, Some("1234")));
            let answer = client.get("/api/announce?length=1234&status=304");
            assert_eq!((answer.status, answer.header("content-length")), (304, Some("1234")));
            assert_eq!(client.get("/api/announce?status=204").status, 204);
        }
        // To others it still lies.
        assert_eq!(client.get("/api/announce?length=1234").status, 500);
    }
}

#[test]
fn a_guest_works_on_after_an_answer_without_a_body() {
    for guest in [guests::ANNOUNCE, guests::P3_ANNOUNCE] {
        for query in ["", "&length=0", "&status=204", "&status=304&length=9"] {
            let app = App::new("{}").function("announce", guest);
            let mut host = app.start();
            let mut client = host.connect();
            assert!(client.get(&format!("/api/announce?ms=300{query}")).complete);
            assert!(!host.stdout().iter().any(|line| line.contains("late work done")), "it has not worked on");
            drop(client);
            host.line(&["late work done"]);
            host.closing_line("answered");
            host.signal("TERM");
            assert_eq!(host.exit_code(), 0);
        }
        let host = App::new(r#"{"limits": {"timeout": "300ms"}}"#).function("announce", guest).start();
        assert_eq!(host.connect().head("/api/announce?ms=3600000").status, 200);
        host.closing_line("deadline");
    }
}

#[test]
fn a_guest_that_writes_before_anything_can_read_is_ended_at_once() {
    let host = App::new("{}").function("first", guests::WRITE_FIRST).start();
    // What fits needs no reader.
    assert_eq!(host.get("/api/first?chunks=1").status, 200);
    assert_eq!(host.get("/api/first?chunks=1&request=1").text(), "written");
    let (response, request) = ("response-outparam.set", "outgoing-handler.handle");
    for (query, step) in [("20", response), ("20&request=1", request), ("2&request=1", request)] {
        assert_eq!(host.get(&format!("/api/first?chunks={query}")).status, 500, "{query}");
        host.line(&["outcome=\"faulted\"", "before anything can read it", &format!("call {step} first")]);
    }
    for wait in ["poll", "block"] {
        // At its deadline it would get a 504.
        assert_eq!(host.get(&format!("/api/first?chunks=20&wait={wait}")).status, 500, "{wait}");
    }
    // It waits for something else as well, and goes on.
    let early = host.get("/api/first?chunks=20&wait=beside");
    assert_eq!((early.status, early.body.len() % 4096), (200, 0));
}

#[test]
fn exit_with_success_after_the_answer_is_a_clean_end() {
    let host = App::new(r#"{"pool": {"reuse": 100}}"#).function("exit", guests::EXIT_AFTER).start();
    for _ in 0..2 {
        assert_eq!(host.get("/api/exit").text(), "answered");
    }
    let line = host.closing_line("answered");
    assert!(line.contains("status=200"), "{line}");
    assert_eq!(host.get("/api/exit?half=1").status, 500);
    host.line(&["outcome=\"faulted\"", "called exit with status 0: let the handler return instead"]);
}

#[test]
fn a_fault_behind_the_head_is_seen_as_one() {
    let host = App::new("{}").function("soon", guests::TRAP_SOON).start();
    // Around the first tick, behind which the guest has a head when it traps; when that is, is a matter of chance.
    let mut times = (0..3000).step_by(20).cycle();
    eventually("an answer breaks off", || {
        let micros = times.next().unwrap();
        let answer = host.get(&format!("/api/soon?us={micros}"));
        assert!(answer.status == 500 || answer.status == 200 && !answer.complete, "{micros} µs: {answer:?}");
        answer.status == 200
    });
}

#[test]
fn an_error_tells_a_guest_nothing_of_the_host() {
    let app = App::new("{}").function("words", guests::ERROR_WORDS);
    let host = app.start_with(&[("RUST_BACKTRACE", "1")]);
    let request = chunked("/api/words", 100).replacen("\r\n32\r\n", "\r\nZZ\r\n", 1);
    let mut client = host.connect();
    client.write(request);
    let line = host.line(&["words of the error: "]);
    assert!(line.contains("connection terminated") && line.len() < 300, "{line}");
}
