//! The played host against what was seen of the real one: the captures, and the tables of docs/azure.md.

use super::answer::{self, Answer, Outcome};
use super::envelope::{Envelope, Function, Message};
use super::translate::{enveloped, forwarded, proxied};
use super::wire::{Pool, TIMES_AGAIN};
use super::{AfterExit, Age, Body, Request, Telemetry};
use crate::support::{ID, PATIENCE, repository};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use std::fs;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::Duration;
use uuid::Uuid;

const PORT: u16 = 9000;

fn id() -> Uuid {
    Uuid::parse_str(ID).unwrap()
}

fn forward(request: Request) -> Request {
    forwarded(Telemetry::None, request, id()).unwrap()
}

fn proxy(request: Request) -> Request {
    proxied(Telemetry::None, request, id(), PORT)
}

#[test]
fn paths_and_queries_are_those_of_the_table() {
    let both = |target: &str| (forward(Request::get(target)).target, proxy(Request::get(target)).target);
    assert_eq!(both("/api/a%2Fb"), ("/api/a%2Fb".into(), "/api/a%252Fb".into()));
    assert_eq!(both("/api/c%252Fd"), ("/api/c%2Fd".into(), "/api/c%252Fd".into()));
    let query = "/api/x?a=1&a=2&k&p=%2C%2B+z";
    assert_eq!(both(query), ("/api/x?a=1,2&k=&p=,%2B%20z".into(), query.into()));
}

#[test]
fn headers_are_those_of_the_table() {
    let client = Request::get("/api/x")
        .with("X-Forwarded-For", "192.0.2.7")
        .with("User-Agent", "curl/8")
        .with("Content-Language", "de")
        .with("X-Azure-Functions-InvocationId", "spoofed");
    let expect = |request: &Request, headers: &[(&str, Option<&str>)]| {
        for (name, value) in headers {
            assert_eq!(request.header(name), *value, "{name}");
        }
    };
    let spoofed = format!("spoofed, {ID}");
    let sent = forward(client.clone());
    expect(
        &sent,
        &[
            ("Host", Some("app.example")),
            ("X-Forwarded-For", Some("192.0.2.7")),
            ("X-Forwarded-Host", None),
            ("X-Azure-Functions-InvocationId", Some(&spoofed)),
            ("x-ms-invocation-id", None),
            ("User-Agent", Some("curl/8 Azure-Functions-Host/4.1037.0.0")),
            ("Content-Language", None),
        ],
    );
    let sent = proxy(client);
    expect(
        &sent,
        &[
            ("Host", Some("127.0.0.1:9000")),
            ("X-Forwarded-For", Some("127.0.0.1")),
            ("X-Forwarded-Host", Some("app.example")),
            ("X-Azure-Functions-InvocationId", Some(ID)),
            ("x-ms-invocation-id", Some(ID)),
            ("User-Agent", Some("curl/8")),
            ("Content-Language", Some("de")),
        ],
    );
}

#[test]
fn a_chunked_request_is_refused_in_forwarding_and_chunked_in_proxying() {
    let request = Request::new("POST", "/api/x", Body::Chunked(vec![b"hello".to_vec()]));
    assert!(forwarded(Telemetry::None, request.clone(), id()).is_none());
    let sent = proxy(request);
    assert_eq!((sent.header("transfer-encoding"), sent.header("content-length")), (Some("chunked"), None));
    let sent = enveloped(Telemetry::None, false, "OnQueue", b"{}".to_vec(), id(), PORT);
    assert_eq!((&*sent.method, &*sent.target), ("POST", "/OnQueue"));
    assert_eq!(sent.header("transfer-encoding"), Some("chunked"));
    assert_eq!(sent.header("content-type"), Some("application/json; charset=utf-8"));
    let under_core_tools = enveloped(Telemetry::None, true, "OnQueue", b"{}".to_vec(), id(), PORT);
    assert_eq!(under_core_tools.header("content-length"), Some("2"));
}

#[test]
fn traceparent_has_three_forms() {
    const CLIENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let sent = |telemetry, client: Request| {
        let all = [forwarded(telemetry, client.clone(), id()).unwrap(), proxied(telemetry, client.clone(), id(), PORT)];
        all.map(|request| request.header("traceparent").map(str::to_owned))
    };
    let (without, with) = (Request::get("/"), Request::get("/").with("traceparent", CLIENT));
    assert_eq!(sent(Telemetry::None, without.clone()), [None, None]);
    for telemetry in [Telemetry::None, Telemetry::ApplicationInsights] {
        assert_eq!(sent(telemetry, with.clone()), [Some(CLIENT.to_owned()), Some(CLIENT.to_owned())]);
    }
    for (telemetry, flags) in [(Telemetry::ApplicationInsights, "-00"), (Telemetry::Otlp, "-01")] {
        for value in sent(telemetry, without.clone()) {
            assert!(
                value.as_ref().is_some_and(|value| value.len() == CLIENT.len() && value.ends_with(flags)),
                "{value:?}"
            );
        }
    }
    for value in sent(Telemetry::Otlp, with) {
        let value = value.unwrap();
        assert!(value[..36] == CLIENT[..36] && value[36..52] != CLIENT[36..52], "{value}");
    }
}

