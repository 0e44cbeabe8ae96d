//! Functions that are called with JSON envelopes: J1 to J11, with what the real Functions host was seen to send.

use crate::functions_host::answer::called;
use crate::functions_host::{FunctionsHost, Mode, Request, deliver as send, dispatch, envelope};
use crate::support::{App, Host, Response, eventually, flexwasm, get, guests, output as output_of, repository};
use crate::swap::tell;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use flexwasm::send::envelope::Function;
use flexwasm::send::verdict::Verdict;
use serde_json::{Value, json};
use std::fs;

const COPY: &str = r#"{"type": "queue", "direction": "out", "name": "copy"}"#;

/// Adds a function with these bindings beside its settings.
fn function(app: App, name: &str, guest: &str, bindings: &Value, settings: Value) -> App {
    let file = json!({"scriptFile": "guest.wasm", "bindings": bindings, "flexwasm": settings}).to_string();
    app.function_json(name, &file).file(&format!("{name}/guest.wasm"), &fs::read(guest).unwrap())
}

/// Adds a queue's function with one output.
fn queue(app: App, name: &str, guest: &str, settings: Value) -> App {
    let trigger = json!({"type": "queueTrigger", "direction": "in", "name": "m", "queueName": "q"});
    let copy: Value = serde_json::from_str(COPY).unwrap();
    function(app, name, guest, &json!([trigger, copy]), settings)
}

/// The envelope of a message of a queue.
fn queued(name: &str, text: &str) -> String {
    let metadata = json!({"Id": "\"m1\"", "DequeueCount": "1", "sys": {"MethodName": name}});
    json!({"Data": {"m": json!(text).to_string()}, "Metadata": metadata}).to_string()
}

/// Sends a message of a queue.
fn message(host: &Host, name: &str, text: &str) -> Response {
    send(host, name, &queued(name, text))
}

/// What Azure is told, in the form that it understands.
fn told(answer: &Response) -> Value {
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.header("content-type"), Some("application/json"));
    let told: Value = serde_json::from_slice(&answer.body).unwrap();
    assert!(told["Outputs"].is_object() && told["Logs"].as_array().unwrap().iter().all(Value::is_string), "{told}");
    told
}

/// The bytes of an output.
fn output(answer: &Response, name: &str) -> Vec<u8> {
    STANDARD.decode(told(answer)["Outputs"][name].as_str().unwrap()).unwrap()
}

/// What was recorded: name, bindings, envelope, and the payload where one was noted.
type Capture = (String, Vec<Value>, String, Option<Vec<u8>>);

fn captures() -> Vec<Capture> {
    let folder = repository().join("host/tests/captures");
    let functions: Value = serde_json::from_slice(&fs::read(folder.join("functions.json")).unwrap()).unwrap();
    let lines = fs::read_to_string(folder.join("envelopes.jsonl")).unwrap();
    let capture = |line: &str| {
        let capture: Value = serde_json::from_str(line).unwrap();
        let name = capture["function"].as_str().unwrap().to_owned();
        let bindings = functions[&name]["bindings"].as_array().unwrap().clone();
        let payload = capture["payload_base64"].as_str().map(|payload| STANDARD.decode(payload).unwrap());
        (name, bindings, capture["body"].as_str().unwrap().to_owned(), payload)
    };
    lines.lines().map(capture).collect()
}

fn is_http(bindings: &[Value]) -> bool {
    bindings.iter().any(|binding| binding["type"] == "httpTrigger")
}

/// All functions of the captures with one guest, and one output of ours beside what comes in.
fn captured(guest: &str) -> Host {
    let mut app = App::new("{}");
    let mut known = Vec::new();
    for (name, mut bindings, ..) in captures() {
        if known.contains(&name) {
            continue;
        }
        let http = is_http(&bindings);
        bindings.retain(|binding| binding["direction"] == "in");
        bindings.push(if http {
            json!({"type": "http", "direction": "out", "name": "res"})
        } else {
            serde_json::from_str(COPY).unwrap()
        });
        // Not plain HTTP, whatever it had before.
        bindings.push(json!({"type": "blob", "direction": "in", "name": "more", "path": "a/b"}));
        app = function(app, &name, guest, &bindings.into(), json!({}));
        known.push(name);
    }
    app.start()
}

