//! The process that compiles guests: what bounds it, and who waits for it.

use crate::sources;
use crate::startup::config;
use crate::support::{App, Client, eventually, flexwasm, guests, output};
use crate::swap::{answer, marked};
use flexwasm::app;
use flexwasm::config::{AppSettings, Config};
use flexwasm::control;
use flexwasm::observe::machine::Machine;
use serde_json::json;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use tokio::runtime::Runtime;

/// A compiler that notes its process id in `pids` and waits for as long as there is a file `hang`.
fn hesitant(app: &App) -> PathBuf {
    let (folder, real) = (app.path().display(), env!("CARGO_BIN_EXE_flexwasm"));
    let script = format!(
        "#!/bin/sh\necho $$ >> {folder}/pids\nwhile [ -e {folder}/hang ]; do /bin/sleep 0.02; done\nexec {real} \"$@\"\n"
    );
    fs::write(app.path().join("script"), script).unwrap();
    let compiler = app.path().join("compiler");
    // By another process: a file that this one holds open while a test beside it forks could not be run.
    let made = Command::new("install").arg("-m755").arg(app.path().join("script")).arg(&compiler).status().unwrap();
    assert!(made.success());
    compiler
}

fn pids(app: &App) -> Vec<String> {
    fs::read_to_string(app.path().join("pids")).unwrap_or_default().lines().map(str::to_owned).collect()
}

fn has_ended(pid: &str) -> bool {
    !Path::new("/proc").join(pid).exists()
}

/// What is said of an app whose guests all turn out to be broken.
fn broken(config: Config) -> String {
    let build = app::App::build(config, Arc::new(Machine::read(None)));
    Runtime::new().unwrap().block_on(build).err().expect("no guest works")
}

#[test]
fn a_compilation_that_does_not_end_is_ended_once_for_all_who_wait() {
    let (trigger, settings) = (r#""authLevel": "anonymous""#, r#"{"guest": {"compileTimeout": "1s"}}"#);
    let app = App::new("{}").file("hang", b"").routed("a", guests::COUNTER, trigger, settings);
    let app = app.routed("b", guests::COUNTER, trigger, settings);
    let mut config = config(&app);
    config.compiler = hesitant(&app);
    for attempts in [1, 2] {
        let why = broken(config.clone());
        let told = why.lines().filter(|line| line.contains("guest.compileTimeout of 1s reached: raise it")).count();
        assert_eq!(told, 2, "{why}");
        assert_eq!(pids(&app).len(), attempts, "one for both");
    }
    assert!(pids(&app).iter().all(|pid| has_ended(pid)));
}

#[test]
fn a_guest_that_was_not_compiled_in_time_is_fetched_and_compiled_again() {
    let settings =
        json!({"guest": {"source": sources::number_one(), "poll": "1s", "compileTimeout": "1s"}}).to_string();
    let app = App::new("{}").file("hang", b"").routed("only", guests::MARKER, r#""authLevel": "anonymous""#, &settings);
    let app = app.file("only/guest.wasm", &marked(9));
    // The app's own guest needs no compiler.
    let mut compile = flexwasm();
    compile.arg("compile").arg(app.path().join("only/guest.wasm"));
    assert!(output(compile).0.success());
    let mut config = config(&app);
    config.compiler = hesitant(&app);
    let runtime = Runtime::new().unwrap();
    let host = runtime.block_on(app::App::build(config, Arc::new(Machine::read(None)))).unwrap();
    let port = host.address().port();
    runtime.spawn(host.run());
    let served = || Client::connect(port).get("/api/only").text();
    assert_eq!(served(), answer(9));
    assert_eq!(pids(&app).len(), 1);
    fs::remove_file(app.path().join("hang")).unwrap();
    eventually("the guest of the source serves", || served() == answer(1));
    runtime.shutdown_background();
}

#[test]
fn a_guest_whose_compilation_takes_too_much_memory_is_refused() {
    let app = App::new("{}").function("only", guests::COUNTER);
    let mut config = config(&app);
    config.compiler_memory = 64 << 20;
    let why = broken(config);
    assert!(
        why.contains("takes more than the 64MiB of memory that its compiler may use here: compile it with"),
        "{why}"
    );
}

#[test]
fn the_compiler_is_bounded_and_the_first_to_go() {
    let mut command = flexwasm();
    command.args(["compile-for-host", "123456789", "7"]).stdin(Stdio::piped()).stdout(Stdio::null());
    let mut compiler = command.spawn().unwrap();
    let read = |name: &str| fs::read_to_string(format!("/proc/{}/{name}", compiler.id())).unwrap();
    let limit = |name: &str| {
        let limits = read("limits");
        let line = limits.lines().find_map(|line| line.strip_prefix(name)).unwrap().to_owned();
        line.split_whitespace().next().unwrap().to_owned()
    };
    // It waits for its input.
    eventually("it is bounded", || limit("Max cpu time") != "unlimited");
    assert_eq!(limit("Max data size"), "123456789");
    assert_eq!(limit("Max cpu time").parse::<usize>().unwrap() % 7, 0);
    assert_eq!(read("oom_score_adj").trim(), "1000");
    compiler.kill().unwrap();
    compiler.wait().unwrap();
}

#[test]
fn swaps_that_are_given_up_leave_no_compiler_and_a_rollback_waits_for_none() {
    let app = App::new("{}").function("only", guests::MARKER).file("only/guest.wasm", &marked(1));
    let mut config = config(&app);
    config.compiler = hesitant(&app);
    let settings: AppSettings =
        [("XDG_RUNTIME_DIR".to_owned(), crate::support::runtime().display().to_string())].into();
    config.control_sockets = control::sockets(app.path(), &settings).unwrap();
    let runtime = Runtime::new().unwrap();
    let host = runtime.block_on(app::App::build(config, Arc::new(Machine::read(None)))).unwrap();
    let port = host.address().port();
    runtime.spawn(host.run());
    let served = || Client::connect(port).get("/api/only").text();
    let command = |arguments: &[&str]| {
        let mut command = flexwasm();
        command.args(arguments).current_dir(app.path());
        command
    };
    for number in [2, 3] {
        fs::write(app.path().join(format!("{number}.wasm")), marked(number)).unwrap();
    }
    assert!(output(command(&["swap", "only", "2.wasm"])).0.success());
    assert_eq!(served(), answer(2));

    fs::write(app.path().join("hang"), "").unwrap();
    let begin = || {
        let before = pids(&app).len();
        let swap = command(&["swap", "only", "3.wasm"]).stderr(Stdio::piped()).spawn().unwrap();
        eventually("it is being compiled", || pids(&app).len() > before);
        swap
    };
    // More than may be compiled at the same time.
    for _ in 0..3 {
        let mut swap = begin();
        swap.kill().unwrap();
        swap.wait().unwrap();
        eventually("its compiler ends", || pids(&app).last().is_some_and(|pid| has_ended(pid)));
    }

    let swap = begin();
    let (status, said, stderr) = output(command(&["rollback", "only"]));
    assert!(status.success(), "{said}{stderr}");
    assert_eq!(served(), answer(1));
    fs::remove_file(app.path().join("hang")).unwrap();
    let ended = swap.wait_with_output().unwrap();
    let said = String::from_utf8(ended.stderr).unwrap();
    assert_eq!(ended.status.code(), Some(1), "{said}");
    assert!(said.contains("was not published, because a rollback came first"), "{said}");
    assert_eq!(served(), answer(1));
    runtime.shutdown_background();
}
