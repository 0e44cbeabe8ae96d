//! An app before it is deployed: made, built, served while it is edited, and packed. Where the tools of a language are not what is
//! tested, others stand in for them.

use crate::support::{App, Host, eventually, flexwasm, guests, marked, marked_answer, output};
use flexwasm::config::{AppSettings, Circumstances, Config};
use flexwasm::tool::pack;
use serde_json::Value;
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use zip::ZipArchive;

/// A folder for apps, and one with programs that stand in for others.
pub struct Place {
    pub folder: tempfile::TempDir,
}

impl Place {
    pub fn new() -> Self {
        let place = Self { folder: tempfile::tempdir().unwrap() };
        fs::create_dir(place.programs()).unwrap();
        place
    }

    fn programs(&self) -> PathBuf {
        self.folder.path().join("programs")
    }

    /// A shell script that stands in for a program.
    fn program(&self, name: &str, script: &str) {
        let path = self.programs().join(name);
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// An app, as `flexwasm new` makes it.
    fn app(&self, name: &str, language: &str) -> PathBuf {
        self.app_with(name, &["--language", language])
    }

    /// The same with these arguments.
    pub fn app_with(&self, name: &str, arguments: &[&str]) -> PathBuf {
        let mut new = flexwasm();
        new.current_dir(self.folder.path()).args(["new", name]).args(arguments);
        let (status, _, stderr) = output(new);
        assert!(status.success(), "{stderr}");
        self.folder.path().join(name)
    }

    /// The command in the app's folder, with nothing to find but the programs that stand in, and the shell's.
    pub fn flexwasm(&self, app: &Path, arguments: &[&str]) -> Command {
        let mut command = flexwasm();
        command.current_dir(app).args(arguments).env("PATH", format!("{}:/bin", self.programs().display()));
        command
    }
}

/// The files below a folder, by path.
fn files(folder: &Path) -> Vec<PathBuf> {
    let (mut folders, mut found) = (vec![folder.to_owned()], Vec::new());
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { folders.push(path) } else { found.push(path) }
        }
    }
    found.sort();
    found
}

/// Fails with one line that has all of these words, and leaves the folder as it was.
#[track_caller]
pub fn refused(command: Command, folder: &Path, code: i32, words: &[&str]) {
    let before = files(folder);
    let (status, stdout, stderr) = output(command);
    assert_eq!((status.code(), stdout.as_str()), (Some(code), ""), "{stderr}");
    let last = stderr.lines().last().unwrap_or_default();
    assert_eq!(stderr.lines().filter(|line| !is_progress(line)).count(), 1, "{stderr}");
    for word in words {
        assert!(last.contains(word), "{word} is not in {stderr}");
    }
    assert_eq!(files(folder), before, "something is half-made");
}

fn is_progress(line: &str) -> bool {
    line.contains(": installing what ") || line.contains(": building the guest with ")
}

#[test]
fn a_new_app_is_told_what_to_do_next_and_never_replaces_another() {
    let place = Place::new();
    let here = place.folder.path();
    let mut new = flexwasm();
    let (status, stdout, stderr) = output({
        new.current_dir(here).args(["new", "hello", "--language", "python"]);
        new
    });
    assert!(status.success(), "{stderr}");
    let next = format!("  cd hello && {} run --watch\n", crate::support::binary().display());
    assert!(stdout.ends_with(&next), "{stdout}");
    for (arguments, code, words) in [
        (&["new", "hello"][..], 1, &["hello is there already"][..]),
        (&["new", "a b"], 2, &["\"a b\" cannot be the name", "flexwasm new a-b"]),
        (&["new", "../x"], 2, &["flexwasm new x"]),
        (&["new", "node_modules"], 2, &["flexwasm new my-node_modules"]),
        (&["new", "-x"], 2, &["flexwasm new x"]),
        (
            &["new", "x", "--language", "python", "--trigger", "mcp"],
            2,
            &["flexwasm new x --trigger mcp --language javascript"],
        ),
        (&["new", "x", "--language", "python", "--style", "axum"], 2, &["flexwasm new x --style axum"]),
    ] {
        let mut command = flexwasm();
        command.current_dir(here).args(arguments);
        refused(command, here, code, words);
    }
}

