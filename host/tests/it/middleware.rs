//! Components in front of a guest: in which order they see requests, what each is granted, and what is said of one that does not fit.

use crate::support::{App, Host, eventually, flexwasm, get, guests, output};
use std::fs;

/// A function of WASI 0.3 that echoes, behind these entries of `guest.middleware`, with all of their files there.
fn behind(entries: &str, grants: &str) -> App {
    let settings = format!(r#"{{"guest": {{"middleware": {entries}}}, "grants": {{"env": {grants}}}}}"#);
    let app = App::new("{}").routed("f", guests::P3_ECHO, ANYBODY, &settings).function("neighbour", guests::COUNTER);
    let part = fs::read(guests::P3_PART).unwrap();
    ["first", "second", "third"].into_iter().fold(app, |app, name| app.file(&format!("f/{name}.wasm"), &part))
}

const ANYBODY: &str = r#""authLevel": "anonymous""#;

const CHAIN: &str = r#"[
    {"file": "first.wasm", "grants": {"env": ["NAME"]}},
    "second.wasm",
    {"file": "third.wasm", "grants": {"env": ["OTHER"]}}
]"#;

fn start(app: &App) -> Host {
    app.start_with(&[("NAME", "first"), ("OTHER", "third"), ("SECRET", "of the guest")])
}

fn check(app: &App) -> String {
    let mut command = flexwasm();
    command.arg("check").arg(app.path()).envs([("NAME", "first"), ("OTHER", "third"), ("SECRET", "x")]);
    let (status, _, stderr) = output(command);
    assert_eq!(status.code(), Some(1), "{stderr}");
    stderr
}

