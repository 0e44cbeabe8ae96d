//! What a trace goes through, and what is counted.

use crate::support::{App, Host, ID, flexwasm, get, guests, output, repository};
use crate::swap::socket;
use serde_json::Value;
use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

/// A request with more lines in its head, each with its end.
fn with(path: &str, lines: &str) -> String {
    get(path).replacen("\r\n\r\n", &format!("\r\n{lines}\r\n"), 1)
}

#[test]
fn a_trace_goes_through_a_guest_that_calls_a_second_guest_and_stands_in_every_line() {
    let second = App::new("{}").function("trace", guests::TRACE).start();
    let server = format!("http://127.0.0.1:{}", second.port);
    let first =
        App::new(&format!(r#"{{"grants": {{"hosts": ["{server}"]}}}}"#)).function("fetch", guests::FETCH).start();
    let ask = |lines: &str| {
        let lines = format!("x-url: {server}/api/trace\r\n{lines}");
        first.connect().ask(with("/api/fetch", &lines)).text()
    };
    let said = ask(&format!("traceparent: {PARENT}\r\ntracestate: a=1\r\ntracestate: b=2\r\n"));
    assert_eq!(said, format!("traceparent: {PARENT}\ntracestate: a=1,b=2\n"));
    let ids = format!(" trace_id={TRACE} span_id=b7ad6b7169203331 ");
    first.line(&[" invocation: function=fetch id=", &ids, "outcome=\"answered\""]);
    second.line(&[" invocation: function=trace id=", &ids, "outcome=\"answered\""]);
    second.line(&["guest: function=trace id=", &ids, "text=\"traced\""]);

    // Without one, or with one that is none, a trace begins at the first, under its invocation's id.
    let begun = ID.replace('-', "");
    for lines in ["", "traceparent: garbage\r\ntracestate: a=1\r\n"] {
        let said = ask(lines);
        assert!(said.starts_with(&format!("traceparent: 00-{begun}-")) && said.ends_with("-00\n"), "{said}");
        let span = said.split('-').nth(2).unwrap();
        second.line(&["guest: function=trace id=", &format!(" trace_id={begun} span_id={span} ")]);
        first.line(&[" invocation: function=fetch id=", &format!(" trace_id={begun} span_id={span} ")]);
    }
    // Nothing is sent, and the line that says so belongs to the trace too.
    let denied = format!("x-url: http://other.example/\r\ntraceparent: {PARENT}\r\n");
    assert_eq!(first.connect().ask(with("/api/fetch", &denied)).status, 502);
    first.line(&[" WARN ", "a request of the guest was not sent", ids.trim_end()]);
}

#[test]
fn a_malformed_parent_is_replaced_and_never_fails_a_request() {
    let host = App::new("{}").function("trace", guests::TRACE).start();
    let given = |lines: &str| {
        let answer = host.connect().ask(with("/api/trace", lines));
        assert_eq!(answer.status, 200, "{lines}");
        answer.text()
    };
    let upper = PARENT.to_uppercase();
    let long = format!("traceparent: {PARENT}\r\ntracestate: k={}\r\n", "v".repeat(9 << 10));
    for lines in [
        format!("traceparent: {upper}\r\n"),
        format!("traceparent: ff{}\r\n", &PARENT[2..]),
        format!("traceparent: {}\r\n", PARENT.replace(TRACE, &"0".repeat(32))),
        format!("traceparent: {}\r\n", PARENT.replace("b7ad6b7169203331", &"0".repeat(16))),
        format!("traceparent: {PARENT}-x\r\n"),
        format!("traceparent: {}\r\n", &PARENT[..54]),
        format!("traceparent: {PARENT}\r\ntraceparent: {PARENT}\r\ntracestate: a=1\r\n"),
    ] {
        let said = given(&lines);
        let begun = format!("traceparent: 00-{}-", ID.replace('-', ""));
        assert!(said.starts_with(&begun) && said.lines().count() == 1, "{lines}: {said}");
    }
    // A later version leaves as this one, and a state that is none goes alone.
    assert_eq!(given(&format!("traceparent: 01{}-more\r\n", &PARENT[2..])), format!("traceparent: {PARENT}\n"));
    assert_eq!(given(&long), format!("traceparent: {PARENT}\n"));
}

/// What the operator's socket says at `/metrics`, and as which type.
pub fn metrics(app: &App, accept: &str) -> (String, String) {
    let mut stream = UnixStream::connect(socket(app.path())).unwrap();
    let request = format!("GET /metrics HTTP/1.1\r\nHost: localhost\r\nAccept: {accept}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let kind = head.lines().find_map(|line| line.strip_prefix("content-type: ")).unwrap();
    (kind.to_owned(), body.to_owned())
}

/// The value of the only sample that begins like this.
pub fn sample(text: &str, begin: &str) -> f64 {
    let found: Vec<&str> = text.lines().filter(|line| line.starts_with(begin)).collect();
    assert_eq!(found.len(), 1, "{begin}: {text}");
    found[0].rsplit(' ').next().unwrap().parse().unwrap()
}

fn counted() -> (App, Host) {
    let app = App::new(r#"{"pool": {"size": 3, "reuse": 9}}"#)
        .function("counter", guests::COUNTER)
        .function("traps", guests::TRAP_BEFORE);
    let host = app.start();
    for _ in 0..3 {
        assert_eq!(host.get("/api/counter").status, 200);
    }
    assert_eq!(host.get("/api/traps").status, 500);
    assert_eq!(host.get("/api/nothing").status, 404);
    (app, host)
}

#[test]
fn what_happens_is_counted_by_function() {
    let (app, host) = counted();
    let counter = "{faas_name=\"counter\",faas_trigger=\"http\"}";
    crate::support::eventually("everything is counted", || {
        let text = metrics(&app, "*/*").1;
        sample(&text, &format!("faas_invocations_total{counter}")) == 3.0
            && sample(&text, "flexwasm_pool_slots{state=\"free\"}") == 2.0
            && ["kind=\"trap\"", "reason=\"not-found\""].iter().all(|word| text.contains(word))
    });
    let (kind, text) = metrics(&app, "application/openmetrics-text");
    assert_eq!(kind, "application/openmetrics-text; version=1.0.0; charset=utf-8");
    assert!(text.ends_with("# EOF\n"));
    for (begin, value) in [
        (
            "http_server_request_duration_seconds_count{http_request_method=\"GET\",http_route=\"/api/counter\",http_response_status_code=\"200\"}",
            3.0,
        ),
        (
            "http_server_request_duration_seconds_count{http_request_method=\"GET\",http_response_status_code=\"404\"}",
            1.0,
        ),
        ("faas_invoke_duration_seconds_count{faas_name=\"counter\"", 3.0),
        ("faas_init_duration_seconds_count{faas_name=\"counter\"", 1.0),
        ("faas_cpu_usage_seconds_count{faas_name=\"counter\"", 3.0),
        ("faas_mem_usage_bytes_count{faas_name=\"counter\"", 3.0),
        ("faas_errors_total{faas_name=\"traps\"", 1.0),
        ("flexwasm_instance_faults_total{faas_name=\"traps\",kind=\"trap\"}", 1.0),
        ("flexwasm_rejections_total{reason=\"not-found\"}", 1.0),
        ("flexwasm_instances_created_total", 2.0),
        ("flexwasm_pool_limit", 3.0),
        ("flexwasm_pool_slots{state=\"parked\"}", 1.0),
        ("flexwasm_pool_slots{state=\"free\"}", 2.0),
        ("flexwasm_queue_length", 0.0),
    ] {
        assert_eq!(sample(&text, begin), value, "{begin}");
    }
    assert!(sample(&text, "flexwasm_guests_memory_bytes") > 0.0);
    assert!(sample(&text, "faas_mem_usage_bytes_sum{faas_name=\"counter\"") > 65_536.0);

    let rollback = |status: bool| {
        let mut command = flexwasm();
        command.args(["rollback", "counter"]).current_dir(app.path());
        assert_eq!(output(command).0.success(), status);
    };
    rollback(false);
    std::fs::write(app.path().join("new.wasm"), crate::support::marked(&std::fs::read(guests::MARKER).unwrap(), 7))
        .unwrap();
    let mut swap = flexwasm();
    swap.args(["swap", "counter", "new.wasm"]).current_dir(app.path());
    assert!(output(swap).0.success());
    rollback(true);
    let text = metrics(&app, "*/*").1;
    for outcome in ["swapped", "rolled-back"] {
        assert_eq!(sample(&text, &format!("flexwasm_swaps_total{{faas_name=\"counter\",outcome=\"{outcome}\"}}")), 1.0);
    }
    drop(host);
}

/// The names of metrics in an expression of Prometheus.
fn metrics_in(expression: &str) -> Vec<&str> {
    let is_name = |it: char| it.is_ascii_alphanumeric() || it == '_';
    let words = expression.split(|it| !is_name(it));
    let prefixes = ["flexwasm_", "http_", "faas_"];
    words.filter(|word| *word != "faas_name" && prefixes.iter().any(|it| word.starts_with(it))).collect()
}

#[test]
fn the_dashboard_asks_for_what_is_counted() {
    let (app, _host) = counted();
    let text = metrics(&app, "*/*").1;
    let file = repository().join("examples/grafana/flexwasm.json");
    let board: Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    let panels = board["panels"].as_array().unwrap();
    let targets = panels.iter().flat_map(|panel| panel["targets"].as_array().unwrap());
    let expressions: Vec<&str> = targets.map(|target| target["expr"].as_str().unwrap()).collect();
    assert!(expressions.len() >= panels.len() && panels.len() > 5);
    for expression in expressions {
        let names = metrics_in(expression);
        assert!(!names.is_empty(), "{expression}");
        for name in names {
            // What only grows and what has several samples has its ending in the text of a sample only.
            let family = ["_total", "_bucket", "_sum"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name);
            assert!(text.contains(&format!("# TYPE {family} ")), "{name} of {expression} is not counted");
        }
    }
}

#[test]
fn the_questions_to_a_log_ask_for_what_its_lines_have() {
    let (_app, host) = counted();
    let page = std::fs::read_to_string(repository().join("docs/observe.md")).unwrap();
    let asked: BTreeSet<&str> =
        page.split("field(message, \"").skip(1).map(|it| it.split('"').next().unwrap()).collect();
    assert!(asked.contains("slot") && asked.len() > 7, "{asked:?}");
    let line = host.line(&["function=counter", "outcome=\"answered\""]);
    for field in asked {
        assert!(line.contains(&format!(" {field}=")), "{field}: {line}");
    }
    host.line(&["function=traps", "outcome=\"faulted\"", "reason=\""]);
}

#[test]
fn strangers_make_no_series() {
    let app = App::new("{}").function("counter", guests::COUNTER);
    let host = app.start();
    let mut client = host.connect();
    let series = |text: &str| {
        let names =
            text.lines().filter(|line| !line.starts_with('#')).map(|line| line.rsplit_once(' ').unwrap().0.to_owned());
        names.collect::<BTreeSet<_>>()
    };
    let mut first = None;
    for round in 0..200 {
        let request = get(&format!("/nowhere/{round}?x={round}")).replacen("GET", &format!("METHOD{round}"), 1);
        assert_eq!(client.ask(request.replacen("Host: app", &format!("Host: h{round}"), 1)).status, 404);
        if round == 0 {
            crate::support::eventually("the first is counted", || {
                let text = metrics(&app, "*/*").1;
                text.contains("_OTHER") && text.contains("reason=\"not-found\"")
            });
            first = Some(series(&metrics(&app, "*/*").1));
        }
    }
    assert_eq!(Some(series(&metrics(&app, "*/*").1)), first);
}

#[test]
#[ignore = "needs promtool: cargo xtask test"]
fn prometheus_own_tool_accepts_the_text() {
    let (app, _host) = counted();
    let (kind, text) = metrics(&app, "text/plain;version=0.0.4");
    assert_eq!(kind, "text/plain; version=0.0.4; charset=utf-8");
    assert!(text.contains("\nfaas_invocations_total{") && !text.contains("# EOF"));
    let mut command = Command::new("promtool");
    command.args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("promtool, of Debian's package prometheus");
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let said = child.wait_with_output().unwrap();
    let words = [said.stdout, said.stderr].concat();
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&words));
}
