//! Without a Functions host: `flexwasm` on an app, `flexwasm serve`, `flexwasm check`.

use crate::support::{App, Host, SECRET, flexwasm, guests, output};
use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use std::process::Command;

fn stand_alone(app: &App, arguments: &[&str]) -> Host {
    let mut command = flexwasm();
    command.current_dir(app.path()).args(["--listen", "127.0.0.1:0"]).args(arguments);
    Host::announced(command)
}

fn serve(arguments: &[&str]) -> Host {
    let mut command = flexwasm();
    command.args(["serve", "--listen", "127.0.0.1:0"]).args(arguments);
    Host::announced(command)
}

#[test]
fn the_urls_are_printed_and_the_root_shows_them() {
    let app = App::with_host_json(r#"{"version": "2.0"}"#).function("counter", guests::COUNTER);
    let host = stand_alone(&app, &[]);
    let url = format!("http://127.0.0.1:{}/api/counter", host.port);
    host.line(&["counter: [any]", &url]);
    let page = host.connect().ask("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert_eq!(page.header("content-type"), Some("text/html; charset=utf-8"));
    assert!(page.text().contains(&url), "{}", page.text());
    assert_eq!(host.get("/api/counter").text(), "1");
    assert!(host.get("/api/counter").header("server-timing").is_some(), "headers are full");
}

#[test]
fn a_function_without_a_url_is_printed_with_the_command_that_calls_it() {
    let bindings = r#"{"scriptFile": "guest.wasm", "bindings": [
        {"type": "timerTrigger", "direction": "in", "name": "tick", "schedule": "0 0 3 * * *"}]}"#;
    let app = App::new("{}").function_json("nightly", bindings);
    let app = app.file("nightly/guest.wasm", &fs::read(guests::SINK).unwrap());
    let mut command = flexwasm();
    command.current_dir(app.path()).args(["--listen", "127.0.0.1:0"]);
    let host = Host::spawn(command, 0);
    let line = host.line(&["  nightly: [timerTrigger] "]);
    let (_, printed) = line.split_once("] flexwasm ").unwrap();
    let mut command = flexwasm();
    command.current_dir(app.path()).args(printed.split(' '));
    let (status, stdout, stderr) = output(command);
    assert!(status.success() && stdout.starts_with("done after "), "{printed}: {stdout}{stderr}");
}

#[test]
fn the_root_tells_this_machine_alone_what_the_pool_does() {
    let app = App::new("{}").function("counter", guests::COUNTER);
    let host = stand_alone(&app, &[]);
    let ask = |head: &str| host.connect().ask(format!("{head}\r\n\r\n"));
    let page = ask("GET / HTTP/1.1\r\nHost: localhost");
    let policy = page.header("content-security-policy").unwrap();
    for part in ["default-src 'none'", "script-src 'sha256-", "connect-src 'self'", "frame-ancestors 'none'"] {
        assert!(policy.contains(part) && !policy.contains("unsafe"), "{policy}");
    }
    assert_eq!(host.get("/api/counter").status, 200);
    let report = || {
        let answer = ask("GET /?since=x HTTP/1.1\r\nHost: 127.0.0.1:7071\r\nAccept: application/json");
        assert_eq!((answer.status, answer.header("cache-control")), (200, Some("no-store")));
        serde_json::from_str::<Value>(&answer.text()).unwrap()
    };
    crate::support::eventually("the request is told", || report()["ended"][0][1] == "counter");
    let report = report();
    assert_eq!((&report["ended"].as_array().unwrap().len(), &report["running"]), (&1, &json!(0)));
    assert_eq!((&report["functions"][0]["generation"], &report["about"]["process"]), (&json!(1), &json!(host.id())));
    assert!(!report.to_string().contains(SECRET));

    for (head, status) in [
        ("GET / HTTP/1.1\r\nHost: a.example", 403),
        ("GET / HTTP/1.1\r\nHost: localhost\r\nOrigin: http://a.example", 403),
        ("POST / HTTP/1.1\r\nHost: localhost", 405),
    ] {
        let answer = ask(head);
        assert_eq!(answer.status, status, "{head}");
        assert!(!answer.text().contains("counter"), "{}", answer.text());
    }

    let mut stream = host.connect();
    stream.write("GET / HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n");
    assert_eq!(stream.response_head().header("content-type"), Some("text/event-stream"));
    assert!(String::from_utf8(stream.chunk().unwrap()).unwrap().starts_with("data: {\"host\":"));
    host.signal("TERM");
    assert_eq!({ host }.exit_code(), 0);
}

