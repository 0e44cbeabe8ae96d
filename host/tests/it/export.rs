//! What reaches a collector of OpenTelemetry, and what happens when it does not.

use crate::support::{App, Host, ID, eventually, flexwasm, get, guests};
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, SeverityNumber};
use opentelemetry_proto::tonic::metrics::v1::Metric;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use prost::Message as _;
use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
/// Nobody listens on this port of this address.
const NOBODY: &str = "http://127.9.9.9:1";
const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

/// A request that a collector has got.
#[derive(Clone)]
struct Got {
    at: Instant,
    path: String,
    /// Lines of the head, in lower case.
    head: String,
    body: Vec<u8>,
}

/// A collector, which keeps what it gets.
struct Collector {
    port: u16,
    got: Arc<Mutex<Vec<Got>>>,
}

impl Collector {
    /// Answers each request with these words, or never: `answer` is told how many it has got before.
    fn answering(answer: impl Fn(usize) -> Option<&'static str> + Send + Sync + 'static) -> Self {
        Self::over(|stream| stream, answer)
    }

    /// The same, on what `over` makes of each connection.
    fn over<S: Read + Write>(
        over: impl Fn(TcpStream) -> S + Send + Sync + 'static,
        answer: impl Fn(usize) -> Option<&'static str> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (port, got) = (listener.local_addr().unwrap().port(), Arc::<Mutex<Vec<Got>>>::default());
        let (keep, serve) = (Arc::clone(&got), Arc::new((over, answer)));
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (keep, serve) = (Arc::clone(&keep), Arc::clone(&serve));
                thread::spawn(move || {
                    let (over, answer) = &*serve;
                    let mut reader = BufReader::new(over(stream));
                    while let Some(got) = receive(&mut reader) {
                        let before = {
                            let mut keep = keep.lock().unwrap();
                            keep.push(got);
                            keep.len() - 1
                        };
                        let Some(words) = answer(before) else { continue };
                        let answer = format!("HTTP/1.1 {words}\r\ncontent-length: 0\r\n\r\n");
                        let _ = reader.get_mut().write_all(answer.as_bytes());
                    }
                });
            }
        });
        Self { port, got }
    }

    fn start() -> Self {
        Self::answering(|_| Some("200 OK"))
    }

    fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    fn got(&self) -> Vec<Got> {
        self.got.lock().unwrap().clone()
    }

    /// The spans that have arrived.
    fn spans(&self) -> Vec<Span> {
        let traces = self.got().into_iter().filter(|got| got.path == "/v1/traces");
        let requests = traces.map(|got| ExportTraceServiceRequest::decode(&*got.body).unwrap());
        let resources = requests.flat_map(|request| request.resource_spans);
        resources.flat_map(|it| it.scope_spans).flat_map(|it| it.spans).collect()
    }

    /// The records of the log that have arrived.
    fn records(&self) -> Vec<LogRecord> {
        let logs = self.got().into_iter().filter(|got| got.path == "/v1/logs");
        let requests = logs.map(|got| ExportLogsServiceRequest::decode(&*got.body).unwrap());
        let resources = requests.flat_map(|request| request.resource_logs);
        resources.flat_map(|it| it.scope_logs).flat_map(|it| it.log_records).collect()
    }

    /// Waits for a record whose text has these words.
    fn record(&self, words: &str) -> LogRecord {
        let mut found = None;
        eventually(&format!("there is a record with {words:?}"), || {
            found = self.records().into_iter().find(|record| said(record).contains(words));
            found.is_some()
        });
        found.unwrap()
    }

    /// Waits until so many spans have arrived.
    fn wait_for(&self, count: usize) -> Vec<Span> {
        eventually("the spans are there", || self.spans().len() >= count);
        let spans = self.spans();
        assert_eq!(spans.len(), count, "{:?}", names(&spans));
        spans
    }
}

fn receive(reader: &mut impl BufRead) -> Option<Got> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head).ok()? == 0 {
            return None;
        }
    }
    let path = head.split(' ').nth(1)?.to_owned();
    let head = head.to_ascii_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "))?;
    let mut body = vec![0; length.parse().ok()?];
    reader.read_exact(&mut body).ok()?;
    Some(Got { at: Instant::now(), path, head, body })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn names(spans: &[Span]) -> Vec<&str> {
    spans.iter().map(|span| span.name.as_str()).collect()
}

