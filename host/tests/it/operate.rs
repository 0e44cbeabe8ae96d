//! What operators see and change of a running host, over its socket and over a port of this machine.

use crate::support::{App, Host, SECRET, flexwasm, get, guests, output, repository};
use crate::swap::socket;
use crate::telemetry::{metrics, sample};
use serde_json::{Value, json};
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

/// What the socket says of the pool.
pub fn pool(app: &App) -> Value {
    ask(UnixStream::connect(socket(app.path())).unwrap(), "GET /pool", "", "").1
}

/// Sends one request, and returns the head of the answer with its document.
fn ask(mut stream: impl Read + Write, request: &str, headers: &str, body: &str) -> (String, Value) {
    let length = body.len();
    let head =
        format!("{request} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{headers}Content-Length: {length}");
    stream.write_all(format!("{head}\r\n\r\n{body}").as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.contains("content-type: application/json"), "{head}");
    (head.to_owned(), serde_json::from_str(body).unwrap())
}

fn status(head: &str) -> &str {
    head.split(' ').nth(1).unwrap()
}

#[test]
fn pool_and_functions_are_shown_as_they_are_now() {
    let app = App::new(r#"{"pool": {"size": 3, "reuse": 10}}"#)
        .function("busy", guests::SLEEP)
        .function("broken", guests::COUNTER)
        .file("broken/guest.wasm", b"garbage")
        .routed("shared", guests::COUNTER, r#""authLevel": "anonymous""#, r#"{"pool": {"share": "50%"}}"#);
    let host = app.start();
    let see = |path: &str| {
        let (head, document) = ask(UnixStream::connect(socket(app.path())).unwrap(), &format!("GET {path}"), "", "");
        assert_eq!(status(&head), "200", "{head}");
        document
    };
    assert_eq!(see("/pool"), json!({ "size": 3, "busy": 0, "parked": 0, "waiting": 0, "slots": [] }));
    let mut running = host.connect();
    running.write(get("/api/busy?ms=60000"));
    crate::support::eventually("one runs", || see("/pool")["slots"][0]["state"] == "head");
    assert_eq!(host.get("/api/shared").status, 200);
    crate::support::eventually("one runs, and one is parked", || {
        let pool = see("/pool");
        (&pool["busy"], &pool["parked"], &pool["waiting"]) == (&json!(1), &json!(1), &json!(0))
    });
    let pool = see("/pool");
    let slot = |number: usize| {
        let mut slot = pool["slots"][number].clone();
        assert!(slot["age_ms"].take().as_f64().unwrap() > 0.0, "{pool}");
        slot
    };
    let expected = |number, state, function, instance| {
        json!({
            "slot": number, "state": state, "function": function, "generation": 1, "instance": instance, "age_ms": null,
        })
    };
    assert_eq!(slot(0), expected(0, "head", "busy", 1));
    assert_eq!(slot(1), expected(1, "parked", "shared", 2));

    let functions = see("/functions");
    let one = |name: &str| {
        let all = functions["functions"].as_array().unwrap();
        assert_eq!(all.len(), 3, "{functions}");
        all.iter().find(|function| function["name"] == name).unwrap().clone()
    };
    let shared = one("shared");
    let digest = shared["digest"].as_str().unwrap();
    assert_eq!((digest.len(), &shared["state"], &shared["generation"]), (64, &json!("serving"), &json!(1)));
    assert_eq!((&shared["share"], &shared["problem"]), (&json!("50%"), &Value::Null));
    let broken = one("broken");
    assert_eq!(
        (&broken["state"], &broken["generation"], &broken["digest"]),
        (&json!("broken"), &Value::Null, &Value::Null)
    );
    assert!(broken["problem"].as_str().unwrap().contains("is not a WebAssembly component"), "{broken}");
}

/// An app with a function and the example's view.
pub fn viewed() -> App {
    let view = fs::read_to_string(repository().join("examples/view/function.json")).unwrap();
    App::new("{}").function("counter", guests::COUNTER).function_json("view", &view)
}

#[test]
fn top_shows_the_same_in_a_terminal() {
    let app =
        App::new(r#"{"pool": {"size": 3}}"#).function("busy", guests::SLEEP).function("traps", guests::TRAP_BEFORE);
    let host = app.start();
    let top = || {
        let mut command = flexwasm();
        command.arg("top").current_dir(app.path());
        output(command)
    };
    // A custom handler takes notes from now on.
    let (status, stdout, stderr) = top();
    assert!(status.success() && stdout.contains("0 of 3 running"), "{stdout}{stderr}");
    let mut running = host.connect();
    running.write(get("/api/busy?ms=60000"));
    // Whichever is admitted first has the first slot.
    crate::support::eventually("it has the first slot", || {
        let said = top().1;
        said.contains("1 of 3 running") && said.contains("█··")
    });
    assert_eq!(host.get("/api/traps").status, 500);
    crate::support::eventually("the failure is shown", || top().1.contains("traps: faulted trapped: "));
    drop(running);
    drop(host);
    let (status, _, stderr) = top();
    assert_eq!(status.code(), Some(1));
    assert!(stderr.contains("no host of this app runs here"), "{stderr}");
}

#[test]
fn a_function_without_a_guest_shows_the_pool_to_whom_the_functions_host_lets_in() {
    let app = viewed();
    let host = app.start();
    let page = host.get("/api/view?code=hush");
    assert_eq!((page.status, page.header("content-type")), (200, Some("text/html; charset=utf-8")));
    assert!(page.text().contains(r#""feed":"questions""#) && !page.text().contains("hush"), "{}", page.text());
    let report = |since: &str| {
        let answer = host.connect().ask(get(&format!("/api/view?since={since}")).replacen(
            "\r\n\r\n",
            // A stream would last, so there is none.
            "\r\nAccept: application/json, text/event-stream\r\n\r\n",
            1,
        ));
        serde_json::from_str::<Value>(&answer.text()).unwrap()
    };
    let first = report("");
    // It takes notes from the first question on, and lists no function that has no guest.
    assert_eq!(host.get("/api/counter").text(), "1");
    let next = first["next"].as_str().unwrap();
    crate::support::eventually("the request is told", || report(next)["ended"][0][1] == "counter");
    assert_eq!(first["functions"].as_array().unwrap().len(), 1, "{first}");
    let answer = host.connect().ask(crate::support::post("/api/view", "x"));
    assert_eq!((answer.status, answer.header("allow")), (405, Some("GET")));
    assert!(!report("").to_string().contains(SECRET));

    // Every command takes it as it is.
    for (arguments, words) in [
        (&["check"][..], "builtin                        view"),
        (&["explain"], "function view: no guest, the host answers by itself (flexwasm.builtin view)"),
        (&["explain", "--json"], r#""builtin": "view""#),
    ] {
        let mut command = flexwasm();
        command.args(arguments).current_dir(app.path());
        let (status, stdout, stderr) = output(command);
        assert_eq!((status.code(), stderr.as_str()), (Some(0), ""), "{arguments:?}");
        let told = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(stdout.lines().any(|line| told(line).starts_with(&told(words))), "{arguments:?}: {stdout}");
    }
}

#[test]
fn the_log_is_given_another_level_while_the_host_runs() {
    let app = App::new("{}").function("only", guests::COUNTER);
    let host = app.start();
    let set = |body: &str| ask(UnixStream::connect(socket(app.path())).unwrap(), "PUT /log-level", "", body);
    let level = |level: &str| {
        let document = json!({ "level": level });
        let (head, said) = set(&document.to_string());
        assert_eq!((status(&head), &said), ("200", &document));
        assert_eq!(ask(UnixStream::connect(socket(app.path())).unwrap(), "GET /log-level", "", "").1, document);
    };
    level("error");
    assert_eq!(host.get("/api/only?first").status, 200);
    // Its line would come before it is counted.
    crate::support::eventually("it is over", || {
        sample(&metrics(&app, "*/*").1, "faas_invocations_total{faas_name=\"only\"") == 1.0
    });
    level("debug");
    assert_eq!(host.get("/api/only?second").status, 200);
    host.line(&[" invocation: ", "generation=1"]);
    assert_eq!(host.log().iter().filter(|line| line.contains(" invocation: ")).count(), 1);
    // Made beside the old one.
    let new = [&fs::read(guests::COUNTER).unwrap()[..], &[0, 2, 1, b'x']].concat();
    fs::write(app.path().join("new.wasm"), new).unwrap();
    let mut swap = flexwasm();
    swap.args(["swap", "only", "new.wasm"]).current_dir(app.path());
    assert!(output(swap).0.success());
    host.line(&["DEBUG startup: ", "trial of only"]);

    for wrong in ["", "debug", r#"{"level": "loud"}"#, r#"{"level": 1}"#] {
        let (head, said) = set(wrong);
        let words = "level must be \"error\", \"warn\", \"info\" or \"debug\", as in {\"level\": \"debug\"}";
        assert_eq!((status(&head), said), ("400", json!({ "error": words })), "{wrong}");
    }
    let (head, said) = set(&"x".repeat(2000));
    assert_eq!((status(&head), said), ("413", json!({ "error": "the body is larger than 1024 bytes" })));
    assert_eq!(
        ask(UnixStream::connect(socket(app.path())).unwrap(), "GET /log-level", "", "").1,
        json!({ "level": "debug" })
    );
}

#[test]
fn what_is_asked_wrongly_is_answered_with_a_sentence() {
    let app = App::new("{}").function("only", guests::COUNTER);
    let _host = app.start();
    for (request, code, allow, words) in [
        ("POST /pool", "405", Some("GET"), "this path answers GET"),
        ("DELETE /log-level", "405", Some("GET, PUT"), "this path answers GET, PUT"),
        ("GET /swap/only", "405", Some("POST"), "this path answers POST"),
        ("GET /", "404", None, "the host does not know this request: use the same version of flexwasm"),
        ("GET /pool/1", "404", None, "the host does not know this request: use the same version of flexwasm"),
        ("POST /rollback/absent", "404", None, "there is no function absent: name one of only"),
        ("POST /rollback/only", "409", None, "function only has had no other guest since the host started"),
    ] {
        let (head, said) = ask(UnixStream::connect(socket(app.path())).unwrap(), request, "", "");
        assert_eq!((status(&head), said), (code, json!({ "error": words })), "{request}");
        let allowed = head.lines().find_map(|line| line.strip_prefix("allow: "));
        assert_eq!(allowed, allow, "{request}: {head}");
    }
}

/// A host of `flexwasm serve` that answers operators at a port, with that port and the file of its token.
fn operated(folder: &Path) -> (Host, u16, PathBuf) {
    let mut command = flexwasm();
    command.args(["serve", guests::COUNTER, "--listen", "127.0.0.1:0", "--operate", "localhost:0"]).current_dir(folder);
    let host = Host::announced(command);
    let line = host.line(&["operators are answered at 127.0.0.1:"]);
    let rest = line.split("answered at 127.0.0.1:").nth(1).unwrap();
    let (port, token) = rest.split_once(" with the token in ").unwrap();
    (host, port.parse().unwrap(), token.into())
}

#[test]
fn a_port_reveals_nothing_without_its_token() {
    let folder = tempfile::tempdir().unwrap();
    let (mut host, port, file) = operated(folder.path());
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(file, socket(folder.path()).with_extension("token"));
    let token = fs::read_to_string(&file).unwrap();
    assert!(!host.log().iter().any(|line| line.contains(&token)), "the log tells the token");

    let asked =
        |request: &str, headers: &str| ask(TcpStream::connect(("127.0.0.1", port)).unwrap(), request, headers, "");
    let wrong = [String::new(), "Authorization: Bearer 0\r\n".to_owned(), format!("Authorization: Basic {token}\r\n")];
    for headers in &wrong {
        for request in
            ["GET /pool", "GET /functions", "POST /rollback/serve", "PUT /log-level", "GET /nothing", "PUT /pool"]
        {
            let (head, said) = asked(request, headers);
            let words = "this port answers only requests with its token, as Authorization: Bearer TOKEN";
            assert_eq!((status(&head), said), ("401", json!({ "error": words })), "{request} {headers}");
            assert!(head.contains("www-authenticate: Bearer") && !head.contains("allow: "), "{head}");
        }
    }
    let with = format!("Authorization: Bearer {token}\r\n");
    let (head, said) = asked("GET /pool", &with);
    assert_eq!((status(&head), &said["size"]), ("200", &json!(said["size"].as_u64().unwrap())), "{head}");
    assert_eq!(status(&asked("GET /nothing", &with).0), "404");
    // The socket is its user's own, and asks for none.
    assert_eq!(ask(UnixStream::connect(socket(folder.path())).unwrap(), "GET /pool", "", "").1, said);
    assert!(!said.to_string().contains(SECRET));

    host.signal("TERM");
    assert_eq!(host.exit_code(), 0);
    assert!(!file.exists() && !socket(folder.path()).exists(), "nobody answers there any more");
}

#[test]
fn a_port_that_others_can_reach_or_that_is_taken_is_refused() {
    let app = App::new("{}").function("only", guests::COUNTER);
    let run = |arguments: &[&str]| {
        let mut command = flexwasm();
        command.args(arguments).current_dir(app.path());
        let (status, _, stderr) = output(command);
        (status.code(), stderr)
    };
    for address in ["0.0.0.0:0", "[::]:0", "192.0.2.1:80", "[::ffff:127.0.0.1]:80"] {
        for arguments in [&["--operate", address][..], &["serve", guests::COUNTER, "--operate", address]] {
            let (code, said) = run(arguments);
            assert_eq!(code, Some(2), "{said}");
            assert!(said.contains("write an address of this machine alone, such as 127.0.0.1:7072"), "{said}");
        }
    }
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let (code, said) = run(&["--listen", "127.0.0.1:0", "--operate", &address]);
    assert_eq!(code, Some(1));
    assert!(said.starts_with("flexwasm: --operate: ") && said.contains("address already in use"), "{said}");
}