#[test]
fn what_is_no_app_or_has_no_source_is_said_in_one_line() {
    let place = Place::new();
    let nothing = place.folder.path().join("nothing");
    fs::create_dir(&nothing).unwrap();
    for command in ["build", "run"] {
        let words = ["host.json: not found", "flexwasm new NAME"];
        refused(place.flexwasm(&nothing, &[command]), &nothing, 1, &words);
    }
    let app = place.app("app", "rust");
    fs::remove_file(app.join("app/Cargo.toml")).unwrap();
    refused(place.flexwasm(&app, &["build"]), &app, 1, &["no function has a source here", "flexwasm new NAME"]);
}

/// Every command that can fail for want of an app, of a file or of a host says so in one line, and what to do, and makes nothing.
#[test]
fn what_fails_ends_with_what_to_do_next() {
    const APP: &str = "run flexwasm in the folder of your app, or make one with `flexwasm new NAME`";
    const GUEST: &str = "check the path, and that the guest has been built";
    const HOST: &str = "start it with `flexwasm run`, or name its folder with --app";
    const USAGE: &str = "see flexwasm deploy --help";
    let place = Place::new();
    let nothing = place.folder.path().join("nothing");
    fs::create_dir(&nothing).unwrap();
    // Nobody listens there: port 1 is for root.
    for (line, code, remedy) in [
        ("", 1, APP),
        ("run", 1, APP),
        ("build", 1, APP),
        ("package", 1, APP),
        ("check", 1, APP),
        ("check missing", 1, APP),
        ("explain", 1, APP),
        ("send f", 1, APP),
        ("check --package missing.zip", 1, "make it with `flexwasm package`"),
        ("compile missing.wasm", 1, GUEST),
        ("serve missing.wasm", 1, GUEST),
        ("swap f missing.wasm", 1, GUEST),
        ("rollback f", 1, HOST),
        ("top", 1, HOST),
        ("timeline", 1, "set log.requests to \"all\""),
        ("plan --from-log missing", 1, "name the file of a log"),
        ("burst http://127.0.0.1:1/ 1 0", 1, "check the URL, and that the app runs there"),
        ("doctor http://127.0.0.1:1/", 1, "check the URL, and that the app runs there"),
        ("deploy", 2, USAGE),
        ("deploy --app missing app", 2, USAGE),
    ] {
        let arguments: Vec<_> = line.split_whitespace().collect();
        refused(place.flexwasm(&nothing, &arguments), &nothing, code, &[remedy]);
    }
    // A command line that is wrong is explained by its own help.
    for line in
        ["frobnicate", "new", "new x --language go", "plan --rps 1", "completions tcsh", "burst", "run --port 1"]
    {
        let (status, stdout, stderr) = output(place.flexwasm(&nothing, &line.split_whitespace().collect::<Vec<_>>()));
        assert_eq!((status.code(), stdout.as_str()), (Some(2), ""), "{line}: {stderr}");
        assert!(stderr.ends_with("try '--help'.\n"), "{line}: {stderr}");
    }
    assert_eq!(files(&nothing), [] as [PathBuf; 0]);
}

