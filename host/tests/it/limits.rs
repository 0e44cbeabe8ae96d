//! Each limit at its value and one beyond, and that its neighbours do not notice.

use crate::support::{App, Host, PATIENCE, component, flexwasm, get, guests, output};
use bytes::Bytes;
use flexwasm::config::Grants;
use flexwasm::config::settings::{Limits, Reuse, Share};
use flexwasm::guest::artifact::Artifact;
use flexwasm::guest::compiler::{Compiler, Terms};
use flexwasm::guest::worlds::Worlds;
use flexwasm::guest::{Guest, Keep, Loader};
use flexwasm::invocation::{Invocation, Origin, Tag, TraceContext};
use flexwasm::keyvalue::Buckets;
use flexwasm::observe::machine::Machine;
use flexwasm::observe::metrics::FunctionMetrics;
use flexwasm::observe::rate::Rate;
use flexwasm::pool::Capacity;
use flexwasm::run::{Fault, Pool};
use flexwasm::sandbox::Policy;
use http_body_util::Empty;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, timeout};

/// A limit of processor time that is small beside one of waiting.
const BUSY: &str = r#"{"pool": {"size": 4}, "limits": {"cpu": "300ms", "timeout": "200s"}}"#;

/// Whether the last invocation was ended by this limit.
fn ended_by(host: &Host, limit: &str) {
    let line = host.closing_line("faulted");
    assert!(line.contains(&format!("was ended: limits.{limit} reached")), "{line}");
}

#[test]
fn a_guest_that_computes_too_long_is_ended_and_one_that_sleeps_is_not() {
    let app = App::new(BUSY).function("spin", guests::SPIN).function("sleep", guests::SLEEP);
    let host = app.start();
    let mut neighbour = host.connect();
    neighbour.write(get("/api/sleep?ms=1500"));
    let answer = host.get("/api/spin");
    assert_eq!((answer.status, answer.reason().as_str()), (500, "guest-failed"));
    ended_by(&host, "cpu of 300ms");
    assert_eq!(neighbour.response(false).text(), "slept");
}

#[test]
fn a_guest_that_computes_and_sleeps_in_turns_pays_for_the_one_only() {
    let host = App::new(BUSY).function("compute", guests::COMPUTE).start();
    assert_eq!(host.get("/api/compute?compute=1&sleep=100&rounds=6").text(), "computed");
    assert_eq!(host.get("/api/compute?compute=5&sleep=5").status, 500);
    ended_by(&host, "cpu of 300ms");
}

#[test]
fn a_guest_that_writes_without_end_pays_for_it() {
    let host = App::new(BUSY).function("stream", guests::STREAM).start();
    assert!(!host.get("/api/stream").complete);
    ended_by(&host, "cpu of 300ms");
}

#[test]
fn each_request_to_an_instance_has_all_the_time() {
    let settings = r#"{"pool": {"reuse": 100}, "limits": {"cpu": "1s"}}"#;
    let host = App::new(settings).function("compute", guests::COMPUTE).start();
    for _ in 0..4 {
        let answer = host.get("/api/compute?compute=400&rounds=1");
        assert_eq!((answer.text().as_str(), answer.instance()["id"].as_str()), ("computed", "1"));
    }
}

#[test]
fn a_0_3_guest_that_computes_too_long_is_ended_before_and_in_its_answer() {
    let app = App::new(BUSY).function("spin", guests::P3_SPIN).function("sleep", guests::P3_COUNTER);
    for target in ["/api/spin", "/api/spin?after=1"] {
        let host = app.start();
        let answer = host.get(target);
        assert!(answer.status == 500 || !answer.complete, "{target}");
        ended_by(&host, "cpu of 300ms");
        assert_eq!(host.get("/api/sleep?ms=600").text(), "1");
    }
}