#[test]
fn exit_codes_mean_different_things_to_hosts_of_two_ages() {
    use AfterExit::{CountedRestart, Nothing, Restart};
    let table = [(0, Nothing, Restart), (143, CountedRestart, Restart), (200, Restart, Restart)];
    for (code, before, now) in table {
        assert_eq!((Age::Before2026.after_exit(code), Age::August2026.after_exit(code)), (before, now), "{code}");
    }
    for code in [1, 134, 137, 139] {
        assert_eq!(Age::Before2026.after_exit(code), CountedRestart);
        assert_eq!(Age::August2026.after_exit(code), CountedRestart);
    }
}

/// A handler on a port of its own; `serve` has each connection, and its result is what it saw.
fn scripted<T: Send + 'static>(serve: impl FnOnce(TcpListener) -> T + Send + 'static) -> (Pool, thread::JoinHandle<T>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let pool = Pool::new(listener.local_addr().unwrap().port());
    (pool, thread::spawn(move || serve(listener)))
}

fn read_head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        head.extend(byte);
    }
    String::from_utf8(head).unwrap()
}

#[test]
fn nothing_is_read_before_all_is_sent() {
    const LENGTH: usize = 32 << 20;
    let (pool, handler) = scripted(|listener| {
        let (mut stream, _) = listener.accept().unwrap();
        read_head(&mut stream);
        let answer = vec![b'x'; LENGTH];
        write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {LENGTH}\r\n\r\n").unwrap();
        // More than the sockets hold: it cannot be written while nobody reads.
        stream.set_write_timeout(Some(Duration::from_millis(300))).unwrap();
        let mut written = 0;
        let stuck = loop {
            match stream.write(&answer[written..]) {
                Ok(0) => break false,
                Ok(some) => written += some,
                Err(error) => break error.kind() == ErrorKind::WouldBlock,
            }
        };
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        let mut body = vec![0; LENGTH];
        stream.read_exact(&mut body).unwrap();
        stream.write_all(&answer[written..]).unwrap();
        stuck
    });
    let (mut client, head) = pool.once(&proxy(Request::post("/api/echo", vec![b'y'; LENGTH]))).ok().unwrap();
    assert_eq!(client.body(head, false).body.len(), LENGTH);
    assert!(handler.join().unwrap());
}

#[test]
fn connections_are_used_again_unless_they_were_closed() {
    let (pool, handler) = scripted(|listener| {
        let (mut first, _) = listener.accept().unwrap();
        for _ in 0..2 {
            read_head(&mut first);
            first.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").unwrap();
        }
        drop(first);
        let (mut second, _) = listener.accept().unwrap();
        read_head(&mut second);
        second.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").unwrap();
    });
    for time in 0..3 {
        if time == 2 {
            // Until the end of the connection has arrived.
            crate::support::eventually("the kept connection ends", || {
                pool.idle.lock().unwrap().first_mut().unwrap().is_stale()
            });
        }
        let (mut client, head) = pool.once(&proxy(Request::get("/"))).ok().unwrap();
        let answer = client.body(head, false);
        pool.put(client, &answer);
    }
    handler.join().unwrap();
}

#[test]
fn a_post_is_never_sent_again_and_a_get_ten_times() {
    for (request, times) in [(Request::post("/", "x"), 1), (Request::get("/"), 1 + TIMES_AGAIN)] {
        let (pool, handler) = scripted(move |listener| {
            for _ in 0..times {
                let (mut stream, _) = listener.accept().unwrap();
                read_head(&mut stream);
            }
            listener.set_nonblocking(true).unwrap();
            listener
        });
        assert!(pool.again(&proxy(request), || true).is_none());
        // Nobody has come since.
        assert!(handler.join().unwrap().accept().is_err());
    }
}