#[test]
fn j1_the_answer_is_an_object_that_azure_understands() {
    let app = queue(App::new("{}"), "OnQueue", guests::ANSWER, json!({}));
    let host = app.start();
    for body in ["200\n\n", "204\n\n", "202\n\nbody", "299\ncontent-type: text/html\n\n<p>"] {
        told(&message(&host, "OnQueue", body));
    }
    assert_eq!(told(&message(&host, "OnQueue", "204\n\n"))["Outputs"], json!({}));
}

#[test]
fn j2_every_captured_payload_reaches_the_guest() {
    let host = captured(guests::ECHO);
    let (mut payloads, mut documents) = (0, 0);
    for (name, bindings, envelope, payload) in captures() {
        if is_http(&bindings) {
            continue;
        }
        let answer = send(&host, &name, &envelope);
        let outputs = &told(&answer)["Outputs"];
        let arrived = if outputs["copy"].is_null() { Vec::new() } else { output(&answer, "copy") };
        if let Some(payload) = payload {
            assert_eq!(arrived, payload, "{envelope}");
            payloads += 1;
        } else {
            let trigger = bindings.iter().find(|binding| binding["type"].as_str().unwrap().ends_with("Trigger"));
            let sent: Value = serde_json::from_str(&envelope).unwrap();
            let sent = &sent["Data"][trigger.unwrap()["name"].as_str().unwrap()];
            // An event that is a CloudEvent itself is unwrapped.
            let data = if sent["specversion"].is_null() { sent } else { &sent["data"] };
            match (data, &sent["data_base64"]) {
                (Value::Null, Value::String(text)) => assert_eq!(STANDARD.encode(arrived), *text, "{envelope}"),
                (Value::Null, _) => assert!(arrived.is_empty(), "{envelope}"),
                (Value::String(text), _) => assert_eq!(String::from_utf8(arrived).unwrap(), *text, "{envelope}"),
                (data, _) => assert_eq!(&serde_json::from_slice::<Value>(&arrived).unwrap(), data, "{envelope}"),
            }
            documents += 1;
        }
    }
    assert_eq!((payloads, documents), (72, 25));
}

#[test]
fn j3_metadata_are_read_as_documented_and_as_sent() {
    let host = queue(App::new("{}"), "OnQueue", guests::DESCRIBE, json!({})).start();
    for (metadata, header) in [
        (json!({"DequeueCount": 3}), "x-flexwasm-dequeue-count=3"),
        (json!({"DequeueCount": "3"}), "x-flexwasm-dequeue-count=3"),
        (
            json!({"RetryContext": {"RetryCount": 1, "MaxRetryCount": 2, "Exception": {"a": [1]}}}),
            "x-flexwasm-retry-count=1",
        ),
        (json!({"Unknown": {"a": null}, "Id": "\"a b\""}), "ce-id=a%20b"),
        (json!({"Id": "\"x\\r\\nce-type: evil\""}), "ce-type=azure.functions.queueTrigger"),
        (json!(null), "ce-source=/queueTrigger/q"),
    ] {
        let envelope = json!({"Data": {"m": "\"x\""}, "Metadata": metadata, "More": 1}).to_string();
        let seen = String::from_utf8(output(&send(&host, "OnQueue", &envelope), "copy")).unwrap();
        assert!(seen.contains(&format!("header: {header}\n")), "{seen}");
        assert!(
            seen.contains("path: /OnQueue\n") && seen.contains("header: content-type=text/plain; charset=utf-8\n"),
            "{seen}"
        );
    }
}

#[test]
fn j4_a_wrapped_request_reaches_the_guest_as_the_client_sent_it() {
    let (described, counted) = (captured(guests::DESCRIBE), captured(guests::SINK));
    let requests = captures().into_iter().filter(|(_, bindings, ..)| is_http(bindings));
    let mut count = 0;
    for (name, bindings, envelope, _) in requests {
        let told = told(&send(&described, &name, &envelope));
        let seen = told["Outputs"]["res"]["body"].as_str().unwrap();
        let sent: Value = serde_json::from_str(&envelope).unwrap();
        let sent = &sent["Data"][bindings[0]["name"].as_str().unwrap()];
        let target = sent["Url"].as_str().unwrap().splitn(4, '/').nth(3).unwrap().to_owned();
        assert!(seen.contains(&format!("path: /{target}\n")), "{seen} {target}");
        let kind = sent["Headers"]["Content-Type"][0].as_str().unwrap_or_default();
        assert!(kind.is_empty() || seen.contains(&format!("header: content-type={kind}\n")), "{seen}");
        let body = sent["Body"].as_str().unwrap_or_default();
        let binary = kind.starts_with("application/octet-stream") || kind.starts_with("multipart/");
        let length = if binary { STANDARD.decode(body).unwrap().len() } else { body.len() };
        let answer = send(&counted, &name, &envelope);
        let told: Value = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!(told["Outputs"]["res"]["body"], json!(length.to_string()), "{envelope}");
        count += 1;
    }
    assert!(count > 5);
}

