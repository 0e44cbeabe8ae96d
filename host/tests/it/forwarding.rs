//! Requests as the Functions host forwards them (`enableForwardingHttpRequest`): F1 to F5.

use crate::support::{App, ID, get, guests, post};
use std::time::{Duration, Instant};

#[test]
fn f1_the_route_is_found_and_path_and_query_arrive_as_sent() {
    let host = App::new("{}").routed("x", guests::DESCRIBE, r#""route": "x/{id}""#, "{}").start();
    let answer = host.get("/api/x/42?a=1%2C2&k=");
    assert!(answer.text().contains("path: /api/x/42?a=1%2C2&k=\n"), "{}", answer.text());
    assert_eq!(host.get("/x/42").status, 404);

    let bare = App::with_host_json(
        r#"{"version": "2.0", "extensions": {"http": {"routePrefix": ""}}, "customHandler": {"enableForwardingHttpRequest": true}}"#,
    );
    let host = bare.routed("x", guests::DESCRIBE, r#""route": "x/{id}""#, "{}").start();
    assert!(host.get("/x/42").text().contains("path: /x/42\n"));
}

#[test]
fn f2_the_original_host_and_the_last_invocation_id() {
    let host = App::new("{}").function("describe", guests::DESCRIBE).start();
    let answer = host.connect().ask(format!(
        "GET /api/describe HTTP/1.1\r\nHost: app.example\r\nUser-Agent: curl Azure-Functions-Host/4.1\r\n\
         X-Azure-Functions-InvocationId: ffffffff-0000-4000-8000-0123456789ab, {ID}\r\nX-Functions-Key: key\r\n\r\n"
    ));
    let text = answer.text();
    assert!(text.contains("authority: app.example\n"), "{text}");
    assert!(text.contains("header: user-agent=curl Azure-Functions-Host/4.1\n"), "{text}");
    assert!(!text.contains("x-functions-key"), "{text}");
    assert!(host.closing_line("answered").contains(ID));
}

#[test]
fn f3_answers_without_a_body_leave_the_connection_usable() {
    let app = App::new("{}").function("status", guests::STATUS).function("counter", guests::COUNTER);
    let host = app.start();
    let mut client = host.connect();
    for code in [204, 304] {
        let answer = client.get(&format!("/api/status?code={code}"));
        assert_eq!((answer.status, answer.body.len()), (code, 0));
        assert_eq!(client.get("/api/counter").text(), "1");
    }
    assert_eq!(client.head("/api/status?code=200").status, 200);
    assert_eq!(client.get("/api/counter").text(), "1");
}

#[test]
fn f4_any_status_and_both_cookies_pass() {
    let host = App::new("{}").function("status", guests::STATUS).start();
    for code in [200, 302, 404, 418, 500, 503] {
        let answer = host.get(&format!("/api/status?code={code}"));
        assert_eq!((answer.status, answer.text().as_str()), (code, "the body"));
        assert_eq!(answer.headers("set-cookie"), ["a=1", "b=2"]);
        assert_eq!(answer.header("location"), Some("/elsewhere"));
    }
}

#[test]
fn f5_expect_continue_costs_no_wait() {
    let host = App::new("{}").function("sink", guests::SINK).start();
    let mut client = host.connect();
    let asked = Instant::now();
    client.write("POST /api/sink HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n");
    assert_eq!(client.response_head().status, 100);
    let answer = client.ask("hello");
    assert_eq!((answer.status, answer.text().as_str()), (200, "5"));
    assert!(asked.elapsed() < Duration::from_secs(1));
}

#[test]
fn functions_that_are_not_plain_http_answer_501() {
    let queue =
        r#"{"scriptFile": "guest.wasm", "bindings": [{"type": "queueTrigger", "direction": "in", "name": "m"}]}"#;
    let app = App::new("{}").function("counter", guests::COUNTER).function_json("OnQueue", queue);
    let host = app.start();
    let answer = host.connect().ask(post("/OnQueue", "{}"));
    assert_eq!((answer.status, answer.reason().as_str()), (501, "envelope"));
    assert!(answer.text().contains("OnQueue"));

    // Without a forwarding flag the Functions host wraps every function's requests.
    let wrapped = App::with_host_json(r#"{"version": "2.0"}"#).function("counter", guests::COUNTER);
    let host = wrapped.start();
    assert_eq!(host.connect().ask(post("/counter", "{}")).status, 501);
    assert_eq!(host.get("/api/counter").status, 404);
    // An app setting switches it on, as it does for the Functions host.
    let flag = ("AzureFunctionsJobHost__customHandler__enableForwardingHttpRequest", "true");
    assert_eq!(wrapped.start_with(&[flag]).get("/api/counter").text(), "1");
}

#[test]
fn diagnostic_headers_follow_the_setting() {
    for (setting, instance, host_header) in [("full", true, true), ("id", true, false), ("off", false, false)] {
        let app = App::new(&format!(r#"{{"headers": "{setting}"}}"#)).function("hop", guests::HOP);
        let answer = app.start().get("/api/hop");
        // What the guest forged never stays.
        assert!(!answer.headers("x-flexwasm-instance").contains(&"forged"));
        assert_eq!(answer.header("x-flexwasm-instance").is_some(), instance, "{setting}");
        assert_eq!(answer.header("x-flexwasm-host").is_some(), host_header, "{setting}");
        assert_eq!(answer.header("server-timing").is_some(), host_header, "{setting}");
    }
    let app = App::new("{}").function("counter", guests::COUNTER);
    let instance = app.start().connect().ask(get("/api/counter")).instance();
    assert_eq!((instance["id"].as_str(), instance["slot"].as_str(), instance["served"].as_str()), ("1", "0", "1"));
    assert_eq!(instance["digest"].len(), 12);
}