#[test]
fn a_chain_sees_requests_in_order_and_each_has_its_own_grants() {
    let app = behind(CHAIN, r#"["SECRET"]"#);
    let host = start(&app);
    let body = vec![7; 1 << 20];
    let head = format!("POST /api/f HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n", body.len());
    let answer = host.connect().ask([head.as_bytes(), &body].concat());
    assert_eq!((answer.status, answer.body.len()), (200, body.len()));
    // The answer passes the innermost first. None sees what another is granted, nor what the guest is.
    assert_eq!(answer.headers("x-via"), ["third [OTHER] false", "nobody [] false", "first [] false"]);
    for name in ["first", "nobody", "third"] {
        assert_eq!(host.get(&format!("/api/f?stop={name}")).text(), format!("stopped at {name}"));
    }
    for name in ["first", "nobody", "third"] {
        assert_eq!(host.get(&format!("/api/f?trap={name}")).status, 500);
    }
    assert_eq!(host.get("/api/neighbour").text(), "1");
}

#[test]
fn a_part_sends_requests_by_its_own_grants_alone() {
    let target = App::new("{}").function("counter", guests::COUNTER).start();
    let authority = format!("127.0.0.1:{}", target.port);
    let entries = CHAIN.replace(r#"["NAME"]}"#, &format!(r#"["NAME"], "hosts": ["http://{authority}"]}}"#));
    let app = behind(&entries, r#"["SECRET"]"#);
    let host = start(&app);
    let ask = |name: &str| {
        let request = get(&format!("/api/f?ask={name}"));
        host.connect().ask(request.replacen("\r\n", &format!("\r\nx-ask: {authority}\r\n"), 1)).text()
    };
    assert_ne!(ask("first"), "ErrorCode::HttpRequestDenied");
    assert_eq!(ask("first"), "200");
    assert_eq!(ask("third"), "ErrorCode::HttpRequestDenied");
    host.line(&["grants.hosts of third.wasm does not name"]);
}

#[test]
fn a_guest_of_0_2_has_middleware_too() {
    let settings = r#"{"guest": {"middleware": ["part.wasm"]}, "grants": {"env": ["SECRET"]}}"#;
    let app = App::new("{}").routed("f", guests::ENV, ANYBODY, settings);
    let app = app.file("f/part.wasm", &fs::read(guests::PART).unwrap());
    let host = start(&app);
    assert!(host.get("/api/f").text().starts_with("SECRET=of the guest\n"));
    let line = host.line(&["in front:"]);
    assert!(!line.contains("SECRET"), "{line}");
    assert_eq!(host.get("/api/f?stop").status, 401);
}

/// The part with other bytes: so many custom sections without name and content.
fn other(sections: usize) -> Vec<u8> {
    [fs::read(guests::P3_PART).unwrap(), [0, 1, 0].repeat(sections)].concat()
}

#[test]
fn a_part_is_replaced_alone_and_rolled_back_with_the_whole() {
    let app = behind(CHAIN, "[]");
    let host = start(&app);
    assert_eq!(host.get("/api/f?stop=third").text(), "stopped at third");
    fs::write(app.path().join("f/third.wasm"), other(1)).unwrap();
    host.line(&["swapped: generation 2", "third.wasm", "in place of generation 1"]);
    assert_eq!(host.get("/api/f?stop=third").text(), "stopped at third");

    let staged = app.path().join("other.wasm");
    fs::write(&staged, other(2)).unwrap();
    let swap = |part: &str| {
        let mut command = flexwasm();
        command.arg("swap").arg("f").arg(&staged).args(["--part", part, "--app"]).arg(app.path());
        output(command)
    };
    let (status, _, stderr) = swap("first.wasm");
    assert_eq!(status.code(), Some(0), "{stderr}");
    host.line(&["swapped: generation 3", "first.wasm"]);
    let (status, _, stderr) = swap("fourth.wasm");
    assert_eq!(status.code(), Some(1));
    assert!(stderr.contains("has no part fourth.wasm: name one of first.wasm, second.wasm, third.wasm"), "{stderr}");
    // What does not fit leaves everything as it was.
    fs::copy(guests::P3_ECHO, &staged).unwrap();
    let (status, _, stderr) = swap("first.wasm");
    assert_eq!(status.code(), Some(1));
    assert!(stderr.contains("first.wasm does not import wasi:http/handler@0.3.x"), "{stderr}");
    assert_eq!(host.get("/api/f?stop=first").text(), "stopped at first");
    let mut command = flexwasm();
    command.args(["rollback", "f", "--app"]).arg(app.path());
    assert_eq!(output(command).0.code(), Some(0));
    host.line(&["swapped: generation 4", "in place of generation 3"]);
}

#[test]
fn what_does_not_fit_is_named() {
    let with = |name: &str, content: &[u8]| check(&behind(CHAIN, "[]").file(&format!("f/{name}"), content));
    for (content, words) in [
        (
            fs::read(guests::P3_ECHO).unwrap(),
            "second.wasm does not import wasi:http/handler@0.3.x, by which it would pass requests on to third.wasm",
        ),
        // The wrong version.
        (fs::read(guests::PART).unwrap(), "second.wasm does not import wasi:http/handler@0.3.x"),
        (b"rubbish".to_vec(), "guest.middleware: second.wasm is not a WebAssembly component"),
    ] {
        let stderr = with("second.wasm", &content);
        assert!(stderr.contains(words), "{stderr}");
    }
    for (entries, words) in [
        (r#"["missing.wasm"]"#, "guest.middleware: missing.wasm cannot be read (No such file"),
        (r#"["first.wasm", {"file": "first.wasm"}]"#, "stands in guest.middleware twice"),
        (r#"[7]"#, "must be a file, or an object"),
        (r#"[{"grants": {}}]"#, "has an entry without a file"),
        (r#"[{"file": "first.wasm", "grant": {"env": []}}]"#, "unknown key"),
        (r#"[{"file": "first.wasm", "limits": {"memory": "1MiB"}}]"#, "is for the whole function"),
        (r#"[{"file": "first.wasm", "grants": {"env": ["MISSING"]}}]"#, "there is no app setting of this name"),
        (r#""first.wasm""#, "must be a list of files"),
    ] {
        let stderr = check(&behind(entries, "[]"));
        assert!(stderr.contains(words), "{entries}: {stderr}");
    }
    // The neighbour serves.
    let app = behind(r#"["missing.wasm"]"#, "[]");
    let host = start(&app);
    assert_eq!((host.get("/api/f").status, host.get("/api/neighbour").status), (503, 200));
    // What was missing comes.
    fs::write(app.path().join("f/missing.wasm"), fs::read(guests::P3_PART).unwrap()).unwrap();
    eventually("the function serves", || host.get("/api/f").status == 200);
    assert_eq!(host.get("/api/f").headers("x-via"), ["nobody [] false"]);
}
