//! Somebody who looks on: what an open page asks of a host, ten times in a second, over the operator's socket.

use crate::swaps::control::socket;
use anyhow::{Context as _, Result};
use serde_json::Value;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

/// As often as a page gets events.
const PERIOD: Duration = Duration::from_millis(100);

/// Begins to look on at the host that has its socket in this folder, until it ends.
pub fn begin(sockets: &Path) -> Result<()> {
    let (socket, mut report) = first(sockets)?;
    thread::spawn(move || {
        while let Some(next) = look(&socket, report["next"].as_str().unwrap_or_default()) {
            report = next;
            thread::sleep(PERIOD);
        }
    });
    Ok(())
}

/// How many slots run now.
pub fn running(sockets: &Path) -> Result<u32> {
    let running = first(sockets)?.1["running"].as_u64().context("a report without numbers")?;
    Ok(running.try_into()?)
}

fn first(sockets: &Path) -> Result<(PathBuf, Value)> {
    let socket = socket(&sockets.join("flexwasm"))?;
    let report = look(&socket, "").context("the host does not say what its pool does")?;
    Ok((socket, report))
}

/// One report, unless the host is gone.
fn look(socket: &Path, since: &str) -> Option<Value> {
    let mut stream = UnixStream::connect(socket).ok()?;
    let request = format!("GET /live?since={since} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    serde_json::from_str(answer.split_once("\r\n\r\n")?.1).ok()
}