#[test]
fn deploying_without_the_azure_cli_says_where_to_get_it() {
    let place = Place::new();
    let app = place.app("app", "rust");
    let words = ["az is needed", "https://learn.microsoft.com/cli/azure/install-azure-cli"];
    refused(place.flexwasm(&app, &["deploy", "app"]), &app, 1, &words);
    let mut deploy = place.flexwasm(&app, &["deploy", "app"]);
    deploy.env("PATH", place.programs());
    refused(deploy, &app, 1, &["bash is needed", "run the same command again"]);
    let (status, stdout, stderr) = output(place.flexwasm(&app, &["deploy", "--dry-run", "app"]));
    assert!(status.success() && stdout.contains("\n+ flexwasm package\n"), "{stdout}{stderr}");
    let (status, stdout, _) = output(place.flexwasm(&app, &["deploy", "--help"]));
    assert!(status.success() && stdout.starts_with("Usage: flexwasm deploy [OPTIONS] [NAME]"), "{stdout}");
}

#[test]
fn a_tool_that_is_missing_is_named_with_what_to_install() {
    let place = Place::new();
    for (language, words) in [
        ("rust", ["cargo is needed", "https://rustup.rs"]),
        ("javascript", ["node is needed", "https://nodejs.org"]),
        ("python", ["python3 is needed", "https://www.python.org"]),
    ] {
        let app = place.app(language, language);
        let mut build = place.flexwasm(&app, &["build"]);
        build.env("PATH", place.programs());
        refused(build, &app, 1, &words);
    }
    let app = place.app("app", "javascript");
    place.program("node", "exit 1");
    let mut build = place.flexwasm(&app, &["build"]);
    build.env("PATH", place.programs());
    refused(build, &app, 1, &["npm is needed", "https://nodejs.org"]);
}

#[test]
fn a_target_that_is_missing_is_named_with_the_command_that_adds_it() {
    let place = Place::new();
    let app = place.app("app", "rust");
    place.program("cargo", "exit 1");
    place.program("rustc", &format!("echo {}", place.folder.path().display()));
    refused(place.flexwasm(&app, &["build"]), &app, 1, &["rustup target add wasm32-wasip2"]);
}

#[test]
fn an_installer_that_fails_leaves_nothing_and_one_line() {
    let place = Place::new();
    place.program("node", "exit 1");
    place.program(
        "npm",
        "mkdir -p node_modules/half; echo 'npm error code ENOTFOUND' >&2; \
         echo 'npm error network request to https://registry.npmjs.org/esbuild failed, reason: ENOTFOUND' >&2; exit 1",
    );
    // Makes an environment whose pip fails.
    place.program(
        "python3",
        "mkdir -p .venv/bin; printf '#!/bin/sh\\necho ERROR: No matching distribution >&2; exit 1\\n' >.venv/bin/python; \
         chmod +x .venv/bin/python",
    );
    let app = place.app("js", "javascript");
    let words =
        ["js: npm cannot install", "network request to https://registry.npmjs.org", "run the same command again"];
    refused(place.flexwasm(&app, &["build"]), &app, 1, &words);
    let app = place.app("py", "python");
    refused(place.flexwasm(&app, &["build"]), &app, 1, &["py: pip cannot install", "No matching distribution"]);
}

/// Stands in for Python: makes an environment whose Python notes each component that it makes of `app.py`.
const PYTHON: &str = r#"
mkdir -p .venv/bin
cat >.venv/bin/python <<'END'
#!/bin/sh
[ "$1" = -c ] || exit 0
echo made >>../../made
for file; do :; done
cp app.py "$file"
END
chmod +x .venv/bin/python"#;

#[test]
fn a_guest_is_made_again_only_of_something_else() {
    let place = Place::new();
    place.program("python3", PYTHON);
    let app = place.app("app", "python");
    let mut made = 0;
    let mut built = |again: bool| {
        let (status, _, stderr) = output(place.flexwasm(&app, &["build"]));
        assert!(status.success(), "{stderr}");
        made += usize::from(again);
        assert_eq!(fs::read_to_string(place.folder.path().join("made")).unwrap().lines().count(), made, "{stderr}");
        assert!(stderr.ends_with(if again { " s\n" } else { "app: ./app/guest.wasm is up to date\n" }), "{stderr}");
    };
    built(true);
    built(false);
    // The same text again, and what is no source.
    let write = |name: &str, text: &str| fs::write(app.join("app").join(name), text).unwrap();
    write("app.py", &fs::read_to_string(app.join("app/app.py")).unwrap());
    write("app.py~", "");
    built(false);
    for (name, text) in [("app.py", "one"), ("more.py", "two"), ("requirements.txt", "other==1"), ("guest.wasm", "")] {
        write(name, text);
        built(true);
        built(false);
    }
    fs::remove_file(app.join("app/more.py")).unwrap();
    built(true);
}