/// An HTTP function with an output beside its answer.
fn wrapped(name: &str, guest: &str) -> App {
    let bindings = json!([
        {"type": "httpTrigger", "direction": "in", "name": "req", "authLevel": "function"},
        {"type": "http", "direction": "out", "name": "res"},
        {"type": "queue", "direction": "out", "name": "copy"},
    ]);
    function(App::new("{}"), name, guest, &bindings, json!({}))
}

fn request(body: &str) -> String {
    let request = json!({
        "Url": "http://app.example/api/f?code=SECRET&a=1", "Method": "POST", "Query": {"code": "SECRET"},
        "Headers": {"Host": ["app.example"], "X-Functions-Key": ["SECRET"]}, "Params": {}, "Body": body,
    });
    json!({"Data": {"req": request}, "Metadata": {"code": "\"SECRET\""}}).to_string()
}

#[test]
fn j5_an_answer_becomes_the_output_res() {
    let host = wrapped("Wrapped", guests::ANSWER).start();
    let answer = told(&send(&host, "Wrapped", &request("404\ncontent-type: text/html\nx-a: 1\n\n<p>é")));
    let headers = json!({"content-type": "text/html", "x-a": "1"});
    assert_eq!(answer["Outputs"], json!({"res": {"statusCode": 404, "headers": headers, "body": "<p>é"}}));
    let cookies = send(&host, "Wrapped", &request("200\nset-cookie: a=1\nset-cookie: b=2\n\n"));
    assert_eq!((cookies.status, cookies.reason().as_str()), (500, "event-failed"));
    let line = host.closing_line("faulted");
    assert!(line.contains("two Set-Cookie headers") && line.contains("enableProxyingHttpRequest"), "{line}");
    let stream = send(&host, "Wrapped", &request("200\ncontent-type: text/event-stream\n\ndata: x\n\n"));
    assert_eq!((stream.status, stream.reason().as_str()), (500, "event-failed"));
    host.line(&["outcome=\"faulted\"", "cannot carry a stream of events", "enableProxyingHttpRequest"]);
    let outputs = "200\ncontent-type: application/vnd.flexwasm.outputs+json\n\n{\"copy\": \"hi\", \"res\": {\"statusCode\": 202}}";
    let answer = told(&send(&host, "Wrapped", &request(outputs)));
    assert_eq!((&answer["Outputs"]["copy"], &answer["Outputs"]["res"]["statusCode"]), (&json!("aGk="), &json!(202)));
}

#[test]
fn j5_a_client_of_the_functions_host_gets_the_answer() {
    let app = wrapped("Wrapped", guests::ANSWER);
    let host = FunctionsHost::start(&app, Mode::Proxying);
    let bindings = [
        json!({"type": "httpTrigger", "direction": "in", "name": "req"}),
        json!({"type": "http", "direction": "out", "name": "res"}),
    ];
    let function = Function::new("Wrapped", &bindings).unwrap();
    let client = Request::post("/api/Wrapped?code=secret", "404\ncontent-type: text/html\n\n<p>\u{e9}");
    let Verdict::Done(answer) = host.invoke(&envelope::http(&function, &client, &[])) else { panic!("it failed") };
    let answer = called(&answer, "res");
    assert_eq!(
        (answer.status, answer.header("content-type"), answer.text().as_str()),
        (404, Some("text/html"), "<p>\u{e9}")
    );
}

#[test]
fn j6_outputs_are_base64_of_the_bytes() {
    let host = queue(App::new("{}"), "OnQueue", guests::ECHO, json!({})).start();
    for text in ["[1,2,3]", "test", "abcd1234", "2026-04-20T00:00:00.000Z", "\"quoted\"", "{ \"a\" : 1.0 }", "5"] {
        let answer = message(&host, "OnQueue", text);
        assert_eq!(output(&answer, "copy"), text.as_bytes());
        assert_eq!(told(&answer).get("ReturnValue"), None);
    }
}