/// A component that was not tried out, as if its start function had been good then.
async fn untried(start: &str, limits: Limits) -> Arc<Guest> {
    let compiler = Arc::new(Compiler::new(env!("CARGO_BIN_EXE_flexwasm").into(), Vec::new(), 1 << 30));
    let worlds = Worlds::new(1).into();
    let loader = Loader { worlds, compiler, total_memory: 1 << 30, memories: 1, core_instances: 2, pool_size: 1 };
    let artifact = Arc::new(Artifact::new("start".to_owned(), component("start", start)).unwrap());
    let policy = Policy {
        function: "start".into(),
        log_rate: Rate::new(limits.log_rate),
        metrics: Arc::new(FunctionMetrics::new("http")),
        limits,
        share: Share::default(),
        reuse: Reuse::default(),
        grants: Grants::default(),
        client: None,
        buckets: Buckets::default(),
        parts: Vec::new(),
        machine: Arc::new(Machine::read(None)),
        made: std::time::Instant::now(),
    };
    let terms = Terms { keep: Keep::IfPossible, time: PATIENCE };
    Arc::new(loader.load(&artifact, Arc::new(policy), 1, terms).await.unwrap())
}

/// Lets a request run into a start function, for no longer than `most`; the slot is free afterwards.
async fn start(instructions: &str, limits: Limits, most: Duration) -> Option<Fault> {
    let guest = untried(instructions, limits).await;
    let pool = Pool::new(Capacity { slots: 1, queue_length: 0, queue_timeout: most, total_memory: 1 << 30 });
    let lease = pool.admit(&guest, Instant::now() + most).await.unwrap();
    let (head, body) = http::Request::new(Empty::<Bytes>::new()).into_parts();
    let invocation = Invocation {
        function: "start".into(),
        tag: Tag::new("0a1b2c3d", TraceContext::default()),
        origin: Origin { scheme: http::uri::Scheme::HTTP, authority: "a".parse().unwrap() },
        head,
        body,
        bindings: None,
    };
    let ended = timeout(most, lease.invoke(invocation)).await;
    assert_eq!(pool.occupancy().busy, 0);
    ended.ok().map(|result| result.err().unwrap())
}

#[tokio::test]
async fn a_start_function_of_a_request_has_limits_too() {
    let limits = Limits { cpu: Duration::from_millis(200), ..Limits::default() };
    let fault = start("(loop (br 0))", limits.clone(), Duration::from_secs(200)).await;
    let words = "could not be instantiated: limits.cpu of 200ms reached, in start: ";
    assert!(fault.as_ref().unwrap().to_string().starts_with(words), "{fault:?}");
    let fault = start("unreachable", limits, Duration::from_secs(200)).await;
    let words = "could not be instantiated: reached code that must not run";
    assert!(fault.as_ref().unwrap().to_string().starts_with(words), "{fault:?}");
}

#[tokio::test]
async fn a_start_function_that_computes_ends_with_whoever_waits_for_it() {
    assert_eq!(start("(loop (br 0))", Limits::default(), Duration::from_millis(100)).await, None);
}

