//! Another guest in a running host: by the command, by its file, and what is refused.

pub use crate::support::marked_answer as answer;
use crate::support::{App, Host, component, eventually, flexwasm, guests, output, runtime};
use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::Duration;

/// A guest that answers with this number, as [`answer`] says.
pub fn marked(number: usize) -> Vec<u8> {
    crate::support::marked(&fs::read(guests::MARKER).unwrap(), number)
}

/// An app with one function, `only`, that answers with number 1.
fn app(settings: &str) -> App {
    App::new(settings).function("only", guests::MARKER).file("only/guest.wasm", &marked(1))
}

/// Number and generation of the guest that answers.
fn served(host: &Host) -> (String, String) {
    let answer = host.get("/api/only");
    (answer.text(), answer.instance()["generation"].clone())
}

/// The socket of the host that serves this app.
pub fn socket(app: &Path) -> PathBuf {
    let settings = [("XDG_RUNTIME_DIR".to_owned(), runtime().display().to_string())].into();
    flexwasm::control::sockets(app, &settings).unwrap().remove(0)
}

/// Runs `flexwasm swap` or `rollback` in the app's folder.
pub fn tell(app: &Path, arguments: &[&str]) -> (ExitStatus, String, String) {
    let mut command = flexwasm();
    command.args(arguments).current_dir(app);
    output(command)
}

/// Hands a guest over with `flexwasm swap`, and answers its exit code with what it said.
fn swap(app: &App, wasm: &[u8]) -> (i32, String) {
    fs::write(app.path().join("new.wasm"), wasm).unwrap();
    let (status, stdout, stderr) = tell(app.path(), &["swap", "only", "new.wasm"]);
    (status.code().unwrap(), stdout + &stderr)
}

