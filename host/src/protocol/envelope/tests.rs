use super::decode::{Asked, decode};
use super::encode::{Answer, Answered, encode};
use crate::config::event::{Event, Mode, Settings};
use crate::config::section::Problems;
use crate::config::settings::HostPatch;
use crate::config::{AppSettings, Circumstances, Function, Grants, serve};
use crate::invocation::Origin;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::Response;
use http::uri::{Authority, Scheme};
use serde_json::{Value, json};
use std::sync::Arc;

const ID: &str = "0a1b2c3d-0000-4000-8000-0123456789ab";
const CAPTURES: &str = include_str!("../../../tests/captures/envelopes.jsonl");
const FUNCTIONS: &str = include_str!("../../../tests/captures/functions.json");

fn function(name: &str, document: &Value, change: impl FnOnce(&mut Event)) -> Function {
    let given =
        Circumstances { machine_memory: 1 << 30, listen: None, cache_folders: Vec::new(), control_sockets: Vec::new() };
    let config = serve("x.wasm".into(), &HostPatch::default(), Grants::default(), &AppSettings::new(), &given);
    let mut event = Event::read("f", document, Settings::default(), &mut Problems::default());
    change(&mut event);
    Function { name: name.into(), event: Arc::new(event), ..config.functions[0].clone() }
}

fn bound(bindings: Value) -> Function {
    function("f", &json!({ "bindings": bindings }), |_| {})
}

fn ask(function: &Function, envelope: &str) -> Result<Asked, String> {
    let origin = Origin { scheme: Scheme::HTTP, authority: Authority::from_static("127.0.0.1:9000") };
    decode(function, ID, origin, envelope.as_bytes(), None).map_err(|bad| bad.to_string())
}

/// The value of a header; empty for none.
fn header<'a>(asked: &'a Asked, name: &str) -> &'a str {
    asked.head.headers.get(name).map_or("", |value| value.to_str().expect("ASCII"))
}

fn captures() -> impl Iterator<Item = (Function, String, Option<Vec<u8>>)> {
    let functions: Value = serde_json::from_str(FUNCTIONS).expect("JSON");
    CAPTURES.lines().map(move |line| {
        let capture: Value = serde_json::from_str(line).expect("JSON");
        let name = capture["function"].as_str().expect("a name");
        let body = capture["body"].as_str().expect("a body").to_owned();
        let payload = capture["payload_base64"].as_str().map(|payload| STANDARD.decode(payload).expect("base64"));
        (function(name, &functions[name], |_| {}), body, payload)
    })
}

#[test]
fn every_captured_payload_arrives_byte_for_byte() {
    let mut payloads = 0;
    for (function, envelope, payload) in captures() {
        let asked = ask(&function, &envelope).unwrap_or_else(|why| panic!("{why}: {envelope}"));
        let Some(payload) = payload else { continue };
        assert_eq!(asked.body, payload, "{envelope}");
        payloads += 1;
    }
    assert_eq!(payloads, 72);
}

#[test]
fn a_captured_event_is_a_cloud_event() {
    for (function, envelope, _) in captures() {
        let asked = ask(&function, &envelope).expect("a good envelope");
        if function.event.trigger.is("httpTrigger") {
            assert_eq!(header(&asked, "ce-id"), "");
            continue;
        }
        assert_eq!(asked.head.uri.to_string(), format!("/{}", function.name));
        assert_eq!(header(&asked, "ce-specversion"), "1.0");
        assert_eq!(header(&asked, "ce-id").is_empty(), function.event.trigger.many, "{envelope}");
    }
}