#[test]
fn local_settings_are_app_settings_and_the_environment_wins() {
    let values = r#"{"IsEncrypted": false, "Values": {"GREETING": "from the file", "flexwasm__pool__size": "3"}}"#;
    let app = App::new("{}")
        .routed("env", guests::ENV, r#""authLevel": "anonymous""#, r#"{"grants": {"env": ["GREETING"]}}"#)
        .file("local.settings.json", values.as_bytes());
    let answer = stand_alone(&app, &[]).get("/api/env");
    assert!(answer.text().starts_with("GREETING=from the file\n"), "{}", answer.text());
    assert_eq!(answer.instance()["pool"], "3");

    let mut command = flexwasm();
    command.current_dir(app.path()).args(["--listen", "127.0.0.1:0"]).env("GREETING", "from outside");
    assert!(Host::announced(command).get("/api/env").text().starts_with("GREETING=from outside\n"));
}

#[test]
fn the_first_function_by_name_answers_stand_alone_and_as_custom_handler() {
    let app = App::new("{}")
        .routed(
            "Details",
            guests::COUNTER,
            r#""route": "products/{id}", "authLevel": "anonymous", "methods": ["get"]"#,
            "{}",
        )
        .routed(
            "List",
            guests::SLEEP,
            r#""route": "products/list", "authLevel": "function", "methods": ["get"]"#,
            "{}",
        );
    for host in [app.start(), stand_alone(&app, &[])] {
        // Azure asks nobody for a key here, so the function that demands one must not run.
        assert_eq!(host.get("/api/products/list").text(), "1");
    }
    let mut command = flexwasm();
    command.arg("check").arg(app.path());
    let (status, _, stderr) = output(command);
    assert_eq!(status.code(), Some(1));
    assert!(stderr.contains("List/function.json") && stderr.contains("function Details (products/{id})"), "{stderr}");
}

#[test]
fn azures_templates_lead_to_their_functions() {
    let anonymous = |route: &str| format!(r#""route": "{route}", "authLevel": "anonymous""#);
    let app = App::new("{}")
        .routed("day", guests::COUNTER, &anonymous("log/{day:datetime}"), "{}")
        .routed("file", guests::COUNTER, &anonymous("files/{name}.{ext?}"), "{}")
        .routed("hello", guests::COUNTER, &anonymous(""), "{}")
        .routed("zip", guests::COUNTER, &anonymous(r"c/{z:regex(^\\d{{5}}$)}"), "{}");
    let host = stand_alone(&app, &[]);
    for path in ["/api/hello", "/api/log/2026-11-28", "/api/files/a.b.txt", "/api/files/a", "/api/c/12345"] {
        assert_eq!(host.get(path).status, 200, "{path}");
    }
    for path in ["/api", "/api/log/today", "/api/files/a.", "/api/c/123456"] {
        assert_eq!(host.get(path).status, 404, "{path}");
    }
}

#[test]
fn local_settings_disable_functions_and_choose_port_and_origins() {
    let port = crate::support::free_port();
    let settings = format!(
        r#"{{"Values": {{"AzureWebJobs.off.Disabled": "true"}}, // as func reads it
            "Host": {{"LocalHttpPort": {port}, "CORS": "http://localhost:3000", "CORSCredentials": true}}}}"#
    );
    let app = App::new("{}").function("off", guests::COUNTER).function("on", guests::COUNTER);
    let app = app.file("local.settings.json", settings.as_bytes());
    let mut command = flexwasm();
    command.current_dir(app.path());
    let host = Host::announced(command);
    assert_eq!(host.port, port);
    host.line(&["note: function off is disabled by the app setting AzureWebJobs.off.Disabled"]);
    assert_eq!(host.get("/api/off").status, 404);

    let ask = |method: &str, origin: &str, more: &str| {
        host.connect().ask(format!("{method} /api/on HTTP/1.1\r\nHost: a\r\nOrigin: {origin}\r\n{more}\r\n"))
    };
    let preflight = "Access-Control-Request-Method: PUT\r\nAccess-Control-Request-Headers: x-a, x-b\r\n";
    let answer = ask("OPTIONS", "http://localhost:3000", preflight);
    assert_eq!(answer.status, 204);
    host.line(&["function=- id=- method=OPTIONS path=\"/api/on\" outcome=\"answered\" status=204"]);
    for (name, value) in [
        ("access-control-allow-origin", Some("http://localhost:3000")),
        ("access-control-allow-methods", Some("PUT")),
        ("access-control-allow-headers", Some("x-a, x-b")),
        ("access-control-allow-credentials", Some("true")),
        ("vary", Some("origin")),
        // No guest has run.
        ("x-flexwasm-instance", None),
    ] {
        assert_eq!(answer.header(name), value, "{name}");
    }
    let strange = ask("OPTIONS", "http://a.example", preflight);
    assert_eq!((strange.status, strange.header("access-control-allow-origin")), (204, None));
    let answer = ask("GET", "http://localhost:3000", "");
    assert_eq!(
        (answer.text().as_str(), answer.header("access-control-allow-origin")),
        ("1", Some("http://localhost:3000"))
    );
    assert_eq!(ask("GET", "http://a.example", "").header("access-control-allow-origin"), None);
    // A question without a method is no preflight.
    assert_eq!(ask("OPTIONS", "http://localhost:3000", "").status, 200);
}