#[test]
fn handles_are_counted() {
    let most = |handles: u32| {
        let settings = format!(r#"{{"limits": {{"handles": {handles}}}}}"#);
        let host = App::new(&settings).function("counter", guests::COUNTER).start();
        let fits = |count: &u32| host.get(&format!("/api/counter?hoard={count}")).status == 200;
        let most = (0..=handles).take_while(fits).last().unwrap();
        ended_by(&host, &format!("handles of {handles}"));
        most
    };
    assert_eq!(most(24), most(16) + 8);
}

#[test]
fn what_one_call_may_take_and_ask_for() {
    let settings = r#"{"limits": {"hostCall": "8KiB", "random": "1KiB"}}"#;
    let host = App::new(settings).function("ask", guests::ASK).start();
    assert_eq!(host.get("/api/ask?bytes=8192&random=1024").text(), "1024");
    assert_eq!(host.get("/api/ask?bytes=8193").status, 500);
    host.line(&["was ended: limits.hostCall of 8KiB reached, in ", ": raise it, or let the guest hand over less"]);
    assert_eq!(host.get("/api/ask?random=1025").status, 500);
    host.line(&["was ended: limits.random of 1KiB reached, in ", ": raise it, or let the guest ask for fewer"]);
}

#[test]
fn the_head_of_an_answer_has_so_many_lines_and_bytes() {
    let settings = r#"{"limits": {"responseHeaders": 20, "responseHead": "1KiB"}}"#;
    let host = App::new(settings).function("headers", guests::HEADERS).start();
    for (fits, beyond, limit) in [
        ("count=20&length=20", "count=21&length=20", "responseHeaders of 20"),
        ("count=16&length=64", "count=1&length=1025", "responseHead of 1KiB"),
        // wasmtime itself has had enough.
        ("count=1&length=1024", "count=20&length=2000", "responseHead of 1KiB"),
    ] {
        assert_eq!(host.get(&format!("/api/headers?{fits}")).status, 200, "{fits}");
        assert_eq!(host.get(&format!("/api/headers?{beyond}")).status, 500, "{beyond}");
        host.line(&[&format!("was ended: limits.{limit} reached")]);
    }
}

#[test]
fn the_head_of_a_request_has_so_many_bytes() {
    let host = App::new(r#"{"limits": {"requestHead": "2KiB"}}"#).function("counter", guests::COUNTER).start();
    let empty = get("/api/counter").replacen("\r\n", "\r\nX: \r\n", 1).len();
    for (length, status) in [(2048, 200), (2049, 431)] {
        let request = get("/api/counter").replacen("\r\n", &format!("\r\nX: {}\r\n", "x".repeat(length - empty)), 1);
        assert_eq!(request.len(), length);
        assert_eq!(host.connect().ask(request).status, status, "{length}");
    }
}

#[test]
fn a_component_has_so_many_core_instances() {
    let more = "(core instance (instantiate $empty))";
    let check = |count: usize| {
        let app = App::new(r#"{"limits": {"coreInstances": 3}}"#).function("only", guests::COUNTER);
        let app = app.file("only/guest.wasm", &component("more", &more.repeat(count - 1)));
        let mut command = flexwasm();
        command.arg("check").arg(app.path());
        output(command)
    };
    assert_eq!(check(3).0.code(), Some(0));
    let (status, _, stderr) = check(4);
    assert_eq!(status.code(), Some(1));
    assert!(
        stderr.contains("has 4 core instances, but limits.coreInstances allows 3 (it can be set to 1000)"),
        "{stderr}"
    );
}

/// A component whose instance has so many memories of 64 KiB; its handler answers nothing.
fn memories(count: usize) -> Vec<u8> {
    let other = "(core module $other (memory 1) (table 1 funcref))";
    component("more", &[other, &"(core instance (instantiate $other))".repeat(count - 1)].concat())
}

#[test]
fn a_component_has_so_many_memories() {
    let check = |count: usize, settings: &str| {
        let app = App::new(settings).function("only", guests::COUNTER).file("only/guest.wasm", &memories(count));
        let mut command = flexwasm();
        command.arg("check").arg(app.path());
        output(command)
    };
    assert_eq!(check(16, "{}").0.code(), Some(0));
    for (count, settings, words) in [
        (17, "{}", "has 17 memories, but limits.memories allows 16 (it can be set to 16)"),
        (
            3,
            r#"{"limits": {"memories": 2}}"#,
            "has 3 memories, but limits.memories allows 2 (it can be set to 16): raise it",
        ),
        (
            3,
            r#"{"limits": {"memory": "128KiB"}}"#,
            "needs 192KiB of memory from the start, but limits.memory allows 128KiB",
        ),
        (16, r#"{"pool": {"size": 2000}}"#, "(for a guest with 16 memories)"),
    ] {
        let (status, _, stderr) = check(count, settings);
        assert_eq!(status.code(), Some(1), "{stderr}");
        assert!(stderr.contains(words), "{stderr}");
    }
}

#[test]
fn what_a_component_makes_beyond_what_it_says_is_refused() {
    // What comes in with an import is not known before it is made.
    let hidden = |module: &str, times: usize| {
        let made = "(core instance (instantiate $m))".repeat(times);
        let inner = format!("(component $inner (import \"m\" (core module $m)) {made})");
        component(
            "more",
            &format!("{inner} {module} (instance (instantiate $inner (with \"m\" (core module $other))))"),
        )
    };
    let globals = "(global i64 (i64.const 1))".repeat(20_000);
    for (guest, words) in [
        (hidden("(core module $other (memory 0))", 3), "resource limit exceeded: memory count too high at 2"),
        (hidden("(core module $other (memory 0))", 100), "resource limit exceeded"),
        (hidden("(core module $other)", 100), "resource limit exceeded: instance count too high at 33"),
        (
            hidden(&format!("(core module $other {globals})"), 2),
            "has globals, imports, exports and elements of tables that take 10000KiB in every instance, and 4MiB is the most",
        ),
    ] {
        let app = App::new("{}").function("only", guests::COUNTER).file("only/guest.wasm", &guest);
        let mut command = flexwasm();
        command.arg("check").arg(app.path());
        let (status, _, stderr) = output(command);
        assert_eq!(status.code(), Some(1), "{stderr}");
        assert!(stderr.contains(words), "{stderr}");
    }
}

#[test]
fn guests_of_one_and_of_several_memories_serve_side_by_side_and_take_turns() {
    let app = App::new(r#"{"pool": {"size": 4}}"#).function("plain", guests::COUNTER);
    let app = app.function("two", guests::COUNTER).file("two/guest.wasm", &memories(2));
    let app = app.function("eight", guests::COUNTER).file("eight/guest.wasm", &memories(8));
    let app = app.function("many", guests::COUNTER).file("many/guest.wasm", &memories(300));
    let host = app.start();
    assert_eq!(host.get("/api/plain").text(), "1");
    for function in ["two", "eight"] {
        assert_eq!(host.get(&format!("/api/{function}")).status, 500);
        host.line(&[function, "returned without setting a response"]);
    }
    assert_eq!(host.get("/api/many").status, 503);
    assert_eq!(host.get("/api/plain").text(), "1");
    // What served has one memory, what comes has two.
    std::fs::write(app.path().join("plain/guest.wasm"), memories(2)).unwrap();
    host.line(&["plain", "swapped: generation 2"]);
    assert_eq!(host.get("/api/plain").status, 500);
}

#[test]
fn a_flood_of_short_requests_does_not_fill_the_log() {
    let settings = r#"{"limits": {"logRate": "16KiB"}}"#;
    let app = App::new(settings).function("flood", guests::PRINT).function("other", guests::PRINT);
    let mut host = app.start();
    for _ in 0..20 {
        assert_eq!(host.get("/api/flood?bytes=4000").text(), "printed");
    }
    let line =
        host.line(&["WARN guest: ", "function=flood", "output beyond limits.logRate (16KiB per second) was dropped: "]);
    let dropped = line.split("dropped: ").nth(1).unwrap().split(' ').next().unwrap();
    // Of eighty thousand bytes and what belongs to them; a second may end in between.
    assert!((30_000..90_000).contains(&dropped.parse::<u64>().unwrap()), "{line}");
    let logged = host.log().iter().filter(|line| line.contains("function=flood") && line.contains("yyyy")).count();
    assert!((2..10).contains(&logged), "{logged} of 20 lines");
    assert_eq!(host.get("/api/other?bytes=4000").text(), "printed");
    host.line(&["guest: function=other", "yyyy"]);
    host.signal("TERM");
    assert_eq!(host.exit_code(), 0);
    assert!(!host.log().iter().any(|line| line.contains("function=other") && line.contains("limits.logRate")));
}

#[test]
fn a_limit_that_cannot_work_is_refused() {
    for (key, value, words) in [
        ("cpu", "0s", "write a whole number above 0 with a unit"),
        ("handles", "15", "must be a whole number from 16 to 100000"),
        ("hostCall", "4095B", "must be a size from 4KiB to 1GiB"),
        ("random", "31B", "must be a size from 32B to 16MiB"),
        ("responseHeaders", "0", "must be a whole number from 1 to 10000"),
        ("responseHead", "2MiB", "must be a size from 1KiB to 1MiB"),
        ("logRate", "15KiB", "must be a size from 16KiB to 1GiB"),
        ("coreInstances", "0", "must be a whole number from 1 to 1000"),
        ("requestHead", "257KiB", "must be a size from 1KiB to 256KiB"),
    ] {
        let app = App::new("{}").function("counter", guests::COUNTER);
        let mut command = flexwasm();
        command.arg("check").arg(app.path()).env(format!("flexwasm__limits__{key}"), value);
        let (status, _, stderr) = output(command);
        assert_eq!(status.code(), Some(1), "{key}");
        assert!(stderr.contains(&format!("flexwasm__limits__{key}: {words}")), "{stderr}");
    }
}
