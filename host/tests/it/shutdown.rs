//! SIGTERM and SIGINT: S10, and the drain.

use crate::support::{App, Client, Host, eventually, flexwasm, free_port, get, guests};
use std::net::TcpStream;

fn app(settings: &str) -> App {
    App::new(settings)
        .function("sleep", guests::SLEEP)
        .function("stream", guests::STREAM)
        .function("late", guests::LATE)
        .function("spin", guests::SPIN)
        .function("p3_spin", guests::P3_SPIN)
        .function("p3_counter", guests::P3_COUNTER)
}

/// What stops the host.
const SIGNALS: [&str; 3] = ["TERM", "INT", "HUP"];

#[test]
fn s10_idle_with_an_open_connection() {
    for signal in SIGNALS {
        // Nobody has the patience to wait for a drain that takes its whole time.
        let mut host = app(r#"{"drain": {"timeout": "10m"}}"#).start();
        let mut idle = host.connect();
        assert_eq!(idle.get("/api/sleep").status, 200);
        host.signal(signal);
        assert_eq!(host.exit_code(), 0);
        assert!(idle.is_closed());
    }
}

#[test]
fn s10_a_running_request_finishes_and_nothing_new_starts() {
    for (signal, path) in SIGNALS.into_iter().flat_map(|signal| [(signal, "sleep"), (signal, "p3_counter")]) {
        let mut host = app(r#"{"pool": {"size": 1}}"#).start();
        let mut running = host.running(&format!("/api/{path}?ms=1000"), "/api/sleep");
        host.signal(signal);
        host.line(&["draining"]);
        eventually("the port is closed", || TcpStream::connect(("127.0.0.1", host.port)).is_err());
        assert_eq!(running.response(false).status, 200);
        assert_eq!(host.exit_code(), 0);
    }
}

#[test]
fn s10_a_body_under_way_is_sent_to_its_end() {
    for signal in SIGNALS {
        let mut host = app("{}").start();
        let mut running = host.connect();
        running.write(get("/api/stream?ms=100&count=8"));
        running.response_head();
        assert_eq!(running.chunk().unwrap(), b"data: 1\n\n");
        host.signal(signal);
        for event in 2..=8 {
            assert_eq!(running.chunk().unwrap(), format!("data: {event}\n\n").as_bytes());
        }
        assert_eq!(running.chunk().unwrap(), b"");
        assert_eq!(host.exit_code(), 0);
    }
}

#[test]
fn s10_late_work_is_waited_for() {
    let mut host = app("{}").start();
    assert_eq!(host.get("/api/late?ms=500").text(), "done");
    host.signal("TERM");
    assert_eq!(host.exit_code(), 0);
    assert!(host.log().iter().any(|line| line.contains("late work done")));
}

#[test]
fn waiting_requests_get_503() {
    let mut host = app(r#"{"pool": {"size": 1}}"#).start();
    let mut running = host.running("/api/sleep?ms=2000", "/api/sleep");
    let mut waiting = host.waiting("/api/sleep");
    host.signal("TERM");
    let refused = waiting.response(false);
    assert_eq!((refused.status, refused.reason().as_str()), (503, "shutting-down"));
    assert_eq!(running.response(false).status, 200);
    assert_eq!(host.exit_code(), 0);
}

#[test]
fn what_runs_longer_than_the_drain_timeout_is_cut_off() {
    let mut host = app(r#"{"pool": {"size": 1}, "drain": {"timeout": "300ms"}}"#).start();
    let mut running = host.running("/api/sleep?ms=3600000", "/api/sleep");
    host.signal("TERM");
    assert_eq!(host.exit_code(), 0);
    assert!(running.is_closed());
    host.line(&["drain.timeout is over", "cut_off=1"]);
    host.closing_line("cut-off");
}

#[test]
fn guests_that_compute_are_cut_off_too() {
    for signal in SIGNALS {
        let mut host = app(r#"{"pool": {"size": 3}, "drain": {"timeout": "300ms"}}"#).start();
        let [mut first, mut second, mut begun] = ["/api/spin", "/api/p3_spin", "/api/p3_spin?after=1"].map(|path| {
            let mut client = host.connect();
            client.write(get(path));
            client
        });
        assert_eq!(begun.response_head().status, 200);
        assert_eq!(begun.chunk().unwrap(), b"the beginning");
        drop(host.waiting("/api/sleep"));
        host.signal(signal);
        assert_eq!(host.exit_code(), 0);
        assert!(first.is_closed() && second.is_closed());
        assert_eq!(begun.chunk(), None);
        let cut_off = host.log().iter().filter(|line| line.contains("outcome=\"cut-off\"")).count();
        assert_eq!(cut_off, 3);
    }
}

#[test]
fn an_answer_that_the_drain_cuts_off_never_looks_whole() {
    let mut host = app(r#"{"drain": {"timeout": "300ms"}}"#).start();
    let mut running = host.connect();
    // Without a length, HTTP/1.0 takes the end of the connection for the end of the body.
    running.write("GET /api/stream?ms=50 HTTP/1.0\r\nHost: a\r\n\r\n");
    assert_eq!(running.response_head().status, 200);
    host.signal("TERM");
    assert!(running.is_reset());
    assert_eq!(host.exit_code(), 0);
}

#[test]
fn a_second_signal_ends_it_at_once() {
    for (first, second, path) in [
        ("TERM", "TERM", "sleep?ms=3600000"),
        ("INT", "INT", "spin"),
        ("TERM", "INT", "p3_spin"),
        ("INT", "TERM", "spin"),
    ] {
        let mut host = app(r#"{"pool": {"size": 1}}"#).start();
        let _running = host.running(&format!("/api/{path}"), "/api/sleep");
        host.signal(first);
        host.line(&["draining"]);
        host.signal(second);
        assert_eq!(host.exit_code(), 143);
    }
}

#[test]
fn a_log_that_nobody_reads_delays_neither_a_request_nor_the_end() {
    let port = free_port();
    let mut command = flexwasm();
    command.args(["serve", guests::PRINT, "--listen", &format!("127.0.0.1:{port}")]);
    let (mut host, _unread) = Host::unread(command, port);
    eventually("the host is ready", || TcpStream::connect(("127.0.0.1", port)).is_ok());
    // Many times what a pipe holds.
    let mut client = Client::connect(port);
    for _ in 0..2000 {
        assert_eq!(client.get("/").status, 200);
    }
    drop(client);
    host.signal("TERM");
    assert_eq!(host.exit_code(), 0);
}
