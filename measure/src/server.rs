//! Servers of this machine: how one of them is started, asked and stopped.

use crate::process;
use anyhow::{Context as _, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};
use tempfile::{NamedTempFile, TempDir};
use testkit::{Response, free_port, http};

/// The benchmark guest, below the project's folder.
pub const GUEST: &str = "target/guests/wasm32-wasip2/guest/bench_guest.wasm";

/// The peer, below the project's folder.
pub const PEER: &str = "target/peer/bin/wasmtime";

/// Leads to the checkout that is measured beside this one, below the project's folder.
pub const BESIDE: &str = "target/beside";
const BESIDE_HOST: &str = "target/beside/target/release/flexwasm";

/// What the benchmark guest answers, and every server that is compared with it.
pub const BODY: &[u8] = include_bytes!("../../benches/body.json");

/// A peer that compiles a guest at its start needs its time.
const START_LIMIT: Duration = Duration::from_secs(60);
/// For one answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);
/// Pause between two tries to connect, kept short enough not to show in a start of some milliseconds.
const RETRY_PAUSE: Duration = Duration::from_micros(20);

/// What can be started.
#[derive(Clone, Copy, PartialEq)]
pub enum Program {
    Raw,
    Flexwasm,
    /// The host of the checkout that is measured beside this one.
    Beside,
    /// `wasmtime serve`.
    Peer,
}

/// The processors of a run: each side has its own.
#[derive(Clone, Copy)]
pub struct Cores {
    pub server: usize,
    pub client: usize,
}

impl Program {
    /// Below the project's folder, for a run that is not a smoke run.
    pub fn path(self) -> &'static str {
        match self {
            Self::Raw => "target/release/bench-raw",
            Self::Flexwasm => "target/release/flexwasm",
            Self::Beside => BESIDE_HOST,
            Self::Peer => PEER,
        }
    }

    /// In the project's folder, with its standard output discarded. A smoke run takes the development build, which lies beside the
    /// one of these measurements.
    pub fn command(self, smoke: bool) -> Command {
        let (root, path) = (crate::root(), Path::new(self.path()));
        let own = smoke.then(std::env::current_exe).and_then(Result::ok);
        let file = own.map_or_else(|| root.join(path), |own| own.with_file_name(path.file_name().unwrap_or_default()));
        let mut command = Command::new(file);
        command.current_dir(root).stdin(Stdio::null()).stdout(Stdio::null());
        // Where it is set, every error costs a walk of the stack.
        command.env_remove("RUST_BACKTRACE");
        command
    }
}

/// Gives a host a folder of its own for its socket: hosts of one app have one socket together, and the first of them gets it.
pub fn own_sockets(command: &mut Command) -> Result<TempDir> {
    let folder = tempfile::tempdir()?;
    command.env("XDG_RUNTIME_DIR", folder.path());
    Ok(folder)
}

/// An address that nobody listens on.
pub fn free_address() -> SocketAddr {
    ([127, 0, 0, 1], free_port()).into()
}

/// A server that has answered. It ends when this is dropped.
pub struct Running {
    child: Child,
    address: SocketAddr,
    /// What it writes to standard error.
    errors: NamedTempFile,
    /// From just before its process was made to the end of its first answer.
    pub ready_after: Duration,
}

impl Running {
    /// Starts a server and waits for the first 200 to `GET path`.
    ///
    /// # Errors
    /// When it ends, answers something else, or takes longer than a minute; with what it wrote to standard error.
    pub fn start(mut command: Command, address: SocketAddr, path: &str, processors: &[usize]) -> Result<Self> {
        let errors = NamedTempFile::new()?;
        command.stderr(errors.reopen()?);
        let started = Instant::now();
        let child = process::spawn_on(processors, &mut command)?;
        let mut running = Self { child, address, errors, ready_after: Duration::ZERO };
        let answered = running.await_answer(path, started);
        answered.with_context(|| format!("{command:?} does not serve; it said: {}", running.errors()))?;
        running.ready_after = started.elapsed();
        Ok(running)
    }

    fn await_answer(&mut self, path: &str, started: Instant) -> Result<()> {
        loop {
            match ask(self.address, path).map(|answer| answer.status) {
                Ok(200) => return Ok(()),
                // Not listening yet, or about to end; 503: no guest yet.
                Ok(503) | Err(_) if started.elapsed() < START_LIMIT => {}
                Ok(status) => bail!("the first answer has status {status}"),
                Err(error) => return Err(error).context("it took too long"),
            }
            if let Some(status) = self.child.try_wait()? {
                bail!("it ended ({status})");
            }
            thread::sleep(RETRY_PAUSE);
        }
    }

    /// Asks once, and expects the benchmark guest's answer to the byte.
    pub fn check(&self) -> Result<()> {
        let answer = ask(self.address, "/").context("no answer")?;
        ensure!(answer.status == 200, "status {} instead of 200", answer.status);
        ensure!(answer.body == BODY, "another body: {}", answer.text());
        Ok(())
    }

    /// Asks it to stop, and waits until it has.
    pub fn stop(mut self) -> Result<()> {
        let process = Pid::from_child(&self.child);
        kill_process(process, Signal::TERM).context("cannot ask a server to stop")?;
        self.child.wait()?;
        Ok(())
    }

    /// Whether its process has not ended.
    pub fn is_up(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// What it has written to standard error so far.
    pub fn errors(&self) -> String {
        fs::read_to_string(self.errors.path()).unwrap_or_default()
    }

    pub fn process(&self) -> u32 {
        self.child.id()
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One `GET` on a connection of its own.
pub fn ask(address: SocketAddr, path: &str) -> Result<Response> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(ANSWER_LIMIT))?;
    http::exchange(&mut stream, &format!("GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n"))
}