/// Stands in for cargo: takes the component that the source is, and notes each call in `builds` above the app. A source that is
/// `wait` keeps it busy until it is ended, with a child of its own; one that is no component fails.
const CARGO: &str = r#"
echo build >>../../builds
case $(head -c 4 src/lib.rs | tr -d '\0') in
  wait) sleep 1000 & echo $$ $! >../../busy; wait ;;
  asm) mkdir -p target && cp src/lib.rs target/guest.wasm
        echo "{\"reason\": \"compiler-artifact\", \"filenames\": [\"$PWD/target/guest.wasm\"]}" ;;
  *) echo 'error: this is no source' >&2; exit 101 ;;
esac"#;

/// An app that is built by [`CARGO`] and answers with number 1, served and watched.
fn watched(place: &Place) -> (PathBuf, Host) {
    place.program("cargo", CARGO);
    place.program("rustc", "true");
    let app = place.app("app", "rust");
    save(&app, &marker(1));
    let host = Host::announced(place.flexwasm(&app, &["run", "--watch", "--listen", "127.0.0.1:0"]));
    assert_eq!(host.get("/api/app").text(), marked_answer(1));
    (app, host)
}

fn marker(number: usize) -> Vec<u8> {
    marked(&fs::read(guests::MARKER).unwrap(), number)
}

fn save(app: &Path, source: &[u8]) {
    fs::write(app.join("app/src/lib.rs"), source).unwrap();
}

fn builds(place: &Place) -> usize {
    fs::read_to_string(place.folder.path().join("builds")).unwrap().lines().count()
}

#[test]
fn what_is_saved_is_built_once_and_served() {
    let place = Place::new();
    let (app, host) = watched(&place);
    // Nobody saved anything, though this file was written.
    save(&app, &marker(1));
    for number in [2, 3] {
        save(&app, &marker(number));
        eventually("the new guest answers", || host.get("/api/app").text() == marked_answer(number));
    }
    // What cannot be built does not take the place of what can.
    save(&app, b"broken");
    host.line(&["WARN", "app: cargo cannot build", "the guest before it goes on serving"]);
    assert_eq!(host.get("/api/app").text(), marked_answer(3));
    save(&app, &marker(4));
    eventually("the new guest answers", || host.get("/api/app").text() == marked_answer(4));
    assert_eq!(builds(&place), 5, "one at the start, and one for each of 2, 3, broken and 4");
}

#[test]
fn what_a_build_has_started_ends_with_the_host_however_that_ends() {
    for signal in ["TERM", "KILL", "HUP"] {
        let place = Place::new();
        let (app, host) = watched(&place);
        save(&app, b"wait");
        let busy = place.folder.path().join("busy");
        eventually("the build is busy", || fs::read_to_string(&busy).is_ok_and(|text| text.ends_with('\n')));
        let ids = fs::read_to_string(busy).unwrap();
        // A process that has ended and that nobody has waited for yet does nothing more.
        let runs = |id: &str| {
            let state = fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
            state.rsplit(") ").next().is_some_and(|rest| !rest.is_empty() && !rest.starts_with('Z'))
        };
        assert!(ids.split_whitespace().all(runs), "{ids}");
        host.signal(signal);
        eventually("what it has started ends", || !ids.split_whitespace().any(runs));
        eventually("the host ends", || host.ended().is_some());
    }
}

