//! Envelopes against the captures, byte for byte but for ids, times and hashes; what the Functions host was seen to make of answers.

use super::envelope::{Envelope, Function, Message, blob_properties};
use super::event::Event;
use super::fate::Attempts;
use super::json::{self, Json};
use super::request::Request;
use super::verdict::{self, Answer, Called, Verdict};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use std::fs;
use std::path::Path;

fn captured(name: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/captures").join(name)).expect("a capture")
}

#[test]
fn every_capture_is_built_as_it_was_sent() {
    let functions: Value = serde_json::from_str(&captured("functions.json")).expect("JSON");
    let mut compared = 0;
    for line in captured("envelopes.jsonl").lines() {
        let capture: Value = serde_json::from_str(line).expect("JSON");
        let name = capture["function"].as_str().expect("a name");
        let body = capture["body"].as_str().expect("a body");
        let sent = Json::known(body);
        let function =
            Function::new(name, functions[name]["bindings"].as_array().expect("bindings")).expect("a trigger");
        let payload = capture["payload_base64"].as_str().map(|text| STANDARD.decode(text).expect("base64"));
        let mut built = rebuilt(&function, payload.as_deref(), &sent);
        let metadata = sent.member("Metadata").expect("metadata");
        let sys = metadata.member("sys").expect("sys");
        if sys.member("MethodName").is_some() {
            json::set(&mut built.metadata, "sys", sys.clone());
        }
        assert_eq!(built.to_string(), body, "{name}");
        compared += 1;
    }
    assert_eq!(compared, 110);
}

fn text<'j>(value: &'j Json, name: &str) -> Option<&'j str> {
    match value.member(name)? {
        Json::Text(text) => Some(text),
        _ => None,
    }
}

/// The envelope of a capture, from its payload and what nobody can compute: ids and dates.
fn rebuilt(function: &Function, payload: Option<&[u8]>, sent: &Json) -> Envelope {
    let data = sent.member("Data").expect("data");
    let metadata = sent.member("Metadata").expect("metadata");
    let name = function.says("name").expect("a name");
    let value = data.member(name).expect("the trigger's value");
    let unquoted = |name: &str| -> Option<String> { serde_json::from_str(text(metadata, name)?).ok() };
    let mut envelope = match &*function.kind() {
        "queuetrigger" => {
            let fact = |name: &str| text(metadata, name).unwrap_or_default().to_owned();
            let message = Message {
                id: unquoted("Id"),
                pop_receipt: unquoted("PopReceipt"),
                // A payload with this name hides the queue's number.
                dequeue_count: fact("DequeueCount").parse().unwrap_or(1),
                inserted: fact("InsertionTime"),
                expires: fact("ExpirationTime"),
                next_visible: fact("NextVisibleTime"),
            };
            Envelope::queue(function, payload.expect("a payload"), &message).expect("text")
        }
        "blobtrigger" => {
            let tokens = ["name", "ext"].map(|token| (token, unquoted(token).unwrap_or_default()));
            let tokens = [(tokens[0].0, &*tokens[0].1), (tokens[1].0, &*tokens[1].1)];
            let payload = payload.expect("a payload");
            let recorded = metadata.member("Properties").expect("properties");
            let mut properties = blob_properties(payload.len(), text(recorded, "ContentType").expect("a type"));
            let Json::Object(members) = &mut properties else { panic!("no object") };
            for name in ["LastModified", "CreatedOn", "AccessTierChangedOn", "ContentHash"] {
                json::set(members, name, recorded.member(name).expect("a property").clone());
            }
            Envelope::blob(function, payload, &tokens, properties)
        }
        "timertrigger" => Envelope::timer(function, value.member("ScheduleStatus").expect("a status").clone(), false),
        "eventgridtrigger" => {
            let events = match value {
                Json::Text(list) => match Json::known(list) {
                    Json::Array(events) => events,
                    other => panic!("{other}"),
                },
                event => vec![event.clone()],
            };
            Envelope::event_grid(function, events.into_iter().map(as_published).collect()).expect("one")
        }
        "httptrigger" => http(function, value),
        other => panic!("{other}"),
    };
    let Json::Object(inputs) = data else { panic!("no object") };
    for (input, _) in inputs.iter().filter(|(input, _)| input != name) {
        let content = (input != "missing").then_some("der Inhalt äöü".as_bytes());
        envelope = envelope.input(function.binding(input).expect("a binding"), content);
    }
    if let Some(retry) = metadata.member("RetryContext") {
        let Some(Json::Number(count)) = retry.member("RetryCount") else { panic!("{retry}") };
        let count = u32::try_from(count.as_u64().expect("a count")).expect("a small one");
        envelope = envelope.retry(count, 2, retry.member("Exception").expect("one or null").clone());
    }
    match unquoted(name) {
        Some(input) => envelope.by_hand(function, &input),
        None => envelope,
    }
}

