//! Components in front of a guest: in which order they see requests, what each is granted, and what is said of one that does not fit.

use crate::sources::kept;
use crate::support::{App, Host, PATIENCE, eventually, flexwasm, get, guests, output};
use flexwasm::config::digest::Digest;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Instant;
use testkit::{marked, marked_answer};
use wac_graph::types::Package;
use wac_graph::{CompositionGraph, EncodeOptions};
use wasm_compose::composer::ComponentComposer;
use wasm_compose::config::Config;

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

const SETTINGS: [(&str, &str); 3] = [("NAME", "first"), ("OTHER", "third"), ("SECRET", "of the guest")];

fn start(app: &App) -> Host {
    let host = app.start_with(&SETTINGS);
    loaded(&host, "f");
    host
}

/// Waits until a function has its guest: to compile several parts takes longer than a host waits before it listens.
pub fn loaded(host: &Host, function: &str) {
    eventually("the guest is compiled", || {
        let mut client = host.connect();
        client.write(get(&format!("/api/{function}")));
        client.response_head().status != 503
    });
}

fn check(app: &App) -> String {
    let mut command = flexwasm();
    command.arg("check").arg(app.path()).envs(SETTINGS);
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
}

#[test]
fn the_part_that_traps_is_named_and_nobody_else_is_hurt() {
    // Three parts and a guest, all different; of the parts, two have the same bytes.
    let app = behind(CHAIN, "[]").file("f/third.wasm", &other(1));
    let host = start(&app);
    for (name, file) in [("first", "first.wasm"), ("nobody", "second.wasm"), ("third", "third.wasm")] {
        let answer = host.get(&format!("/api/f?trap={name}"));
        assert_eq!((answer.status, answer.text().contains(".wasm")), (500, false));
        let line = host.line(&["outcome=\"faulted\"", &format!("of {file}: its standard error may say more")]);
        assert!(line.contains("p3_part"), "{line}");
    }
    let guest =
        App::new("{}").routed("f", guests::P3_TRAP_BEFORE, ANYBODY, r#"{"guest": {"middleware": ["part.wasm"]}}"#);
    let guest = guest.file("f/part.wasm", &fs::read(guests::P3_PART).unwrap()).start();
    loaded(&guest, "f");
    assert_eq!(guest.get("/api/f").status, 500);
    guest.line(&["outcome=\"faulted\"", "of guest.wasm: "]);
    assert_eq!(host.get("/api/f?stop=first").text(), "stopped at first");
    assert_eq!(host.get("/api/neighbour").text(), "1");
}

#[test]
fn the_part_that_exits_or_computes_for_too_long_is_named() {
    let settings = format!(r#"{{"guest": {{"middleware": {CHAIN}}}, "limits": {{"cpu": "2s"}}}}"#);
    let app = behind(CHAIN, "[]").file("f/third.wasm", &other(1)).routed("f", guests::P3_ECHO, ANYBODY, &settings);
    let app = app.routed("exits", guests::EXIT, ANYBODY, r#"{"guest": {"middleware": ["part.wasm"]}}"#);
    let host = start(&app.file("exits/part.wasm", &fs::read(guests::PART).unwrap()));
    for (name, file) in [("first", "first.wasm"), ("nobody", "second.wasm"), ("third", "third.wasm")] {
        assert_eq!(host.get(&format!("/api/f?exit={name}")).status, 500);
        host.line(&["outcome=\"faulted\"", &format!("called exit with status 1, in {file}: let the handler return")]);
    }
    assert_eq!(host.get("/api/f?spin=nobody").status, 500);
    host.line(&["outcome=\"faulted\"", "limits.cpu of 2s reached, in ", " of second.wasm: raise it"]);
    loaded(&host, "exits");
    assert_eq!(host.get("/api/exits").status, 500);
    host.line(&["called exit with status 0, in guest.wasm: let the handler return"]);
    assert_eq!(host.get("/api/f?stop=first").text(), "stopped at first");
}

#[test]
fn bodies_stream_through_a_chain_in_both_directions() {
    let app = behind(CHAIN, "[]");
    let host = start(&app);
    let mut client = host.connect();
    let body: Vec<u8> = (0..100 << 20_u32).map(|at| (at / 7 + at / 65_536) as u8).collect();
    let idle = host.resident();
    client.write(format!("POST /api/f?copy HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", body.len()));
    client.write(&body);
    let answer = client.response(false);
    assert_eq!((answer.status, answer.complete, answer.headers("x-via").len()), (200, true, 3));
    assert!(answer.body == body, "the bytes are others");
    let grown = host.most_resident().saturating_sub(idle);
    assert!(grown < 64 << 20, "{} MiB", grown >> 20);
}

#[test]
fn a_part_has_configuration_and_stores_of_its_own() {
    let stores = r#""keyvalue": {"default": "memory"}"#;
    let chain = format!(
        r#"[
            {{"file": "first.wasm", "grants": {{"env": ["NAME"], "config": ["OTHER"], {stores}}}}},
            "second.wasm",
            {{"file": "third.wasm", "grants": {{"env": ["OTHER"], {stores}}}}}
        ]"#
    );
    let settings = format!(r#"{{"guest": {{"middleware": {chain}}}, "grants": {{"config": ["SECRET"], {stores}}}}}"#);
    let app = App::new("{}").routed("f", guests::P3_ECHO, ANYBODY, &settings);
    let part = fs::read(guests::P3_PART).unwrap();
    let app =
        ["first", "second", "third"].into_iter().fold(app, |app, name| app.file(&format!("f/{name}.wasm"), &part));
    let host = start(&app);
    let find = |name: &str| host.get(&format!("/api/f?find={name}")).text();
    assert_eq!(find("first"), r#"["OTHER"] Ok(1) Ok(["1", "word"])"#);
    assert_eq!(find("first"), r#"["OTHER"] Ok(2) Ok(["2", "word"])"#);
    assert_eq!(find("nobody"), "[] Err(Error::NoSuchStore) Err(Error::NoSuchStore)");
    assert_eq!(find("third"), r#"[] Ok(1) Ok(["1", "word"])"#);

    let mut command = flexwasm();
    command.args(["explain", "f"]).current_dir(app.path()).envs(SETTINGS);
    let (status, explained, stderr) = output(command);
    assert_eq!(status.code(), Some(0), "{stderr}");
    for (asked, got) in [
        ("wasi:keyvalue/store of first.wasm", " default in memory (grants.keyvalue)"),
        ("wasi:keyvalue/store of second.wasm", " nothing: grants.keyvalue is empty"),
        ("wasi:keyvalue/atomics@", " the stores that it has opened"),
    ] {
        assert!(explained.lines().any(|line| line.contains(asked) && line.ends_with(got)), "{asked}: {explained}");
    }
    // The guest opens none.
    assert!(!explained.contains("wasi:keyvalue/store@"), "{explained}");
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

/// As `wac plug SOCKET --plug PLUG` joins them, by the library that the tool is made of; the tool itself does not run here.
fn plugged(socket: &[u8], plug: &[u8]) -> Vec<u8> {
    let mut graph = CompositionGraph::new();
    let [socket, plug] = [("test:socket", socket), ("test:plug", plug)].map(|(name, wasm)| {
        let package = Package::from_bytes(name, None, wasm.to_vec(), graph.types_mut()).unwrap();
        graph.register_package(package).unwrap()
    });
    wac_graph::plug(&mut graph, vec![plug], socket).unwrap();
    graph.encode(EncodeOptions::default()).unwrap()
}

/// What `wasm-tools compose SOCKET --definitions PLUG` makes: its command is this function.
fn defined(socket: &[u8], plug: &[u8]) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let [socket, plug] = [("socket", socket), ("plug", plug)].map(|(name, wasm)| {
        let path = folder.path().join(name);
        fs::write(&path, wasm).unwrap();
        path
    });
    let config = Config { definitions: vec![plug], ..Config::default() };
    ComponentComposer::new(&socket, &config).compose().unwrap()
}

#[test]
fn what_wac_plugs_together_serves() {
    serves_with_two_three_and_eight_memories(plugged);
}

#[test]
fn what_wasm_tools_composes_serves() {
    serves_with_two_three_and_eight_memories(defined);
}

/// Two components made one by a tool serve, and so does what it makes of that and another one.
fn serves_with_two_three_and_eight_memories(compose: fn(&[u8], &[u8]) -> Vec<u8>) {
    let [part, echo, small, counter] =
        [guests::P3_PART, guests::P3_ECHO, guests::PART, guests::COUNTER].map(|file| fs::read(file).unwrap());
    let composed =
        |parts: usize, part: &[u8], guest: &[u8]| (0..parts).fold(guest.to_vec(), |behind, _| compose(part, &behind));
    let app = App::new("{}").with_guest("two", &composed(1, &part, &echo), ANYBODY, "{}");
    let app = app.with_guest("three", &composed(2, &part, &echo), ANYBODY, "{}");
    let app = app.with_guest("eight", &composed(7, &small, &counter), ANYBODY, "{}");
    // Middleware may be composed as well, and so may be what it stands in front of.
    let settings = r#"{"guest": {"middleware": ["part.wasm"]}}"#;
    let app = app.with_guest("both", &composed(1, &small, &counter), ANYBODY, settings);
    let host = app.file("both/part.wasm", &compose(&small, &small)).start();
    for (function, parts) in [("two", 1), ("three", 2)] {
        loaded(&host, function);
        let answer = host.get(&format!("/api/{function}"));
        assert_eq!((answer.status, answer.headers("x-via").len()), (200, parts), "{function}");
    }
    for function in ["eight", "both"] {
        loaded(&host, function);
        assert_eq!(host.get(&format!("/api/{function}")).text(), "1", "{function}");
    }
}

#[test]
fn a_part_is_replaced_under_load_and_no_request_fails() {
    let marker = fs::read(guests::MARKER_PART).unwrap();
    let app = App::new("{}").routed("f", guests::COUNTER, ANYBODY, r#"{"guest": {"middleware": ["part.wasm"]}}"#);
    let app = app.file("f/part.wasm", &marked(&marker, 0));
    let host = start(&app);
    let (begun, swapped) = (Instant::now(), AtomicBool::new(false));
    thread::scope(|scope| {
        let callers = [(); 4].map(|()| {
            scope.spawn(|| {
                let mut client = host.connect();
                // Not for ever, should a swap fail.
                while !swapped.load(Ordering::Relaxed) && begun.elapsed() < 4 * PATIENCE {
                    let answer = client.get("/api/f");
                    let known = (0..5).any(|number| answer.text() == marked_answer(number));
                    assert!(answer.status == 200 && known, "{answer:?}");
                }
            })
        });
        for number in 1..5 {
            let staged = app.path().join("f/staged");
            fs::write(&staged, marked(&marker, number)).unwrap();
            fs::rename(staged, app.path().join("f/part.wasm")).unwrap();
            host.line(&[&format!("swapped: generation {} ", number + 1)]);
            // Whoever asks now gets the new one.
            assert_eq!(host.get("/api/f").text(), marked_answer(number));
        }
        swapped.store(true, Ordering::Relaxed);
        for caller in callers {
            caller.join().unwrap();
        }
    });
    assert_eq!(host.get("/api/f?pass").text(), "1");
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

/// A server that has these bytes, whatever they are when it is asked, and its address.
fn source(content: &Arc<Mutex<Vec<u8>>>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/part.wasm", listener.local_addr().unwrap());
    let content = Arc::clone(content);
    thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let mut head = String::new();
            let mut lines = BufReader::new(stream.try_clone().unwrap());
            while !head.ends_with("\r\n\r\n") && lines.read_line(&mut head).is_ok_and(|read| read > 0) {}
            let body = content.lock().unwrap().clone();
            let etag = format!("\"{}\"", body.len());
            let known = head.contains(&etag);
            let (status, body) = if known { ("304 Not Modified", Vec::new()) } else { ("200 OK", body) };
            let length = if known { String::new() } else { format!("content-length: {}\r\n", body.len()) };
            let head = format!("HTTP/1.1 {status}\r\netag: {etag}\r\nconnection: close\r\n{length}\r\n");
            let _ = stream.write_all(&[head.as_bytes(), &body].concat());
        }
    });
    url
}

#[test]
fn a_part_comes_from_a_source_like_a_guest() {
    let content = Arc::new(Mutex::new(other(1)));
    let url = source(&content);
    let settings = |sha256: &str| {
        let entry = format!(r#"{{"file": "part.wasm", "source": "{url}"{sha256}}}"#);
        format!(r#"{{"guest": {{"poll": "1s", "middleware": [{entry}]}}}}"#)
    };
    // What is in the app would not fit.
    let app = App::new("{}").routed("f", guests::P3_ECHO, ANYBODY, &settings(""));
    let app = app.file("f/part.wasm", &fs::read(guests::P3_ECHO).unwrap());
    let cache = app.path().join("cache");
    let start = |app: &App| app.start_with(&[("XDG_CACHE_HOME", cache.to_str().unwrap())]);
    let host = start(&app);
    loaded(&host, "f");
    assert_eq!(host.get("/api/f").headers("x-via"), ["nobody [] false"]);
    let digest = |sections: usize| Digest::of(&other(sections)).to_string();
    *content.lock().unwrap() = other(2);
    host.line(&["swapped: generation 2", &format!("part.wasm {}", &digest(2)[..12])]);
    kept(&app, &other(2));
    drop(host);
    // The last good one serves when its source is gone, and nothing but what is pinned.
    *content.lock().unwrap() = b"rubbish".to_vec();
    let host = start(&app);
    loaded(&host, "f");
    assert_eq!(host.get("/api/f").headers("x-via"), ["nobody [] false"]);
    host.line(&["WARN", "serves the last good guest", &digest(2)[..12]]);
    drop(host);
    let pinned = app.routed("f", guests::P3_ECHO, ANYBODY, &settings(&format!(r#", "sha256": "{}""#, digest(3))));
    *content.lock().unwrap() = other(2);
    let host = start(&pinned);
    host.line(&["ERROR", "has the SHA-256", &digest(2), "its sha256 in guest.middleware allows only"]);
    assert_eq!(host.get("/api/f").status, 503);
    *content.lock().unwrap() = other(3);
    eventually("the function serves", || host.get("/api/f").status == 200);
}

#[test]
fn host_json_puts_components_in_front_of_every_function_that_does_not_say_otherwise() {
    let entry = r#"{"file": "common/part.wasm", "grants": {"env": ["NAME"]}}"#;
    let app = App::new(&format!(r#"{{"guest": {{"middleware": [{entry}]}}}}"#));
    let app = ["one", "two"].into_iter().fold(app, |app, name| app.routed(name, guests::P3_ECHO, ANYBODY, "{}"));
    let app = app.routed("own", guests::P3_ECHO, ANYBODY, r#"{"guest": {"middleware": ["part.wasm"]}}"#);
    let app = app.routed("none", guests::P3_ECHO, ANYBODY, r#"{"guest": {"middleware": []}}"#);
    let part = fs::read(guests::P3_PART).unwrap();
    let app = app.file("common/part.wasm", &part).file("own/part.wasm", &part);
    let host = app.start_with(&[("NAME", "common")]);
    for function in ["one", "two", "own", "none"] {
        loaded(&host, function);
    }
    for (function, via) in
        [("one", &["common [] false"][..]), ("two", &["common [] false"]), ("own", &["nobody [] false"]), ("none", &[])]
    {
        assert_eq!(host.get(&format!("/api/{function}")).headers("x-via"), via, "{function}");
    }
    // A mistake there is one mistake.
    let stderr = check(
        &App::new(&format!(r#"{{"guest": {{"middleware": [{}]}}}}"#, entry.replace("NAME", "MISSING")))
            .routed("one", guests::P3_ECHO, ANYBODY, "{}")
            .routed("two", guests::P3_ECHO, ANYBODY, "{}"),
    );
    assert_eq!(
        stderr.matches(r#"host.json: flexwasm.guest.middleware[0].grants.env = "MISSING": there is no app"#).count(),
        1,
        "{stderr}"
    );
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
        (r#"["first.wasm", {"file": "./first.wasm"}]"#, "guest.middleware: ./first.wasm stands there twice"),
        (r#"["./guest.wasm"]"#, "guest.middleware: ./guest.wasm is the guest itself, so that requests would go round"),
        (r#"[7]"#, "f/function.json: flexwasm.guest.middleware[0] = 7: must be a file, or an object"),
        (r#"[{"grants": {"env": ["NAME"]}}]"#, "guest.middleware: it has an entry without a file"),
        (r#"[{"file": "first.wasm", "grant": {}}]"#, "flexwasm.guest.middleware[0].grant: unknown key"),
        (r#"[{"file": "first.wasm", "limits": {"memory": "1MiB"}}]"#, "is for the whole function"),
        (r#"[{"file": "first.wasm", "grants": {"env": ["MISSING"]}}]"#, "there is no app setting of this name"),
        (r#""first.wasm""#, "must be a list of files"),
    ] {
        let stderr = check(&behind(entries, "[]"));
        assert!(stderr.contains(words), "{entries}: {stderr}");
    }
    // The neighbour serves.
    let app = behind(r#"["missing.wasm"]"#, "[]");
    let host = app.start();
    loaded(&host, "neighbour");
    assert_eq!((host.get("/api/f").status, host.get("/api/neighbour").status), (503, 200));
    // What was missing comes.
    fs::write(app.path().join("f/missing.wasm"), fs::read(guests::P3_PART).unwrap()).unwrap();
    eventually("the function serves", || host.get("/api/f").status == 200);
    assert_eq!(host.get("/api/f").headers("x-via"), ["nobody [] false"]);
}
