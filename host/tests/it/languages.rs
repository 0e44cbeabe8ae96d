//! The demonstration in Rust, JavaScript and Python, one after the other in one running process; and what else the examples
//! in other languages show.

use crate::support::{App, Host, Response, get, guests, post, repository};
use crate::swap::tell;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// The guest in another language, as `cargo xtask guest` builds it.
fn built(language: &str) -> PathBuf {
    let file = repository().join(format!("target/examples/guest-{language}.wasm"));
    assert!(file.exists(), "the guest is not built: run `cargo xtask guest {language}`");
    file
}

/// The names of all fields, and of what kind each is.
fn fields(path: &str, value: &Value, found: &mut BTreeMap<String, &'static str>) {
    let kind = match value {
        Value::Null => "nothing",
        Value::Bool(_) => "truth",
        Value::Number(_) => "number",
        Value::String(_) => "text",
        Value::Array(_) => "list",
        Value::Object(members) => {
            members.iter().for_each(|(name, member)| fields(&format!("{path}/{name}"), member, found));
            "object"
        }
    };
    found.insert(path.to_owned(), kind);
}

fn json(answer: &Response) -> Value {
    serde_json::from_slice(&answer.body).unwrap_or_else(|error| panic!("{error}: {}", answer.text()))
}

/// What must not depend on the language: status, fields and their kinds, errors to the letter.
fn face(host: &Host) -> Vec<String> {
    let mut face = Vec::new();
    for target in ["?name=Ada%20L&delay=0.01&name=B", "", "?name=", "?delay=2.50&x=%zz"] {
        let answer = host.get(&format!("/api/only{target}"));
        let (receipt, mut found) = (json(&answer), BTreeMap::new());
        fields("", &receipt, &mut found);
        let (message, delay) = (&receipt["message"], receipt["timing"]["requested_delay_seconds"].as_f64());
        face.push(format!("{} {:?} {message} {delay:?} {found:?}", answer.status, answer.header("content-type")));
        assert!(receipt["timing"]["elapsed_ms"].as_f64() >= delay.map(|delay| delay * 1e3), "{receipt}");
        let digest = receipt["guest"]["digest"].as_str().unwrap();
        assert!(digest.starts_with(&answer.instance()["digest"]), "{receipt}");
        assert_eq!(receipt["guest"]["generation"].to_string(), answer.instance()["generation"]);
        for end in ["start", "end"] {
            let time = receipt["timing"][end].as_str().unwrap();
            assert!(time.len() == 24 && time.ends_with('Z') && &time[10..11] == "T", "{time}");
        }
    }
    for delay in ["-1", "abc", "", "1e2", "1.5.1", ".5", "NaN", "30", "30.0", "+1", "%C2%B2"] {
        let answer = host.get(&format!("/api/only?delay={delay}"));
        face.push(format!("{} {}", answer.status, json(&answer)));
    }
    let long = format!("{{\"name\": \"{}\"}}", "x".repeat(70_000));
    for body in ["", "{}", r#"{"name": null}"#, r#"{"name": "Grace Ö"}"#, "[]", r#"{"name": 7}"#, &long] {
        let answer = host.connect().ask(post("/api/only", body));
        let answered = json(&answer);
        face.push(format!("{} {} {}", answer.status, answered["message"], answered["error"]));
    }
    // Each parser has words of its own for what is no JSON.
    let answer = host.connect().ask(post("/api/only", "{"));
    face.push(format!("{} {}", answer.status, json(&answer)["error"]["parameter"]));
    face
}

/// Whether requests that sleep overlap, each in an instance of its own.
fn overlaps(host: &Host) {
    let mut callers: Vec<_> = (0..8).map(|_| host.connect()).collect();
    for caller in &mut callers {
        caller.write(crate::support::get("/api/only?delay=1"));
    }
    let receipts: Vec<Value> = callers.iter_mut().map(|caller| json(&caller.response(false))).collect();
    let times = |end: &'static str| receipts.iter().map(move |receipt| receipt["timing"][end].as_str().unwrap());
    assert!(times("start").max() < times("end").min(), "they ran one after the other: {receipts:?}");
}