#[test]
fn every_capture_is_built_as_it_was_sent() {
    let read = |name: &str| fs::read_to_string(repository().join("host/tests/captures").join(name)).unwrap();
    let functions: Value = serde_json::from_str(&read("functions.json")).unwrap();
    let mut compared = 0;
    for line in read("envelopes.jsonl").lines() {
        let capture: Value = serde_json::from_str(line).unwrap();
        let name = capture["function"].as_str().unwrap();
        let expected: Value = serde_json::from_str(capture["body"].as_str().unwrap()).unwrap();
        let function = Function { name, bindings: functions[name]["bindings"].as_array().unwrap() };
        let payload = capture["payload_base64"].as_str().map(|text| STANDARD.decode(text).unwrap());
        let mut built = rebuilt(&function, payload.as_deref(), &expected).json();
        if built["Metadata"]["sys"]["MethodName"] == name {
            for random in ["UtcNow", "RandGuid"] {
                built["Metadata"]["sys"][random] = expected["Metadata"]["sys"][random].clone();
            }
        }
        let (built, expected) =
            if name == "EgMany" { (unfolded(built), unfolded(expected)) } else { (built, expected) };
        assert_eq!(built, expected, "{name}");
        compared += 1;
    }
    assert_eq!(compared, 110);
}

/// The envelope of a capture, from its payload and what nobody can compute: ids, dates, the properties of a blob.
fn rebuilt(function: &Function, payload: Option<&[u8]>, expected: &Value) -> Envelope {
    let (data, metadata) = (&expected["Data"], &expected["Metadata"]);
    let trigger = &function.bindings[0];
    let value = &data[trigger["name"].as_str().unwrap()];
    let mut envelope = match trigger["type"].as_str().unwrap() {
        "queueTrigger" => {
            let fact = |name: &str| metadata[name].as_str().unwrap_or_default().to_owned();
            let unwrapped = |name| serde_json::from_str(&fact(name)).ok();
            let message = Message {
                id: unwrapped("Id"),
                pop_receipt: unwrapped("PopReceipt"),
                // A payload with this name hides the queue's number.
                dequeue_count: fact("DequeueCount").parse().unwrap_or(1),
                inserted: fact("InsertionTime"),
                expires: fact("ExpirationTime"),
                next_visible: fact("NextVisibleTime"),
            };
            Envelope::queue(function, payload.unwrap(), &message).unwrap()
        }
        "blobTrigger" => {
            let uri: String = serde_json::from_str(metadata["Uri"].as_str().unwrap()).unwrap();
            Envelope::blob(function, payload.unwrap(), &uri, metadata["Properties"].clone())
        }
        "timerTrigger" => Envelope::timer(function, value["ScheduleStatus"].clone(), false),
        "eventGridTrigger" => {
            let sent = value.as_str().map_or_else(|| json!([value]), |text| serde_json::from_str(text).unwrap());
            let events: Vec<Value> = sent.as_array().unwrap().iter().map(as_published).collect();
            Envelope::event_grid(function, &events)
        }
        "httpTrigger" => {
            let host = value["Headers"]["Host"][0].as_str().unwrap();
            let target = value["Url"].as_str().unwrap().strip_prefix(&format!("http://{host}")).unwrap();
            let headers = value["Headers"].as_object().unwrap().iter();
            let headers = headers.map(|(name, value)| (name.clone(), value[0].as_str().unwrap().to_owned())).collect();
            let text = value["Body"].as_str().unwrap_or_default();
            let body = match value["Headers"]["Content-Type"][0].as_str().unwrap_or_default() {
                "image/png" => b"\xff\0\xfebinary".to_vec(),
                kind if kind.starts_with("multipart/") || kind == "application/octet-stream" => {
                    STANDARD.decode(text).unwrap()
                }
                _ => text.as_bytes().to_vec(),
            };
            let body = match value["Headers"].get("Transfer-Encoding") {
                Some(_) => Body::Chunked(vec![b"unseen".to_vec()]),
                None => Body::Sized(body),
            };
            let (method, target) = (value["Method"].as_str().unwrap().to_owned(), target.to_owned());
            let params: Vec<_> = value["Params"].as_object().unwrap().iter().collect();
            let params: Vec<_> = params.iter().map(|(name, value)| (&***name, value.as_str())).collect();
            Envelope::http(function, &Request { method, target, headers, body }, &params)
        }
        other => panic!("{other}"),
    };
    for name in data.as_object().unwrap().keys().filter(|name| trigger["name"] != ***name) {
        let content = (name != "missing").then_some("der Inhalt äöü".as_bytes());
        envelope = envelope.input(function, name, content);
    }
    if let Some(retry) = metadata.get("RetryContext") {
        let count = u32::try_from(retry["RetryCount"].as_u64().unwrap()).unwrap();
        envelope = envelope.retry(count, 2, retry["Exception"].clone());
    }
    if let Some(input) = metadata.get(trigger["name"].as_str().unwrap()) {
        let input: String = serde_json::from_str(input.as_str().unwrap()).unwrap();
        envelope = envelope.by_hand(function, &input);
    }
    envelope
}

