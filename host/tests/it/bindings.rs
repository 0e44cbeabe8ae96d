//! `flexwasm:host/bindings`: what a guest reads and sets beside its request and its answer.

use crate::functions_host::deliver;
use crate::support::{App, Host, guests};
use serde_json::{Value, json};
use std::fs;

/// Adds a function with the guest that does as its payload says.
fn function(app: App, name: &str, bindings: &Value) -> App {
    let file = json!({"scriptFile": "guest.wasm", "bindings": bindings}).to_string();
    app.function_json(name, &file).file(&format!("{name}/guest.wasm"), &fs::read(guests::BINDINGS).unwrap())
}

/// A function of a queue with inputs and outputs of several kinds.
fn orders(settings: &str) -> Host {
    let bindings = json!([
        {"type": "queueTrigger", "direction": "in", "name": "order", "queueName": "orders"},
        {"type": "blob", "direction": "in", "name": "terms", "path": "terms/{id}"},
        {"type": "blob", "direction": "in", "name": "photo", "path": "photos/{id}", "dataType": "binary"},
        {"type": "queue", "direction": "out", "name": "copies", "queueName": "copies"},
        {"type": "blob", "direction": "out", "name": "receipt", "path": "receipts/{id}"},
        {"type": "cosmosDB", "direction": "out", "name": "document"},
    ]);
    function(App::new(settings), "Orders", &bindings).start()
}

/// Sends an envelope, and returns what Azure is told and the lines of the guest.
fn send(host: &Host, name: &str, envelope: &Value) -> (Value, Vec<String>) {
    let answer = deliver(host, name, &envelope.to_string());
    assert_eq!(answer.status, 200, "{}", answer.text());
    let mut told: Value = serde_json::from_slice(&answer.body).unwrap();
    let lines = serde_json::from_value(told["Logs"].take()).unwrap();
    (told["Outputs"].take(), lines)
}

/// An order whose lines the guest follows; `terms` is what came of that input.
fn order(lines: &[&str], terms: Option<&Value>) -> Value {
    let mut data = json!({"order": json!(lines.join("\n")).to_string(), "photo": "AP8="});
    if let Some(terms) = terms {
        data["terms"] = terms.clone();
    }
    let metadata =
        json!({"Id": "\"m1\"", "DequeueCount": "2", "InsertionTime": "2026-04-20T00:00:00Z", "sys": {"x": 1}});
    json!({"Data": data, "Metadata": metadata})
}

