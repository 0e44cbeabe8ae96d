//! Instances that several requests share at the same time, and what they give up by it.

use crate::support::{App, Client, Host, ID, flexwasm, get, guests, output};
use std::collections::BTreeSet;
use std::time::Duration;

/// An app with a guest of WASI 0.3 at `/api/shared`; eight slots.
fn app(guest: &str, pool: &str) -> App {
    App::new(&format!(r#"{{"pool": {{"size": 8, {pool}}}, "limits": {{"timeout": "2s"}}}}"#)).function("shared", guest)
}

fn four(guest: &str) -> Host {
    app(guest, r#""reuse": 1000, "concurrentPerInstance": 4"#).start()
}

/// A request that has been sent and is not answered yet.
fn asked(host: &Host, path: &str) -> Client {
    let mut client = host.connect();
    client.write(get(path));
    client
}

#[test]
fn as_many_requests_as_allowed_share_an_instance_and_the_next_gets_another() {
    let host = four(guests::P3_COUNTER);
    let asked: Vec<_> = (0..5).map(|_| asked(&host, "/api/shared?ms=500")).collect();
    let answers: Vec<_> = asked.into_iter().map(|mut client| client.response(false)).collect();
    let mut counts: Vec<_> = answers.iter().map(|answer| (answer.instance()["id"].clone(), answer.text())).collect();
    counts.sort();
    let expected = [("1", "1"), ("1", "2"), ("1", "3"), ("1", "4"), ("2", "1")];
    assert_eq!(counts, expected.map(|(id, count)| (id.to_owned(), count.to_owned())));
    let served: BTreeSet<_> = answers.iter().map(|answer| answer.instance()["served"].clone()).collect();
    assert_eq!(served.len(), 4, "each knows its number: {served:?}");
}

#[test]
fn a_shared_instance_is_parked_and_serves_as_many_requests_as_reuse_allows() {
    let host = app(guests::P3_COUNTER, r#""reuse": 3, "concurrentPerInstance": 2"#).start();
    let counts: Vec<_> = (0..4).map(|_| host.get("/api/shared").text()).collect();
    assert_eq!(counts, ["1", "2", "3", "1"]);
}

/// A request that has begun to be answered, and the instance that does it.
fn begun(host: &Host, path: &str) -> (Client, String) {
    let mut client = asked(host, path);
    let head = client.response_head();
    assert_eq!((head.status, client.chunk().unwrap().as_slice()), (200, &b"the beginning"[..]));
    (client, head.instance()["id"].clone())
}

#[test]
fn a_shared_request_holds_a_slot_like_any_other() {
    let settings = r#"{"pool": {"size": 2, "reuse": 9, "concurrentPerInstance": 9}, "queue": {"length": 0}}"#;
    let host = App::new(settings).function("shared", guests::P3_TRAP_AFTER).start();
    let running = [begun(&host, "/api/shared?ms=3600000"), begun(&host, "/api/shared?ms=3600000")];
    assert_eq!(running[0].1, running[1].1, "they share an instance");
    assert_eq!(host.get("/api/shared").status, 503);
}

#[test]
fn a_trap_before_the_head_is_a_500_for_every_request_in_the_instance() {
    let host = four(guests::P3_TRAP_BEFORE);
    for mut client in [asked(&host, "/api/shared?ms=3600000"), asked(&host, "/api/shared?ms=500")] {
        let answer = client.response(false);
        assert_eq!((answer.status, answer.reason().as_str()), (500, "guest-failed"));
    }
    assert!(host.closing_line("faulted").contains("(wasm `unreachable` instruction executed)"));
}

#[test]
fn a_trap_breaks_off_the_answers_of_its_neighbours_and_of_nobody_else() {
    let host = app(guests::P3_TRAP_AFTER, r#""reuse": 9, "concurrentPerInstance": 2"#).start();
    let [first, second, mut third] = [(); 3].map(|()| begun(&host, "/api/shared?ms=3600000"));
    assert_eq!([&*first.1, &*second.1, &*third.1], ["1", "1", "2"]);
    assert!(!host.get("/api/shared").complete);
    assert_eq!(third.0.chunk(), None);
    assert!(third.0.is_closed());
    for (mut neighbour, _) in [first, second] {
        assert!(neighbour.stays_silent(Duration::from_millis(10)));
    }
}

#[test]
fn a_client_that_leaves_drops_its_own_call_only_and_the_instance_takes_no_more() {
    let host = four(guests::P3_COUNTER);
    let leaving = asked(&host, "/api/shared?ms=3600000");
    let mut staying = asked(&host, "/api/shared?ms=1000");
    assert_eq!(host.get("/api/shared").instance()["id"], "1");
    drop(leaving);
    host.closing_line("client-gone");
    assert_eq!(host.get("/api/shared").instance()["id"], "2");
    assert_eq!(staying.response(false).instance()["id"], "1");
}

#[test]
fn a_deadline_ends_one_request_and_its_neighbours_go_on() {
    let host = four(guests::P3_COUNTER);
    let mut late = asked(&host, "/api/shared?ms=3600000");
    assert!(late.stays_silent(Duration::from_millis(1000)));
    let mut neighbour = asked(&host, "/api/shared?ms=1500");
    assert_eq!(late.response(false).status, 504);
    let answer = neighbour.response(false);
    assert_eq!((answer.status, answer.instance()["id"].as_str()), (200, "1"));
    assert_eq!(host.get("/api/shared").instance()["id"], "2");
}

#[test]
fn a_guest_that_computes_without_end_takes_its_neighbours_along_at_their_deadlines() {
    let app = app(guests::P3_SPIN, r#""reuse": 9, "concurrentPerInstance": 4"#).function("counter", guests::P3_COUNTER);
    let host = app.start();
    let mut clients: Vec<_> = (0..2).map(|_| asked(&host, "/api/shared")).collect();
    assert_eq!(host.get("/api/counter").text(), "1");
    for client in &mut clients {
        assert_eq!(client.response(false).status, 504);
    }
    assert_eq!(host.get("/api/counter").text(), "2");
}

#[test]
fn bodies_stream_through_a_shared_instance() {
    let host = four(guests::P3_ECHO);
    let mut clients: Vec<_> = (0..3).map(|_| host.connect()).collect();
    for client in &mut clients {
        client.write("POST /api/shared HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n");
        client.response_head();
        assert_eq!(client.chunk().unwrap(), b"hello");
    }
    for client in &mut clients {
        client.write("5\r\nagain\r\n0\r\n\r\n");
        assert_eq!(client.chunk().unwrap(), b"again");
        assert_eq!(client.chunk().unwrap(), b"");
    }
    host.closing_line("answered");
}

#[test]
fn work_after_the_answer_goes_on_within_the_deadline() {
    let host = four(guests::P3_LATE);
    assert_eq!(host.get("/api/shared?ms=300").text(), "done");
    let line = host.line(&["late work done"]);
    assert!(!line.contains("id="), "nobody knows whose line it is: {line}");
}

#[test]
fn the_host_stops_with_a_shared_instance_at_work() {
    let mut host = four(guests::P3_LATE);
    assert_eq!(host.get("/api/shared?ms=500").text(), "done");
    host.signal("TERM");
    assert_eq!(host.exit_code(), 0);
    host.line(&["late work done"]);
}

#[test]
fn a_shared_guest_is_told_the_invocation_by_header_and_only_by_the_host() {
    let app = app(guests::P3_DESCRIBE, r#""reuse": 9, "concurrentPerInstance": 4"#)
        .routed(
            "alone",
            guests::P3_DESCRIBE,
            r#""authLevel": "anonymous""#,
            r#"{"pool": {"concurrentPerInstance": 1}}"#,
        )
        .routed("old", guests::DESCRIBE, r#""authLevel": "anonymous""#, r#"{"pool": {"concurrentPerInstance": 1}}"#);
    let host = app.start();
    let ask = |path: &str| {
        let spoofed = get(path).replacen("\r\n", "\r\nX-Flexwasm-Invocation: spoofed\r\n", 1);
        host.connect().ask(spoofed).text()
    };
    let shared = ask("/api/shared");
    assert!(shared.contains(&format!("header: x-flexwasm-invocation={ID}\n")), "{shared}");
    assert!(shared.contains("invocation: none\n") && !shared.contains("spoofed"), "{shared}");
    for path in ["/api/alone", "/api/old"] {
        assert!(!ask(path).contains("x-flexwasm-invocation"), "{path}");
    }
}

#[test]
fn a_guest_of_0_2_cannot_be_shared() {
    let app = app(guests::P3_COUNTER, r#""reuse": 9, "concurrentPerInstance": 4"#).function("old", guests::COUNTER);
    let host = app.start();
    assert_eq!(host.get("/api/old").reason(), "guest-not-loaded");
    host.line(&["function old", "pool.concurrentPerInstance is 4: set it to 1 for this function"]);
    assert_eq!(host.get("/api/shared").text(), "1");
}

#[test]
fn sharing_is_opted_into_with_a_flag_that_makes_sense() {
    let serve = |arguments: &[&str]| {
        let mut command = flexwasm();
        command.args(["serve", guests::P3_COUNTER, "--listen", "127.0.0.1:0"]).args(arguments);
        command
    };
    let (status, _, stderr) = output(serve(&["--concurrent-per-instance", "4"]));
    assert_eq!(status.code(), Some(1));
    assert!(stderr.contains("--concurrent-per-instance: is 4, but") && stderr.contains("at least 4"), "{stderr}");
    let host = Host::announced(serve(&["--concurrent-per-instance", "4", "--reuse", "8"]));
    let mut first = asked(&host, "/?ms=300");
    let mut second = asked(&host, "/?ms=300");
    assert_eq!(first.response(false).instance()["id"], second.response(false).instance()["id"]);
}