fn value(attributes: &[KeyValue], key: &str) -> Option<Value> {
    let found = attributes.iter().find(|it| it.key == key)?;
    found.value.clone().and_then(|AnyValue { value }| value)
}

fn text(attributes: &[KeyValue], key: &str) -> String {
    match value(attributes, key) {
        Some(Value::StringValue(text)) => text,
        other => panic!("{key} is {other:?}"),
    }
}

fn int(attributes: &[KeyValue], key: &str) -> i64 {
    match value(attributes, key) {
        Some(Value::IntValue(number)) => number,
        other => panic!("{key} is {other:?}"),
    }
}

fn only<'s>(spans: &'s [Span], name: &str) -> &'s Span {
    let found: Vec<&Span> = spans.iter().filter(|span| span.name == name).collect();
    assert_eq!(found.len(), 1, "{name} among {:?}", names(spans));
    found[0]
}

/// The text of a record.
fn said(record: &LogRecord) -> &str {
    match record.body.as_ref().and_then(|body| body.value.as_ref()) {
        Some(Value::StringValue(text)) => text,
        other => panic!("the text is {other:?}"),
    }
}

/// What makes spans leave at once, and nothing else.
fn traces(endpoint: &str) -> Vec<(&str, &str)> {
    vec![
        ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint),
        ("OTEL_METRICS_EXPORTER", "none"),
        ("OTEL_LOGS_EXPORTER", "none"),
        ("OTEL_BSP_SCHEDULE_DELAY", "20"),
    ]
}

fn with(path: &str, lines: &str) -> String {
    get(path).replacen("\r\n\r\n", &format!("\r\n{lines}\r\n"), 1)
}

