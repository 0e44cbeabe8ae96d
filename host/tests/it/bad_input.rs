//! Configuration, guests and HTTP that cannot work: one clear message each, and nothing else suffers.

use crate::support::{App, component, flexwasm, get, guests, output};
use flexwasm::config::settings::HostPatch;
use flexwasm::config::{AppSettings, Circumstances, Grants, serve};
use flexwasm::observe::machine::Machine;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// Runs `check` on the app and answers what it said on stderr; it must exit with 1.
fn complaint(root: &Path) -> String {
    let mut command = flexwasm();
    command.arg("check").arg(root).env("flexwasm__queue__timeout", "soon");
    complaint_of(command)
}

fn complaint_of(command: std::process::Command) -> String {
    let (status, _, stderr) = output(command);
    assert_eq!(status.code(), Some(1), "{stderr}");
    assert!(!stderr.contains("panicked"), "{stderr}");
    stderr
}

#[track_caller]
fn says(stderr: &str, lines: &[&str]) {
    for line in lines {
        assert!(stderr.lines().any(|said| said.contains(line)), "{line:?} is not in\n{stderr}");
    }
}

#[test]
fn every_mistake_is_reported_at_once() {
    let app = App::with_host_json(
        r#"{"version": "3.0", "functionTimeout": "soon", "extensions": {"http": {"maxConcurrentRequests": 0}},
            "flexwasm": {"pool": {"size": 0, "sise": 1}, "Headers": "full", "headers": "some", "log": {"level": "loud"}, "limits": {"memory": "1MB5"}}}"#,
    )
    .routed(
        "one",
        guests::COUNTER,
        r#""route": "{a}{b}", "methods": "get", "authLevel": "secret""#,
        r#"{"pool": {"size": 3, "concurrentPerInstance": 4}, "grants": {"env": ["MISSING"]}, "limits": {"timeout": 5}}"#,
    )
    .function_json("two", "{}")
    .function_json("three", "{not json")
    .function_json("4four", "{}");
    let stderr = complaint(app.path());
    says(
        &stderr,
        &[
            r#"host.json: version = "3.0": must be "2.0""#,
            r#"host.json: functionTimeout = "soon": must be "hh:mm:ss""#,
            "host.json: extensions.http.maxConcurrentRequests = 0: must be a whole number above 0",
            "host.json: flexwasm.pool.size = 0: must be a whole number from 1 to 32000",
            "host.json: flexwasm.pool.sise: unknown key; remove it, or use one of: pool.size",
            "host.json: flexwasm.Headers: unknown key; did you mean headers?",
            r#"host.json: flexwasm.headers = "some": must be "full", "id" or "off""#,
            r#"host.json: flexwasm.log.level = "loud": must be "error", "warn", "info" or "debug""#,
            r#"host.json: flexwasm.limits.memory = "1MB5": write a whole number above 0 with a unit"#,
            // The value of an app setting is never repeated.
            "app settings: flexwasm__queue__timeout: write a whole number above 0 with a unit",
            r#"one/function.json: bindings.methods = "get": must be a list such as ["get", "post"]"#,
            r#"one/function.json: bindings.authLevel = "secret": must be anonymous, function or admin"#,
            "one/function.json: flexwasm.pool.concurrentPerInstance: unknown key: sharing an instance was removed; remove the key, each request",
            "one/function.json: flexwasm.pool.size: applies to the whole host: move it to the flexwasm section of host.json",
            "one/function.json: flexwasm.limits.timeout = 5: write a whole number above 0 with a unit: ms, s, m or h",
            "two/function.json: bindings: declare at least one binding",
            r#"two/function.json: scriptFile: name the guest's file, such as "scriptFile": "guest.wasm""#,
            "three/function.json: is not valid JSON (Expected string for object property on line 1 column 2): mend it there",
            "4four: is no valid function name",
        ],
    );
}