#[test]
fn what_the_app_names_is_packed_and_nothing_else() {
    let grants = r#"{"pool": {"size": 4}, "grants": {"dirs": ["data", "nothing"]}}"#;
    let app = App::new(grants).function("one", guests::COUNTER).function("two", guests::COUNTER);
    let shared = r#"{"scriptFile": "../one/guest.wasm", "bindings": [
        {"type": "httpTrigger", "direction": "in", "name": "req"}, {"type": "http", "direction": "out", "name": "res"}]}"#;
    let app = app.function_json("three", shared).file("data/more/file", b"text");
    let app = app.file("local.settings.json", b"{}").file("one/Cargo.toml", b"").file("other", b"");
    let mut host_json: Value = serde_json::from_slice(&fs::read(app.path().join("host.json")).unwrap()).unwrap();
    host_json["customHandler"]["description"] = serde_json::json!({ "defaultExecutablePath": "program" });
    let app = app.file("host.json", host_json.to_string().as_bytes());
    // As much of an executable for x86-64 as the check looks at: a header without segments.
    let mut program = [0; 64];
    program[..20].copy_from_slice(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x02\0\x3e\0");
    let app = app.file("elsewhere/program", &program);
    fs::create_dir(app.path().join("nothing")).unwrap();

    let config = as_deployed(&app);
    let packed = |name: &str| {
        let zip = app.path().join(name);
        let executable = ("program", &*app.path().join("elsewhere/program"));
        pack::write(app.path(), &config, executable, fs::File::create(&zip).unwrap()).unwrap();
        zip
    };
    let (zip, again) = (packed("one.zip"), packed("two.zip"));
    assert!(fs::read(&zip).unwrap() == fs::read(again).unwrap(), "the same app makes other bytes");
    let mut check = flexwasm();
    check.args(["check", "--package"]).arg(&zip);
    let (status, stdout, stderr) = output(check);
    assert!(status.success(), "{stderr}");
    let files: Vec<_> = stdout.lines().skip(1).take_while(|line| !line.is_empty()).collect();
    let modes: Vec<_> = files.iter().map(|line| line.rsplit_once(' ').unwrap().0.rsplit_once(' ').unwrap().0).collect();
    let wanted = [
        "data/more/file 0644",
        "host.json 0644",
        "one/function.json 0644",
        "one/guest.cwasm 0644",
        "one/guest.wasm 0644",
        "program 0755",
        "three/function.json 0644",
        "two/function.json 0644",
        "two/guest.cwasm 0644",
        "two/guest.wasm 0644",
    ];
    assert_eq!(modes, wanted);
    let mut archive = ZipArchive::new(fs::File::open(&zip).unwrap()).unwrap();
    let mut folders = Vec::new();
    for index in 0..archive.len() {
        let entry = archive.by_index(index).unwrap();
        if entry.is_dir() {
            folders.push((entry.name().unwrap().into_owned(), entry.unix_mode().unwrap()));
        }
    }
    assert_eq!(folders, ["data/", "data/more/", "nothing/"].map(|name| (name.to_owned(), 0o40_755)));
}

/// What `flexwasm package` reads of the app.
fn as_deployed(app: &App) -> Config {
    let given =
        Circumstances { machine_memory: 2 << 30, listen: None, cache_folders: Vec::new(), control_sockets: Vec::new() };
    flexwasm::config::load_as_deployed(app.path(), AppSettings::new(), &given).unwrap()
}

