//! Somebody who looks on: what an open page asks of a host, ten times in a second, over the operator's socket.

use crate::swaps::control::socket;
use anyhow::{Context as _, Result};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::Duration;
use tempfile::TempDir;

/// As often as a page gets events.
const PERIOD: Duration = Duration::from_millis(100);

/// Whoever looks on, until the host ends.
pub struct Onlooker {
    folder: TempDir,
}

impl Onlooker {
    /// Lets the host of this command have a socket of its own: those of one folder have one together, and the first of them gets it.
    pub fn prepare(command: &mut Command) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        symlink(crate::root().join("target"), folder.path().join("target"))?;
        command.current_dir(folder.path()).env("XDG_RUNTIME_DIR", folder.path());
        Ok(Self { folder })
    }

    /// Begins to look on.
    pub fn begin(&self) -> Result<()> {
        let socket = socket(&self.folder.path().join("flexwasm"))?;
        let mut next = look(&socket, "").context("the host does not say what its pool does")?;
        thread::spawn(move || {
            while let Some(seen) = look(&socket, &next) {
                next = seen;
                thread::sleep(PERIOD);
            }
        });
        Ok(())
    }
}

/// One report; what to ask for next, unless the host is gone.
fn look(socket: &Path, since: &str) -> Option<String> {
    let mut stream = UnixStream::connect(socket).ok()?;
    let request = format!("GET /live?since={since} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    Some(answer.split_once("\"next\":\"")?.1.split_once('"')?.0.to_owned())
}
