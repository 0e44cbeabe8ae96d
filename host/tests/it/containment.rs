//! What a bad guest gets, and that nobody else notices.

use crate::support::{App, Host, get, guests, post};
use std::thread;
use std::time::{Duration, Instant};

/// An app with one bad function and a good one.
fn beside(name: &str, guest: &str) -> App {
    App::new(r#"{"pool": {"size": 4}, "limits": {"timeout": "1s", "memory": "16MiB"}}"#)
        .function(name, guest)
        .function("counter", guests::COUNTER)
}

/// Calls the bad function 100 times, four at a time, and checks that each gets `status` and that the process lives on.
fn survives(name: &str, guest: &str, status: u16) -> (App, Host) {
    let app = beside(name, guest);
    let mut host = app.start();
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..25 {
                    let answer = host.get(&format!("/api/{name}"));
                    assert_eq!(answer.status, status, "{}", answer.text());
                    assert!(!answer.text().contains("secret") && !answer.text().contains("wasm"), "{}", answer.text());
                }
            });
        }
    });
    assert!(host.is_running());
    assert_eq!(host.get("/api/counter").text(), "1");
    (app, host)
}

#[test]
fn s8_a_trap_before_the_head_is_a_500() {
    let (_app, host) = survives("trap_before", guests::TRAP_BEFORE, 500);
    let line = host.closing_line("faulted");
    assert!(line.contains("(wasm `unreachable` instruction executed), in "), "{line}");
    assert!(line.contains("incoming_handler::_export_handle"), "the frame that trapped: {line}");
    host.line(&["guest: ", "stream=\"stderr\"", "the secret inside"]);
}

#[test]
fn s8_a_stack_overflow_is_a_500() {
    let (_app, host) = survives("overflow", guests::OVERFLOW, 500);
    assert!(host.closing_line("faulted").contains("trapped: used up its stack"));
}

#[test]
fn s8_an_exit_is_a_500() {
    let (_app, host) = survives("exit", guests::EXIT, 500);
    assert!(host.closing_line("faulted").contains("called exit with status 0"));
}

#[test]
fn s8_no_reply_is_a_500() {
    let (_app, host) = survives("no_reply", guests::NO_REPLY, 500);
    assert_eq!(host.get("/api/no_reply?ms=20").status, 500);
    assert!(host.closing_line("faulted").contains("returned without setting a response"));
}

#[test]
fn s8_an_error_in_place_of_a_response_is_a_500() {
    let (_app, host) = survives("error_code", guests::ERROR_CODE, 500);
    assert!(host.closing_line("faulted").contains("answered with the error"));
}

#[test]
fn a_head_that_cannot_be_sent_is_a_500() {
    let app = beside("status", guests::STATUS);
    let host = app.start();
    assert_eq!(host.get("/api/status?code=101").status, 500);
    assert!(host.closing_line("faulted").contains("an informational status cannot end an exchange"));
}

#[test]
fn s8_a_memory_bomb_is_a_500() {
    let (_app, host) = survives("bomb", guests::BOMB, 500);
    let line = host.closing_line("faulted");
    assert!(line.contains("after limits.memory of 16MiB reached"), "{line}");
}

#[test]
fn s8_s9_a_loop_is_a_504_and_the_process_stays() {
    let app = App::new(r#"{"pool": {"size": 4}, "headers": "full", "limits": {"timeout": "200ms"}}"#)
        .function("spin", guests::SPIN)
        .function("counter", guests::COUNTER);
    let mut host = app.start();
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..25 {
                    let answer = host.get("/api/spin");
                    assert_eq!((answer.status, answer.reason().as_str()), (504, "deadline"));
                }
            });
        }
    });
    assert!(host.is_running());
    // The process that answers is the one that was started.
    let answer = host.get("/api/counter");
    assert!(answer.header("x-flexwasm-host").unwrap().contains(&format!("pid={};", host.id())));
    host.closing_line("deadline");
}