#[test]
fn a_package_takes_the_place_of_nothing_that_is_packed() {
    let app = App::new(r#"{"grants": {"dirs": ["data"]}}"#).function("one", guests::COUNTER);
    let app = app.file("data/file", b"text").file("program", b"").file("other", b"");
    symlink("host.json", app.path().join("link.zip")).unwrap();
    let (config, program) = (as_deployed(&app), app.path().join("program"));
    let spare = |target: &str| pack::spare(app.path(), &config, &[&program], &app.path().join(target));
    for target in [
        "host.json",
        "one/../host.json",
        "none/../host.json",
        "link.zip",
        "one/function.json",
        "one/guest.wasm",
        "one/guest.cwasm",
        "program",
        "data/file",
        "data/new.zip",
        "data/none/new.zip",
    ] {
        let words = format!("{target} is part of what is packed: name another file with -o, such as dist/flexwasm.zip");
        assert!(spare(target).is_err_and(|why| why.ends_with(&words)), "{target}");
    }
    for target in ["other", "new.zip", "one/new.zip"] {
        assert_eq!(spare(target), Ok(()));
    }
}

#[test]
fn compiling_takes_the_place_of_nothing_but_compiled_guests() {
    let app = App::new("{}").function("one", guests::COUNTER);
    symlink("guest.wasm", app.path().join("one/link.cwasm")).unwrap();
    let compile = |output: &str| {
        let mut compile = flexwasm();
        compile.current_dir(app.path()).args(["compile", "one/guest.wasm", "-o", output]);
        compile
    };
    let content = || files(app.path()).into_iter().map(|file| fs::read(file).unwrap()).collect::<Vec<_>>();
    let before = content();
    for target in ["one/guest.wasm", "host.json", "one/function.json", "one/link.cwasm"] {
        let words = format!("{target} is there, and is no compiled guest: name another file with -o");
        refused(compile(target), app.path(), 1, &[&words]);
    }
    assert!(content() == before);
    for target in ["new", "new.cwasm", "new.cwasm"] {
        let (status, _, stderr) = output(compile(target));
        assert!(status.success(), "{stderr}");
    }
}

#[test]
fn explain_and_check_tell_programs_the_same() {
    let place = Place::new();
    let (app, _host) = watched(&place);
    let json = |arguments: &[&str]| -> Value {
        let (status, stdout, stderr) = output(place.flexwasm(&app, arguments));
        assert!(status.success(), "{stderr}");
        serde_json::from_str(&stdout).unwrap()
    };
    let (explained, checked) = (json(&["explain", "--json"]), json(&["check", "--json"]));
    let mut function = explained["functions"][0].clone();
    let asks = function.as_object_mut().unwrap().remove("asks").unwrap();
    assert_eq!(function, checked["functions"][0]);
    assert_eq!(asks["sha256"].as_str().unwrap().len(), 64);
    assert_eq!(asks["bytes"], marker(1).len());
    let imports = asks["imports"].as_array().unwrap();
    assert!(imports.iter().any(|import| import["interface"].as_str().unwrap().starts_with("wasi:http/types@0.2")));
    assert!(imports.iter().all(|import| import["gets"].is_string()), "{imports:?}");
}

#[test]
fn every_shell_gets_the_commands() {
    for shell in ["bash", "zsh", "fish"] {
        let mut completions = flexwasm();
        completions.args(["completions", shell]);
        let (status, stdout, stderr) = output(completions);
        assert!(status.success() && ["rollback", "watch"].iter().all(|word| stdout.contains(word)), "{stdout}{stderr}");
        let hidden = ["manual", "compile-for-host", "hold-on-leash"];
        assert!(!hidden.iter().any(|word| stdout.contains(word)), "{stdout}");
        if shell == "bash" {
            let mut bash = Command::new("bash");
            let typed = "COMP_WORDS=(flexwasm ro) COMP_CWORD=1; _flexwasm flexwasm ro flexwasm";
            bash.args(["-c", &format!("{stdout}\n{typed}; echo \"${{COMPREPLY[@]}}\"")]);
            assert_eq!(output(bash).1, "rollback\n");
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let mut manual = flexwasm();
    manual.arg("manual").arg(folder.path().join("man"));
    assert!(output(manual).0.success());
    assert!(folder.path().join("man/flexwasm-new.1").exists());
}