fn http(function: &Function, sent: &Json) -> Envelope {
    let lists = sent.member("Headers").expect("headers");
    let Json::Object(lists) = lists else { panic!("{lists}") };
    let first = |value: &Json| match value {
        Json::Array(values) => match &values[..] {
            [Json::Text(value)] => value.clone(),
            other => panic!("{other:?}"),
        },
        other => panic!("{other}"),
    };
    let headers: Vec<(String, String)> = lists.iter().map(|(name, value)| (name.clone(), first(value))).collect();
    let kind = headers.iter().find(|(name, _)| name == "Content-Type").map_or("", |(_, value)| value);
    let body = text(sent, "Body").map(|text| match kind {
        "image/png" => b"\xff\0\xfebinary".to_vec(),
        kind if kind.starts_with("multipart/") || kind == "application/octet-stream" => {
            STANDARD.decode(text).expect("base64")
        }
        _ => text.as_bytes().to_vec(),
    });
    let params = sent.member("Params").expect("params");
    let Json::Object(params) = params else { panic!("{params}") };
    let given = |value: &'_ Json| match value {
        Json::Text(text) => Some(text.clone()),
        _ => None,
    };
    let params: Vec<(&str, Option<String>)> = params.iter().map(|(name, value)| (&**name, given(value))).collect();
    let params: Vec<(&str, Option<&str>)> = params.iter().map(|(name, value)| (*name, value.as_deref())).collect();
    let (method, url) = (text(sent, "Method").expect("a method"), text(sent, "Url").expect("a URL"));
    Envelope::http(function, &Request { method, url, headers: &headers, params: &params, body: body.as_deref() })
}

/// An event as it was published before the Functions host rewrote its dates.
fn as_published(mut event: Json) -> Json {
    let Json::Object(members) = &mut event else { return event };
    for (name, value) in members {
        match (&**name, &mut *value) {
            ("time", time) => *time = "2026-11-25T10:00:00+02:00".into(),
            ("data", Json::Object(data)) => {
                for (_, date) in data.iter_mut().filter(|(name, _)| name == "when" || name == "t") {
                    *date = "2026-04-20T00:00:00.000Z".into();
                }
            }
            _ => {}
        }
    }
    event
}

#[test]
fn text_that_is_no_utf8_never_reaches_a_function_that_wants_text() {
    for (data_type, arrives) in [("string", false), ("binary", true)] {
        let bindings = [json!({"type": "queueTrigger", "name": "msg", "dataType": data_type})];
        let function = Function::new("Q", &bindings).expect("a trigger");
        assert_eq!(Envelope::queue(&function, b"\xff", &Message::fresh(1)).is_some(), arrives);
    }
}