#[test]
fn a_guest_reads_its_trigger_and_its_inputs() {
    let host = orders("{}");
    let (outputs, lines) = send(&host, "Orders", &order(&["trigger", "input photo", "input none"], None));
    assert_eq!(outputs, json!({}));
    let expected = [
        r#"Some(("order", "queueTrigger"))"#,
        r#"DequeueCount: Value::Json("2")"#,
        r#"Id: Value::Text("m1")"#,
        r#"InsertionTime: Value::Text("2026-04-20T00:00:00Z")"#,
        r#"sys: Value::Json("{\"x\":1}")"#,
        "Some(Value::Bytes([0, 255]))",
        r#"unknown name: there is no input "none": beside its trigger function.json has the inputs ["terms", "photo"]"#,
    ];
    assert_eq!(lines, expected);
    for (terms, seen) in [
        (None, "None"),
        // A blob that does not exist.
        (Some(json!("null")), "Some(Value::Null)"),
        (Some(json!(null)), "Some(Value::Null)"),
        (Some(json!("\"\"")), r#"Some(Value::Text(""))"#),
        (Some(json!("\"null\"")), r#"Some(Value::Text("null"))"#),
        (Some(json!("\"\\\"q\\\"\"")), r#"Some(Value::Text("\"q\""))"#),
        (Some(json!("[1.0]")), r#"Some(Value::Json("[1.0]"))"#),
        (Some(json!({"a": 1})), r#"Some(Value::Json("{\"a\":1}"))"#),
    ] {
        assert_eq!(send(&host, "Orders", &order(&["input terms"], terms.as_ref())).1, [seen], "{terms:?}");
    }
}

#[test]
fn a_guest_sets_its_outputs_one_by_one() {
    let host = orders("{}");
    let lines = ["messages copies a bc", "text receipt test", "json document {\"a\": 1.0}", "answer is no output then"];
    let (outputs, printed) = send(&host, "Orders", &order(&lines, None));
    assert_eq!(printed, [""; 0]);
    assert_eq!(outputs, json!({"copies": ["YQ==", "YmM="], "receipt": "dGVzdA==", "document": {"a": 1.0}}));
    let (outputs, _) = send(&host, "Orders", &order(&["zeros copies 3", "null receipt", "text document t"], None));
    assert_eq!(outputs, json!({"copies": "AAAA", "document": "t"}));
}

#[test]
fn a_value_that_an_output_does_not_take_is_refused_with_names() {
    let host = orders(r#"{"limits": {"requestBody": "64KiB"}}"#);
    let lines = [
        "text copy x",
        "messages receipt a b",
        "json copies {",
        "zeros document 1",
        "json document 5",
        "zeros copies 65537",
        "text copies a",
        "text copies b",
    ];
    let (outputs, refused) = send(&host, "Orders", &order(&lines, None));
    assert_eq!(outputs, json!({"copies": "YQ=="}));
    let expected = [
        r#"unknown name: the answer names the output "copy", but function.json has ["copies", "receipt", "document"]"#,
        r#"wrong kind: output "receipt" of type blob takes one value, not several messages"#,
        r#"wrong kind: output "copies" of type queue was given JSON that is none: "{""#,
        r#"wrong kind: output "document" of type cosmosDB takes JSON or a text, not bytes"#,
        r#"wrong kind: output "document" of type cosmosDB takes an object, a list or a text: "5""#,
        "too large: output \"copies\" has 65537 bytes, and all outputs of an invocation together may have 65536: raise \
         limits.responseBody",
        r#"set twice: output "copies" has a value already"#,
    ];
    assert_eq!(refused, expected);
}

#[test]
fn an_http_function_with_more_bindings_sets_its_outputs_beside_its_response() {
    let bindings = json!([
        {"type": "httpTrigger", "direction": "in", "name": "req"},
        {"type": "http", "direction": "out", "name": "res"},
        {"type": "queue", "direction": "out", "name": "copies", "queueName": "copies"},
    ]);
    let app = function(App::new("{}"), "Intake", &bindings).function("plain", guests::BINDINGS);
    let host = app.start();
    let body = "text res x\ntext copies hi\ntrigger\nanswer hello";
    let request =
        json!({"Url": "http://app.example/api/Intake?code=SECRET", "Method": "POST", "Headers": {}, "Body": body});
    let metadata =
        json!({"code": "\"SECRET\"", "Query": {"code": "SECRET", "a": "1"}, "Headers": {"x-functions-key": "SECRET"}});
    let (outputs, lines) = send(&host, "Intake", &json!({"Data": {"req": request}, "Metadata": metadata}));
    assert_eq!((&outputs["copies"], &outputs["res"]["body"]), (&json!("aGk="), &json!("hello")));
    let expected = [
        r#"wrong kind: output "res" of type http is the guest's answer: give it status, headers and body"#,
        r#"Some(("req", "httpTrigger"))"#,
        r#"Headers: Value::Json("{}")"#,
        r#"Query: Value::Json("{\"a\":\"1\"}")"#,
    ];
    assert_eq!(lines, expected);

    // A plain one has none.
    host.connect().ask("POST /api/plain HTTP/1.1\r\nHost: a\r\nContent-Length: 21\r\n\r\ntrigger\ntext copies hi");
    host.line(&[" guest: ", "\"None\"", "function=plain"]);
    host.line(&["unknown name: this invocation has no bindings", "function=plain"]);
}

#[test]
fn an_instance_that_is_used_again_forgets_the_bindings_of_the_last_invocation() {
    let host = orders(r#"{"pool": {"size": 1, "reuse": 10}}"#);
    for text in ["one", "two"] {
        let set = format!("text copies {text}");
        let (outputs, lines) =
            send(&host, "Orders", &order(&[&set, "input terms"], Some(&json!(json!(text).to_string()))));
        assert_eq!(outputs["copies"], json!(if text == "one" { "b25l" } else { "dHdv" }));
        assert_eq!(lines, [format!("Some(Value::Text({text:?}))")]);
    }
}
