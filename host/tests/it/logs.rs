//! What an operator reads: which requests leave a line, where it goes, and what it costs.

use crate::functions_host::{FunctionsHost, Mode, Request};
use crate::support::{App, Host, flexwasm, get, guests, post};

/// A host as the Functions host starts it, with nothing said about the log.
fn app(settings: &str) -> App {
    App::with_host_json(&format!(
        r#"{{"version": "2.0", "customHandler": {{"enableForwardingHttpRequest": true, "enableProxyingHttpRequest": true}},
            "flexwasm": {settings}}}"#
    ))
}

fn closings(lines: &[String]) -> Vec<&String> {
    lines.iter().filter(|line| line.contains(" invocation: ")).collect()
}

fn ended(mut host: Host) -> Host {
    host.signal("TERM");
    assert_eq!(host.exit_code(), 0);
    host
}

#[test]
fn a_plain_run_under_the_functions_host_leaves_no_line_for_a_request() {
    let app = app("{}").function("counter", guests::COUNTER).routed(
        "posted",
        guests::STATUS,
        r#""authLevel": "anonymous", "methods": ["post"]"#,
        "{}",
    );
    let host = app.start();
    for _ in 0..50 {
        assert_eq!(host.get("/api/counter").status, 200);
    }
    for code in [204, 307, 404, 499] {
        assert_eq!(host.connect().ask(post(&format!("/api/posted?code={code}"), "")).status, code);
    }
    let host = ended(host);
    assert_eq!(closings(&host.stdout()), Vec::<&String>::new());
    assert_eq!(host.stderr(), Vec::<String>::new());
    assert!(host.stdout().iter().all(|line| line.starts_with(" INFO ")), "{:?}", host.stdout());
}