#[test]
fn settings_that_contradict_each_other() {
    let app = App::with_host_json(
        r#"{"version": "2.0", "functionTimeout": "00:00:10", "flexwasm": {"limits": {"timeout": "10s"}}}"#,
    )
    .routed("one", guests::COUNTER, r#""route": "same/{a}""#, "{}")
    .routed(
        "two",
        guests::COUNTER,
        r#""route": "SAME/{b}""#,
        r#"{"grants": {"env": ["MISSING"], "dirs": ["two", "two/none"], "hosts": ["a.example", "https://me:hush@b.example"]}}"#,
    );
    let mut command = flexwasm();
    command.arg("check").arg(app.path()).env("AzureFunctionsJobHost__functionTimeout", "never");
    command.env("FLEXWASM__POOL__SIZE", "7");
    command.env("flexwasm__grants__hosts", r#"["https://a.example", "https://me:hush@b.example/?hush", "hush"]"#);
    let complaint_of_settings = complaint_of(command);
    assert!(!complaint_of_settings.contains("hush"), "{complaint_of_settings}");
    says(
        &complaint_of_settings,
        &[
            "app settings: flexwasm__grants__hosts: entry 2 must not hold a user or password",
            "app settings: flexwasm__grants__hosts: entry 3 is not scheme://host or scheme://host:port: write it like",
            "app settings: AzureFunctionsJobHost__functionTimeout: must be \"hh:mm:ss\"",
            "app settings: FLEXWASM__POOL__SIZE: unknown key; did you mean pool.size?",
        ],
    );
    says(
        &complaint(app.path()),
        &[
            "host.json: flexwasm.limits.timeout: is 10s, but must be below functionTimeout (10s)",
            r#"two/function.json: grants.env = "MISSING": there is no app setting of this name: set it, or remove the grant"#,
            r#"two/function.json: grants.dirs = "two/none": cannot be read (No such file or directory"#,
            r#"two/function.json: flexwasm.grants.hosts = "a.example": is not scheme://host or scheme://host:port: write "https://a.example""#,
            r#"two/function.json: flexwasm.grants.hosts = "https://…@b.example": must not hold a user or password"#,
            r#"two/function.json: bindings.route = "SAME/{b}": fits paths that function one (same/{a}) answers too"#,
        ],
    );
}

#[test]
fn guests_from_elsewhere_that_cannot_be_had() {
    let source =
        r#"{"guest": {"source": "https://a.example/guest.wasm?sig=hush", "username": "me", "password": "hush"}}"#;
    let settings = r#"{"guest": {"source": "%SOURCE%", "sha256": "12", "poll": "0s", "smoke": {"status": 200}}}"#;
    let app = App::new(r#"{"guest": {"source": "https://a.example/guest.wasm"}}"#)
        .routed("one", guests::COUNTER, r#""authLevel": "anonymous""#, source)
        .routed("two", guests::COUNTER, r#""authLevel": "anonymous""#, settings)
        .routed("three", guests::COUNTER, r#""authLevel": "anonymous""#, r#"{"guest": {"source": "%NONE%"}}"#);
    let mut command = flexwasm();
    command.arg("check").arg(app.path()).env("SOURCE", "https://hush:hush@a.example/");
    command.env("flexwasm__guest__maxSize", "1MiB");
    let stderr = complaint_of(command);
    assert!(!stderr.contains("hush"), "{stderr}");
    says(
        &stderr,
        &[
            "host.json: flexwasm.guest.source: applies to one function: move it to the flexwasm section of its function.json",
            "app settings: flexwasm__guest__maxSize: applies to one function: move it",
            r#"one/function.json: flexwasm.guest.source = "https://a.example/guest.wasm": must not hold a query here"#,
            r#"one/function.json: flexwasm.guest.password: must not stand here: write "password": "%GUEST_PASSWORD%""#,
            r#"two/function.json: flexwasm.guest.source = "%SOURCE%": the app setting SOURCE must not hold a user or password"#,
            r#"two/function.json: flexwasm.guest.sha256 = "12": must be 64 hexadecimal digits"#,
            r#"two/function.json: flexwasm.guest.poll = "0s": write a whole number above 0 with a unit"#,
            "two/function.json: flexwasm.guest.smoke.status: is for a guest.smoke.path or guest.smoke.event, but there is none",
            r#"three/function.json: flexwasm.guest.source = "%NONE%": there is no app setting NONE: set it"#,
        ],
    );
}

#[test]
fn files_that_are_missing_or_cannot_be_read() {
    let empty = tempfile::tempdir().unwrap();
    says(&complaint(empty.path()), &["host.json: not found in", "run flexwasm in the folder of your app"]);
    fs::write(empty.path().join("host.json"), "[]").unwrap();
    says(&complaint(empty.path()), &["host.json: must be a JSON object"]);
    fs::write(empty.path().join("host.json"), "\u{feff}{\"version\": \"2.0\"").unwrap();
    says(&complaint(empty.path()), &["host.json: is not valid JSON (Unterminated object on line 1 column 1"]);

    let app = App::with_host_json(r#"{"version": "2.0"}"#);
    let mut command = flexwasm();
    // An empty variable counts as unset.
    command.arg("check").current_dir(app.path()).env("FUNCTIONS_APP_ROOT_PATH", "");
    says(&complaint_of(command), &["flexwasm: .: no function found: add a folder with a function.json"]);

    let app =
        App::new("{}").function("counter", guests::COUNTER).file("local.settings.json", b"{\"IsEncrypted\": true}");
    says(&complaint(app.path()), &["local.settings.json: IsEncrypted: only func can read it encrypted"]);
    let app = app.file("local.settings.json", b"{\"Values\": {\"A\": {}}}");
    says(&complaint(app.path()), &["local.settings.json: Values.A: must be text"]);
}

#[test]
fn a_route_that_azure_refuses_costs_its_function_only() {
    let app = App::new("{}").function("good", guests::COUNTER);
    let app = app.routed("odd", guests::COUNTER, r#""route": "c/{z:tomorrow}", "authLevel": "anonymous""#, "{}");
    let mut command = flexwasm();
    command.arg("check").arg(app.path());
    says(
        &complaint_of(command),
        &[r#"odd/function.json: bindings.route = "c/{z:tomorrow}": constraint "tomorrow" is not known: use int"#],
    );
    let host = app.start();
    assert_eq!(host.get("/api/good").text(), "1");
    let answer = host.get("/api/c/1");
    assert_eq!((answer.status, answer.reason().as_str()), (503, "route-refused"));
    assert!(!answer.text().contains("tomorrow"), "{}", answer.text());
    host.line(&["odd/function.json", "tomorrow"]);
}

#[test]
fn an_unreadable_folder_is_named() {
    let app = App::new("{}").function("good", guests::COUNTER).function("locked", guests::COUNTER);
    let locked = app.path().join("locked");
    fs::set_permissions(&locked, fs::Permissions::from_mode(0o000)).unwrap();
    let mut command = app.as_nobody();
    command.arg("check");
    says(
        &complaint_of(command),
        &["locked: this folder cannot be read: give the user that runs flexwasm access to it"],
    );
    fs::set_permissions(&locked, fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn guests_that_cannot_serve() {
    let wat = |text: &str| wat::parse_str(text).unwrap();
    let cases: [(Vec<u8>, &str); 7] = [
        (wat("(module)"), "is a core WebAssembly module, not a component: build it for the target wasm32-wasip2"),
        (b"garbage".to_vec(), "is not a WebAssembly component: name a .wasm file built for wasm32-wasip2"),
        (Vec::new(), "is not a WebAssembly component"),
        (b"\0asm\x0d\0\x01\0truncated".to_vec(), "is not a valid component, or uses what this host does not support"),
        (
            wat("(component)"),
            "does not fit the world of this host: no exported instance named `wasi:http/incoming-handler",
        ),
        (
            wat(r#"(component (import "else:where/thing" (instance (export "f" (func)))))"#),
            "does not fit the world of this host: component imports instance `else:where/thing`",
        ),
        (
            wat(&format!("(component (core module $m (memory 1)) {})", "(core instance (instantiate $m))".repeat(300))),
            "has 300 memories, but limits.memories allows 16 (it can be set to 16): raise it, or compose the guest of fewer",
        ),
    ];
    for (content, words) in cases {
        let app = App::new("{}").function("only", guests::COUNTER).file("only/guest.wasm", &content);
        // With no function left the host does not start.
        let mut host = app.spawn(crate::support::free_port(), &[]);
        assert_eq!(host.exit_code(), 1);
        says(&host.stderr().join("\n"), &[words]);
        assert!(host.stderr().last().unwrap().starts_with("flexwasm: function only: "), "{:?}", host.stderr());
    }

    let app = App::new("{}").function("only", guests::COUNTER);
    fs::remove_file(app.path().join("only/guest.wasm")).unwrap();
    let mut command = flexwasm();
    command.arg("check").arg(app.path());
    says(
        &complaint_of(command),
        &["guest.wasm cannot be read (No such file or directory", "check the path, and that the guest has been built"],
    );

    let app = App::new(r#"{"limits": {"memory": "64KiB"}}"#).function("only", guests::COUNTER);
    let mut command = flexwasm();
    command.arg("check").arg(app.path());
    says(&complaint_of(command), &["of memory from the start, but limits.memory allows 64KiB: raise that limit"]);

    let app = App::new(r#"{"limits": {"totalMemory": "1KiB"}}"#).function("only", guests::COUNTER);
    let mut command = flexwasm();
    command.arg("check").arg(app.path());
    says(&complaint_of(command), &["of memory from the start, but limits.totalMemory allows 1KiB: raise that limit"]);

    let app = App::new("{}").function("only", guests::COUNTER);
    let guest = app.path().join("only/guest.wasm");
    fs::remove_file(&guest).unwrap();
    assert!(std::process::Command::new("mkfifo").arg(&guest).status().unwrap().success());
    let mut command = flexwasm();
    command.arg("check").arg(app.path());
    says(&complaint_of(command), &["guest.wasm is not a regular file: put the guest there, or a link to its file"]);
}

#[test]
fn a_guest_that_traps_or_loops_in_its_start() {
    for (start, settings, words) in [
        ("unreachable", "{}", "cannot be instantiated: reached code that must not run"),
        (
            "(loop (br 0))",
            r#"{"limits": {"timeout": "500ms"}}"#,
            "cannot be instantiated: its start functions did not end, limits.timeout of 500ms reached: raise it",
        ),
        (
            "(loop (br 0))",
            r#"{"limits": {"cpu": "200ms"}}"#,
            "cannot be instantiated: limits.cpu of 200ms reached, in start: raise it, or let the guest compute less",
        ),
    ] {
        let app = App::new(settings).function("only", guests::COUNTER);
        let app = app.file("only/guest.wasm", &component("start", start));
        let mut command = flexwasm();
        command.arg("check").arg(app.path());
        says(&complaint_of(command), &[words]);
    }
}

#[test]
fn command_lines_that_cannot_work() {
    for (arguments, words) in [
        (&["serve"][..], "<GUEST>"),
        (&["serve", "x.wasm", "--pool", "0"], "0 is not in 1..=32000"),
        (&["serve", "x.wasm", "--timeout", "5"], "write a whole number above 0 with a unit"),
        (&["serve", "x.wasm", "--memory", "8GiB"], "must be at most 4GiB"),
        (&["serve", "x.wasm", "--env", "novalue"], "write NAME=VALUE"),
        (&["serve", "x.wasm", "--log-level", "loud"], "must be \"error\", \"warn\", \"info\" or \"debug\""),
        (&["frobnicate"], "unrecognized subcommand"),
    ] {
        let mut command = flexwasm();
        command.args(arguments);
        let (status, _, stderr) = output(command);
        assert_eq!(status.code(), Some(2));
        says(&stderr, &[words]);
    }
    let mut command = flexwasm();
    command.args(["--listen", "127.0.0.1:0"]).env("FUNCTIONS_CUSTOMHANDLER_PORT", "20001");
    says(&complaint_of(command), &["command line: --listen: leave it out: the Functions host has chosen the port"]);
    let mut command = flexwasm();
    command.args(["serve", "/nowhere/x.wasm", "--listen", "127.0.0.1:0"]);
    says(&complaint_of(command), &["function serve: /nowhere/x.wasm cannot be read"]);
}

#[test]
fn malformed_requests_are_refused_and_the_connection_is_closed() {
    let host = App::new("{}").function("describe", guests::DESCRIBE).start();
    let many = (0..200).map(|n| format!("X-{n}: y\r\n")).collect::<String>();
    let long = "y".repeat(100 << 10);
    for (request, status) in [
        ("rubbish\r\n\r\n".to_owned(), 400),
        ("GET /api/describe HTTP/1.1\r\n\r\n".to_owned(), 400),
        ("GET /api/describe HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n".to_owned(), 400),
        ("GET /api/describe HTTP/1.1\r\nHost: a b\r\n\r\n".to_owned(), 400),
        ("GET /api/describe HTTP/1.1\r\nHost: a\r\nBad Name: x\r\n\r\n".to_owned(), 400),
        ("POST /api/describe HTTP/1.1\r\nHost: a\r\nContent-Length: many\r\n\r\n".to_owned(), 400),
        ("POST /api/describe HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n".to_owned(), 400),
        ("POST /api/describe HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n".to_owned(), 400),
        (format!("GET /api/describe HTTP/1.1\r\nHost: a\r\n{many}\r\n"), 431),
        (format!("GET /api/describe HTTP/1.1\r\nHost: a\r\nX: {long}\r\n\r\n"), 431),
        ("CONNECT elsewhere:443 HTTP/1.1\r\nHost: elsewhere:443\r\n\r\n".to_owned(), 501),
    ] {
        let shown: String = request.chars().take(80).collect();
        let mut client = host.connect();
        assert_eq!(client.ask(&request).status, status, "{shown}");
        assert!(client.is_closed(), "{shown}");
    }
    assert_eq!(host.get("/api/describe").status, 200);
}

#[test]
fn a_length_beside_chunks_never_hides_a_second_request() {
    let host = App::new("{}").function("sink", guests::SINK).function("counter", guests::COUNTER).start();
    let inner = "GET /api/counter HTTP/1.1\r\nHost: a\r\n\r\n";
    for lengths in
        ["Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n"]
    {
        let mut client = host.connect();
        client.write(format!("POST /api/sink HTTP/1.1\r\nHost: a\r\n{lengths}\r\n"));
        client.write(format!("{:x}\r\n{inner}\r\n0\r\n\r\n", inner.len()));
        let answer = client.response(false);
        // Framed by the chunks alone: what looks like a request is the body.
        assert_eq!((answer.status, answer.text()), (200, inner.len().to_string()), "{lengths}");
        assert!(client.is_closed(), "a second answer to {lengths}");
    }
}

#[test]
fn slow_heads_are_cut_off() {
    let listen = Some("127.0.0.1:0".parse().unwrap());
    let given =
        Circumstances { machine_memory: 1 << 30, listen, cache_folders: Vec::new(), control_sockets: Vec::new() };
    let mut config =
        serve(guests::COUNTER.into(), &HostPatch::default(), Grants::default(), &AppSettings::new(), &given);
    config.compiler = env!("CARGO_BIN_EXE_flexwasm").into();
    config.head_timeout = Duration::from_millis(300);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let app = runtime.block_on(flexwasm::app::App::build(config, Arc::new(Machine::read(None)))).unwrap();
    let mut client = crate::support::Client::connect(app.address().port());
    runtime.spawn(app.run());
    assert_eq!(client.get("/").text(), "1");
    client.write(&get("/")[..20]);
    assert!(client.is_closed());
    runtime.shutdown_background();
}

#[test]
fn a_pool_without_room_is_refused_with_the_largest_that_works() {
    let serve = |pool: &str| {
        let mut command = std::process::Command::new("sh");
        let limited = r#"ulimit -v 104857600; exec "$0" serve "$1" --pool "$2" --listen 127.0.0.1:0"#;
        command.args(["-c", limited, env!("CARGO_BIN_EXE_flexwasm"), guests::COUNTER, pool]).env_clear();
        command
    };
    let stderr = complaint_of(serve("100"));
    says(&stderr, &["pool.size 100 does not fit", "(ulimit -v) 102400 MiB", "set pool.size to at most 23"]);
    assert_eq!(crate::support::Host::announced(serve("23")).get("/").text(), "1");
}
