//! Every template of `flexwasm new`: packed, run as on the plan, and served by its own test; and a server of MCP is used by the official client.
//! What takes long is done once: an app is built once and compiled once, and what cargo, npm and pip have fetched or built for one app serves
//! the others.

use crate::support::{Host, ID, Response, binary, flexwasm, get, output, post, repository};
use crate::tool::{Place, refused};
use crate::{mcp, package};
use flexwasm::config::digest::Digest;
use serde_json::Value;
use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use zip::ZipArchive;

/// The command with the tools of this machine.
fn with_tools(command: &mut Command) -> &mut Command {
    for name in ["PATH", "HOME", "CARGO_HOME", "RUSTUP_HOME", "RUSTUP_TOOLCHAIN"] {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    // Where the repository's own guests are built.
    command.env("CARGO_TARGET_DIR", repository().join("target/guests"))
}

/// Runs `flexwasm build` or another command that builds, for the app whose function is in this folder. The first of a language installs what
/// all of them need.
fn build(build: Command, function: &Path) {
    static ONE: Mutex<()> = Mutex::new(());
    let manifest = function.join("Cargo.toml");
    let lent = [("node_modules", "package-lock.json"), (".venv", "requirements.txt")];
    let lent = lent.into_iter().find(|(_, names)| function.join(names).exists());
    let lent = lent.map(|(packages, names)| {
        let digest = Digest::of(&fs::read(function.join(names)).unwrap());
        (function.join(packages), repository().join(format!("target/templates/{}/{packages}", digest.short())))
    });
    let one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((packages, shared)) = &lent {
        if !packages.exists() && shared.exists() {
            symlink(shared, packages).unwrap();
        }
    } else if !function.join("Cargo.lock").exists() {
        // The versions that the repository's guests have, under a name that no other guest in that folder has.
        fs::copy(repository().join("Cargo.lock"), function.join("Cargo.lock")).unwrap();
        let text = fs::read_to_string(&manifest).unwrap();
        let name = format!("name = \"template-{}\"", function.file_name().unwrap().display());
        fs::write(&manifest, text.replacen("name = \"guest\"", &name, 1)).unwrap();
    }
    let (status, _, stderr) = output(build);
    assert!(status.success(), "{}: {stderr}", function.display());
    if let Some((packages, shared)) = lent
        && !shared.exists()
    {
        fs::create_dir_all(shared.parent().unwrap()).unwrap();
        // To another file system, perhaps.
        assert!(Command::new("mv").args([&packages, &shared]).status().unwrap().success());
        symlink(shared, packages).unwrap();
    }
    drop(one);
}

/// The trigger and the style of a template, what its function is sent, and whether that is the answer.
type Template = (&'static str, &'static str, fn(&str) -> String, fn(&Response) -> bool);

const HTTP: Template = ("http", "bindings", hello, greets);
const AXUM: Template = ("http", "axum", hello, greets);
const TIMER: Template = (
    "timer",
    "bindings",
    |name| event(name, r#"{"timer": {"Schedule": {}, "ScheduleStatus": null, "IsPastDue": false}}"#),
    says_what_it_took,
);
const QUEUE: Template = ("queue", "bindings", |name| event(name, r#"{"item": "\"Ada\""}"#), says_what_it_took);
const MCP: Template = (
    "mcp",
    "bindings",
    |name| post(&format!("/api/{name}"), r#"{"jsonrpc": "2.0", "id": 1, "method": "tools/list"}"#),
    |answer| ["what_am_i_running_on", "slow_work"].iter().all(|tool| answer.text().contains(tool)),
);

fn hello(name: &str) -> String {
    get(&format!("/api/{name}?name=Ada"))
}

fn greets(answer: &Response) -> bool {
    answer.text() == "Hello, Ada!\n"
}

fn event(name: &str, data: &str) -> String {
    let envelope = format!(r#"{{"Data": {data}, "Metadata": {{"sys": {{"MethodName": "{name}"}}}}}}"#);
    let head = format!("POST /{name} HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Azure-Functions-InvocationId: {ID}\r\n");
    format!("{head}Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{envelope}", envelope.len())
}

fn says_what_it_took(answer: &Response) -> bool {
    let told: Value = serde_json::from_slice(&answer.body).unwrap();
    told["Logs"].as_array().unwrap().iter().any(|line| line.as_str().unwrap().starts_with("took "))
}

/// A search path for those who write JavaScript: there is no Rust on it.
fn without_rust(place: &Path) -> PathBuf {
    let folder = place.join("without-rust");
    fs::create_dir(&folder).unwrap();
    let path = std::env::var_os("PATH").unwrap();
    let programs = ["node", "npm", "sh", "env", "curl", "grep", "mktemp", "cat", "sleep", "dirname", "rm"];
    for program in programs {
        let found = std::env::split_paths(&path).map(|folder| folder.join(program)).find(|file| file.exists());
        symlink(found.unwrap_or_else(|| panic!("{program} is missing")), folder.join(program)).unwrap();
    }
    folder
}

/// The apps of this language, each with its own name.
fn all_of(language: &str, templates: &[Template]) {
    let place = Place::new();
    let here = place.folder.path();
    let released = here.join("released");
    ZipArchive::new(File::open(package::package()).unwrap()).unwrap().extract(&released).unwrap();
    let path = (language == "javascript").then(|| without_rust(here));
    let mut before: Option<(PathBuf, PathBuf)> = None;
    for (trigger, style, sent, fits) in templates {
        let name = format!("{trigger}-{language}-{style}");
        let app = place.app_with(&name, &["--language", language, "--trigger", trigger, "--style", style]);
        let function = app.join(&name);
        // A timer's guest and that of a queue are the same, and are built and compiled once.
        let source = function.join(match language {
            "rust" => "src/lib.rs",
            "javascript" => "app.js",
            _ => "app.py",
        });
        if let Some((other, guests)) = &before
            && fs::read(other).unwrap() == fs::read(&source).unwrap()
        {
            for guest in ["guest.wasm", "guest.cwasm"] {
                fs::copy(guests.join(guest), function.join(guest)).unwrap();
            }
        }

        // What a guest may read is in the package, too.
        fs::create_dir_all(app.join("data/more")).unwrap();
        fs::write(app.join("data/more/file"), "text").unwrap();
        let host_json = fs::read_to_string(app.join("host.json")).unwrap();
        let granted = r#""flexwasm": {"grants": {"dirs": ["data"]}}"#;
        fs::write(app.join("host.json"), host_json.replace(r#""flexwasm": {}"#, granted)).unwrap();

        let command = |program: &Path, arguments: &[&str]| {
            let mut command = Command::new(program);
            let known = flexwasm();
            command.env_clear().envs(known.get_envs().filter_map(|(name, value)| Some((name, value?))));
            with_tools(command.current_dir(&app).args(arguments)).env("FLEXWASM", binary());
            if let Some(path) = &path {
                let downloads = Path::new(&std::env::var_os("HOME").unwrap()).join(".npm");
                command.env("PATH", path).env("HOME", here).env("npm_config_cache", downloads);
            }
            command
        };
        build(command(&released.join("flexwasm"), &["package"]), &function);
        let zip = app.join("dist/flexwasm.zip");
        let mut packed = ZipArchive::new(File::open(&zip).unwrap()).unwrap();
        assert!(packed.index_for_name("data/more/file").is_some());
        let code = format!("{name}/guest.cwasm");
        std::io::copy(&mut packed.by_name(&code).unwrap(), &mut File::create(app.join(&code)).unwrap()).unwrap();

        let (status, stdout, stderr) = output(command(&app.join("test.sh"), &[]));
        assert!(status.success() && stdout.ends_with("passed\n"), "{name}: {stdout}{stderr}");
        // Nothing is refused, or wrong.
        let (status, stdout, stderr) = output(command(&binary(), &["check"]));
        assert!(status.success(), "{name}: {stdout}{stderr}");

        let unpacked = tempfile::tempdir().unwrap();
        let host = package::on_the_plan(&zip, unpacked.path());
        let answer = host.connect().ask(sent(&name));
        assert!(answer.status == 200 && fits(&answer), "{name}: {}", answer.text());
        if *trigger == "mcp" {
            let mut serve = command(&binary(), &["--listen", "127.0.0.1:0"]);
            serve.envs(mcp::SETTINGS);
            mcp::serves_the_official_client_and_survives_a_trap(&Host::announced(serve), &name);
        }
        before = Some((source, function));
    }
}

#[test]
#[ignore = "needs target/package-test/flexwasm.zip, target/mcp, node, unshare and a network: cargo xtask test"]
fn every_template_in_rust_is_packed_runs_on_the_plan_and_passes_its_own_test() {
    all_of("rust", &[HTTP, AXUM, TIMER, QUEUE, MCP]);
}

#[test]
#[ignore = "needs target/package-test/flexwasm.zip, target/mcp, unshare, node, npm and a network: cargo xtask test"]
fn every_template_in_javascript_is_packed_runs_on_the_plan_and_passes_its_own_test() {
    all_of("javascript", &[HTTP, TIMER, QUEUE, MCP]);
}

#[test]
#[ignore = "needs target/package-test/flexwasm.zip, unshare, python3 and a network: cargo xtask test"]
fn every_template_in_python_is_packed_runs_on_the_plan_and_passes_its_own_test() {
    all_of("python", &[HTTP, TIMER, QUEUE]);
}

#[test]
#[ignore = "needs node, npm, python3 with venv and a network: cargo xtask test"]
fn a_guest_can_import_what_its_function_has() {
    let granted = include_str!("../../../examples/grants/counter/function.json");
    let queue = r#"{"scriptFile": "guest.wasm", "bindings": [{"type": "queueTrigger", "direction": "in", "name": "item", "queueName": "in"}]}"#;
    let asks = "import { getTrigger } from 'flexwasm:host/bindings@0.1.0';
        addEventListener('fetch', (event) => event.respondWith(new Response(getTrigger().name)));";
    let place = Place::new();
    for (name, language, script, text, function_json, interface) in [
        (
            "stores-js",
            "javascript",
            "app.js",
            include_str!("../../../examples/grants/grants.js"),
            granted,
            "wasi:keyvalue/atomics",
        ),
        (
            "stores-python",
            "python",
            "app.py",
            include_str!("../../../examples/grants/grants.py"),
            granted,
            "wasi:keyvalue/atomics",
        ),
        ("bindings-js", "javascript", "app.js", asks, queue, "flexwasm:host/bindings"),
    ] {
        let app = place.app_with(name, &["--language", language]);
        let function = app.join(name);
        fs::write(function.join("function.json"), function_json).unwrap();
        fs::write(function.join(script), text).unwrap();
        let mut command = flexwasm();
        with_tools(command.current_dir(&app).arg("build")).env("COUNTER_STORE", "memory");
        build(command, &function);
        let guest = fs::read(function.join("guest.wasm")).unwrap();
        assert!(guest.windows(interface.len()).any(|part| part == interface.as_bytes()), "{name}");
    }
}

#[test]
#[ignore = "needs node, npm and python3 with venv: cargo xtask test"]
fn installers_without_a_network_are_told_in_one_line_and_leave_nothing() {
    let place = Place::new();
    // Nobody listens there: port 1 is for root.
    for (language, setting, words) in [
        ("javascript", "npm_config_registry", ["javascript: npm cannot install", "ECONNREFUSED"]),
        ("python", "PIP_INDEX_URL", ["python: pip cannot install", "componentize-py"]),
    ] {
        let app = place.app_with(language, &["--language", language]);
        let mut build = place.flexwasm(&app, &["build"]);
        // A home without a cache.
        with_tools(&mut build).env("HOME", place.folder.path()).env(setting, "http://127.0.0.1:1/");
        refused(build, &app, 1, &words);
    }
}