#[test]
fn headers_say_what_is_known() {
    let of = |name: &str, part: &str| {
        let mut found = captures().filter(|(function, envelope, _)| &*function.name == name && envelope.contains(part));
        let (function, envelope, _) = found.next().expect("a capture");
        ask(&function, &envelope).expect("a good envelope")
    };
    let blob = of("BBinary", "%C3%A5");
    assert_eq!(header(&blob, "ce-subject"), "dir/%C3%A5%20b%2520%22c%22.txt");
    assert_eq!(header(&blob, "ce-id"), "dir/%C3%A5%20b%2520%22c%22.txt@2026-11-27T21:58:24+00:00");
    assert_eq!(
        (header(&blob, "ce-type"), header(&blob, "ce-source")),
        ("azure.functions.blobTrigger", "/blobTrigger/inbb")
    );
    assert_eq!(header(&blob, "content-type"), "application/octet-stream");
    let retried = of("QRetryPolicy", "\"RetryCount\":1");
    assert_eq!((header(&retried, "x-flexwasm-retry-count"), header(&retried, "x-flexwasm-retry-max")), ("1", "2"));
    let again = of("QRetry", "\"DequeueCount\":\"2\"");
    assert_eq!(header(&again, "x-flexwasm-dequeue-count"), "2");
    assert_eq!(
        (header(&again, "ce-id"), &*again.message),
        ("7833e580-2370-486d-bc76-bfd6d7a3aa86", header(&again, "ce-id"))
    );
    assert_eq!(header(&again, "ce-time"), "2026-11-27T22:11:48+00:00");
    let grid = of("EgOne", "\"eg-1\"");
    assert_eq!((header(&grid, "ce-id"), header(&grid, "ce-type")), ("eg-1", "azure.functions.eventGridTrigger"));
    assert!(grid.body.starts_with(b"{\"id\":\"eg-1\"") && grid.body.ends_with(b"\"metadataVersion\":\"1\"}"));
    let cloud = of("EgString", "specversion");
    assert_eq!(&cloud.body[..], br#"{"a":1.0,"t":"2026-04-20T00:00:00Z"}"#);
    let own = ["ce-id", "ce-source", "ce-type", "ce-subject", "ce-comexampleext", "ce-datacontenttype"]
        .map(|name| header(&cloud, name));
    assert_eq!(own, ["ce-1", "/my/source", "com.example.thing", "a%2520b", "x", ""]);
    let batch = of("EgMany", "eg-2");
    assert_eq!((header(&batch, "content-type"), header(&batch, "ce-id")), ("application/json", ""));
    assert!(batch.body.starts_with(b"[{\"id\":"));
}

#[test]
fn d15_2_metadata_never_reach_a_header_raw_and_decide_nothing() {
    let queue = bound(json!([{"type": "queueTrigger", "name": "m", "queueName": "q"}]));
    let send = |metadata: Value| {
        ask(&queue, &json!({"Data": {"m": "\"x\""}, "Metadata": metadata}).to_string()).expect("no failure")
    };
    let evil =
        send(json!({"DequeueCount": "\"77\"", "Id": "\"x\\r\\nce-type: evil é\"", "PopReceipt": "\"p\"", "sys": 1}));
    assert_eq!(header(&evil, "ce-id"), "x%0D%0Ace-type:%20evil%20%C3%A9");
    assert_eq!(
        (header(&evil, "ce-type"), header(&evil, "x-flexwasm-dequeue-count")),
        ("azure.functions.queueTrigger", "77")
    );
    for count in [json!({"a": 1}), json!("-1"), json!("1e99"), json!(null)] {
        assert_eq!(header(&send(json!({ "DequeueCount": count })), "x-flexwasm-dequeue-count"), "");
    }
    let long = send(json!({"Id": "x".repeat(10_000), "InsertionTime": "tomorrow"}));
    assert_eq!((header(&long, "ce-id"), header(&long, "ce-time")), (ID, ""));
}

#[test]
fn what_is_no_envelope_names_what_is_wrong() {
    let blob = bound(json!([{"type": "blobTrigger", "name": "b", "path": "in/{name}"}]));
    for (envelope, words) in [
        ("", "the envelope is no JSON object"),
        ("[1]", "the envelope is no JSON object"),
        ("{\"Data\":{\"b\":\"\"}", "the envelope is no JSON object"),
        ("null", "the envelope is no JSON object"),
        (r#"{"Data":[]}"#, "Data of the envelope is no object"),
        (r#"{"Data":{"b":""},"Metadata":"x"}"#, "Metadata of the envelope is no object"),
        (r#"{"Data":{"c":""}}"#, "has no value for the trigger \"b\""),
        (r#"{}"#, "has no value for the trigger \"b\""),
        (r#"{"Data":{"b":"no base64!"}}"#, "the value of \"b\" is no base64: \"no base64!\""),
    ] {
        let why = ask(&blob, envelope).expect_err(envelope);
        assert!(why.contains(words), "{why}");
    }
    assert!(
        ask(&blob, r#"{"data":{},"Data":{"B":"aGk="},"Metadata":null,"More":1}"#).is_ok_and(|asked| asked.body == "hi")
    );
}

#[test]
fn keys_of_callers_are_removed() {
    let bindings = json!([
        {"type": "httpTrigger", "name": "req", "authLevel": "function"}, {"type": "queue", "direction": "out", "name": "q"},
    ]);
    let envelope = json!({
        "Data": {"req": {
            "Url": "http://a.example/api/f?a=1&code=SECRET&x=a b", "Method": "PUT", "Query": {"a": "1", "code": "SECRET"},
            "Headers": {"Host": ["a.example"], "X-Functions-Key": ["SECRET"], "X-Original-URL": ["/?code=SECRET"], "b": ["1", "2"]},
            "Params": {}, "Body": "{\"n\":1.0}",
        }},
        "Metadata": {"code": "\"SECRET\"", "Query": {"code": "SECRET"}, "Headers": {"x-functions-key": "SECRET"}, "n": "\"1.0\""},
    })
    .to_string();
    let asked = ask(&bound(bindings.clone()), &envelope).expect("a good envelope");
    assert_eq!((asked.head.uri.to_string().as_str(), asked.head.method.as_str()), ("/api/f?a=1&x=a%20b", "PUT"));
    assert_eq!((asked.origin.authority.as_str(), asked.head.headers.get_all("b").iter().count()), ("a.example", 2));
    assert!(!format!("{asked:?}").contains("SECRET"));
    let raw = function("f", &json!({ "bindings": bindings }), |event| event.mode = Mode::Envelope);
    let asked = ask(&raw, &envelope).expect("a good envelope");
    let seen = String::from_utf8(asked.body.to_vec()).expect("text");
    assert!(!seen.contains("SECRET") && seen.contains(r#""n":"\"1.0\"""#), "{seen}");
    assert!(serde_json::from_str::<Value>(&seen).is_ok(), "{seen}");
}

fn answer(function: &Function, response: http::response::Builder, body: &[u8]) -> Result<Answer, String> {
    let head = response.body(()).expect("a response").into_parts().0;
    let answered =
        Answered { head: &head, body, lines: vec!["said".to_owned()], payload: b"the payload", beside: None };
    encode(&function.event, answered).map_err(|bad| bad.to_string())
}

fn said(function: &Function, kind: &str, body: &[u8]) -> Value {
    let answer = answer(function, Response::builder().header("content-type", kind), body).expect("an answer");
    let answer: Value = serde_json::from_slice(&answer.body).expect("JSON");
    assert_eq!(answer["Logs"], json!(["said"]));
    answer
}

fn several(outputs: &[Value]) -> Function {
    let trigger = json!({"type": "queueTrigger", "name": "m"});
    bound(Value::Array([&[trigger], outputs].concat()))
}

const OUTPUTS: &str = "application/vnd.flexwasm.outputs+json";

#[test]
fn j6_the_only_output_gets_the_exact_bytes() {
    let plain = several(&[json!({"type": "queue", "direction": "out", "name": "q"})]);
    for body in ["[1,2,3]", "test", "abcd1234", "2026-04-20T00:00:00.000Z", "\"quoted\"", "{ \"a\" : 1 }"] {
        let answer = said(&plain, "text/plain", body.as_bytes());
        assert_eq!(answer["Outputs"], json!({"q": STANDARD.encode(body)}));
        assert_eq!(answer.get("ReturnValue"), None);
    }
    assert_eq!(said(&plain, "text/plain", b"")["Outputs"], json!({}));
    let binary = several(&[json!({"type": "queue", "direction": "out", "name": "q", "dataType": "binary"})]);
    assert_eq!(said(&binary, "text/plain", b"test")["Outputs"], json!({"q": "test"}));
    // Alone, a list would become several messages, and an object would be written anew.
    for body in ["[1,2,3]", "{ \"a\" : 1 }"] {
        assert_eq!(said(&binary, "text/plain", body.as_bytes())["Outputs"], json!({"q": [body]}));
        for (given, sent) in [(json!({ "q": body }), json!([body])), (json!({ "q": [body, "x"] }), json!([body, "x"]))]
        {
            assert_eq!(said(&binary, OUTPUTS, given.to_string().as_bytes())["Outputs"]["q"], sent);
        }
    }
    let why = answer(&binary, Response::builder(), &[0xff, 0]).expect_err("no text");
    assert!(why.contains("leave dataType out"), "{why}");
    let returned = several(&[
        json!({"type": "queue", "direction": "out", "name": "$return"}),
        json!({"type": "blob", "direction": "out", "name": "b"}),
    ]);
    let answer = said(&returned, "text/plain", b"test");
    assert_eq!((&answer["Outputs"], &answer["ReturnValue"]), (&json!({}), &json!("dGVzdA==")));
    let table = several(&[json!({"type": "cosmosDB", "direction": "out", "name": "d"})]);
    assert_eq!(said(&table, "application/json", b"{\"id\":1}")["Outputs"], json!({"d": {"id": 1}}));
    assert!(answer_fails(&table, b"text").contains("takes an object in JSON"));
    assert_eq!(said(&several(&[]), "text/plain", b"nobody reads this")["Outputs"], json!({}));
}

fn answer_fails(function: &Function, body: &[u8]) -> String {
    answer(function, Response::builder(), body).expect_err("a failure")
}

#[test]
fn several_outputs_are_an_object_by_their_names() {
    let function = several(&[
        json!({"type": "queue", "direction": "out", "name": "q"}),
        json!({"type": "blob", "direction": "out", "name": "b"}),
        json!({"type": "cosmosDB", "direction": "out", "name": "d"}),
        json!({"type": "queue", "direction": "out", "name": "none"}),
    ]);
    let body = br#"{"q": ["one", {"base64": "/wA="}, {"a": 1.0}], "b": "test", "d": [{"n":1.0}], "none": null}"#;
    let sent = answer(&function, Response::builder().header("content-type", OUTPUTS), body).expect("an answer");
    let text = String::from_utf8(sent.body.to_vec()).expect("text");
    assert!(text.contains(r#""d":[{"n":1.0}]"#), "{text}");
    let b64 = |bytes: &[u8]| STANDARD.encode(bytes);
    let outputs = &said(&function, OUTPUTS, body)["Outputs"];
    assert_eq!(outputs["q"], json!([b64(b"one"), "/wA=", b64(b"{\"a\": 1.0}")]));
    assert_eq!((&outputs["b"], outputs.get("none")), (&json!(b64(b"test")), None));
    for (body, words) in [
        ("[]", "no JSON object by the names"),
        (r#"{"x": "1"}"#, "the answer names the output \"x\", but function.json has"),
        (r#"{"q": "1", "q": "2"}"#, "names the output \"q\" twice"),
        (r#"{"q": 5}"#, "output \"q\" of type queue takes a text"),
        (r#"{"q": {"base64": "no!"}}"#, "output \"q\" of type queue has a base64 that is none"),
        (r#"{"b": ["1"]}"#, "output \"b\" of type blob takes one value, not a list"),
        (r#"{"d": true}"#, "output \"d\" of type cosmosDB takes an object"),
    ] {
        let why = answer(&function, Response::builder().header("content-type", OUTPUTS), body.as_bytes());
        assert!(why.as_ref().is_err_and(|why| why.contains(words)), "{why:?}");
    }
    assert!(answer_fails(&function, b"for whom?").contains("it is not clear for which"));
}

#[test]
fn d15_9_only_one_word_rejects() {
    let outputs =
        json!([{"type": "queueTrigger", "name": "m"}, {"type": "queue", "direction": "out", "name": "poison"}]);
    let plain = bound(outputs.clone());
    let keeping = function("f", &json!({ "bindings": outputs }), |event| event.rejected = Some("poison".to_owned()));
    let with = |function: &Function, status: u16, word: &str| {
        answer(function, Response::builder().status(status).header("x-flexwasm-disposition", word), b"answer")
    };
    let rejected = with(&plain, 200, "reject").expect("success");
    assert!(rejected.rejected && rejected.body == r#"{"Outputs":{},"Logs":["said"]}"#);
    let kept = with(&keeping, 200, "reject").expect("success");
    assert!(String::from_utf8_lossy(&kept.body).contains(&STANDARD.encode("the payload")));
    for (status, word) in [(500, "reject"), (200, "REJECT"), (200, "rubbish"), (422, "reject")] {
        assert!(with(&plain, status, word).is_err(), "{status} {word}");
    }
    for status in [301, 404, 422, 500] {
        assert!(answer(&plain, Response::builder().status(status), b"").is_err());
    }
}

#[test]
fn j5_the_answer_to_a_wrapped_request_is_res() {
    let function = bound(json!([
        {"type": "httpTrigger", "name": "req"}, {"type": "http", "direction": "out", "name": "res"},
        {"type": "queue", "direction": "out", "name": "q"},
    ]));
    let response = Response::builder().status(404).header("content-length", "9").header("x-a", "1").header("x-a", "2");
    let plain = answer(&function, response, "é".as_bytes()).expect("an answer");
    let plain: Value = serde_json::from_slice(&plain.body).expect("JSON");
    let headers = json!({"x-a": "1, 2", "content-type": "text/plain; charset=utf-8"});
    assert_eq!(plain["Outputs"], json!({"res": {"statusCode": 404, "headers": headers, "body": "é"}}));
    let cookies = Response::builder().header("set-cookie", "a").header("set-cookie", "b");
    for failed in [answer(&function, cookies, b""), answer(&function, Response::builder(), &[0xff])] {
        assert!(failed.as_ref().is_err_and(|why| why.contains("enableProxyingHttpRequest")), "{failed:?}");
    }
    let written = |body: &str| said(&function, OUTPUTS, body.as_bytes())["Outputs"].clone();
    let both = written(
        r#"{"q": "hi", "res": {"status": "202", "headers": {"Content-Type": "a/b", "n": 5}, "body": {"a": 1.0}}}"#,
    );
    assert_eq!(both["q"], json!("aGk="));
    assert_eq!(
        both["res"],
        json!({"statusCode": 202, "headers": {"content-type": "a/b", "n": "5"}, "body": "{\"a\": 1.0}"})
    );
    assert_eq!(written(r#"{"q": "hi"}"#)["res"]["statusCode"], json!(200));
    for body in [
        r#"{"res": "x"}"#,
        r#"{"res": {"statusCode": 99}}"#,
        r#"{"res": {"headers": {"a": null}}}"#,
        r#"{"res": {"headers": {"a": "b\r\nc"}}}"#,
        r#"{"res": {"headers": {"a b": "c"}}}"#,
    ] {
        let failed = answer(&function, Response::builder().header("content-type", OUTPUTS), body.as_bytes());
        assert!(failed.as_ref().is_err_and(|why| why.contains("\"res\"")), "{failed:?}");
    }
}

#[test]
fn an_answer_in_azures_json_is_checked() {
    let bindings = json!([{"type": "queueTrigger", "name": "m"}, {"type": "queue", "direction": "out", "name": "q"}]);
    let function = function("f", &json!({ "bindings": bindings }), |event| event.mode = Mode::Envelope);
    let body = br#"{"outputs": {"q": 1.0}, "Logs": ["a", 5], "ReturnValue": {"x": {}}}"#;
    let sent = answer(&function, Response::builder(), body).expect("an answer");
    assert_eq!(sent.body, r#"{"Outputs":{"q": 1.0},"ReturnValue":{"x": {}},"Logs":["a","5","said"]}"#);
    assert_eq!(answer(&function, Response::builder(), b"{}").expect("an answer").body, r#"{"Logs":["said"]}"#);
    for body in [
        "",
        "null",
        "[]",
        r#"{"Outputs": {"x": 1}}"#,
        r#"{"Outputs": []}"#,
        r#"{"Logs": "a"}"#,
        r#"{"Logs": [{}]}"#,
        r#"{"Output": {}}"#,
    ] {
        assert!(answer(&function, Response::builder(), body.as_bytes()).is_err(), "{body}");
    }
}
