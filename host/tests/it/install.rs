//! `install.sh`, with releases that are folders of this machine; and what `cargo install` would build.

use crate::support::{output, repository};
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

const ARCHIVE: &str = "flexwasm-9.9.9-x86_64-linux";

/// A release, whose executable is a script, and a home to install it into.
struct Release {
    folder: tempfile::TempDir,
}

impl Release {
    fn new(executable: &str) -> Self {
        let release = Self { folder: tempfile::tempdir().unwrap() };
        let inner = release.path(ARCHIVE);
        fs::create_dir(&inner).unwrap();
        fs::create_dir(release.path("programs")).unwrap();
        script(&inner.join("flexwasm"), executable);
        let pack = format!("tar -czf {ARCHIVE}.tar.gz {ARCHIVE} && sha256sum {ARCHIVE}.tar.gz >SHA256SUMS");
        let (status, _, stderr) = output(shell(&pack, release.folder.path()));
        assert!(status.success(), "{stderr}");
        release
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Puts a script in the place of a program.
    fn program(self, name: &str, text: &str) -> Self {
        script(&self.path("programs").join(name), text);
        self
    }

    fn command(&self, script: &Path) -> Command {
        let mut command = Command::new("sh");
        command.arg(script).current_dir(self.folder.path()).env_clear();
        command.env("PATH", format!("{}:/usr/bin:/bin", self.path("programs").display()));
        command.env("HOME", self.path("home"));
        command.env("FLEXWASM_RELEASES", format!("file://{}", self.folder.path().display()));
        command
    }

    fn install(&self) -> Command {
        self.command(&repository().join("install.sh"))
    }

    fn installed(&self) -> PathBuf {
        self.path("home/.local/bin/flexwasm")
    }

    /// Fails with one line, and leaves what was installed before as it was.
    #[track_caller]
    fn refuses(&self, command: Command, words: &str) {
        fs::create_dir_all(self.path("home/.local/bin")).unwrap();
        fs::write(self.installed(), "before").unwrap();
        let (status, stdout, stderr) = output(command);
        assert_eq!((status.code(), stdout.as_str()), (Some(1), ""), "{stderr}");
        assert!(stderr.lines().count() == 1 && stderr.contains(words), "{words} is not in {stderr}");
        assert_eq!(fs::read_to_string(self.installed()).unwrap(), "before");
        assert_eq!(fs::read_dir(self.path("home/.local/bin")).unwrap().count(), 1, "something is left over");
    }
}

fn script(path: &Path, text: &str) {
    fs::write(path, format!("#!/bin/sh\n{text}\n")).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

fn shell(text: &str, folder: &Path) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", text]).current_dir(folder);
    command
}

#[test]
#[ignore = "needs curl: cargo xtask test"]
fn the_release_is_installed_with_its_next_step() {
    let release = Release::new("echo flexwasm 9.9.9");
    let (status, stdout, stderr) = output(release.install());
    let installed = release.installed();
    assert!(status.success(), "{stderr}");
    let (folder, shown) = (installed.parent().unwrap().display(), installed.display());
    let next = format!("flexwasm 9.9.9 is installed as {shown}\nNext: PATH={folder}:$PATH; flexwasm new hello\n");
    assert_eq!(stdout, next);
    assert!(fs::metadata(&installed).unwrap().permissions().mode() & 0o111 != 0);
    let mut again = release.install();
    again.env("PATH", format!("{folder}:/usr/bin:/bin"));
    assert!(output(again).1.ends_with("\nNext: flexwasm new hello\n"));
    assert_eq!(fs::read_dir(installed.parent().unwrap()).unwrap().count(), 1);
}

#[test]
#[ignore = "needs target/package-test/release and curl: cargo xtask test"]
fn what_dist_makes_is_whole_and_can_be_installed() {
    let release = repository().join("target/package-test/release");
    assert!(release.exists(), "there is no release to test: make it with `cargo xtask package --for-tests`");
    // Any sum that is wrong fails this.
    let (status, stdout, stderr) = output(shell("sha256sum --check SHA256SUMS", &release));
    assert!(status.success() && stdout.lines().count() == 3, "{stdout}{stderr}");
    let name = format!("flexwasm-{}-x86_64-linux", env!("CARGO_PKG_VERSION"));
    let (_, listing, _) = output(shell(&format!("tar -tzf {name}.tar.gz"), &release));
    let inner = listing.lines().filter_map(|line| line.strip_prefix(&name)?.strip_prefix('/'));
    let inner: Vec<_> = inner.filter(|path| !path.is_empty() && !path.ends_with('/')).collect();
    for file in ["flexwasm", "LICENSE", "completions/flexwasm.bash", "completions/_flexwasm", "man/flexwasm.1"] {
        assert!(inner.contains(&file), "{file} is not in {listing}");
    }
    assert!(inner.iter().filter(|path| path.starts_with("man/flexwasm-")).count() > 10, "{listing}");
    let materials = fs::read(release.join(format!("{name}.cdx.json"))).unwrap();
    let materials: Value = serde_json::from_slice(&materials).unwrap();
    let components = materials["components"].as_array().unwrap();
    assert!(components.iter().any(|component| component["name"] == "wasmtime"), "{materials}");

    let home = tempfile::tempdir().unwrap();
    let mut install = Command::new("sh");
    install.arg(release.join("install.sh")).env_clear().env("PATH", "/usr/bin:/bin").env("HOME", home.path());
    let (status, stdout, stderr) = output({
        install.env("FLEXWASM_RELEASES", serve(release));
        install
    });
    assert!(status.success() && stdout.contains("; flexwasm new hello\n"), "{stdout}{stderr}");
    let mut new = Command::new(home.path().join(".local/bin/flexwasm"));
    let (status, _, stderr) = output({
        new.args(["new", "hello"]).current_dir(home.path());
        new
    });
    assert!(status.success() && home.path().join("hello/host.json").exists(), "{stderr}");
}

/// Serves the files of a folder over HTTP, one after the other, and returns the URL.
fn serve(folder: PathBuf) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut lines = BufReader::new(stream.try_clone().unwrap()).lines().map(Result::unwrap);
            let name = lines.next().unwrap().split([' ', '/']).nth(2).unwrap().to_owned();
            // The rest of the head.
            lines.find(String::is_empty);
            let content = fs::read(folder.join(name)).unwrap();
            let head = format!("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", content.len());
            stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&content)).unwrap();
        }
    });
    url
}

