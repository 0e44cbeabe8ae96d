//! Compiled guests: which file is mapped, which is not, and that neither ever keeps a function from serving.

use crate::support::{App, Host, flexwasm, free_port, guests, output};
use crate::swap::tell;
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown, symlink};
use std::path::{Path, PathBuf};

fn app() -> App {
    App::new("{}").function("counter", guests::COUNTER)
}

/// Runs `flexwasm compile` and answers where the file lies.
fn compile(app: &App, arguments: &[&str]) -> PathBuf {
    let mut command = flexwasm();
    command.current_dir(app.path()).args(["compile", "counter/guest.wasm"]).args(arguments);
    let (status, stdout, stderr) = output(command);
    assert!(status.success(), "{stderr}");
    assert!(stdout.contains(" compiled from counter/guest.wasm ("), "{stdout}");
    app.path().join("counter/guest.cwasm")
}

/// Starts with `cache` for the cache folder; the guest has to answer.
fn start(app: &App, cache: &Path) -> Host {
    let host = app.spawn(free_port(), &[("XDG_CACHE_HOME", cache.to_str().unwrap())]);
    host.probe();
    assert_eq!(host.get("/api/counter").text(), "1");
    host
}

fn is_said(host: &Host, words: &str) -> bool {
    host.stdout().iter().any(|line| line.contains(words))
}

#[test]
fn a_compiled_file_beside_the_guest_is_mapped() {
    for arguments in [&[][..], &["--portable"]] {
        let (app, cache) = (app(), tempfile::tempdir().unwrap());
        compile(&app, arguments);
        let host = start(&app, cache.path());
        host.line(&["loaded guest=", "from=", "counter/guest.cwasm"]);
        assert!(!is_said(&host, "compiling"));
        assert_eq!(fs::read_dir(cache.path()).unwrap().count(), 0, "nobody needed the cache folder");
    }
}

#[test]
fn a_guest_of_0_3_is_compiled_for_its_own_engine() {
    let (app, cache) = (App::new("{}").function("counter", guests::P3_COUNTER), tempfile::tempdir().unwrap());
    // In the cache folder by the process that the host starts, then beside the guest by a person.
    start(&app, cache.path()).line(&["compiled function=\"counter\"", "kept="]);
    let cached = start(&app, cache.path());
    cached.line(&["loaded guest=", "from=", cache.path().to_str().unwrap()]);
    for arguments in [&[][..], &["--portable"]] {
        compile(&app, arguments);
        let host = start(&app, cache.path());
        host.line(&["loaded guest=", "from=", "counter/guest.cwasm"]);
        assert!(!is_said(&host, "compiling"));
    }
    assert_eq!(fs::read_dir(cache.path().join("flexwasm")).unwrap().count(), 1);
}

#[test]
fn compile_says_what_it_cannot_do() {
    let app = app().file("text.wasm", b"text").file("cut.wasm", b"\0asm\x0d\0\x01\0cut");
    for (arguments, words) in [
        (&["text.wasm"][..], "text.wasm is not a WebAssembly component"),
        (&["cut.wasm"], "cut.wasm is not a valid component, or uses what this host does not support: "),
        (&["missing.wasm"], "missing.wasm cannot be read (No such file"),
        (&["counter/guest.wasm", "-o", "missing/guest.cwasm"], "cannot write missing/guest.cwasm: No such file"),
        (&["counter/guest.wasm", "-o", "counter"], "cannot write counter: Is a directory"),
    ] {
        let mut command = flexwasm();
        command.current_dir(app.path()).arg("compile").args(arguments);
        let (status, _, stderr) = output(command);
        assert_eq!(status.code(), Some(1));
        assert!(stderr.contains(words), "{words:?} is not in {stderr}");
    }
    assert_eq!(fs::read_dir(app.path()).unwrap().count(), 4, "nothing is left over");
}

#[test]
fn what_is_compiled_at_a_start_is_mapped_at_the_next() {
    let (app, cache) = (app(), tempfile::tempdir().unwrap());
    let first = start(&app, cache.path());
    first.line(&["compiling function=\"counter\""]);
    first.line(&["compiled function=\"counter\"", "kept="]);
    let folder = cache.path().join("flexwasm");
    let files: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    let [file] = &files[..] else { panic!("{files:?}") };
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&folder), mode(file)), (0o700, 0o600));
    let second = start(&app, cache.path());
    second.line(&["loaded guest=", file.to_str().unwrap()]);
    assert!(!is_said(&second, "compiling"));

    // Damaged where it lies, it is compiled again and replaced.
    let sound = fs::read(file).unwrap();
    let mut damaged = sound.clone();
    damaged[sound.len() / 2] ^= 1;
    fs::write(file, &damaged).unwrap();
    let third = start(&app, cache.path());
    third.line(&["WARN", file.to_str().unwrap(), "is damaged: its checksum is wrong: not used"]);
    third.line(&["compiled function=\"counter\""]);
    assert_eq!(fs::read(file).unwrap(), sound);
}

#[test]
fn a_guest_that_several_functions_have_is_compiled_once() {
    let names = ["a", "b", "c", "d", "e"];
    let app = names.iter().fold(App::new("{}"), |app, name| app.function(name, guests::COUNTER));
    let cache = tempfile::tempdir().unwrap();
    let host = app.start_with(&[("XDG_CACHE_HOME", cache.path().to_str().unwrap())]);
    for name in names {
        assert_eq!(host.get(&format!("/api/{name}")).text(), "1");
    }
    let compiled = host.stdout().into_iter().filter(|line| line.contains("compiled function=")).count();
    assert_eq!(compiled, 1);
}