/// An event as it was published before the Functions host rewrote its dates.
fn as_published(event: &Value) -> Value {
    let mut event = event.clone();
    if event.get("time").is_some() {
        event["time"] = "2026-11-25T10:00:00+02:00".into();
    }
    for name in ["when", "t"] {
        if event["data"].get(name).is_some() {
            event["data"][name] = "2026-04-20T00:00:00.000Z".into();
        }
    }
    event
}

/// Arrays of JSON that stand in strings, read: the order of an object's members is of no account.
fn unfolded(mut envelope: Value) -> Value {
    for pointer in ["/Data/events", "/Metadata/data"] {
        let folded = envelope.pointer_mut(pointer).unwrap();
        *folded = serde_json::from_str(folded.as_str().unwrap()).unwrap();
    }
    envelope
}

#[test]
fn text_that_is_no_utf8_never_reaches_a_function_that_wants_text() {
    let message = || Message {
        id: None,
        pop_receipt: None,
        dequeue_count: 1,
        inserted: String::new(),
        expires: String::new(),
        next_visible: String::new(),
    };
    for (data_type, arrives) in [("string", false), ("binary", true)] {
        let bindings = [json!({"type": "queueTrigger", "name": "msg", "dataType": data_type})];
        let function = Function { name: "Q", bindings: &bindings };
        assert_eq!(Envelope::queue(&function, b"\xff", &message()).is_some(), arrives);
    }
}

