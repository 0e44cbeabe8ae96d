//! What the tests and the measurements share: app folders, the host's process, a client, and the one reader of HTTP/1.1.
//!
//! Whatever fails here fails the test: only what a test or a measurement may expect to fail answers an error.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod app;
mod client;
mod host;
pub mod http;
mod port;

pub use app::App;
pub use client::Client;
pub use host::Host;
pub use http::Response;
pub use port::free_port;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// Longer than anything that works takes; a test that waits for it has failed.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// What the environment of every host holds and nobody may ever see.
pub const SECRET: &str = "AccountKey=PLANTED+SECRET";

/// An invocation id as the Functions host makes them.
pub const ID: &str = "0a1b2c3d-0000-4000-8000-0123456789ab";

/// What `cargo xtask package --for-tests` makes, below the repository's folder.
pub const PACKAGE: &str = "target/package-test/flexwasm.zip";

/// The repository's own folder.
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// The host that cargo has built for the test that runs.
pub fn binary() -> PathBuf {
    std::env::var_os("CARGO_BIN_EXE_flexwasm").expect("cargo tells the tests of `flexwasm` where it is").into()
}

/// A folder in cargo's target folder, which the hosts of all tests use.
fn shared(name: &str) -> PathBuf {
    binary().ancestors().nth(2).unwrap().join("tmp").join(name)
}

/// Where the hosts' control sockets lie, each named after its app's folder.
pub fn runtime() -> PathBuf {
    shared("run")
}

/// The command with nothing in its environment but a secret, a variable that nobody knows, and the tests' own cache, so
/// that each guest is compiled once.
pub fn flexwasm() -> Command {
    let mut command = Command::new(binary());
    command.env_clear().env("AzureWebJobsStorage", SECRET).env("SOMETHING_UNKNOWN", "1");
    command.env("XDG_CACHE_HOME", shared("cache")).env("XDG_RUNTIME_DIR", runtime());
    command
}

/// What a command that is expected to end said.
pub fn output(mut command: Command) -> (ExitStatus, String, String) {
    let output = command.stdin(Stdio::null()).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status, text(&output.stdout), text(&output.stderr))
}

/// A request as the Functions host forwards it.
pub fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: app.example\r\nX-Azure-Functions-InvocationId: {ID}\r\n\r\n")
}

/// A request with a body.
pub fn post(path: &str, body: &str) -> String {
    format!(
        "POST {path} HTTP/1.1\r\nHost: app.example\r\nX-Azure-Functions-InvocationId: {ID}\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// The marker guest, whose file this is, under another number.
pub fn marked(guest: &[u8], number: usize) -> Vec<u8> {
    const MARKER: &[u8] = b"MARKER-0000";
    let mut guest = guest.to_owned();
    let at = guest.windows(MARKER.len()).position(|bytes| bytes == MARKER).expect("a guest with a marker");
    guest[at..at + MARKER.len()].copy_from_slice(format!("MARKER-{number:04}").as_bytes());
    guest
}

/// What the marker guest with this number answers: its marker, at both ends.
pub fn marked_answer(number: usize) -> String {
    format!("MARKER-{number:04} MARKER-{number:04}")
}

/// Waits until `done`, and fails when it never is.
pub fn eventually(what: &str, mut done: impl FnMut() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < until, "it never happened: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}