#[test]
#[ignore = "needs target/examples: cargo xtask test"]
fn one_process_answers_in_three_languages_and_nobody_sees_a_difference() {
    let app =
        App::new(r#"{"pool": {"size": 8}, "limits": {"timeout": "30s"}}"#).function("only", guests::DEMONSTRATION);
    let host = app.start();
    let rust = face(&host);
    overlaps(&host);
    let files = [built("js"), built("js-direct"), built("python"), PathBuf::from(guests::DEMONSTRATION)];
    for (file, generation) in files.iter().zip(2..) {
        // Compiling takes up to a minute where this very guest was never compiled before.
        let (status, said, stderr) = tell(app.path(), &["swap", "only", file.to_str().unwrap()]);
        assert!(status.success(), "{}: {said}{stderr}", file.display());
        assert_eq!(host.get("/api/only").instance()["generation"], generation.to_string());
        let other = face(&host);
        for (expected, found) in rust.iter().zip(&other) {
            assert_eq!(expected, found, "{}", file.display());
        }
        overlaps(&host);
    }
}

#[test]
#[ignore = "needs target/examples: cargo xtask test"]
fn an_instance_in_javascript_serves_as_many_requests_as_reuse_allows() {
    let app = App::new(r#"{"pool": {"reuse": 100}}"#).function("only", guests::DEMONSTRATION);
    let host = app.start();
    let (status, said, stderr) = tell(app.path(), &["swap", "only", built("js-direct").to_str().unwrap()]);
    assert!(status.success(), "{said}{stderr}");
    let served: Vec<_> = (0..101).map(|_| host.get("/api/only").instance()["served"].clone()).collect();
    let expected: Vec<_> = (1..=100).chain([1]).map(|count: u32| count.to_string()).collect();
    assert_eq!(served, expected);
}

#[test]
#[ignore = "needs target/examples: cargo xtask test"]
fn a_guest_with_a_router_routes_and_streams() {
    // Its collector drops the handles of a body's pieces late.
    let settings = r#"{"limits": {"handles": 100000}}"#;
    let app = App::new("{}").routed("only", guests::DEMONSTRATION, r#""route": "{*rest}""#, settings);
    let host = app.start();
    let (status, said, stderr) = tell(app.path(), &["swap", "only", built("js-router").to_str().unwrap()]);
    assert!(status.success(), "{said}{stderr}");
    let answer = host.get("/api/items/7?wanted=now");
    assert_eq!((answer.status, answer.text().as_str()), (200, r#"{"id":"7","wanted":"now"}"#));
    assert_eq!(host.get("/api/nothing").status, 404);
    assert_eq!(host.connect().ask(post("/api/echo", "Ada")).text(), "Ada");
    echoes(&host, "/api/echo");
    // The second line is written after the first has been read.
    let mut client = host.connect();
    client.write(get("/api/count/2"));
    client.response_head();
    assert_eq!(client.chunk().as_deref(), Some(&b"1\n"[..]));
    assert_eq!(client.chunk().as_deref(), Some(&b"2\n"[..]));
    assert_eq!(client.last_chunk_and_trailers(), Vec::<String>::new());
}

#[test]
#[ignore = "needs target/examples: cargo xtask test"]
fn a_guest_in_python_answers_while_it_reads() {
    let app = App::new("{}").function("only", guests::DEMONSTRATION);
    let host = app.start();
    let (status, said, stderr) = tell(app.path(), &["swap", "only", built("python-echo").to_str().unwrap()]);
    assert!(status.success(), "{said}{stderr}");
    echoes(&host, "/api/only");
}

/// Sends bodies from a client that reads nothing before it has sent everything, less and more than the sockets hold.
fn echoes(host: &Host, path: &str) {
    let mut client = host.connect();
    for length in [1 << 20, 8 << 20, 12 << 20, 100 << 20] {
        let body: Vec<u8> = (0..length).map(|at| (at / 7) as u8).collect();
        client.write(format!("POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n"));
        client.write(&body);
        assert!(client.response(false).body == body, "the bytes of {length} are others");
    }
}