fn done(body: Value) -> Answer {
    match answer::read(200, Some("application/json"), body.to_string().as_bytes()) {
        Outcome::Done(answer) => answer,
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_answer_counts_only_as_an_object_of_json() {
    let read = |status, kind, body: &str| answer::read(status, kind, body.as_bytes());
    let json = Some("application/json");
    for hangs in [read(200, json, "null"), read(200, json, ""), read(204, None, "")] {
        assert_eq!(hangs, Outcome::Hangs);
    }
    for kind in ["application/json", "text/json", "Application/JSON; charset=utf-8"] {
        assert!(matches!(read(200, Some(kind), "{}"), Outcome::Done(_)), "{kind}");
    }
    let failures = [
        read(500, json, "{}"),
        read(404, json, "{}"),
        read(200, None, "{}"),
        read(200, Some("text/plain"), "{}"),
        read(200, Some("application/problem+json"), "{}"),
        read(200, json, "{"),
        read(200, json, "[]"),
        read(200, json, r#"{"Logs": {"a": 1}}"#),
        read(200, json, r#"{"Logs": "a"}"#),
        read(200, json, r#"{"Logs": [{}]}"#),
    ];
    for failure in failures {
        assert!(matches!(failure, Outcome::Failed(_)), "{failure:?}");
    }
    let answer = done(json!({"outputs": {"q": 1}, "LOGS": ["a", 5, true], "returnValue": {"q": 2}, "other": 1}));
    assert_eq!(answer.logs, ["a", "5", "True"]);
    // An object that is returned names no outputs.
    assert_eq!((&answer.outputs["q"], &answer.returned), (&json!(1), &Some(json!({"q": 2}))));
}

#[test]
fn redirects_are_followed_in_json_mode() {
    let (pool, handler) = scripted(|listener| {
        let (mut stream, _) = listener.accept().unwrap();
        let posted = read_head(&mut stream);
        let mut chunked = [0; b"2\r\n{}\r\n0\r\n\r\n".len()];
        stream.read_exact(&mut chunked).unwrap();
        stream.write_all(b"HTTP/1.1 302 Found\r\nLocation: /other\r\nContent-Length: 0\r\n\r\n").unwrap();
        let followed = read_head(&mut stream);
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Type: text/json\r\nContent-Length: 2\r\n\r\n{}").unwrap();
        (posted, followed)
    });
    let request = enveloped(Telemetry::None, false, "OnQueue", b"{}".to_vec(), id(), pool.port);
    assert_eq!(answer::ask(&pool, request), Outcome::Done(Answer::default()));
    let (posted, followed) = handler.join().unwrap();
    assert!(posted.starts_with("POST /OnQueue HTTP/1.1\r\n"), "{posted}");
    assert!(followed.starts_with("GET /other HTTP/1.1\r\n"), "{followed}");
}

#[test]
fn the_answer_to_an_http_caller() {
    let caller = |res: Value| done(json!({"Outputs": {"res": res}})).http("res");
    for (res, status, body) in [
        (json!({"statusCode": 418, "body": "tea"}), 418, "tea"),
        (json!({"statusCode": "201"}), 201, ""),
        (json!({"status": 404, "body": "x"}), 200, "x"),
        (json!({"statusCode": 99}), 99, ""),
        (json!({"statusCode": 1000}), 1000, ""),
        (json!({"body": "2026-04-20T00:00:00.000Z"}), 200, "04/20/2026 00:00:00"),
        // Never decoded.
        (json!({"body": "aGVsbG8="}), 200, "aGVsbG8="),
        (json!("text"), 500, ""),
        (json!({"headers": {"a": ["1"]}}), 500, ""),
        (json!({"headers": {"a": null}}), 500, ""),
        (json!({"headers": {"a b": "1"}}), 500, ""),
        (json!({"headers": {"a": "1\r\nb: 2"}}), 500, ""),
    ] {
        let answer = caller(res.clone());
        assert_eq!((answer.status, answer.text().as_str()), (status, body), "{res}");
    }
    let answer = caller(json!({"headers": {"X-Number": 5, "Content-Length": "9"}, "body": "short"}));
    assert_eq!((answer.header("x-number"), answer.complete), (Some("5"), false));
    let answer = done(json!({"Outputs": {}})).http("res");
    assert_eq!((answer.status, answer.text().as_str()), (200, "{}"));
    assert_eq!(done(json!({})).http("res").status, 204);
    let answer = done(json!({"ReturnValue": "AP8="})).http("$return");
    assert_eq!((answer.status, &answer.body[..]), (200, &b"\0\xff"[..]));
}

#[test]
fn outputs_to_queues_and_blobs() {
    let long = "x ".repeat(40_000);
    type Row = (Value, Option<&'static [&'static str]>, Option<&'static [&'static str]>);
    let table: [Row; 13] = [
        (json!("no base64"), Some(&["no base64"]), Some(&["no base64"])),
        (json!("aGVsbG8="), Some(&["hello"]), Some(&["aGVsbG8="])),
        (json!("2026-04-20T00:00:00.000Z"), Some(&["04/20/2026 00:00:00"]), Some(&["04/20/2026 00:00:00"])),
        (json!("[\"one\",2]"), Some(&["one", "2"]), Some(&["one", "2"])),
        (json!(["one", 2]), Some(&["one", "2"]), Some(&["one", "2"])),
        (json!("{\"a\":1}"), Some(&["{\n  \"a\": 1\n}"]), Some(&["{\n  \"a\": 1\n}"])),
        (json!({"a": 1}), Some(&["{\n  \"a\": 1\n}"]), Some(&["{\n  \"a\": 1\n}"])),
        (json!(5), Some(&["5"]), Some(&["5"])),
        (json!(true), Some(&["True"]), Some(&["True"])),
        (json!(null), Some(&[]), Some(&[])),
        (json!(""), Some(&[""]), Some(&[""])),
        (json!(long), None, None),
        (json!(STANDARD.encode(&long)), None, None),
    ];
    for (value, text, binary) in table {
        for (data_type, expected) in [(None, text), (Some("string"), text), (Some("binary"), binary)] {
            let messages = answer::queue_messages(&value, data_type).ok();
            let expected = expected.map(|all| all.iter().map(|one| one.as_bytes().to_vec()).collect::<Vec<_>>());
            assert_eq!(messages, expected, "{value} as {data_type:?}");
        }
    }
    // By chance.
    assert_eq!(answer::queue_messages(&json!("test"), None), Ok(vec![vec![0xb5, 0xeb, 0x2d]]));
    let blob = |value: Value| answer::blob(&value);
    assert_eq!(blob(json!("no base64")), Ok(Some(b"no base64".to_vec())));
    assert_eq!(blob(json!("aGVsbG8=")), Ok(Some(b"hello".to_vec())));
    assert!(blob(json!("2026-04-20T00:00:00.000Z")).is_err());
    assert_eq!(blob(json!("[1, 2]")), Ok(Some(b"[1, 2]".to_vec())));
    assert_eq!(blob(json!({"a": 1})), Ok(Some(b"{\"a\":1}".to_vec())));
    assert_eq!(blob(json!(true)), Ok(Some(vec![1])));
    assert_eq!(blob(json!(5)), Ok(Some(5i64.to_le_bytes().to_vec())));
    assert_eq!((blob(json!(null)), blob(json!(""))), (Ok(None), Ok(Some(Vec::new()))));
}