#[test]
fn events_that_azure_would_never_send_are_refused_in_words() {
    let made = |binding: Value, payload: &[u8]| {
        let bindings = [binding];
        let function = Function::new("f", &bindings).expect("a trigger");
        let attempts = Attempts::read(&function, &Value::Null, &Value::Null);
        Event { payload, metadata: &[], run: 1 }.envelope(&function, attempts).map(|envelope| envelope.to_string())
    };
    let refused = |binding: Value, payload: &[u8]| made(binding, payload).expect_err("refused");
    assert!(refused(json!({"type": "queueTrigger", "name": "m"}), b"\xff").contains("no UTF-8"));
    assert!(refused(json!({"type": "eventGridTrigger", "name": "e"}), b"x").contains("an object of JSON"));
    assert!(refused(json!({"type": "eventGridTrigger", "name": "e"}), b"[{},{}]").contains("takes one event"));
    let hub = json!({"type": "eventHubTrigger", "name": "e", "cardinality": "many"});
    assert!(refused(hub.clone(), b"x").contains("send a list of JSON"));
    assert!(made(hub, b"[1]").expect("a list").starts_with(r#"{"Data":{"e":"[1]"},"#));
    for bindings in [json!([]), json!([{"type": "queue", "name": "q"}]), json!([{"type": "queueTrigger"}])] {
        assert!(Function::new("f", bindings.as_array().expect("a list")).is_err(), "{bindings}");
    }
}

#[test]
fn metadata_and_runs_are_as_they_were_asked_for() {
    let bindings = [json!({"type": "blobTrigger", "name": "b", "path": "in/{day}/{name}.txt"})];
    let function = Function::new("f", &bindings).expect("a trigger");
    let metadata = ["name=a b", "Size=5", "At=2026-01-01T00:00:00Z"].map(|pair| {
        let (name, value) = pair.split_once('=').expect("a pair");
        (name.to_owned(), value.to_owned())
    });
    let event = Event { payload: b"x", metadata: &metadata, run: 5 };
    let retry = json!({"retry": {"maxRetryCount": 3}});
    let envelope = event.envelope(&function, Attempts::read(&function, &Value::Null, &retry)).expect("made");
    let body: Value = serde_json::from_str(&envelope.to_string()).expect("JSON");
    let metadata = &body["Metadata"];
    assert_eq!(metadata["Uri"], r#""http://127.0.0.1:10000/devstoreaccount1/in/sample/a%20b.txt""#);
    assert_eq!((&metadata["day"], &metadata["name"]), (&json!("\"sample\""), &json!("\"a b\"")));
    assert_eq!((&metadata["Size"], &metadata["At"]), (&json!("5"), &json!("2026-01-01T00:00:00Z")));
    assert_eq!(metadata["RetryContext"]["RetryCount"], 0);
}

fn done(body: Value) -> Answer {
    match verdict::read(200, Some("application/json"), body.to_string().as_bytes()) {
        Verdict::Done(answer) => answer,
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_answer_counts_only_as_an_object_of_json() {
    let read = |status, kind, body: &str| verdict::read(status, kind, body.as_bytes());
    let json = Some("application/json");
    for hangs in [read(200, json, "null"), read(200, json, ""), read(204, None, "")] {
        assert_eq!(hangs, Verdict::Hangs);
    }
    for kind in ["application/json", "text/json", "Application/JSON; charset=utf-8"] {
        assert!(matches!(read(200, Some(kind), "{}"), Verdict::Done(_)), "{kind}");
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
        assert!(matches!(failure, Verdict::Failed(_)), "{failure:?}");
    }
    let answer = done(json!({"outputs": {"q": 1}, "LOGS": ["a", 5, true], "returnValue": {"q": 2}, "other": 1}));
    assert_eq!(answer.logs, ["a", "5", "True"]);
    // An object that is returned names no outputs.
    assert_eq!((&answer.outputs["q"], &answer.returned), (&json!(1), &Some(json!({"q": 2}))));
}

#[test]
fn the_answer_to_an_http_caller() {
    let caller = |res: Value| done(json!({"Outputs": {"res": res}})).http("res");
    let text = |called: &Called| String::from_utf8(called.body.clone()).expect("text");
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
        assert_eq!((answer.status, text(&answer).as_str()), (status, body), "{res}");
    }
    let answer = caller(json!({"headers": {"X-Number": 5, "Content-Length": "9"}, "body": "short"}));
    let number = ("x-number".to_owned(), "5".to_owned());
    assert!(answer.headers.contains(&number) && !answer.complete, "{answer:?}");
    let answer = done(json!({"Outputs": {}})).http("res");
    assert_eq!((answer.status, text(&answer).as_str()), (200, "{}"));
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
            let messages = verdict::queue_messages(&value, data_type).ok();
            let expected = expected.map(|all| all.iter().map(|one| one.as_bytes().to_vec()).collect::<Vec<_>>());
            assert_eq!(messages, expected, "{value} as {data_type:?}");
        }
    }
    // By chance.
    assert_eq!(verdict::queue_messages(&json!("test"), None), Ok(vec![vec![0xb5, 0xeb, 0x2d]]));
    let blob = |value: Value| verdict::blob(&value);
    assert_eq!(blob(json!("no base64")), Ok(Some(b"no base64".to_vec())));
    assert_eq!(blob(json!("aGVsbG8=")), Ok(Some(b"hello".to_vec())));
    assert!(blob(json!("2026-04-20T00:00:00.000Z")).is_err());
    assert_eq!(blob(json!("[1, 2]")), Ok(Some(b"[1, 2]".to_vec())));
    assert_eq!(blob(json!({"a": 1})), Ok(Some(b"{\"a\":1}".to_vec())));
    assert_eq!(blob(json!(true)), Ok(Some(vec![1])));
    assert_eq!(blob(json!(5)), Ok(Some(5i64.to_le_bytes().to_vec())));
    assert_eq!((blob(json!(null)), blob(json!(""))), (Ok(None), Ok(Some(Vec::new()))));
}