#[test]
fn a_guest_that_calls_a_second_guest_is_one_trace_with_parents_and_children() {
    let (first_collector, second_collector) = (Collector::start(), Collector::start());
    let (first_endpoint, second_endpoint) = (first_collector.endpoint(), second_collector.endpoint());
    let second = App::new("{}").function("trace", guests::TRACE).start_with(&traces(&second_endpoint));
    let server = format!("http://127.0.0.1:{}", second.port);
    let mut environment = traces(&first_endpoint);
    let header = ("OTEL_EXPORTER_OTLP_HEADERS", "api-key=a%20SECRET==,x=y");
    environment.extend([
        header,
        ("OTEL_SERVICE_NAME", "named"),
        ("WEBSITE_SITE_NAME", "site"),
        ("REGION_NAME", "westeurope"),
        ("OTEL_RESOURCE_ATTRIBUTES", "team=a"),
        ("API_KEY", "SECRET"),
    ]);
    // What the host adds to the guest's request is in no span either.
    let granted =
        format!(r#"{{"grants": {{"hosts": [{{"url": "{server}", "headers": {{"x-api-key": "%API_KEY%"}}}}]}}}}"#);
    let app = App::new(&granted).function("fetch", guests::FETCH);
    let first = app.start_with(&environment);
    let lines = format!("x-url: {server}/api/trace\r\ntraceparent: {PARENT}\r\ntracestate: a=1\r\n");
    let said = first.connect().ask(with("/api/fetch?code=SECRET", &lines)).text();

    let spans = first_collector.wait_for(5);
    let invocation = only(&spans, "fetch");
    let own = hex(&invocation.span_id);
    assert!(spans.iter().all(|span| hex(&span.trace_id) == TRACE && span.trace_state == "a=1"));
    assert_eq!(hex(&invocation.parent_span_id), "b7ad6b7169203331");
    // The Functions host has counted it.
    assert_eq!(invocation.kind(), SpanKind::Internal);
    for name in ["queue", "instantiate", "guest"] {
        let child = only(&spans, name);
        assert_eq!((hex(&child.parent_span_id), child.kind()), (own.clone(), SpanKind::Internal), "{name}");
        assert!(child.start_time_unix_nano >= invocation.start_time_unix_nano, "{name}");
        assert!(child.start_time_unix_nano <= child.end_time_unix_nano, "{name}");
        assert!(child.end_time_unix_nano <= invocation.end_time_unix_nano, "{name}");
    }
    let request = only(&spans, "GET");
    assert_eq!((hex(&request.parent_span_id), request.kind()), (own.clone(), SpanKind::Client));
    assert_eq!(text(&request.attributes, "server.address"), "127.0.0.1");
    assert_eq!(int(&request.attributes, "server.port"), i64::from(second.port));
    assert_eq!(int(&request.attributes, "http.response.status_code"), 200);
    for (key, value) in [
        ("faas.name", "fetch"),
        ("faas.trigger", "http"),
        ("faas.invocation_id", ID),
        ("http.request.method", "GET"),
        ("http.route", "/api/fetch"),
        ("url.path", "/api/fetch"),
        ("flexwasm.outcome", "answered"),
    ] {
        assert_eq!(text(&invocation.attributes, key), value, "{key}");
    }
    assert_eq!(int(&invocation.attributes, "http.response.status_code"), 200);
    assert_eq!(value(&invocation.attributes, "faas.coldstart"), Some(Value::BoolValue(true)));

    // The second guest is the child of that request, and was told its own span.
    let theirs = second_collector.wait_for(4);
    let called = only(&theirs, "trace");
    assert_eq!((hex(&called.trace_id), &called.parent_span_id), (TRACE.to_owned(), &request.span_id));
    assert_eq!(said, format!("traceparent: 00-{TRACE}-{}-01\ntracestate: a=1\n", hex(&called.span_id)));
    // Lines of the log name the span too.
    first.line(&[" invocation: function=fetch", &format!(" trace_id={TRACE} span_id={own} ")]);

    let got = first_collector.got();
    assert!(got[0].head.contains("\r\napi-key: a secret==\r\n") && got[0].head.contains("\r\nx: y\r\n"));
    assert!(got[0].head.contains("\r\ncontent-type: application/x-protobuf\r\n"));
    let sent = ExportTraceServiceRequest::decode(&*got[0].body).unwrap();
    let resource = &sent.resource_spans[0].resource.as_ref().unwrap().attributes;
    for (key, value) in [
        ("service.name", "named"),
        ("cloud.provider", "azure"),
        ("cloud.platform", "azure_functions"),
        ("cloud.region", "westeurope"),
        ("team", "a"),
    ] {
        assert_eq!(text(resource, key), value, "{key}");
    }
    assert_eq!(int(resource, "process.pid"), i64::from(first.id()));
    for bytes in got.iter().map(|got| &got.body) {
        assert!(!String::from_utf8_lossy(bytes).contains("SECRET"));
    }
    assert!(!first.log().join("\n").contains("SECRET"));
}

#[test]
fn stand_alone_an_invocation_is_a_server_and_begins_its_trace() {
    let collector = Collector::start();
    let mut command = flexwasm();
    command.args(["serve", "--listen", "127.0.0.1:0", guests::TRACE]);
    command.envs(traces(&collector.endpoint()));
    let host = Host::announced(command);
    assert_eq!(host.get("/any").status, 200);
    let spans = collector.wait_for(4);
    let invocation = spans.iter().find(|span| span.parent_span_id.is_empty()).unwrap();
    assert_eq!(invocation.kind(), SpanKind::Server);
    assert_eq!(text(&invocation.attributes, "url.path"), "/any");
}

#[test]
fn a_request_that_is_not_answered_well_is_an_error() {
    let collector = Collector::start();
    let app = App::new("{}").function("traps", guests::TRAP_BEFORE).function("fetch", guests::FETCH);
    let host = app.start_with(&traces(&collector.endpoint()));
    assert_eq!(host.get("/api/traps").status, 500);
    let spans = collector.wait_for(3);
    let trapped = only(&spans, "traps");
    assert_eq!(trapped.status.as_ref().unwrap().code(), StatusCode::Error);
    assert_eq!(text(&trapped.attributes, "error.type"), "trap");
    assert_eq!(only(&spans, "guest").parent_span_id, trapped.span_id);
    // Nobody's.
    assert_eq!(host.get("/api/nothing").status, 404);
    let spans = collector.wait_for(4);
    assert_eq!(only(&spans, "GET").status, None);
}

#[test]
fn the_sampler_decides_where_no_parent_does() {
    let collector = Collector::start();
    let endpoint = collector.endpoint();
    let app = App::new("{}").function("trace", guests::TRACE);
    let mut environment = traces(&endpoint);
    environment.extend([("OTEL_TRACES_SAMPLER", "parentbased_traceidratio"), ("OTEL_TRACES_SAMPLER_ARG", "0")]);
    let host = app.start_with(&environment);
    let unsampled = host.get("/api/trace").text();
    assert!(unsampled.ends_with("-00\n"), "{unsampled}");
    let sampled = host.connect().ask(with("/api/trace", &format!("traceparent: {PARENT}\r\n"))).text();
    assert!(sampled.ends_with("-01\n"), "{sampled}");
    let spans = collector.wait_for(4);
    assert!(spans.iter().all(|span| hex(&span.trace_id) == TRACE));

    // Behind Application Insights in the Functions host the flag 0 says nothing.
    let mut environment = traces(&endpoint);
    environment.push(("APPLICATIONINSIGHTS_CONNECTION_STRING", "InstrumentationKey=0"));
    let host = app.start_with(&environment);
    let said = host.connect().ask(with("/api/trace", &format!("traceparent: {}00\r\n", &PARENT[..53]))).text();
    assert!(said.ends_with("-01\n"), "{said}");
}

fn metrics(got: &Got) -> Vec<Metric> {
    let request = ExportMetricsServiceRequest::decode(&*got.body).unwrap();
    let scopes = request.resource_metrics.into_iter().flat_map(|it| it.scope_metrics);
    scopes.flat_map(|it| it.metrics).collect()
}

#[test]
fn metrics_leave_in_their_interval_and_at_the_end() {
    let collector = Collector::start();
    let endpoint = format!("{}/v1/metrics", collector.endpoint());
    let app = App::new("{}").function("counter", guests::COUNTER);
    let own = ("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", endpoint.as_str());
    let mut host = app.start_with(&[own, ("OTEL_METRIC_EXPORT_INTERVAL", "50")]);
    eventually("the second time", || collector.got().len() > 1);
    assert_eq!(host.get("/api/counter").status, 200);
    host.closing_line("answered");
    host.signal("TERM");
    assert_eq!(host.exit_code(), 0);
    let last = metrics(collector.got().last().unwrap());
    let find = |name: &str| last.iter().find(|metric| metric.name == name).unwrap().clone();
    let Some(Data::Sum(invocations)) = find("faas.invocations").data else { panic!("a sum") };
    let point = &invocations.data_points[0];
    assert!(invocations.is_monotonic && point.start_time_unix_nano < point.time_unix_nano);
    assert_eq!(text(&point.attributes, "faas.name"), "counter");
    assert_eq!(point.value, Some(opentelemetry_proto::tonic::metrics::v1::number_data_point::Value::AsInt(1)));
    let requests = find("http.server.request.duration");
    let Some(Data::Histogram(spread)) = requests.data else { panic!("a histogram") };
    assert_eq!((requests.unit.as_str(), spread.data_points[0].count), ("s", 1));
    // Seconds in ranges of seconds.
    assert!(spread.data_points[0].explicit_bounds.starts_with(&[0.005, 0.01]));
    assert!(collector.got().iter().all(|got| got.path == "/v1/metrics"));
}

/// What makes records of the log leave at once, and nothing else.
fn logs(endpoint: &str) -> Vec<(&str, &str)> {
    vec![
        ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint),
        ("OTEL_TRACES_EXPORTER", "none"),
        ("OTEL_METRICS_EXPORTER", "none"),
        ("OTEL_BLRP_SCHEDULE_DELAY", "20"),
    ]
}