#[test]
fn what_check_has_compiled_serves_and_takes_the_place_of_another_without_being_compiled_again() {
    let (app, cache) = (app(), tempfile::tempdir().unwrap());
    let folder = cache.path().to_str().unwrap();
    let mut command = flexwasm();
    command.arg("check").current_dir(app.path()).env("XDG_CACHE_HOME", folder);
    assert!(output(command).0.success());
    let host = start(&app, cache.path());
    for guest in [guests::ECHO, guests::COUNTER, guests::ECHO] {
        let (status, said, stderr) = tell(app.path(), &["swap", "counter", guest]);
        assert!(status.success(), "{said}{stderr}");
    }
    let compiled = host.stdout().into_iter().filter(|line| line.contains("compiled function=")).count();
    assert_eq!(compiled, 1, "the echo alone: {:?}", host.stdout());
}

#[test]
fn a_file_that_does_not_fit_is_not_used_and_not_fatal() {
    let (app, cache) = (app(), tempfile::tempdir().unwrap());
    let path = compile(&app, &[]);
    let sound = fs::read(&path).unwrap();
    let edited = |from_end: usize| {
        let mut content = sound.clone();
        let at = content.len() - from_end;
        content[at] ^= 1;
        content
    };
    let cut_off = "is not a compiled guest, or is cut off";
    let elsewhere = "was compiled by another version of flexwasm, or for another processor";
    for (content, why) in [
        (Vec::new(), cut_off),
        (b"text".to_vec(), cut_off),
        (sound[..sound.len() / 2].to_vec(), cut_off),
        (sound[..sound.len() - 1].to_vec(), cut_off),
        (edited(sound.len()), "is damaged"),
        (edited(sound.len() / 2), "is damaged"),
        (edited(12), "has format 2"),
        (edited(44), "is damaged"),
        (edited(76), "was compiled from another .wasm file"),
        (edited(92), elsewhere),
    ] {
        fs::write(&path, content).unwrap();
        start(&app, cache.path()).line(&["WARN", "counter/guest.cwasm ", why, "not used"]);
    }
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    start(&app, cache.path()).line(&["WARN", "counter/guest.cwasm is not a regular file: not used"]);
    fs::remove_dir(&path).unwrap();

    // Another guest in the same place, and the compiled file of the one before.
    fs::write(&path, &sound).unwrap();
    fs::copy(guests::SLEEP, app.path().join("counter/guest.wasm")).unwrap();
    let host = app.spawn(free_port(), &[("XDG_CACHE_HOME", cache.path().to_str().unwrap())]);
    host.probe();
    assert_eq!(host.get("/api/counter").text(), "slept");
    host.line(&["WARN", "was compiled from another .wasm file: not used"]);
}

#[test]
fn a_cache_folder_that_others_control_is_not_used() {
    let base = tempfile::tempdir().unwrap();
    let (own, home) = (base.path().join("own"), base.path().join("home"));
    fs::create_dir(&own).unwrap();
    let folder = own.join("flexwasm");
    // A sound file in there would be mapped, were the folder trusted.
    drop(start(&app(), &own));
    let refused = |why: &str| {
        let app = app();
        let environment = [("XDG_CACHE_HOME", own.to_str().unwrap()), ("HOME", home.to_str().unwrap())];
        let host = app.spawn(free_port(), &environment);
        host.probe();
        assert_eq!(host.get("/api/counter").text(), "1");
        host.line(&["WARN", folder.to_str().unwrap(), "is not used: it ", why]);
        assert!(!is_said(&host, &format!("from={:?}", folder.display().to_string())));
        // The next best place is.
        assert_eq!(fs::read_dir(home.join(".cache/flexwasm")).unwrap().count(), 1);
    };
    let mode = |mode| fs::set_permissions(&folder, fs::Permissions::from_mode(mode)).unwrap();
    mode(0o770);
    refused("has mode 770, but must be closed to everybody else: chmod 700");
    mode(0o700);
    let moved = own.join("elsewhere");
    fs::rename(&folder, &moved).unwrap();
    symlink(&moved, &folder).unwrap();
    refused("is a link, or cannot be opened");
    fs::remove_file(&folder).unwrap();
    fs::write(&folder, "").unwrap();
    refused("cannot be made");
    if rustix::process::geteuid().is_root() {
        fs::remove_file(&folder).unwrap();
        fs::rename(&moved, &folder).unwrap();
        chown(&folder, Some(65534), None).unwrap();
        refused("belongs to user 65534, not to us");
    }
}

#[test]
fn check_tells_what_the_compiled_files_are_good_for() {
    let app = app();
    let check = || {
        let mut command = flexwasm();
        command.arg("check").arg(app.path());
        let (status, stdout, stderr) = output(command);
        (status.code(), stdout, stderr)
    };
    let (status, stdout, _) = check();
    assert!(status == Some(0) && stdout.contains("counter/guest.cwasm absent: "), "{stdout}");
    let path = compile(&app, &[]);
    let (status, stdout, _) = check();
    assert!(status == Some(0) && stdout.contains("counter/guest.cwasm compiled for processors like"), "{stdout}");
    let native = fs::read(&path).unwrap();
    compile(&app, &["--portable"]);
    let (status, stdout, _) = check();
    assert!(status == Some(0) && stdout.contains("counter/guest.cwasm compiled for every processor"), "{stdout}");
    if cfg!(target_arch = "x86_64") {
        assert_ne!(native, fs::read(&path).unwrap());
    }
    // Whoever ships a file wants it to be used.
    fs::copy(guests::SLEEP, app.path().join("counter/guest.wasm")).unwrap();
    let (status, _, stderr) = check();
    assert_eq!(status, Some(1));
    assert!(stderr.contains("guest.cwasm was compiled from another .wasm file: it would not be used"), "{stderr}");
}