#[test]
fn s9_a_guest_that_sleeps_too_long_is_a_504_and_its_neighbours_go_on() {
    let app = App::new("{}")
        .routed("slow", guests::SLEEP, r#""authLevel": "anonymous""#, r#"{"limits": {"timeout": "300ms"}}"#)
        .function("sleep", guests::SLEEP);
    let host = app.start();
    let mut neighbour = host.connect();
    neighbour.write(get("/api/sleep?ms=600"));
    assert_eq!(host.get("/api/slow?ms=3600000").status, 504);
    assert_eq!(neighbour.response(false).text(), "slept");
}

#[test]
fn spinning_guests_do_not_starve_a_neighbour() {
    let app = App::new(r#"{"pool": {"size": 16}}"#).function("spin", guests::SPIN).function("counter", guests::COUNTER);
    let host = app.start();
    let spinning: Vec<_> = (0..8)
        .map(|_| {
            let mut client = host.connect();
            client.write(get("/api/spin"));
            client
        })
        .collect();
    host.probe();
    let mut client = host.connect();
    for _ in 0..50 {
        assert_eq!(client.get("/api/counter").text(), "1");
    }
    drop(spinning);
}

#[test]
fn a_trap_after_the_head_truncates_the_answer() {
    let app = beside("trap_after", guests::TRAP_AFTER);
    let mut host = app.start();
    for target in ["/api/trap_after", "/api/trap_after?length=1000000"] {
        let mut client = host.connect();
        let answer = client.get(target);
        assert_eq!(answer.status, 200);
        assert!(!answer.complete, "{target} looks whole after {} bytes", answer.body.len());
        assert!(client.is_closed());
    }
    host.closing_line("faulted");
    assert!(host.is_running());
    assert_eq!(host.get("/api/counter").text(), "1");
}

#[test]
fn a_truncated_answer_without_framing_is_reset() {
    let app = beside("trap_after", guests::TRAP_AFTER);
    let host = app.start();
    // HTTP/1.0: the end of the connection would be the end of the body.
    let answer = host.connect().ask("GET /api/trap_after HTTP/1.0\r\nHost: a\r\n\r\n");
    assert!(!answer.complete, "a clean end after {} bytes", answer.body.len());
}

#[test]
fn an_answer_counts_however_often_its_guest_has_waited_before() {
    let app = App::new("{}").function("due", guests::DUE);
    let host = app.start();
    let mut client = host.connect();
    // tokio gives a task 128 steps, after which its channels look empty.
    for times in 0..300 {
        let answer = client.get(&format!("/api/due?times={times}"));
        assert_eq!((answer.status, answer.text().as_str()), (200, "waited"), "after {times} times");
    }
}

#[test]
fn an_unfinished_body_is_not_a_clean_end() {
    let app = beside("unfinished", guests::UNFINISHED);
    let host = app.start();
    // A guest that never waited is known to have failed before its head is sent.
    assert_eq!(host.get("/api/unfinished").status, 500);
    let answer = host.get("/api/unfinished?ms=100");
    assert_eq!((answer.status, answer.complete), (200, false));
}

#[test]
fn as_many_memory_bombs_as_slots_stay_within_the_total() {
    const TOTAL: u64 = 96 << 20;
    let settings = r#"{"pool": {"size": 8}, "limits": {"totalMemory": "96MiB", "memory": "64MiB", "timeout": "20s"}}"#;
    let app = App::new(settings).function("bomb", guests::BOMB).function("counter", guests::COUNTER);
    let mut host = app.start();
    let before = host.resident();
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..5 {
                    assert_eq!(host.get("/api/bomb").status, 500);
                }
            });
        }
    });
    host.line(&["outcome=\"faulted\"", "limits.totalMemory of 96MiB, shared by all guests, reached"]);
    assert!(host.is_running());
    assert_eq!(host.get("/api/counter").text(), "1");
    let after = host.resident();
    assert!(after < before + TOTAL, "{} MiB after {} MiB", after >> 20, before >> 20);
}