#[test]
fn a_guest_is_swapped_and_rolled_back_while_requests_run() {
    let app = app(r#"{"pool": {"size": 4, "reuse": 100}}"#);
    let host = app.start();
    assert_eq!(served(&host), (answer(1), "1".to_owned()));
    let (status, _, stderr) = tell(app.path(), &["rollback", "only"]);
    assert_eq!(status.code(), Some(1));
    assert_eq!(stderr, "flexwasm: function only has had no other guest since the host started\n");

    let mut running = host.connect();
    running.write(crate::support::get("/api/only?ms=1000"));
    assert_eq!(running.response_head().instance()["generation"], "1");
    let (code, said) = swap(&app, &marked(2));
    assert_eq!(code, 0, "{said}");
    let lines: Vec<&str> = said.lines().collect();
    assert!(lines[0].starts_with("old: generation 1 (") && lines[1].starts_with("new: generation 2 ("), "{said}");
    assert!(lines[2].starts_with("took: ") && lines[2].ends_with(" ms"), "{said}");
    assert_eq!(lines[3..], ["outcome: swapped"]);
    let new = host.get("/api/only");
    assert_eq!((new.text(), &*new.instance()["generation"], &*new.instance()["served"]), (answer(2), "2", "1"));
    assert!(lines[1].contains(&new.instance()["digest"]), "{said}");
    host.line(&["invocation: ", "generation=2", &format!("digest={}", new.instance()["digest"])]);
    host.line(&["function=only", "swapped: generation 2"]);
    let rest: Vec<u8> = std::iter::from_fn(|| running.chunk().filter(|chunk| !chunk.is_empty())).flatten().collect();
    assert_eq!(String::from_utf8(rest).unwrap(), answer(1), "what runs ends on its own generation");

    let (code, said) = swap(&app, &marked(2));
    assert!(code == 0 && said.starts_with("outcome: unchanged, generation 2 ("), "{said}");
    for (generation, number) in [("3", 1), ("4", 2)] {
        let (status, said, _) = tell(app.path(), &["rollback", "only"]);
        assert!(status.success() && said.contains(&format!("new: generation {generation} (")), "{said}");
        assert!(said.ends_with("\noutcome: rolled-back\n"), "{said}");
        assert_eq!(served(&host), (answer(number), generation.to_owned()));
    }
}

#[test]
fn a_guest_of_another_version_of_wasi_takes_the_place() {
    let host_json = r#"{"pool": {"size": 4, "reuse": 100}}"#;
    let app = app(host_json);
    let host = app.start();
    for (guest, text) in [(guests::P3_COUNTER, "1"), (guests::COUNTER, "1")] {
        let (code, said) = swap(&app, &fs::read(guest).unwrap());
        assert_eq!(code, 0, "{said}");
        assert_eq!(host.get("/api/only").text(), text);
    }
    assert_eq!(host.get("/api/only").text(), "2");
}

#[test]
fn what_a_new_guest_asks_for_and_does_not_get_is_said() {
    let app = app("{}");
    let host = app.start();
    let (code, said) = swap(&app, &fs::read(guests::FETCH).unwrap());
    assert_eq!(code, 0, "{said}");
    let noted =
        said.lines().find(|line| line.starts_with("note: the new guest asks for wasi:http/outgoing-handler@0.2."));
    assert!(noted.is_some_and(|note| note.ends_with(" and gets nothing: grants.hosts is empty")), "{said}");
    host.line(&["WARN", "function=only", "grants.hosts is empty"]);
    // The old one asked for that too.
    let (_, said) = swap(&app, &[&fs::read(guests::FETCH).unwrap()[..], &CUSTOM_SECTION].concat());
    assert!(!said.contains("note:"), "{said}");
}

/// Makes another component of one, without a difference: named `x`, empty.
const CUSTOM_SECTION: [u8; 4] = [0, 2, 1, b'x'];

#[test]
fn a_file_that_is_replaced_or_rewritten_is_published_whole() {
    let app = app("{}");
    let host = app.start();
    let path = app.path().join("only/guest.wasm");
    let becomes = |number: usize| eventually("the new guest serves", || host.get("/api/only").text() == answer(number));

    let staged = app.path().join("only/guest.new");
    fs::write(&staged, marked(2)).unwrap();
    fs::rename(&staged, &path).unwrap();
    becomes(2);

    // In place, by a writer who takes its time.
    let wasm = marked(3);
    let mut file = fs::File::create(&path).unwrap();
    for piece in wasm.chunks(wasm.len() / 4 + 1) {
        file.write_all(piece).unwrap();
        for _ in 0..20 {
            assert_eq!(host.get("/api/only").text(), answer(2), "it is not whole yet");
        }
        std::thread::sleep(Duration::from_millis(60));
    }
    drop(file);
    becomes(3);

    // As cargo does: another name of a file that is complete.
    fs::write(&staged, marked(4)).unwrap();
    fs::remove_file(&path).unwrap();
    fs::hard_link(&staged, &path).unwrap();
    becomes(4);

    // With its folder.
    let (folder, other) = (app.path().join("only"), app.path().join("other"));
    fs::create_dir(&other).unwrap();
    fs::copy(folder.join("function.json"), other.join("function.json")).unwrap();
    fs::write(other.join("guest.wasm"), marked(5)).unwrap();
    fs::rename(&folder, app.path().join("gone")).unwrap();
    fs::rename(&other, &folder).unwrap();
    becomes(5);

    for line in host.log() {
        assert!(!line.contains("goes on serving"), "half of it was read: {line}");
    }
    fs::write(&path, "rubbish").unwrap();
    host.line(&[
        "ERROR",
        "function=only",
        "guest.wasm is not a WebAssembly component",
        "generation 5 (",
        "goes on serving",
    ]);
    assert_eq!(served(&host), (answer(5), "5".to_owned()));
    fs::write(&path, marked(6)).unwrap();
    becomes(6);
}

#[test]
fn a_file_behind_links_is_another_when_a_link_moves() {
    let volume = app("{}");
    let (function, path) = (volume.path().join("only"), volume.path().join("only/guest.wasm"));
    let link = |target: &str, name: &str| {
        symlink(target, function.join("staged")).unwrap();
        fs::rename(function.join("staged"), function.join(name)).unwrap();
    };
    let put = |version: &str, number: usize| {
        fs::create_dir(function.join(version)).unwrap();
        fs::write(function.join(version).join("guest.wasm"), marked(number)).unwrap();
    };
    // As Kubernetes does: the file leads through `..data`, which is replaced, and then the old folder goes.
    fs::remove_file(&path).unwrap();
    put("..1", 1);
    link("..1", "..data");
    link("..data/guest.wasm", "guest.wasm");
    let host = volume.start();
    let becomes = |number: usize| eventually("the new guest serves", || host.get("/api/only").text() == answer(number));
    becomes(1);
    for number in [2, 3] {
        put(&format!("..{number}"), number);
        link(&format!("..{number}"), "..data");
        fs::remove_dir_all(function.join(format!("..{}", number - 1))).unwrap();
        becomes(number);
    }
    // What it leads to is still watched, and so is a link that takes the place of another kind of file.
    fs::write(function.join("..3/guest.wasm"), marked(4)).unwrap();
    becomes(4);
    fs::write(function.join("other.wasm"), marked(5)).unwrap();
    link("other.wasm", "guest.wasm");
    becomes(5);

    // As people do: `current -> v2` on the way, made anew.
    put("v6", 6);
    put("v7", 7);
    link("v6", "current");
    link("current/guest.wasm", "guest.wasm");
    becomes(6);
    fs::remove_file(function.join("current")).unwrap();
    symlink("v7", function.join("current")).unwrap();
    becomes(7);
}

#[test]
fn a_guest_that_was_broken_at_the_start_is_mended_by_its_file() {
    let app = app("{}").function("broken", guests::MARKER).file("broken/guest.wasm", b"rubbish");
    let host = app.start();
    assert_eq!(host.get("/api/broken").reason(), "guest-not-loaded");
    fs::write(app.path().join("broken/guest.wasm"), marked(7)).unwrap();
    eventually("it serves", || host.get("/api/broken").status == 200);
    assert_eq!(host.get("/api/broken").instance()["generation"], "1");
}

#[test]
fn under_serve_the_file_is_watched_and_the_command_reaches_it() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("guest.wasm"), marked(1)).unwrap();
    let mut command = flexwasm();
    command.args(["serve", "--listen", "127.0.0.1:0", "guest.wasm"]).current_dir(folder.path());
    let host = Host::announced(command);
    assert_eq!(host.get("/").text(), answer(1));
    fs::write(folder.path().join("guest.wasm"), marked(2)).unwrap();
    eventually("the new guest serves", || host.get("/").text() == answer(2));
    fs::write(folder.path().join("new.wasm"), marked(3)).unwrap();
    let (status, said, stderr) = tell(folder.path(), &["swap", "serve", "new.wasm"]);
    assert!(status.success(), "{said}{stderr}");
    assert_eq!(host.get("/").text(), answer(3));
}