#[test]
fn records_of_the_log_have_the_ids_of_their_invocation() {
    let collector = Collector::start();
    let endpoint = collector.endpoint();
    let app = App::new("{}").function("trace", guests::TRACE).function("traps", guests::TRAP_BEFORE);
    let mut environment = traces(&endpoint);
    environment.retain(|(name, _)| *name != "OTEL_LOGS_EXPORTER");
    environment.extend([("OTEL_BLRP_SCHEDULE_DELAY", "20"), ("OTEL_SERVICE_NAME", "named")]);
    let host = app.start_with(&environment);
    let given = format!("traceparent: {PARENT}\r\n");
    assert_eq!(host.connect().ask(with("/api/trace?code=SECRET", &given)).status, 200);
    let spans = collector.wait_for(4);
    let invocation = only(&spans, "trace");

    let printed = collector.record("traced");
    assert_eq!((said(&printed), printed.severity_number()), ("traced", SeverityNumber::Info));
    assert_eq!(text(&printed.attributes, "log.iostream"), "stdout");
    let closing = collector.record("outcome=\"answered\"");
    assert_eq!((closing.severity_number(), closing.severity_text.as_str()), (SeverityNumber::Info, "INFO"));
    // The same line as in the log, and the same attributes as those of the span.
    assert!(host.closing_line("answered").ends_with(&format!(" invocation: {}", said(&closing))));
    assert_eq!(int(&closing.attributes, "flexwasm.slot"), int(&invocation.attributes, "flexwasm.slot"));
    assert_eq!(text(&closing.attributes, "flexwasm.outcome"), "answered");
    for record in [&printed, &closing] {
        assert_eq!((hex(&record.trace_id), &record.span_id), (TRACE.to_owned(), &invocation.span_id));
        assert_eq!(text(&record.attributes, "faas.name"), "trace");
        assert_eq!(text(&record.attributes, "faas.invocation_id"), ID);
        assert!(record.time_unix_nano >= invocation.start_time_unix_nano && record.observed_time_unix_nano > 0);
    }
    assert_eq!(host.get("/api/traps").status, 500);
    let trapped = collector.record("outcome=\"faulted\"");
    assert_eq!(trapped.severity_number(), SeverityNumber::Error);
    assert_eq!(text(&trapped.attributes, "error.type"), "trap");
    // What the host says of itself is no invocation's.
    let ready = collector.record("ready");
    assert_eq!((ready.trace_id.len(), int(&ready.attributes, "flexwasm.functions")), (0, 2));

    let got = collector.got().into_iter().find(|got| got.path == "/v1/logs").unwrap();
    let sent = ExportLogsServiceRequest::decode(&*got.body).unwrap();
    let resource = &sent.resource_logs[0].resource.as_ref().unwrap().attributes;
    assert_eq!(text(resource, "service.name"), "named");
    for got in collector.got() {
        assert!(!String::from_utf8_lossy(&got.body).contains("SECRET"));
    }
}

