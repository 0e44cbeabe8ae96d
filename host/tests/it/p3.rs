//! Guests of WASI 0.3: what 0.2 promises holds for them too.

use crate::support::{App, Host, ID, SECRET, get, guests, post};

/// An app with one guest of 0.3 and, beside it, one of 0.2. There is one slot: whoever does not give it back is found out.
fn app(name: &str, guest: &str) -> App {
    App::new(r#"{"pool": {"size": 1}, "limits": {"timeout": "2s"}}"#)
        .function(name, guest)
        .function("counter", guests::COUNTER)
}

/// Checks that the process lives on, and that the slot is free.
fn serves_on(mut host: Host) {
    assert!(host.is_running());
    assert_eq!(host.get("/api/counter").text(), "1");
}

#[test]
fn a_0_3_guest_sees_the_request_as_the_client_sent_it() {
    let host = app("describe", guests::P3_DESCRIBE).start();
    let answer = host.connect().ask(format!(
        "GET /api/describe?a=1 HTTP/1.1\r\nHost: app.example:8080\r\nX-Forwarded-Proto: https\r\nX-One: 1\r\n\
         X-Azure-Functions-InvocationId: {ID}\r\n\r\n"
    ));
    let text = answer.text();
    for line in [
        "method: Method::Get",
        "scheme: Some(Scheme::Https)",
        "authority: app.example:8080",
        "path: /api/describe?a=1",
        "served: 1",
        "header: x-one=1",
    ] {
        assert!(text.contains(&format!("{line}\n")), "{line:?} is not in\n{text}");
    }
    assert!(text.contains(&format!("invocation: {ID}\n")), "{text}");
    assert_eq!(answer.instance()["served"], "1");
}

#[test]
fn chunks_pass_a_0_3_guest_in_both_directions_before_the_end_and_trailers_after_it() {
    let host = app("echo", guests::P3_ECHO).function("forward", guests::P3_FORWARD).start();
    for name in ["echo", "forward"] {
        let mut client = host.connect();
        client.write(format!(
            "POST /api/{name} HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nTrailer: x-sum\r\nTransfer-Encoding: chunked\r\n\r\n"
        ));
        client.write("5\r\nhello\r\n");
        assert_eq!(client.response_head().status, 200);
        assert_eq!(client.chunk().unwrap(), b"hello");
        client.write("5\r\nagain\r\n");
        assert_eq!(client.chunk().unwrap(), b"again");
        client.write("0\r\nx-sum: 10\r\n\r\n");
        assert_eq!(client.last_chunk_and_trailers(), ["x-sum: 10"], "{name}");
    }
}

#[test]
fn a_short_0_3_answer_is_known_as_a_whole_before_it_is_sent() {
    let host = app("short", guests::P3_COUNTER).start();
    let answers: Vec<_> = (0..10).map(|_| host.get("/api/short")).collect();
    let known = answers.iter().filter(|answer| answer.header("content-length") == Some("1")).count();
    // A tick makes a guest yield that the machine has held up, and then its answer leaves in chunks.
    assert!(known > 5, "{known} of 10");
}

#[test]
fn every_request_gets_a_fresh_0_3_instance() {
    let host = app("fresh", guests::P3_COUNTER).start();
    for _ in 0..3 {
        assert_eq!(host.get("/api/fresh").text(), "1");
    }
}

#[test]
fn a_0_3_trap_before_the_head_is_a_500() {
    let host = app("trap", guests::P3_TRAP_BEFORE).start();
    for target in ["/api/trap", "/api/trap?ms=20"] {
        let answer = host.get(target);
        assert_eq!((answer.status, answer.reason().as_str()), (500, "guest-failed"));
    }
    let line = host.closing_line("faulted");
    assert!(line.contains("trapped: reached code that must not run"), "{line}");
    host.line(&["guest: ", "stream=\"stderr\"", "the secret inside", ID]);
    serves_on(host);
}

#[test]
fn a_0_3_error_in_place_of_a_response_is_a_500() {
    let host = app("error", guests::P3_ERROR_CODE).start();
    assert_eq!(host.get("/api/error").status, 500);
    assert!(host.closing_line("faulted").contains("answered with the error ErrorCode::LoopDetected"));
    serves_on(host);
}

#[test]
fn a_0_3_answer_that_is_not_finished_breaks_off() {
    let host = app("broken", guests::P3_TRAP_AFTER).start();
    let mut client = host.connect();
    assert!(!client.get("/api/broken?ms=100").complete);
    assert!(client.is_closed());
    assert!(host.closing_line("faulted").contains("trapped"));
    serves_on(host);
}

#[test]
fn a_0_3_answer_without_framing_that_is_not_finished_is_reset() {
    let host = app("broken", guests::P3_TRAP_AFTER).start();
    let mut client = host.connect();
    client.write("GET /api/broken?ms=100 HTTP/1.0\r\nHost: a\r\n\r\n");
    assert_eq!(client.response_head().status, 200);
    assert!(client.is_reset());
    serves_on(host);
}

#[test]
fn a_0_3_answer_that_will_not_be_finished_is_a_500_if_that_is_known_in_time() {
    for guest in [guests::P3_UNFINISHED, guests::P3_FAILS_LATE] {
        let host = app("unfinished", guest).start();
        assert_eq!(host.get("/api/unfinished").status, 500, "{guest}");
        assert!(host.closing_line("faulted").contains("did not finish its response body"));
        serves_on(host);
    }
}

#[test]
fn a_0_3_guest_that_computes_without_end_is_ended_at_the_deadline_and_starves_nobody() {
    let app = App::new(r#"{"pool": {"size": 4}, "limits": {"timeout": "2s"}}"#)
        .function("spin", guests::P3_SPIN)
        .function("fresh", guests::P3_COUNTER)
        .function("counter", guests::COUNTER);
    let host = app.start();
    let mut spinning = host.connect();
    spinning.write(get("/api/spin"));
    let mut streaming = host.connect();
    streaming.write(get("/api/spin?after=1"));
    assert_eq!(streaming.response_head().status, 200);
    assert_eq!(streaming.chunk().unwrap(), b"the beginning");
    let mut client = host.connect();
    for _ in 0..50 {
        assert_eq!(client.get("/api/counter").text(), "1");
        assert_eq!(client.get("/api/fresh").text(), "1");
    }
    let answer = spinning.response(false);
    assert_eq!((answer.status, answer.reason().as_str()), (504, "deadline"));
    assert_eq!(streaming.chunk(), None);
    host.line(&["outcome=\"deadline\"", "status=200"]);
    serves_on(host);
}

#[test]
fn a_0_3_guest_that_writes_without_end_waits_for_its_reader_and_ends_at_the_deadline() {
    let host = app("stream", guests::P3_STREAM).start();
    let before = host.resident();
    let mut unread = host.connect();
    unread.write(get("/api/stream"));
    assert_eq!(unread.response_head().status, 200);
    host.closing_line("deadline");
    let grown = host.resident().saturating_sub(before);
    assert!(grown < 32 << 20, "{} MiB for a reader that does not read", grown >> 20);
    assert!(!host.get("/api/stream").complete);
    serves_on(host);
}

#[test]
fn a_0_3_guest_may_work_on_after_its_answer_within_the_deadline() {
    let host = app("late", guests::P3_LATE).start();
    let mut client = host.connect();
    assert_eq!(client.get("/api/late?ms=300").text(), "done");
    assert!(!host.stdout().iter().any(|line| line.contains("late work done")), "it has not worked on");
    host.line(&["late work done"]);
    host.closing_line("answered");
    assert_eq!(client.get("/api/late?ms=3600000").text(), "done");
    host.closing_line("deadline");
    serves_on(host);
}

#[test]
fn the_host_stops_after_what_a_0_3_guest_does_after_its_answer() {
    let mut host = app("late", guests::P3_LATE).start();
    assert_eq!(host.get("/api/late?ms=500").text(), "done");
    host.signal("TERM");
    assert_eq!(host.exit_code(), 0);
    host.line(&["late work done"]);
}

#[test]
fn a_client_that_leaves_takes_its_0_3_guest_along() {
    let app = App::new(r#"{"pool": {"size": 1}}"#)
        .function("fresh", guests::P3_COUNTER)
        .function("spin", guests::P3_SPIN)
        .function("stream", guests::P3_STREAM);
    let host = app.start();
    for request in ["/api/fresh?ms=3600000", "/api/spin", "/api/spin?after=1", "/api/stream"] {
        let mut client = host.connect();
        client.write(get(request));
        let mut next = host.waiting("/api/fresh");
        drop(client);
        assert_eq!(next.response(false).text(), "1", "{request}");
    }
}

#[test]
fn limits_of_a_0_3_guests_bodies_hold() {
    let app = App::new(r#"{"limits": {"requestBody": "1KiB"}}"#).function("echo", guests::P3_ECHO).routed(
        "short",
        guests::P3_ECHO,
        r#""authLevel": "anonymous""#,
        r#"{"limits": {"responseBody": "10B"}}"#,
    );
    let host = app.start();
    assert_eq!(host.connect().ask(post("/api/echo", &"x".repeat(1024))).text().len(), 1024);
    assert_eq!(host.connect().ask(post("/api/echo", &"x".repeat(1025))).status, 413);
    assert!(host.connect().ask(post("/api/short", "0123456789")).complete);
    assert_eq!(host.connect().ask(post("/api/short", "0123456789x")).status, 500);
    assert!(host.closing_line("faulted").contains("limits.responseBody"));
}

#[test]
fn what_the_host_keeps_for_a_0_3_guest_is_bounded() {
    let host = app("hoard", guests::P3_HOARD).start();
    let before = host.resident();
    for target in ["/api/hoard", "/api/hoard?calls=1"] {
        assert_eq!(host.get(target).status, 500);
    }
    let grown = host.resident().saturating_sub(before);
    assert!(grown < 32 << 20, "{} MiB", grown >> 20);
    assert!(host.closing_line("faulted").contains("was ended: limits.handles of 1024 reached"));
    serves_on(host);
}

#[test]
fn a_0_3_guest_has_what_was_granted_and_nothing_else() {
    let grant = r#"{"grants": {"env": ["GREETING"]}}"#;
    let app = App::new("{}").routed("reach", guests::P3_REACH, r#""authLevel": "anonymous""#, grant);
    let host = app.start_with(&[("GREETING", "hello")]);
    let text = host.get("/api/reach").text();
    assert_eq!(
        text,
        "request: Err(ErrorCode::HttpRequestDenied)\nenvironment: [(\"GREETING\", \"hello\")]\nfiles: false\n\
         network: Err(PermissionDenied)\n"
    );
    assert!(!text.contains(SECRET));
    host.line(&["guest: function=reach", ID, "stream=\"stdout\"", "said on stdout"]);
    host.line(&["guest: function=reach", ID, "stream=\"stderr\"", "said on stderr"]);
}
