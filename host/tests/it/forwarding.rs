//! Requests as the Functions host forwards them (`enableForwardingHttpRequest`): F1 to F5.

use crate::functions_host::{Body, FunctionsHost, Mode, Request};
use crate::support::{App, ID, get, guests};
use uuid::Uuid;

#[test]
fn f1_the_route_is_found_and_path_and_query_arrive_as_sent() {
    let app = App::new("{}").routed("x", guests::DESCRIBE, r#""route": "x/{id}""#, "{}");
    let target = "/api/x/42?a=1%2C2&k=";
    for (mode, arrives) in [(Mode::Forwarding, "/api/x/42?a=1,2&k="), (Mode::Proxying, target)] {
        let host = FunctionsHost::start(&app, mode);
        let text = host.request(Request::get(target)).text();
        assert!(text.contains(&format!("path: {arrives}\n")), "{text}");
        assert_eq!(host.request(Request::get("/x/42")).status, 404);
    }

    let bare = App::with_host_json(
        r#"{"version": "2.0", "extensions": {"http": {"routePrefix": ""}}, "customHandler": {"enableForwardingHttpRequest": true}}"#,
    );
    let bare = bare.routed("x", guests::DESCRIBE, r#""route": "x/{id}""#, "{}");
    let host = FunctionsHost::start(&bare, Mode::Forwarding);
    assert!(host.request(Request::get("/x/42")).text().contains("path: /x/42\n"));
}

#[test]
fn f1_paths_and_queries_arrive_as_the_functions_host_rewrites_them() {
    let app = App::new("{}").routed("x", guests::DESCRIBE, r#""route": "x/{*rest}""#, "{}");
    let host = FunctionsHost::start(&app, Mode::Forwarding);
    for (target, arrives) in [
        ("/api/x/a%2Fb", "/api/x/a%2Fb"),
        ("/api/x/c%252Fd", "/api/x/c%2Fd"),
        ("/api/x/y?a=1&a=2&k&p=%2C%2B+z", "/api/x/y?a=1,2&k=&p=,%2B%20z"),
    ] {
        let text = host.request(Request::get(target)).text();
        assert!(text.contains(&format!("path: {arrives}\n")), "{text}");
    }
}

#[test]
fn f2_the_original_host_and_the_last_invocation_id() {
    let app = App::new("{}").function("describe", guests::DESCRIBE);
    let host = FunctionsHost::start(&app, Mode::Forwarding);
    let request = Request::get("/api/describe")
        .with("User-Agent", "curl")
        .with("X-Azure-Functions-InvocationId", "ffffffff-0000-4000-8000-0123456789ab")
        .with("X-Forwarded-For", "192.0.2.7")
        .with("X-Functions-Key", "key");
    let text = host.request_as(Uuid::parse_str(ID).unwrap(), request).text();
    assert!(text.contains("authority: app.example\n"), "{text}");
    assert!(text.contains("header: user-agent=curl Azure-Functions-Host/4.1037.0.0\n"), "{text}");
    assert!(text.contains("header: x-forwarded-for=192.0.2.7\n"), "{text}");
    assert!(!text.contains("x-functions-key"), "{text}");
    assert!(host.handler().closing_line("answered").contains(ID));
}

#[test]
fn f3_answers_without_a_body_leave_the_connection_usable() {
    let app = App::new("{}").function("status", guests::STATUS).function("counter", guests::COUNTER);
    // The pool of the Functions host would hide a connection that cannot be used again.
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
    let app = App::new("{}").function("status", guests::STATUS);
    for mode in [Mode::Forwarding, Mode::Proxying] {
        let host = FunctionsHost::start(&app, mode);
        for code in [200, 302, 404, 418, 500, 503] {
            let answer = host.request(Request::get(&format!("/api/status?code={code}")));
            assert_eq!((answer.status, answer.text().as_str()), (code, "the body"));
            assert_eq!(answer.headers("set-cookie"), ["a=1", "b=2"]);
            assert_eq!(answer.header("location"), Some("/elsewhere"));
        }
    }
}

#[test]
fn f5_expect_continue_costs_no_wait() {
    let app = App::new("{}").function("sink", guests::SINK);
    let host = FunctionsHost::start(&app, Mode::Forwarding);
    let answer = host.request(Request::post("/api/sink", "hello").with("Expect", "100-continue"));
    assert_eq!((answer.status, answer.text().as_str()), (200, "5"));
    // .NET waits a second for a 100 that does not come: it has to come before any of the body.
    let mut client = host.handler().connect();
    client.write("POST /api/sink HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n");
    assert_eq!(client.response_head().status, 100);
    assert_eq!(client.ask("hello").text(), "5");
}

#[test]
fn a_chunked_upload_is_refused_by_the_functions_host() {
    let app = App::new("{}").function("sink", guests::SINK);
    let host = FunctionsHost::start(&app, Mode::Forwarding);
    let chunked = || Request::new("POST", "/api/sink", Body::Chunked(vec![b"hello".to_vec()]));
    assert_eq!(host.request(chunked()).status, 500);
    assert_eq!(host.request(Request::post("/api/sink", "hello")).text(), "5");
}

#[test]
fn a_stream_arrives_whole_and_a_broken_one_as_500() {
    let app = App::new(r#"{"limits": {"timeout": "2s"}}"#).function("stream", guests::STREAM);
    let host = FunctionsHost::start(&app, Mode::Forwarding);
    let answer = host.request(Request::get("/api/stream?ms=10&count=2"));
    assert_eq!((answer.status, answer.text().as_str()), (200, "data: 1\n\ndata: 2\n\n"));
    assert_eq!(answer.header("content-length"), Some("18"));
    // Its deadline comes after the head; the caller reads nothing of it.
    assert_eq!(host.request(Request::get("/api/stream?ms=200")).status, 500);
}

#[test]
fn a_client_that_leaves_is_not_noticed() {
    let app = App::new(r#"{"pool": {"size": 1}}"#).function("sleep", guests::SLEEP);
    let host = FunctionsHost::start(&app, Mode::Forwarding);
    drop(host.open(Request::get("/api/sleep?ms=1500")));
    // The guest sleeps to its end, and has the only slot until then.
    host.handler().line(&[" invocation: ", "outcome=\"answered\"", "function=sleep"]);
    assert_eq!(host.request(Request::get("/api/sleep?ms=0")).status, 200);
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