#[test]
fn a_guest_may_work_on_after_its_answer() {
    let app = App::new(r#"{"pool": {"size": 1}}"#).function("late", guests::LATE).function("counter", guests::COUNTER);
    let host = app.start();
    let mut client = host.connect();
    let asked = Instant::now();
    assert_eq!(client.get("/api/late?ms=1500").text(), "done");
    assert!(asked.elapsed() < Duration::from_millis(1500));
    // The slot is still taken, the connection is not.
    assert_eq!(client.get("/api/counter").text(), "1");
    assert!(asked.elapsed() >= Duration::from_millis(1500));
    host.line(&["late work done"]);
    host.closing_line("answered");
}

#[test]
fn a_client_that_reads_nothing_is_cut_off_at_the_deadline() {
    let app = beside("stream", guests::STREAM);
    let host = app.start();
    let mut client = host.connect();
    client.write(get("/api/stream"));
    // The guest writes without end, the buffers fill, and nobody reads.
    let line = host.closing_line("deadline");
    assert!(line.contains("status=200"), "{line}");
    assert_eq!(host.get("/api/counter").text(), "1");
}

#[test]
fn a_client_that_reads_everything_is_cut_off_at_the_deadline_too() {
    let app = beside("stream", guests::STREAM);
    let host = app.start();
    // Without a pause the guest and its client keep the connection's task busy all the time.
    let answer = host.get("/api/stream");
    assert!(!answer.complete && !answer.body.is_empty());
    let line = host.closing_line("deadline");
    let total = line.split("total_ms=").nth(1).unwrap().split(' ').next().unwrap();
    assert!(total.parse::<f64>().unwrap() < 5_000.0, "{line}");
}

#[test]
fn what_the_host_keeps_for_a_guest_is_bounded() {
    // Long enough for what it hoards, also where the host is not optimised.
    let app = App::new(r#"{"limits": {"timeout": "20s", "memory": "16MiB"}}"#).function("hoard", guests::HOARD);
    let mut host = app.start();
    let before = host.resident();
    assert_eq!(host.get("/api/hoard").status, 500);
    let grown = host.resident().saturating_sub(before);
    assert!(grown < 64 << 20, "{} MiB", grown >> 20);
    assert!(host.is_running());
}

#[test]
fn a_body_shorter_than_announced_is_a_fault() {
    let app = beside("short", guests::SHORT);
    let host = app.start();
    assert_eq!(host.get("/api/short").status, 500);
    assert!(host.closing_line("faulted").contains("did not finish its response body"));
    // That nothing will come is known while the guest still runs, too.
    assert_eq!(host.get("/api/short?ms=100").status, 500);
    // An answer that never has a body may announce the length that another one would have.
    assert_eq!(host.get("/api/short?status=304").status, 304);
    assert_eq!(host.connect().head("/api/short").status, 200);
}

#[test]
fn a_refused_upload_can_read_why() {
    let app = App::new(r#"{"limits": {"requestBody": "1KiB"}}"#).function("sink", guests::SINK);
    let host = app.start();
    // The whole body is on its way before the answer is read.
    let answer = host.connect().ask(post("/api/sink", &"x".repeat(2 << 20)));
    assert_eq!(answer.status, 413);
}

#[test]
fn a_body_over_its_limit_is_a_413() {
    let app = App::new(r#"{"limits": {"requestBody": "1KiB"}}"#).function("sink", guests::SINK);
    let host = app.start();
    assert_eq!(host.connect().ask(post("/api/sink", &"x".repeat(1024))).text(), "1024");
    let mut client = host.connect();
    let answer = client.ask("POST /api/sink HTTP/1.1\r\nHost: a\r\nContent-Length: 1025\r\n\r\n");
    assert_eq!((answer.status, answer.reason().as_str()), (413, "request-body-too-large"));
    assert!(client.is_closed());
    // A chunked body is known to be too long only when it is.
    let mut client = host.connect();
    client.write("POST /api/sink HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
    client.write(format!("400\r\n{}\r\n1\r\nx\r\n", "x".repeat(1024)));
    assert_eq!(client.response(false).status, 413);
}

#[test]
fn a_response_over_its_limit_breaks_off() {
    let app = App::new(r#"{"limits": {"responseBody": "1KiB"}}"#).function("echo", guests::ECHO);
    let host = app.start();
    let answer = host.connect().ask(post("/api/echo", &"x".repeat(1024)));
    assert!(answer.complete);
    // The host knows of the length before the head is sent, or it does not.
    assert_eq!(host.connect().ask(post("/api/echo", &"x".repeat(1025))).status, 500);
    assert!(host.closing_line("faulted").contains("limits.responseBody"));
    let mut client = host.connect();
    client.write("POST /api/echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
    assert_eq!(client.response_head().status, 200);
    client.write(format!("401\r\n{}\r\n0\r\n\r\n", "x".repeat(1025)));
    assert!(client.chunk().is_none());
}