#[test]
fn j7_whatever_is_no_success_makes_azure_try_again() {
    let limits = json!({"limits": {"timeout": "2s"}});
    let app = queue(App::new("{}"), "Answers", guests::ANSWER, json!({}));
    let app = queue(queue(app, "Spins", guests::SPIN, limits.clone()), "Soon", guests::TRAP_AFTER, json!({}));
    let host = app.start();
    for body in
        ["301\nlocation: /elsewhere\n\n", "304\n\n", "404\n\n", "422\n\n", "500\n\n", "503\n\n", "200\ntrap: now\n\n"]
    {
        let answer = message(&host, "Answers", body);
        assert_eq!((answer.status, answer.header("location")), (500, None), "{body}");
    }
    assert_eq!(message(&host, "Spins", "x").status, 504);
    assert_eq!(message(&host, "Soon", "x").status, 500);
    assert_eq!(message(&host, "Answers", "200\n\n").status, 200);
}

#[test]
fn d15_9_a_rejected_event_is_a_success_that_is_told_of() {
    let app = queue(App::new("{}"), "Plain", guests::ANSWER, json!({}));
    let host = queue(app, "Keeps", guests::ANSWER, json!({"event": {"rejected": "copy"}})).start();
    let reject = "200\nx-flexwasm-disposition: reject\n\nwhy";
    assert_eq!(told(&message(&host, "Plain", reject))["Outputs"], json!({}));
    let line = host.closing_line("rejected");
    assert!(line.contains("m1") && line.contains("function=Plain"), "{line}");
    assert_eq!(output(&message(&host, "Keeps", reject), "copy"), reject.as_bytes());
    for body in ["500\nx-flexwasm-disposition: reject\n\n", "200\nx-flexwasm-disposition: REJECT\n\n"] {
        assert_eq!(message(&host, "Plain", body).status, 500, "{body}");
    }
}