/// A guest whose start has this in it.
fn starting(instructions: &str) -> Vec<u8> {
    component("start", instructions)
}

#[test]
fn what_is_no_good_is_refused_with_a_reason_and_the_old_guest_serves_on() {
    let settings = r#"{"limits": {"cpu": "300ms"}, "pool": {"size": 2}}"#;
    let of_function = r#"{"guest": {"maxSize": "300KiB", "smoke": {"path": "/x?status=203", "status": 203}}}"#;
    let app = App::new(settings).routed("only", guests::MARKER, r#""authLevel": "anonymous""#, of_function);
    let app = app.file("only/guest.wasm", &marked(1));
    let host = app.start();
    let whole = marked(2);
    let big = [&whole[..], &[0, 0x84, 0x80, 0x40, 3, b'b', b'i', b'g'], &vec![0; 1 << 20]].concat();
    let world = wat::parse_str(r#"(component (import "wasi:nowhere/thing@0.2.0" (instance)))"#).unwrap();
    for (wasm, words) in [
        (whole[..whole.len() / 2].to_vec(), "is not a valid component"),
        (Vec::new(), "is not a WebAssembly component"),
        (wat::parse_str("(module)").unwrap(), "is a core WebAssembly module, not a component"),
        (world, "does not fit the world of this host"),
        (starting("unreachable"), "cannot be instantiated: reached code that must not run"),
        (starting("(loop (br 0))"), "cannot be instantiated: limits.cpu of 300ms reached"),
        (
            fs::read(guests::COUNTER).unwrap(),
            "failed its smoke request /x?status=203: it answered with status 200; expected status 203",
        ),
        (fs::read(guests::TRAP_BEFORE).unwrap(), "failed its smoke request /x?status=203: it trapped: "),
        (big, "is larger than 300KiB, which guest.maxSize allows"),
    ] {
        let (code, said) = swap(&app, &wasm);
        assert_eq!((code, said.lines().count()), (1, 1), "{said}");
        let named = ["flexwasm: function only: the new guest ", "flexwasm: new.wasm "];
        assert!(named.iter().any(|who| said.starts_with(&format!("{who}{words}"))), "{words:?} is not in {said}");
        assert_eq!(served(&host), (answer(1), "1".to_owned()), "after {words}");
    }
    let refusals = host.log().into_iter().filter(|line| line.contains("generation 1 (")).count();
    assert!(refusals >= 5, "those that the host had to look into are in its log: {refusals}");
    let (code, said) = swap(&app, &whole);
    assert_eq!(code, 0, "{said}");
    assert_eq!(served(&host), (answer(2), "2".to_owned()));

    let (status, _, stderr) = tell(app.path(), &["swap", "nothing", "new.wasm"]);
    assert_eq!(
        (status.code(), stderr.as_str()),
        (Some(1), "flexwasm: there is no function nothing: name one of only\n")
    );
}

#[test]
fn a_pinned_guest_is_not_replaced_by_another() {
    use sha2::Digest as _;
    let pinned: String = sha2::Sha256::digest(marked(1)).iter().map(|byte| format!("{byte:02x}")).collect();
    let settings = format!(r#"{{"guest": {{"sha256": "{pinned}"}}}}"#);
    let app = App::new("{}").routed("only", guests::MARKER, r#""authLevel": "anonymous""#, &settings);
    let app = app.file("only/guest.wasm", &marked(1));
    let host = app.start();
    let (code, said) = swap(&app, &marked(2));
    assert_eq!(code, 1);
    assert!(
        said.contains("has the SHA-256 ") && said.contains(&format!("guest.sha256 allows only {pinned}")),
        "{said}"
    );
    assert_eq!(served(&host), (answer(1), "1".to_owned()));
}

#[test]
fn a_client_that_sends_too_much_is_answered_not_cut_off() {
    let app = app(r#"{"pool": {"size": 2}}"#);
    let _host = app.start();
    let mut stream = UnixStream::connect(socket(app.path())).unwrap();
    // Far more than limit and socket hold, and all of it before the answer is looked at.
    let body = vec![0; 100 << 20];
    write!(stream, "POST /swap/only HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n").unwrap();
    write!(stream, "Content-Length: {}\r\n\r\n", body.len()).unwrap();
    stream.write_all(&body).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.contains(" 413 "), "{answer}");
    assert!(answer.contains(r#"{"error":"function only: the new guest is larger than 64MiB, which"#), "{answer}");
}

#[test]
#[ignore = "needs unshare: cargo xtask test"]
fn a_full_disk_leaves_the_old_guest() {
    let app = app("{}");
    let disk = app.path().join("disk");
    fs::create_dir(&disk).unwrap();
    // A disk of its own that holds the first guest's code, and no other.
    let mut command = Command::new("unshare");
    let script = r#"mount -t tmpfs -o size=1200k,mode=700 disk "$1" && XDG_CACHE_HOME="$1" exec "$0""#;
    command.args(["--map-root-user", "--mount", "sh", "-c", script, env!("CARGO_BIN_EXE_flexwasm")]).arg(&disk);
    let port = crate::support::free_port();
    let path = std::env::var_os("PATH").unwrap();
    command.current_dir(app.path()).env_clear().env("PATH", path).env("FUNCTIONS_CUSTOMHANDLER_PORT", port.to_string());
    command.env("XDG_RUNTIME_DIR", runtime());
    let host = Host::spawn(command, port);
    host.probe();
    assert_eq!(served(&host).0, answer(1));
    let mut refused = None;
    for number in 2..6 {
        let (code, said) = swap(&app, &marked(number));
        if code == 1 {
            refused = Some((number, said));
            break;
        }
    }
    let (number, said) = refused.expect("the disk is full sooner or later");
    assert!(said.contains("was not installed: ") && said.contains("No space left on device"), "{said}");
    assert_eq!(served(&host).0, answer(number - 1));
}

#[test]
fn the_socket_is_ours_alone_and_the_app_s() {
    let app = app("{}");
    let (code, said) = swap(&app, &marked(2));
    assert_eq!(
        (code, said.as_str()),
        (
            1,
            "flexwasm: no host of this app runs here as this user: start it with `flexwasm run`, or name its folder with --app\n"
        )
    );
    let mut host = app.start();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let socket = socket(app.path());
    assert_eq!((mode(&socket), mode(socket.parent().unwrap())), (0o600, 0o700));
    let second = app.start();
    second.line(&["WARN", "`flexwasm swap` cannot reach this host: another host serves the same app"]);
    let (code, said) = swap(&app, &marked(2));
    assert_eq!(code, 0, "{said}");
    assert_eq!((served(&host).0, served(&second).0), (answer(2), answer(1)));
    let elsewhere = tempfile::tempdir().unwrap();
    let named = ["rollback", "only", "--app", app.path().to_str().unwrap()];
    let (status, said, stderr) = tell(elsewhere.path(), &named);
    assert!(status.success(), "{said}{stderr}");
    assert_eq!(served(&host).0, answer(1));

    host.signal("KILL");
    host.exit_code();
    let third = app.start();
    let (code, said) = swap(&app, &marked(3));
    assert_eq!(code, 0, "the socket that was left behind is replaced: {said}");
    assert_eq!(served(&third).0, answer(3));
}
