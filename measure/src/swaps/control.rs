//! Asking the host for a swap without waiting for it: what `flexwasm swap` does, from a thread that has callers to look after.

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use std::fs;
use std::io::{ErrorKind, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use testkit::http::{self, Answer};

/// The host's answer to one swap takes no longer, compiling included.
const PATIENCE: Duration = Duration::from_secs(60);

/// A swap that was asked for.
pub struct Asked {
    stream: UnixStream,
    /// What has not left yet.
    request: Vec<u8>,
    sent: usize,
    received: Vec<u8>,
    answer: Option<Answer>,
    over: bool,
}

impl Asked {
    /// Of the guest of the function `swapped`, or of its part that `query` names.
    pub fn send(socket: &Path, query: &str, guest: &[u8]) -> Result<Self> {
        let stream = UnixStream::connect(socket).with_context(|| format!("cannot connect to {}", socket.display()))?;
        stream.set_nonblocking(true)?;
        let head = format!(
            "POST /swap/swapped{query} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
            guest.len()
        );
        let request = [head.as_bytes(), guest].concat();
        Ok(Self { stream, request, sent: 0, received: Vec::new(), answer: None, over: false })
    }

    /// Looks once; the host's answer, when it is there, and only once.
    pub fn look(&mut self) -> Result<Option<Value>> {
        if self.over {
            return Ok(None);
        }
        if self.sent < self.request.len() {
            match self.stream.write(&self.request[self.sent..]) {
                Ok(written) => self.sent += written,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Err(error).context("cannot hand over a guest"),
            }
            return Ok(None);
        }
        let ended = match http::fill(&mut self.stream, &mut self.received) {
            Ok(more) => !more,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
            Err(error) => return Err(error).context("no answer to a swap"),
        };
        if self.answer.is_none() {
            self.answer = Answer::begin(&mut self.received)?;
        }
        let whole = self.answer.as_mut().map_or(Ok(false), |answer| answer.take(&mut self.received, ended))?;
        let Some(answer) = self.answer.take_if(|_| whole) else {
            ensure!(!ended, "no answer to a swap");
            return Ok(None);
        };
        self.over = true;
        Ok(Some(serde_json::from_slice(&answer.response.body).context("no JSON")?))
    }
}

/// Swaps, and waits until that is done.
pub fn wait(socket: &Path, query: &str, guest: &[u8]) -> Result<()> {
    let (mut asked, begun) = (Asked::send(socket, query, guest)?, Instant::now());
    loop {
        if let Some(answer) = asked.look()? {
            ensure!(answer["error"].is_null(), "a swap was refused: {answer}");
            return Ok(());
        }
        ensure!(begun.elapsed() < PATIENCE, "a swap has no end");
    }
}

/// The host's control socket: the only one in its folder.
pub fn socket(folder: &Path) -> Result<PathBuf> {
    let entries = fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))?;
    let mut paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    paths.find(|path| path.extension().is_some_and(|end| end == "sock")).context("the host has no control socket")
}