#[test]
fn j8_the_guests_lines_are_the_logs() {
    let host = queue(App::new("{}"), "OnQueue", guests::ANSWER, json!({})).start();
    let answer = told(&message(&host, "OnQueue", "200\nprint: it went \"well\"\nprint: é\n\n"));
    assert_eq!(answer["Logs"], json!(["it went \"well\"", "é"]));
    assert_eq!(message(&host, "OnQueue", "500\nprint: it went wrong\n\n").status, 500);
    host.line(&[" guest: ", "it went wrong", "function=OnQueue"]);
    assert!(!host.stdout().iter().any(|line| line.contains("it went \\\"well")), "{:?}", host.stdout());

    let host = queue(App::new(r#"{"limits": {"log": "1KiB"}}"#), "OnQueue", guests::ANSWER, json!({})).start();
    let answer = told(&message(&host, "OnQueue", &format!("200\n{}\n", format!("print: {:040}\n", 7).repeat(100))));
    let lines = answer["Logs"].as_array().unwrap();
    // 40 bytes each, and the end of a line.
    assert!((20..=26).contains(&lines.len()), "{answer}");
}

#[test]
fn a_batch_of_cloud_events_says_what_it_is() {
    let bindings = json!([
        {"type": "eventHubTrigger", "direction": "in", "name": "events", "eventHubName": "h", "cardinality": "many"},
        serde_json::from_str::<Value>(COPY).unwrap(),
    ]);
    let host = function(App::new("{}"), "OnBatch", guests::DESCRIBE, &bindings, json!({})).start();
    let event = |id: &str| json!({"specversion": "1.0", "id": id, "source": "/s", "type": "t"});
    for (items, kind) in [
        (json!([event("1"), event("2")]), "application/cloudevents-batch+json"),
        (json!([event("1"), {"id": "2"}]), "application/json"),
        (json!([]), "application/json"),
    ] {
        let answer =
            send(&host, "OnBatch", &json!({"Data": {"events": items.to_string()}, "Metadata": {}}).to_string());
        let seen = String::from_utf8(output(&answer, "copy")).unwrap();
        assert!(seen.contains(&format!("content-type={kind}")) && !seen.contains("ce-id"), "{seen}");
    }
}

#[test]
fn an_event_waits_for_a_slot_no_longer_than_a_request_does() {
    let app = App::new(r#"{"pool": {"size": 2}, "queue": {"timeout": "300ms"}}"#).function("sleep", guests::SLEEP);
    let slow = json!({"event": {"path": "/x?ms=3600000"}, "pool": {"share": 1}});
    let host = queue(queue(app, "Shares", guests::SLEEP, slow), "OnQueue", guests::ECHO, json!({})).start();
    // One that never ends holds all that its function may have.
    let _held = dispatch(&host, "Shares", &queued("Shares", "x"));
    let mut others = Vec::new();
    eventually("the share is held", || {
        others.push(dispatch(&host, "Shares", &queued("Shares", "x")));
        host.log().iter().any(|line| {
            let words = ["function=Shares", "outcome=\"refused\"", "pool.share"];
            words.iter().all(|word| line.contains(word))
        })
    });
    assert_eq!(output(&message(&host, "OnQueue", "x"), "copy"), b"x", "a neighbour has the rest of the pool");

    let mut holder = host.connect();
    holder.write(get("/api/sleep?ms=3600000"));
    eventually("the pool is held", || message(&host, "OnQueue", "x").status == 503);
    // Azure takes that for a failure, and tries again.
    assert_eq!(message(&host, "OnQueue", "x").reason(), "waited-too-long");
    host.line(&["function=OnQueue", "outcome=\"refused\""]);
}

#[test]
fn a_guest_that_has_events_is_swapped_like_any_other() {
    let app = queue(App::new("{}"), "OnQueue", guests::ECHO, json!({}));
    let host = app.start();
    assert_eq!(output(&message(&host, "OnQueue", "200\n\nnew"), "copy"), b"200\n\nnew");
    let (status, said, stderr) = tell(app.path(), &["swap", "OnQueue", guests::ANSWER]);
    assert!(status.success(), "{said}{stderr}");
    assert_eq!(output(&message(&host, "OnQueue", "200\n\nnew"), "copy"), b"new");
}

#[test]
fn check_says_what_the_bindings_lack() {
    let hub = json!([{"type": "eventHubTrigger", "direction": "in", "name": "e", "eventHubName": "h"}]);
    let app = App::new(r#"{"pool": {"size": 8}}"#);
    let app = queue(function(app, "OnHub", guests::SINK, &hub, json!({})), "OnQueue", guests::ECHO, json!({}));
    let mut command = flexwasm();
    command.arg("check").arg(app.path());
    let (status, stdout, stderr) = output_of(command);
    let said = stdout + &stderr;
    assert_eq!(status.code(), Some(1), "{said}");
    for words in [
        "host.json: extensionBundle: is missing",
        "it is lost: set retry in OnHub/function.json",
        "extensions.queues.batchSize",
    ] {
        assert!(said.contains(words), "{words:?} is not in {said}");
    }
}

#[test]
fn j9_only_the_exact_name_is_a_function() {
    let host = queue(App::new("{}"), "OnQueue", guests::ECHO, json!({})).start();
    for name in ["onqueue", "api/OnQueue", "OnQueue/x", "Else"] {
        assert_eq!(message(&host, name, "x").status, 404, "{name}");
    }
    assert_eq!(host.get("/OnQueue").status, 405);
    let form = "POST /OnQueue HTTP/1.1\r\nHost: a\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\n{}";
    assert_eq!(host.connect().ask(form).status, 415);
    assert_eq!(output(&message(&host, "OnQueue", "x"), "copy"), b"x");
}

#[test]
fn j10_http_functions_that_are_not_plain_get_envelopes() {
    let host = wrapped("Wrapped", guests::DESCRIBE).function("plain", guests::DESCRIBE).start();
    let told_of = told(&send(&host, "Wrapped", &request("")));
    let seen = told_of["Outputs"]["res"]["body"].as_str().unwrap();
    assert!(
        seen.contains("authority: app.example\n") && seen.contains("path: /api/f?a=1\n") && !seen.contains("SECRET"),
        "{seen}"
    );
    assert!(host.get("/api/plain").text().contains("path: /api/plain\n"));
    // Without a forwarding flag the Functions host wraps every function's requests.
    let unflagged = App::with_host_json(r#"{"version": "2.0"}"#).function("plain", guests::DESCRIBE);
    let host = unflagged.start();
    let told_of = told(&send(&host, "plain", &request("")));
    assert!(told_of["Outputs"]["res"]["body"].as_str().unwrap().contains("path: /api/f?code=SECRET&a=1\n"));
    assert_eq!(host.get("/api/plain").status, 404);
    // An app setting switches it on, as it does for the Functions host.
    let flag = ("AzureFunctionsJobHost__customHandler__enableForwardingHttpRequest", "true");
    assert_eq!(unflagged.start_with(&[flag]).get("/api/plain").status, 200);
}

#[test]
fn j11_envelopes_arrive_chunked_or_with_a_length() {
    let host = queue(App::new("{}"), "OnQueue", guests::ECHO, json!({})).start();
    let head = "POST /OnQueue HTTP/1.1\r\nHost: a\r\nContent-Type: application/json; charset=utf-8\r\n";
    for framed in [
        "Transfer-Encoding: chunked\r\n\r\n8\r\n{\"Data\":\r\nf\r\n{\"m\":\"\\\"hi\\\"\"}}\r\n0\r\n\r\n",
        "Content-Length: 23\r\n\r\n{\"Data\":{\"m\":\"\\\"hi\\\"\"}}",
    ] {
        assert_eq!(output(&host.connect().ask(format!("{head}{framed}")), "copy"), b"hi", "{framed}");
    }
}

#[test]
fn a_guest_that_asks_for_it_gets_and_answers_azures_json() {
    let app = queue(App::new("{}"), "Raw", guests::ECHO, json!({"event": {"mode": "envelope", "path": "/raw"}}));
    let host = queue(app, "Answers", guests::ANSWER, json!({"event": {"mode": "envelope"}})).start();
    let envelope = r#"{"Data":{"m":"\"1.0\""},"Metadata":{"n":1.0}}"#;
    let answer = told(&send(&host, "Answers", envelope));
    assert_eq!((&answer["Outputs"], &answer["Logs"]), (&json!({"copy": "aGk="}), &json!(["mine", envelope])));
    let answer = send(&host, "Raw", r#"{"Data":{"m":"\"x\""},"Metadata":{}}"#);
    // It is no answer: the guest sent the envelope back.
    assert_eq!((answer.status, answer.reason().as_str()), (500, "event-failed"));
    let line = host.closing_line("faulted");
    assert!(line.contains("which Azure does not know") && line.contains("Outputs"), "{line}");
}

#[test]
fn a_malformed_envelope_fails_one_event_and_names_what_is_wrong() {
    let blob = json!([{"type": "blobTrigger", "direction": "in", "name": "b", "path": "in/{name}"}]);
    let app = function(App::new(r#"{"limits": {"requestBody": "64KiB"}}"#), "OnBlob", guests::SINK, &blob, json!({}));
    let host = app.start();
    for (envelope, words) in [
        ("{", "the envelope is no JSON object"),
        (r#"{"Data":{"c":1}}"#, "has no value for the trigger"),
        (r#"{"Data":{"b":"no base64"}}"#, "no base64"),
    ] {
        let answer = send(&host, "OnBlob", envelope);
        assert_eq!((answer.status, answer.reason().as_str()), (400, "bad-envelope"));
        assert!(answer.text().contains("function OnBlob") && answer.text().contains(words), "{}", answer.text());
    }
    let large = json!({"Data": {"b": STANDARD.encode(vec![7; 64 << 10])}}).to_string();
    assert_eq!(send(&host, "OnBlob", &large).status, 413);
    told(&send(&host, "OnBlob", r#"{"Data":{"b":"aGk="}}"#));
}

#[test]
fn a_new_guest_has_to_process_the_event_of_its_function_first() {
    let app = |payload: &str| {
        let settings = json!({"guest": {"smoke": {"event": "smoke.txt"}}});
        queue(App::new("{}"), "OnQueue", guests::ANSWER, settings).file("OnQueue/smoke.txt", payload.as_bytes())
    };
    let check = |app: &App| {
        let mut command = flexwasm();
        command.arg("check").arg(app.path());
        output_of(command)
    };
    let (_, _, stderr) = check(&app("204\n\n"));
    assert!(!stderr.contains("smoke"), "{stderr}");
    let (status, _, stderr) = check(&app("422\n\n"));
    let words = "OnQueue/smoke.txt: it answered with status 422; expected a status of success (guest.smoke)";
    assert!(!status.success() && stderr.contains(words), "{stderr}");
    let nothing = queue(App::new("{}"), "OnQueue", guests::ANSWER, json!({"guest": {"smoke": {"event": "none"}}}));
    assert!(check(&nothing).2.contains("OnQueue/none: it cannot be read"));
    let http = App::new("{}").routed(
        "plain",
        guests::COUNTER,
        r#""authLevel": "anonymous""#,
        r#"{"guest": {"smoke": {"event": "x"}}}"#,
    );
    assert!(check(&http).2.contains("use guest.smoke.path"));
}