#[test]
fn a_star_lets_every_origin_in() {
    let settings = format!(r#"{{"Host": {{"LocalHttpPort": {}, "CORS": "*"}}}}"#, crate::support::free_port());
    let app = App::new("{}").function("on", guests::COUNTER).file("local.settings.json", settings.as_bytes());
    let mut command = flexwasm();
    command.current_dir(app.path());
    let host = Host::announced(command);
    let answer = host.connect().ask("GET /api/on HTTP/1.1\r\nHost: a\r\nOrigin: http://a.example\r\n\r\n");
    let [origin, credentials] = ["origin", "credentials"].map(|of| format!("access-control-allow-{of}"));
    assert_eq!((answer.header(&origin), answer.header(&credentials)), (Some("*"), None));
}

#[test]
fn a_wrong_path_or_method_says_so() {
    let app = App::new("{}").routed("counter", guests::COUNTER, r#""methods": ["get", "post"]"#, "{}");
    let host = stand_alone(&app, &[]);
    let answer = host.get("/api/nothing");
    assert_eq!((answer.status, answer.reason().as_str()), (404, "not-found"));
    let answer = host.connect().ask("DELETE /api/counter HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!((answer.status, answer.header("allow")), (405, Some("GET, POST")));
}

#[test]
fn a_stock_component_runs_under_serve_on_every_path() {
    let host = serve(&[guests::STOCK, "--pool", "3"]);
    for path in ["/", "/any/path"] {
        let answer = host.connect().ask(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n"));
        assert_eq!((answer.status, answer.text()), (200, format!("stock: {path}\n")));
        assert_eq!(answer.instance()["pool"], "3");
    }
}

#[test]
fn serve_takes_its_settings_from_flags() {
    let host = serve(&[guests::ENV, "--env", "GREETING=hello"]);
    assert!(host.connect().ask("GET / HTTP/1.1\r\nHost: a\r\n\r\n").text().starts_with("GREETING=hello\nfiles: false"));
    let host = serve(&[guests::SPIN, "--timeout", "200ms"]);
    assert_eq!(host.connect().ask("GET / HTTP/1.1\r\nHost: a\r\n\r\n").status, 504);
    let host = serve(&[guests::BOMB, "--memory", "4MiB"]);
    assert_eq!(host.connect().ask("GET / HTTP/1.1\r\nHost: a\r\n\r\n").status, 500);
    host.line(&["limits.memory of 4MiB reached"]);
}

#[test]
fn another_component_in_the_same_place_gives_the_other_answer() {
    let app = App::new("{}").function("swapped", guests::COUNTER);
    let mut first = app.start();
    let before = first.get("/api/swapped");
    assert_eq!(before.text(), "1");
    first.signal("TERM");
    assert_eq!(first.exit_code(), 0);
    fs::copy(guests::SLEEP, app.path().join("swapped/guest.wasm")).unwrap();
    let after = app.start().get("/api/swapped");
    assert_eq!(after.text(), "slept");
    assert_ne!(before.instance()["digest"], after.instance()["digest"]);
}

#[test]
fn a_broken_guest_stops_its_own_function_only() {
    let app = App::new("{}").function("good", guests::COUNTER).function("bad", guests::COUNTER);
    let app = app.file("bad/guest.wasm", b"garbage");
    let host = app.start();
    assert_eq!(host.get("/api/good").text(), "1");
    let answer = host.get("/api/bad");
    assert_eq!((answer.status, answer.reason().as_str()), (503, "guest-not-loaded"));
    assert!(!answer.text().contains("guest.wasm"), "{}", answer.text());
    host.line(&["function bad", "is not a WebAssembly component"]);
}

#[test]
fn explain_tells_what_a_guest_asks_for_and_gets_without_running_it() {
    let granted = r#"{"grants": {"env": ["AzureWebJobsStorage"], "dirs": ["env/data"]}}"#;
    let app = App::new("{}").routed("env", guests::ENV, r#""authLevel": "function""#, granted);
    let app =
        app.file("env/data/words", b"").function("trap", guests::TRAP_BEFORE).file("rubbish/guest.wasm", b"rubbish");
    let app = app.function_json("rubbish", r#"{"bindings": [{"type": "httpTrigger"}], "scriptFile": "guest.wasm"}"#);
    let explain = |function: Option<&str>| {
        let mut command = flexwasm();
        command.current_dir(app.path()).arg("explain").args(function);
        output(command)
    };

    let (status, stdout, stderr) = explain(Some("env"));
    assert_eq!((status.code(), stderr.as_str()), (Some(0), ""));
    let has = |asked: &str, got: &str| stdout.lines().any(|line| line.contains(asked) && line.ends_with(got));
    for (asked, got) in [
        ("function env:", "a guest of WASI 0.2"),
        ("wasi:cli/environment@0.2", " AzureWebJobsStorage (grants.env)"),
        ("wasi:filesystem/preopens@0.2", " /env/data (grants.dirs)"),
        ("wasi:sockets/tcp@0.2", " nothing: raw sockets are always denied"),
        ("wasi:cli/stdout@0.2", " lines in the host's log, 64KiB for each request"),
        ("core modules", " 3, linked to 2 before they are compiled"),
        ("limits.timeout", " 220s"),
    ] {
        assert!(has(asked, got), "{asked:?} … {got:?} is not in\n{stdout}");
    }
    assert!(!stdout.contains(SECRET) && !stdout.contains("function trap"));

    let (status, stdout, stderr) = explain(None);
    assert_eq!(status.code(), Some(1));
    assert!(stdout.contains("function env:") && stdout.contains("function trap:"), "{stdout}");
    assert!(stderr.contains("function rubbish: ") && stderr.contains("is not a WebAssembly component"), "{stderr}");
    let (status, _, stderr) = explain(Some("absent"));
    assert_eq!(status.code(), Some(1));
    assert!(
        stderr.contains("there is no function absent among env, rubbish, trap: run `flexwasm explain env`"),
        "{stderr}"
    );
}

#[test]
fn check_tells_what_is_set_without_secrets() {
    let app = App::new(r#"{"pool": {"size": 5}}"#).routed(
        "counter",
        guests::COUNTER,
        r#""route": "c/{id}", "authLevel": "function""#,
        r#"{"limits": {"memory": "32MiB"}, "grants": {"env": ["AzureWebJobsStorage"]}, "guest": {
            "source": "%SOURCE%", "username": "%AzureWebJobsStorage%", "password": "%AzureWebJobsStorage%",
            "sha256": "00000000000000000000000000000000000000000000000000000000000000Aa", "smoke": {"path": "/?deep"}}}"#,
    );
    let mut command = flexwasm();
    command.arg("check").arg(app.path()).env("SOURCE", format!("http://127.0.0.1:9/guest.wasm?sig={SECRET}"));
    let (status, stdout, stderr) = output(command);
    // Nobody listens there, and what came with the app is not what is pinned.
    let said: Vec<&str> = stderr.lines().collect();
    assert_eq!((status.code(), said.len()), (Some(1), 2), "{stderr}");
    assert!(
        said[0].contains("counter/guest.wasm has the SHA-256 ") && said[0].contains("guest.sha256 allows only"),
        "{stderr}"
    );
    assert!(
        said[1].starts_with("flexwasm: function counter: http://127.0.0.1:9/guest.wasm cannot be reached ("),
        "{stderr}"
    );
    assert!(!stderr.contains(SECRET), "{stderr}");
    for line in [
        "pool.size 5",
        "route /api/c/{id}",
        "guest.source http://127.0.0.1:9/guest.wasm",
        "guest.username set, not shown",
        "guest.password set, not shown",
        "guest.sha256 00000000000000000000000000000000000000000000000000000000000000aa",
        "guest.maxSize 64MiB",
        "guest.poll 30s",
        "guest.smoke.path /?deep",
        "guest.smoke.status 200",
        "limits.memory 32MiB",
    ] {
        let told = |said: &str| said.split_whitespace().eq(line.split(' '));
        assert!(stdout.lines().any(told), "{line:?} is not in\n{stdout}");
    }
    assert!(stdout.contains("AzureWebJobsStorage") && !stdout.contains(SECRET));

    let app = App::new("{}").function("counter", guests::COUNTER);
    let mut command = flexwasm();
    command.arg("check").arg(app.path());
    let (status, stdout, stderr) = output(command);
    assert_eq!((status.code(), stderr.as_str()), (Some(0), ""));
    assert!(stdout.ends_with("\neverything is in order\n"), "{stdout}");
}

#[test]
fn check_answers_programs_in_json() {
    let check = |app: &App| {
        let mut command = flexwasm();
        command.args(["check", "--json"]).arg(app.path());
        let (status, stdout, stderr) = output(command);
        assert!(!stdout.contains(SECRET), "{stdout}");
        let document: Value = serde_json::from_str(&stdout).unwrap();
        (status.code(), document, stderr)
    };
    let app = App::new(r#"{"pool": {"size": 5}, "queue": {"timeout": "2s"}}"#).routed(
        "counter",
        guests::COUNTER,
        r#""route": "c/{id}", "authLevel": "function", "methods": ["get"]"#,
        r#"{"limits": {"memory": "32MiB", "requestBody": "2MiB"}, "pool": {"share": "40%"},
            "grants": {"env": ["AzureWebJobsStorage"]}}"#,
    );
    let (code, said, stderr) = check(&app);
    assert_eq!((code, stderr.as_str(), &said["inOrder"], &said["problems"]), (Some(0), "", &json!(true), &json!([])));
    for (pointer, value) in [
        ("/settings/pool/size", json!(5)),
        ("/settings/queue/timeout", json!(2000)),
        ("/settings/limits/spool", Value::Null),
        ("/settings/log/requests", json!("all")),
        (
            "/deploy",
            json!({
                "perInstanceConcurrency": 5, "requestBodySizeLimit": 2 << 20, "functions": ["counter"],
                "storageQueues": false, "storageTables": false, "connections": [],
            }),
        ),
        ("/functions/0/name", json!("counter")),
        ("/functions/0/trigger", json!({ "route": "/api/c/{id}", "methods": ["GET"], "authLevel": "function" })),
        ("/functions/0/refused", Value::Null),
        ("/functions/0/pool/share", json!("40%")),
        ("/functions/0/limits/memory", json!(32 << 20)),
        ("/functions/0/limits/timeout", json!(220_000)),
        (
            "/functions/0/grants",
            json!({ "env": ["AzureWebJobsStorage"], "dirs": [], "hosts": [], "config": [], "keyvalue": [] }),
        ),
        ("/functions/0/guest/source", Value::Null),
        ("/residency/slots", json!(6)),
        ("/package", Value::Null),
        ("/version", json!(env!("CARGO_PKG_VERSION"))),
    ] {
        assert_eq!(said.pointer(pointer), Some(&value), "{pointer}");
    }
    assert!(said["compiled"][0].as_str().unwrap().contains("guest.cwasm absent"), "{said}");
    let page = fs::read_to_string(crate::support::repository().join("docs/operate.md")).unwrap();
    for key in said.as_object().unwrap().keys().chain(said["functions"][0].as_object().unwrap().keys()) {
        assert!(page.contains(&format!("`{key}`")), "{key} is not in docs/operate.md");
    }

    let app = app.file("counter/guest.wasm", b"garbage");
    let (code, said, stderr) = check(&app);
    assert_eq!((code, &said["inOrder"], &said["settings"]["pool"]["size"]), (Some(1), &json!(false), &json!(5)));
    assert_eq!(stderr, format!("flexwasm: {}\n", said["problems"][0].as_str().unwrap()));

    let (code, said, stderr) = check(&App::new(r#"{"pool": {"size": 0}}"#).function("counter", guests::COUNTER));
    assert_eq!((code, &said["inOrder"], &said["settings"]), (Some(1), &json!(false), &Value::Null));
    assert!(said["problems"][0].as_str().unwrap().contains("flexwasm.pool.size = 0: must be"), "{said}");
    assert_eq!(stderr, format!("flexwasm: {}\n", said["problems"][0].as_str().unwrap()));
}

#[test]
fn check_explains_a_broken_guest_and_fails() {
    let app = App::new("{}").function("good", guests::COUNTER).function("bad", guests::COUNTER);
    let app = app.file("bad/guest.wasm", b"garbage");
    let mut command = flexwasm();
    command.arg("check").arg(app.path());
    let (status, _, stderr) = output(command);
    assert_eq!(status.code(), Some(1));
    assert!(
        stderr.starts_with("flexwasm: function bad: ") && stderr.contains("is not a WebAssembly component"),
        "{stderr}"
    );
}

#[test]
fn help_teaches() {
    for (arguments, words) in [
        (&["--help"][..], "FUNCTIONS_CUSTOMHANDLER_PORT"),
        (&["serve", "--help"], "flexwasm serve guest.wasm --pool 100"),
        (&["check", "--help"], "Validate an app"),
        (&["compile", "--help"], "flexwasm compile --portable http_trigger/guest.wasm"),
    ] {
        let mut command: Command = flexwasm();
        command.args(arguments);
        let (status, stdout, _) = output(command);
        assert!(status.success() && stdout.contains(words), "{stdout}");
    }
}

/// As with `| head -1`, only sooner, and on a disk that is full.
#[test]
fn a_command_whose_output_nobody_takes_ends_without_a_panic() {
    let app = App::new("{}").function("counter", guests::COUNTER);
    for arguments in
        [&["check"][..], &["check", "--json"], &["explain"], &["doctor"], &["compile", "counter/guest.wasm"]]
    {
        ends_though_nobody_takes_its_output(arguments, app.path());
    }
}

/// A command ends quietly where its output is closed, and with a sentence where it cannot be written.
pub fn ends_though_nobody_takes_its_output(arguments: &[&str], folder: &Path) {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut command = flexwasm();
    let ended = command.args(arguments).current_dir(folder).stdout(writer).output().unwrap();
    assert_eq!(ended.status.code(), Some(141), "{arguments:?}");
    assert_eq!(String::from_utf8_lossy(&ended.stderr), "", "{arguments:?}");

    let full = fs::File::options().write(true).open("/dev/full").unwrap();
    let mut command = flexwasm();
    let ended = command.args(arguments).current_dir(folder).stdout(full).output().unwrap();
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert_eq!(ended.status.code(), Some(1), "{arguments:?}");
    assert!(said.starts_with("flexwasm: cannot write to standard output: "), "{arguments:?}: {said}");
    assert_eq!(said.lines().count(), 1, "{said}");
}

#[test]
fn a_name_may_be_listened_on_if_it_means_this_machine_alone() {
    let mut command = flexwasm();
    command.args(["serve", guests::STOCK, "--listen", "localhost:0"]);
    assert_eq!(Host::announced(command).get("/").status, 200);
    for (address, words) in [
        ("localhost", "write an address and a port"),
        ("localhost:http", "write an address and a port"),
        ("no-such-name.invalid:80", "cannot be resolved"),
        ("0:80", "does not mean this machine alone"),
    ] {
        let mut command = flexwasm();
        command.args(["serve", guests::STOCK, "--listen", address]);
        let (status, _, said) = output(command);
        assert_eq!(status.code(), Some(2), "{address}");
        assert!(said.contains(words) && said.contains("127.0.0.1:8080"), "{address}: {said}");
    }
}
