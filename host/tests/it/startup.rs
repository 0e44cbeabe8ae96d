//! What happens before the first request: phases, and guests that are not there yet.

use crate::support::{App, Client, Host, PATIENCE, component, eventually, flexwasm, guests};
use flexwasm::app;
use flexwasm::config::{self, Circumstances, Config};
use flexwasm::observe::machine::Machine;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// The app's configuration, without a cache folder.
pub fn config(app: &App) -> Config {
    let listen = Some("127.0.0.1:0".parse().unwrap());
    let given =
        Circumstances { machine_memory: 1 << 30, listen, cache_folders: Vec::new(), control_sockets: Vec::new() };
    let mut config = config::load(app.path(), config::AppSettings::new(), &given).unwrap();
    config.compiler = env!("CARGO_BIN_EXE_flexwasm").into();
    config
}

#[test]
fn a_guest_that_loads_slowly_delays_nobody_else() {
    // The trial of its start function lasts as long as it may. How long that is decides when everybody is loaded.
    let app = App::new("{}").function("counter", guests::COUNTER).routed(
        "slow",
        guests::COUNTER,
        r#""authLevel": "anonymous""#,
        r#"{"limits": {"timeout": "3s"}}"#,
    );
    let app = app.file("slow/guest.wasm", &component("start", "(loop (br 0))"));
    let mut config = config(&app);
    config.ready_within = Duration::ZERO;
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let host = runtime.block_on(app::App::build(config, Arc::new(Machine::read(None)))).unwrap();
    let port = host.address().port();
    runtime.spawn(host.run());
    let get = |path: &str| Client::connect(port).get(path);

    let answer = get("/api/slow");
    assert_eq!((answer.status, answer.reason().as_str()), (503, "guest-loading"));
    assert_eq!(answer.header("retry-after"), Some("1"));
    eventually("the good guest serves", || get("/api/counter").status == 200);
    eventually("the slow guest is given up", || get("/api/slow").reason() == "guest-not-loaded");
    assert_eq!(get("/api/counter").text(), "1");
    runtime.shutdown_background();
}

#[test]
fn the_process_ends_when_the_last_guest_turns_out_to_be_broken() {
    let app = App::new(r#"{"limits": {"timeout": "500ms"}}"#).function("only", guests::COUNTER);
    let app = app.file("only/guest.wasm", &component("start", "(loop (br 0))"));
    let mut config = config(&app);
    config.ready_within = Duration::ZERO;
    let socket = app.path().join("run/control.sock");
    config.control_sockets = vec![socket.clone()];
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let ended = runtime.block_on(async {
        let host = app::App::build(config, Arc::new(Machine::read(None))).await.unwrap();
        assert!(socket.exists());
        tokio::time::timeout(PATIENCE, host.run()).await.unwrap()
    });
    assert!(!socket.exists(), "nobody answers there any more");
    let why = ended.unwrap_err();
    assert!(
        why.contains("function only: ") && why.contains("its start functions did not end, limits.timeout"),
        "{why}"
    );
}

#[test]
fn a_compiler_that_dies_costs_its_function_only() {
    let app = App::new("{}").function("only", guests::COUNTER).file("dies", b"#!/bin/sh\nkill -9 $$\n");
    std::fs::set_permissions(app.path().join("dies"), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let dies = app.path().join("dies");
    for (compiler, words) in [
        (dies.as_path(), "its compiler was ended by signal 9"),
        (Path::new("/bin/false"), "is not a valid component, or uses what this host does not support: "),
        (Path::new("/bin/true"), "its compiled file is not a compiled guest, or is cut off"),
        (Path::new("/nowhere/flexwasm"), "cannot start a process to compile it: No such file"),
    ] {
        let mut config = config(&app);
        config.compiler = compiler.into();
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let Err(why) = runtime.block_on(app::App::build(config, Arc::new(Machine::read(None)))) else {
            panic!("{} compiled", compiler.display());
        };
        assert!(why.contains(words), "{words:?} is not in {why}");
    }
}

#[test]
fn a_broken_guest_is_told_in_one_line() {
    let told = |host: &Host| {
        let lines = [host.stdout(), host.stderr()].concat();
        // The closing line of a request that finds no guest says why too.
        let of_start =
            |line: &String| line.contains("function broken: ") && line.contains("is not a WebAssembly component");
        lines.into_iter().filter(of_start).collect::<Vec<_>>()
    };
    let app = App::new("{}").function("broken", guests::COUNTER).file("broken/guest.wasm", b"rubbish");
    let mut host = app.spawn(crate::support::free_port(), &[]);
    assert_eq!(host.exit_code(), 1);
    assert_eq!(told(&host).len(), 1, "{:?}", told(&host));
    let app = app.function("counter", guests::COUNTER);
    let host = app.start();
    host.line(&["ERROR", "function broken: "]);
    assert_eq!(host.get("/api/broken").reason(), "guest-not-loaded");
    assert_eq!(told(&host).len(), 1, "{:?}", told(&host));
}

#[test]
fn the_log_tells_as_much_as_it_is_asked_to() {
    let app = App::new("{}").function("counter", guests::COUNTER);
    let host = app.start_with(&[("flexwasm__log__level", "debug")]);
    for phase in [
        "machine",
        "configuration",
        "claim",
        "engine and linker of WASI 0.2",
        "code of counter",
        "trial of counter",
        "listen",
    ] {
        host.line(&["DEBUG startup: ", &format!("phase=\"{phase}\" ms=")]);
    }
    let mut host = App::new(r#"{"log": {"level": "error"}}"#).function("counter", guests::COUNTER).start();
    assert_eq!(host.get("/api/counter").text(), "1");
    host.signal("TERM");
    assert_eq!(host.exit_code(), 0);
    assert_eq!(host.stdout(), Vec::<String>::new());

    let mut command = flexwasm();
    command.args(["serve", "--listen", "127.0.0.1:0", "--log-level", "debug", guests::COUNTER]);
    Host::announced(command).line(&["startup: phase=\"listen\""]);
}