#[test]
fn lines_without_a_problem_go_the_way_of_their_trace() {
    let collector = Collector::start();
    let endpoint = collector.endpoint();
    let app = App::new("{}").function("trace", guests::TRACE).function("traps", guests::TRAP_BEFORE);
    let start = |own: &[(&'static str, &'static str)]| {
        let mut environment = logs(&endpoint);
        environment.extend(own);
        let mut host = app.start_with(&environment);
        assert_eq!(host.get("/api/trace").status, 200);
        assert_eq!(host.get("/api/traps").status, 500);
        collector.record("outcome=\"faulted\"");
        // What was said before is there.
        host.signal("TERM");
        assert_eq!(host.exit_code(), 0);
        let records = collector.records();
        collector.got.lock().unwrap().clear();
        let answered = records.iter().filter(|record| said(record).contains("outcome=\"answered\""));
        let printed = records.iter().filter(|record| said(record) == "traced");
        (answered.count(), printed.count())
    };
    let none = [("OTEL_TRACES_EXPORTER", "otlp"), ("OTEL_TRACES_SAMPLER", "always_off")];
    assert_eq!(start(&none), (0, 1));
    // No trace is sent, so none decides.
    assert_eq!(start(&none[1..]), (1, 1));
}

#[test]
fn a_collector_of_logs_that_hangs_is_told_of_in_the_log_and_nowhere_else() {
    let collector = Collector::answering(|_| None);
    let endpoint = collector.endpoint();
    let app = App::new(r#"{"log": {"level": "debug"}, "drain": {"timeout": "1s"}}"#).function("trace", guests::TRACE);
    let mut environment = logs(&endpoint);
    environment.extend([("OTEL_BLRP_MAX_QUEUE_SIZE", "4"), ("OTEL_EXPORTER_OTLP_TIMEOUT", "600000")]);
    let mut host = app.start_with(&environment);
    let mut client = host.connect();
    for _ in 0..20 {
        assert_eq!(client.get("/api/trace").status, 200);
    }
    let said = host.line(&[" WARN telemetry: ", "signal=\"logs\" dropped=", "the queue is full"]);
    assert!(said.contains(&format!("{endpoint}/v1/logs")), "{said}");
    let text = crate::telemetry::metrics(&app, "*/*").1;
    assert!(crate::telemetry::sample(&text, "flexwasm_telemetry_dropped_total{signal=\"logs\"}") >= 1.0);
    drop(client);
    host.signal("TERM");
    assert_eq!(host.exit_code(), 0);
    host.line(&["the last of it could not be sent in time"]);
}

#[test]
fn the_export_of_logs_makes_no_records_of_its_own() {
    let collector = Collector::start();
    let endpoint = collector.endpoint();
    // At this level its connections have lines in the log.
    let app = App::new(r#"{"log": {"level": "debug"}}"#).function("trace", guests::TRACE);
    let mut environment = logs(&endpoint);
    environment.push(("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", NOBODY));
    environment.retain(|(name, _)| *name != "OTEL_METRICS_EXPORTER");
    let mut host = app.start_with(&environment);
    assert_eq!(host.get("/api/trace").status, 200);
    collector.record("outcome=\"answered\"");
    host.line(&["DEBUG hyper_util::"]);
    assert_eq!(host.get("/api/trace").status, 200);
    host.signal("TERM");
    assert_eq!(host.exit_code(), 0);
    host.line(&[" WARN telemetry: ", "signal=\"metrics\""]);
    let targets: BTreeSet<_> =
        collector.records().iter().map(|record| text(&record.attributes, "flexwasm.target")).collect();
    assert!(targets.contains("invocation") && targets.contains("guest"), "{targets:?}");
    let foreign =
        |target: &&String| !target.starts_with("flexwasm::") && !["invocation", "guest"].contains(&target.as_str());
    assert_eq!(targets.iter().find(foreign), None);
}

/// A collector that encrypts, with its certificate in PEM.
fn encrypted() -> (Collector, String) {
    let authority = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::try_from(authority.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = config.with_no_client_auth().with_single_cert(vec![authority.cert.der().clone()], key).unwrap();
    let config = Arc::new(config);
    let over =
        move |stream| rustls::StreamOwned::new(rustls::ServerConnection::new(Arc::clone(&config)).unwrap(), stream);
    (Collector::over(over, |_| Some("200 OK")), authority.cert.pem())
}

#[test]
fn a_collector_that_encrypts_has_to_be_trusted() {
    let (collector, pem) = encrypted();
    let app = App::new("{}").function("trace", guests::TRACE).file("own.pem", pem.as_bytes());
    let endpoint = format!("https://127.0.0.1:{}", collector.port);
    let own = app.path().join("own.pem");
    let other = app.path().join("other.pem");
    std::fs::write(&other, encrypted().1).unwrap();
    // By the variable of OpenTelemetry, or as everything else that the host asks.
    for variable in ["OTEL_EXPORTER_OTLP_CERTIFICATE", "SSL_CERT_FILE"] {
        let mut environment = traces(&endpoint);
        environment.extend([(variable, own.to_str().unwrap()), ("SSL_CERT_DIR", "")]);
        let host = app.start_with(&environment);
        assert_eq!(host.get("/api/trace").status, 200);
        eventually(variable, || collector.spans().len() >= 4);
        collector.got.lock().unwrap().clear();
    }
    // In place of whom the system trusts.
    let mut environment = traces(&endpoint);
    environment.extend([
        ("SSL_CERT_FILE", own.to_str().unwrap()),
        ("SSL_CERT_DIR", ""),
        ("OTEL_EXPORTER_OTLP_CERTIFICATE", other.to_str().unwrap()),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "600000"),
    ]);
    let mut host = app.start_with(&environment);
    assert_eq!(host.get("/api/trace").status, 200);
    host.signal("TERM");
    assert_eq!(host.exit_code(), 0);
    host.line(&[" WARN telemetry: ", "signal=\"traces\"", "cannot be reached (", "certificate"]);
    assert_eq!(collector.got().len(), 0);
}

#[test]
fn what_waits_leaves_at_the_drain() {
    let collector = Collector::start();
    let endpoint = collector.endpoint();
    let environment = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str()),
        ("OTEL_BSP_SCHEDULE_DELAY", "600000"),
        ("OTEL_BLRP_SCHEDULE_DELAY", "600000"),
    ];
    let mut host = App::new("{}").function("trace", guests::TRACE).start_with(&environment);
    for _ in 0..3 {
        assert_eq!(host.get("/api/trace").status, 200);
    }
    host.signal("TERM");
    assert_eq!(host.exit_code(), 0);
    assert_eq!(collector.spans().len(), 12);
    let answered = collector.records().into_iter().filter(|it| said(it).contains("outcome=\"answered\""));
    assert_eq!(answered.count(), 3);
    // What is said after that is for the streams, and no loss.
    assert!(!host.log().iter().any(|line| line.contains(" telemetry: ")));
}