#[test]
#[ignore = "needs curl: cargo xtask test"]
fn what_is_no_good_release_changes_nothing() {
    for machine in ["aarch64", "arm64", "armv7l", "riscv64"] {
        let text = format!("case $1 in -m) echo {machine} ;; *) echo Linux ;; esac");
        let release = Release::new("true").program("uname", &text);
        release.refuses(release.install(), &format!("there is no release for Linux on {machine}"));
    }
    let release = Release::new("true").program("uname", "case $1 in -m) echo arm64 ;; *) echo Darwin ;; esac");
    release.refuses(release.install(), "there is no release for Darwin on arm64");

    let release = Release::new("echo cannot find libc >&2; exit 127");
    let (_, _, stderr) = output(release.install());
    assert!(stderr.ends_with("does not start on this machine: nothing is installed\n"), "{stderr}");
    assert!(!release.installed().exists());

    let release = Release::new("true");
    let archive = release.path(&format!("{ARCHIVE}.tar.gz"));
    let content = fs::read(&archive).unwrap();
    fs::write(&archive, &content[..content.len() / 2]).unwrap();
    release.refuses(release.install(), "is not what SHA256SUMS says");
    fs::remove_file(&archive).unwrap();
    release.refuses(release.install(), "cannot be fetched");
    fs::write(release.path("SHA256SUMS"), "<html>404</html>").unwrap();
    release.refuses(release.install(), "does not name one archive");

    let release = Release::new("true");
    let mut command = release.install();
    command.env_remove("HOME");
    release.refuses(command, "HOME is not set");
    let mut command = release.install();
    command.env_remove("FLEXWASM_RELEASES");
    release.refuses(command, "this is not the script of a release");
    let mut command = release.install();
    command.env("FLEXWASM_INSTALL", release.path("SHA256SUMS"));
    release.refuses(command, "SHA256SUMS cannot be written to");
}

#[test]
fn a_script_that_was_cut_off_does_nothing() {
    let release = Release::new("true");
    let text = fs::read_to_string(repository().join("install.sh")).unwrap();
    let half = release.path("half.sh");
    let last = text.rfind("\nmain").unwrap();
    for end in [text.find("fetch SHA256SUMS").unwrap(), text.len() / 2, last] {
        fs::write(&half, &text[..end]).unwrap();
        output(release.command(&half));
        assert!(!release.path("home").exists());
    }
}

/// What cargo says of the repository, as it is locked.
fn cargo(arguments: &[&str]) -> String {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(arguments).args(["--locked", "--offline"]).current_dir(repository());
    let (status, stdout, stderr) = output(cargo);
    assert!(status.success(), "{stderr}");
    stdout
}

/// The crates that these packages depend on, each with its features.
fn crates(packages: &[&str], more: &[&str]) -> BTreeSet<String> {
    let mut arguments = vec!["tree", "--prefix", "none", "--no-dedupe", "--format", "{p} {f}"];
    arguments.extend(packages.iter().flat_map(|package| ["--package", package]));
    arguments.extend(more);
    cargo(&arguments).lines().map(str::to_owned).collect()
}

/// `cargo install` builds the package alone, for minutes. That the tests have built the same is known without it: the code is the same, so only
/// the crates could differ, and the features that tests and other packages switch on in them.
#[test]
fn cargo_installs_one_executable_made_of_what_is_tested() {
    const TESTED: [&str; 3] = ["flexwasm-config", "flexwasm-runtime", "flexwasm"];
    let workspace: Value = serde_json::from_str(&cargo(&["metadata", "--no-deps", "--format-version", "1"])).unwrap();
    let package = workspace["packages"].as_array().unwrap().iter().find(|package| package["name"] == "flexwasm");
    let targets = package.unwrap()["targets"].as_array().unwrap();
    let programs: Vec<_> = targets.iter().filter(|target| target["kind"] == serde_json::json!(["bin"])).collect();
    assert!(programs.len() == 1 && programs[0]["name"] == "flexwasm", "{programs:?}");
    assert_eq!(programs[0].get("required-features"), None);

    let alone = crates(&["flexwasm"], &["--edges", "normal,build"]);
    let tested = crates(&TESTED, &["--edges", "normal,build,dev"]);
    let name = |line: &String| line.splitn(3, ' ').take(2).map(str::to_owned).collect::<Vec<_>>();
    // What our own code calls; what other crates need of each other, they ask for themselves.
    let ours: BTreeSet<_> = crates(&TESTED, &["--edges", "normal,build", "--depth", "1"]).iter().map(name).collect();
    assert!(ours.iter().any(|package| package[0] == "wasmtime"), "{ours:?}");
    let others: Vec<_> = alone.difference(&tested).filter(|line| ours.contains(&name(line))).collect();
    assert_eq!(others, [] as [&String; 0]);
}