#[test]
fn a_burst_through_the_functions_host_leaves_no_line() {
    let app = app(r#"{"pool": {"size": 8}}"#).function("counter", guests::COUNTER);
    for mode in [Mode::Forwarding, Mode::Proxying] {
        let host = FunctionsHost::start(&app, mode);
        std::thread::scope(|scope| {
            for _ in 0..16 {
                scope.spawn(|| {
                    (0..125).for_each(|_| assert_eq!(host.request(Request::get("/api/counter")).text(), "1"))
                });
            }
        });
        let handler = host.handler();
        assert_eq!(closings(&handler.log()), Vec::<&String>::new());
        assert_eq!(handler.stderr(), Vec::<String>::new());
    }
}

#[test]
fn under_the_functions_host_a_problem_is_an_error_or_a_warning() {
    let app = app(r#"{"limits": {"requestBody": "1KiB"}}"#)
        .function("traps", guests::TRAP_BEFORE)
        .routed("sleep", guests::SLEEP, r#""authLevel": "anonymous""#, r#"{"limits": {"timeout": "300ms"}}"#)
        .function("status", guests::STATUS);
    let host = app.start();
    assert_eq!(host.get("/api/traps").status, 500);
    assert_eq!(host.get("/api/sleep?ms=3600000").status, 504);
    assert_eq!(host.get("/api/status?code=503").status, 503);
    assert_eq!(host.connect().ask(post("/api/sleep", &"x".repeat(1025))).status, 413);
    let host = ended(host);
    let said = host.stderr();
    for (words, level) in
        [("traps ", "ERROR"), ("sleep ", " WARN"), ("status ", " WARN"), ("outcome=\"refused\"", " WARN")]
    {
        let line = said.iter().find(|line| line.contains(words)).unwrap();
        assert!(line.starts_with(&format!("{level} invocation: function=")), "{line}");
    }
    // What the Functions host would take for a warning.
    assert!(said.iter().all(|line| line.to_lowercase().contains("warn") != line.starts_with("ERROR")), "{said:?}");
    assert_eq!((said.len(), closings(&host.stdout()).len()), (4, 0));
}

#[test]
fn every_line_or_none_is_written_where_that_is_wanted() {
    for (settings, slow, lines) in
        [("all", "1h", 3), ("problems", "1h", 1), ("problems", "10ms", 3), ("none", "10ms", 0)]
    {
        let app = app(&format!(r#"{{"log": {{"requests": "{settings}", "slow": "{slow}", "timestamps": true}}}}"#));
        let host = app.function("sleep", guests::SLEEP).start();
        for _ in 0..2 {
            assert_eq!(host.get("/api/sleep?ms=50").status, 200);
        }
        assert_eq!(host.get("/api/nothing").status, 404);
        let host = ended(host);
        let log = host.log();
        assert_eq!(closings(&log).len(), lines, "{log:?}");
        assert!(log.iter().all(|line| line.starts_with("20") && line.contains('Z')), "{log:?}");
    }
}

#[test]
fn every_request_leaves_method_and_path_whoever_answers_it() {
    let host = App::new("{}").routed("counter", guests::COUNTER, r#""methods": ["get"]"#, "{}").start();
    let ask = |request: String, status: u16, words: &[&str]| {
        assert_eq!(host.connect().ask(request).status, status);
        host.line(&[&[" invocation: function="], words].concat());
    };
    ask(
        get("/api/counter?code=SECRET"),
        200,
        &["function=counter id=0a1b2c3d", " method=GET path=\"/api/counter\" outcome="],
    );
    ask(
        get("/nowhere/%22\"?code=SECRET"),
        404,
        &["function=- id=0a1b2c3d", "path=\"/nowhere/%22\\\"\" outcome=\"refused\"", "status=404"],
    );
    ask(post("/api/counter", ""), 405, &["function=- ", "method=POST path=\"/api/counter\"", "status=405"]);
    ask(
        get("/twice").replacen("Host: app.example", "Host: a\r\nHost: b", 1),
        400,
        &["function=- id=- ", "path=\"/twice\"", "status=400"],
    );
    ask(
        "CONNECT a.example:1 HTTP/1.1\r\nHost: a.example:1\r\n\r\n".to_owned(),
        501,
        &["function=- ", "method=CONNECT", "status=501"],
    );
    let long = "x".repeat(10_000);
    ask(get(&format!("/{long}")), 404, &[&format!("path=\"/{}…\" outcome=", &long[..199])]);
    assert!(!host.log().iter().any(|line| line.contains("SECRET")));
}

#[test]
fn a_flood_of_traps_is_counted() {
    let host = app(r#"{"limits": {"logRate": "16KiB"}}"#).function("traps", guests::TRAP_BEFORE).start();
    let mut client = host.connect();
    for _ in 0..200 {
        assert_eq!(client.get("/api/traps").status, 500);
    }
    let line = host.line(&[
        " WARN invocation: ",
        "closing lines beyond limits.logRate (16KiB per second) were left out",
        "function=traps",
    ]);
    let left_out: usize = line.split("invocation: ").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap();
    let told = host.stderr().iter().filter(|line| line.starts_with("ERROR ")).count();
    assert!(left_out > 0 && told > 0 && told < 200, "{told} told, {left_out} left out");
    // Who asks for something else is heard.
    assert_eq!(client.get("/api/nothing").status, 404);
    host.line(&["WARN invocation: function=- ", "path=\"/api/nothing\""]);
}

#[test]
fn stand_alone_everything_is_on_stdout_with_its_time() {
    let mut command = flexwasm();
    command.args(["serve", guests::TRAP_BEFORE, "--listen", "127.0.0.1:0"]);
    let host = Host::announced(command);
    assert_eq!(host.get("/").status, 500);
    let line = host.line(&["ERROR invocation: function=serve", "path=\"/\" outcome=\"faulted\""]);
    assert!(host.stdout().contains(&line) && line.starts_with("20"), "{line}");
}

#[test]
fn connections_beyond_the_limit_wait() {
    let host = App::new(r#"{"limits": {"connections": 16}}"#).function("counter", guests::COUNTER).start();
    let mut held: Vec<_> = (0..16).map(|_| host.connect()).collect();
    for client in &mut held {
        assert_eq!(client.get("/api/counter").status, 200);
    }
    let mut waiting = host.connect();
    waiting.write(get("/api/counter"));
    assert!(waiting.stays_silent(std::time::Duration::from_millis(200)));
    drop(held.pop());
    assert_eq!(waiting.response(false).status, 200);
}