#[test]
fn a_collector_that_hangs_delays_neither_requests_nor_the_end() {
    let collector = Collector::answering(|_| None);
    let endpoint = collector.endpoint();
    let app = App::new(r#"{"drain": {"timeout": "10m"}}"#).function("trace", guests::TRACE);
    let mut environment = traces(&endpoint);
    environment.extend([("OTEL_BSP_MAX_QUEUE_SIZE", "8"), ("OTEL_EXPORTER_OTLP_TIMEOUT", "600000")]);
    let mut host = app.start_with(&environment);
    let mut client = host.connect();
    assert_eq!(client.get("/api/trace").status, 200);
    eventually("it hangs", || !collector.got().is_empty());
    for _ in 0..50 {
        assert_eq!(client.get("/api/trace").status, 200);
    }
    let said = host.line(&[" WARN telemetry: ", "signal=\"traces\"", "the queue is full"]);
    assert!(said.contains(&format!("{endpoint}/v1/traces")), "{said}");
    drop(client);
    host.signal("TERM");
    // Neither the 10 minutes of a batch nor those of the drain are over.
    assert_eq!(host.exit_code(), 0);
    let lines = host.log().into_iter().filter(|line| line.contains("the queue is full"));
    assert_eq!(lines.count(), 1);
    host.line(&["the last of it could not be sent in time"]);
}

#[test]
fn a_collector_that_is_gone_or_refuses_is_told_of_with_its_address() {
    let gone = NOBODY.replace("http://", "http://user:SECRET@") + "?key=SECRET";
    let refusing = Collector::answering(|_| Some("404 Not Found"));
    let endpoint = format!("{}/base/", refusing.endpoint());
    for (endpoint, words) in [
        (gone.as_str(), format!("{NOBODY}/v1/traces cannot be reached (")),
        (&endpoint, format!("{}/base/v1/traces answers 404 Not Found", refusing.endpoint())),
    ] {
        let app = App::new("{}").function("trace", guests::TRACE);
        let mut environment = traces(endpoint);
        environment.push(("OTEL_EXPORTER_OTLP_TIMEOUT", "600000"));
        let mut host = app.start_with(&environment);
        for _ in 0..2 {
            assert_eq!(host.get("/api/trace").status, 200);
        }
        // From now on a batch is tried once.
        host.signal("TERM");
        assert_eq!(host.exit_code(), 0);
        let said = host.line(&[" WARN telemetry: ", "signal=\"traces\" dropped=", &words]);
        assert!(!said.contains("SECRET"), "{said}");
    }
    assert!(refusing.got().iter().all(|got| got.path == "/base/v1/traces"));
}

#[test]
fn who_asks_for_a_pause_gets_it_and_then_the_same_spans() {
    for busy in ["429 Too Many Requests\r\nretry-after: 1", "503 Service Unavailable\r\nretry-after: 1"] {
        let collector = Collector::answering(move |before| Some(if before == 0 { busy } else { "200 OK" }));
        let app = App::new("{}").function("trace", guests::TRACE);
        let endpoint = collector.endpoint();
        let mut environment = traces(&endpoint);
        environment.push(("OTEL_EXPORTER_OTLP_TIMEOUT", "600000"));
        let host = app.start_with(&environment);
        assert_eq!(host.get("/api/trace").status, 200);
        eventually("it is tried again", || collector.got().len() >= 2);
        let got = collector.got();
        assert_eq!(got[0].body, got[1].body);
        assert!(got[1].at - got[0].at >= Duration::from_millis(950), "{:?}", got[1].at - got[0].at);
        assert!(!host.log().iter().any(|line| line.contains(" telemetry: ")));
    }
}

#[test]
fn application_insights_gets_dependencies_under_the_operation_and_reasons_of_failures() {
    let collector = Collector::start();
    let secret = "InstrumentationKey=SECRET;IngestionEndpoint=".to_owned() + &collector.endpoint();
    let environment = [("APPLICATIONINSIGHTS_CONNECTION_STRING", secret.as_str()), ("OTEL_BSP_SCHEDULE_DELAY", "20")];
    let functions =
        |settings: &str| App::new(settings).function("trace", guests::TRACE).function("traps", guests::TRAP_BEFORE);
    // Nobody has asked for it.
    let mut quiet = functions("{}").start_with(&environment);
    assert_eq!(quiet.get("/api/trace").status, 200);
    quiet.signal("TERM");
    assert_eq!(quiet.exit_code(), 0);
    assert_eq!(collector.got().len(), 0);

    let mut host = functions(r#"{"telemetry": {"applicationInsights": true}}"#).start_with(&environment);
    let given = format!("traceparent: {PARENT}\r\n");
    assert_eq!(host.connect().ask(with("/api/trace", &given)).status, 200);
    assert_eq!(host.connect().ask(with("/api/traps", &given)).status, 500);
    host.signal("TERM");
    assert_eq!(host.exit_code(), 0);
    let items: Vec<serde_json::Value> = collector
        .got()
        .iter()
        .flat_map(|got| {
            assert_eq!(got.path, "/v2.1/track");
            serde_json::from_slice::<Vec<serde_json::Value>>(&got.body).unwrap()
        })
        .collect();
    let find = |kind: &str, name: &str| {
        let is = |item: &&serde_json::Value| {
            item["data"]["baseType"] == kind && (name.is_empty() || item["data"]["baseData"]["name"] == name)
        };
        items.iter().find(is).unwrap_or_else(|| panic!("no {name}: {items:?}")).clone()
    };
    let invocation = find("RemoteDependencyData", "trace");
    assert_eq!(invocation["tags"]["ai.operation.id"], TRACE);
    assert_eq!(invocation["tags"]["ai.operation.parentId"], "b7ad6b7169203331");
    assert_eq!(invocation["name"], "Microsoft.ApplicationInsights.RemoteDependency");
    assert_eq!(invocation["iKey"], "SECRET");
    let data = &invocation["data"]["baseData"];
    assert_eq!((&data["type"], &data["success"], &data["resultCode"]), (&"InProc".into(), &true.into(), &"200".into()));
    assert_eq!(data["properties"]["faas.invocation_id"], ID);
    let guest = find("RemoteDependencyData", "guest");
    assert!(items.iter().any(|item| item["data"]["baseData"]["id"] == guest["tags"]["ai.operation.parentId"]));
    let trapped = find("RemoteDependencyData", "traps");
    assert_eq!(trapped["data"]["baseData"]["success"], false);
    let reason = find("MessageData", "");
    assert_eq!(reason["tags"]["ai.operation.parentId"], trapped["data"]["baseData"]["id"]);
    assert!(reason["data"]["baseData"]["message"].as_str().unwrap().contains("trapped"));
    assert!(!host.log().join("\n").contains("SECRET"));
}

#[test]
fn what_cannot_be_used_is_named_at_the_start_and_the_app_serves() {
    let app = App::new("{}").function("trace", guests::TRACE);
    let host = app.start_with(&[
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4317"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "authorization=SECRET%zz"),
        ("OTEL_TRACES_SAMPLER", "sometimes"),
    ]);
    host.line(&[" WARN ", "app settings: OTEL_TRACES_SAMPLER = \"sometimes\": must be"]);
    host.line(&[" WARN ", "app settings: OTEL_EXPORTER_OTLP_ENDPOINT: has the port of OTLP over gRPC"]);
    assert_eq!(host.get("/api/trace").status, 200);
    assert!(!host.log().join("\n").contains("SECRET"));
}
