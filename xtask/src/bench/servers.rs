//! The servers that are compared, and how one of them is started, asked and stopped.

use super::PEER;
use crate::process;
use anyhow::{Context as _, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde::Serialize;
use std::fs;
use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// The benchmark guests, below the project's folder.
pub const GUEST: &str = "target/guests/wasm32-wasip2/guest/bench_guest.wasm";
pub const GUEST_P3: &str = "target/guests/wasm32-wasip2/guest/bench_guest_p3.wasm";

/// What every server answers.
pub const BODY: &[u8] = include_bytes!("../../../benches/body.json");

/// A peer that compiles a guest at its start needs its time.
const START_LIMIT: Duration = Duration::from_secs(60);
/// For one answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);
/// Pause between two tries to connect, kept short enough not to show in a start of some milliseconds.
const RETRY_PAUSE: Duration = Duration::from_micros(20);

/// The peer's best settings for a fresh instance per request, found by trying its flags (`-O help`).
const TUNED: &str = "-Opooling-allocator=y,pooling-memory-keep-resident=2097152,pooling-table-keep-resident=65536,\
                     pooling-pagemap-scan=y";

/// One row of the tables.
#[derive(Serialize)]
pub struct Server {
    pub key: &'static str,
    pub name: &'static str,
    #[serde(skip)]
    pub program: Program,
    /// `{guest}`, `{guest-p3}`, `{tuned}` and `{address}` stand for what their names say, `{port}` for that of the address.
    #[serde(skip)]
    arguments: &'static [&'static str],
    /// Keys of the rows that it is compared with, beside raw hyper.
    pub peers: &'static [&'static str],
}

/// What a row runs.
#[derive(Clone, Copy, PartialEq)]
pub enum Program {
    Raw,
    Flexwasm,
    /// `wasmtime serve`.
    Peer,
}

/// The key of the row that every other is compared with.
pub const FLOOR: &str = "raw";

/// Every row, in the order of the tables.
pub const ALL: &[Server] = &[
    Server { key: FLOOR, name: "raw hyper", program: Program::Raw, arguments: &["{port}"], peers: &[] },
    Server {
        key: "raw-current-thread",
        name: "raw hyper, current thread",
        program: Program::Raw,
        arguments: &["--current-thread", "{port}"],
        peers: &[],
    },
    Server {
        key: "fresh",
        name: "flexwasm, fresh instances",
        program: Program::Flexwasm,
        arguments: &["serve", "{guest}", "--listen", "{address}"],
        peers: &["wasmtime", "wasmtime-tuned"],
    },
    Server {
        key: "warm",
        name: "flexwasm, warm instances",
        program: Program::Flexwasm,
        arguments: &["serve", "{guest}", "--listen", "{address}", "--reuse", "1000000"],
        peers: &["wasmtime-reuse"],
    },
    Server {
        key: "p3",
        name: "flexwasm, WASI 0.3, fresh",
        program: Program::Flexwasm,
        arguments: &["serve", "{guest-p3}", "--listen", "{address}"],
        peers: &["wasmtime-p3-fresh"],
    },
    Server {
        key: "p3-warm",
        name: "flexwasm, WASI 0.3, warm",
        program: Program::Flexwasm,
        arguments: &["serve", "{guest-p3}", "--listen", "{address}", "--reuse", "1000000"],
        peers: &["wasmtime-p3"],
    },
    Server {
        key: "wasmtime",
        name: "wasmtime serve, fresh",
        program: Program::Peer,
        arguments: &["serve", "--addr", "{address}", "-Scli", "{guest}"],
        peers: &[],
    },
    Server {
        key: "wasmtime-tuned",
        name: "wasmtime serve, fresh, tuned pooling",
        program: Program::Peer,
        arguments: &["serve", "--addr", "{address}", "-Scli", "{tuned}", "{guest}"],
        peers: &[],
    },
    Server {
        key: "wasmtime-reuse",
        name: "wasmtime serve, tuned, unlimited reuse",
        program: Program::Peer,
        arguments: &[
            "serve",
            "--addr",
            "{address}",
            "-Scli",
            "{tuned}",
            "--max-instance-reuse-count",
            "1000000000",
            "{guest}",
        ],
        peers: &[],
    },
    Server {
        key: "wasmtime-p3-fresh",
        name: "wasmtime serve, WASI 0.3, fresh, tuned",
        program: Program::Peer,
        arguments: &[
            "serve",
            "--addr",
            "{address}",
            "-Scli",
            "{tuned}",
            "--max-instance-reuse-count",
            "1",
            "--max-instance-concurrent-reuse-count",
            "1",
            "{guest-p3}",
        ],
        peers: &[],
    },
    // 16 requests at the same time and 128 in all for each instance.
    Server {
        key: "wasmtime-p3",
        name: "wasmtime serve, WASI 0.3, its defaults",
        program: Program::Peer,
        arguments: &["serve", "--addr", "{address}", "-Scli", "{guest-p3}"],
        peers: &[],
    },
];

/// The processors of a run: each side has its own.
#[derive(Clone, Copy)]
pub struct Cores {
    pub server: usize,
    pub client: usize,
}

impl Server {
    pub fn named(key: &str) -> &'static Self {
        ALL.iter().find(|server| server.key == key).expect("a key of the list")
    }

    /// The command that starts it. Its standard output is discarded: flexwasm writes a line there for each request.
    pub fn command(&self, address: SocketAddr, smoke: bool) -> Command {
        let mut command = self.program.command(smoke);
        command.args(self.arguments.iter().map(|argument| fill(argument, &address.to_string())));
        command
    }

    /// The same, as a person would write it.
    pub fn spelled(&self) -> String {
        let arguments = self.arguments.iter().map(|argument| fill(argument, "127.0.0.1:8080"));
        [self.program.path(false).to_owned()].into_iter().chain(arguments).collect::<Vec<_>>().join(" ")
    }
}

fn fill(argument: &str, address: &str) -> String {
    let port = address.rsplit(':').next().unwrap_or_default();
    let known = [("guest", GUEST), ("guest-p3", GUEST_P3), ("tuned", TUNED), ("address", address), ("port", port)];
    known.iter().fold(argument.to_owned(), |text, (name, value)| text.replace(&format!("{{{name}}}"), value))
}

impl Program {
    /// Below the project's folder.
    fn path(self, smoke: bool) -> &'static str {
        match (self, smoke) {
            (Self::Raw, false) => "target/release/bench-raw",
            (Self::Raw, true) => "target/debug/bench-raw",
            (Self::Flexwasm, false) => "target/release/flexwasm",
            (Self::Flexwasm, true) => "target/debug/flexwasm",
            (Self::Peer, _) => PEER,
        }
    }

    /// In the project's folder, with its standard output discarded.
    pub fn command(self, smoke: bool) -> Command {
        let root = crate::root();
        let mut command = Command::new(root.join(self.path(smoke)));
        command.current_dir(root).stdin(Stdio::null()).stdout(Stdio::null());
        // Where it is set, every error costs a walk of the stack.
        command.env_remove("RUST_BACKTRACE");
        command
    }
}

/// An address that nobody listens on.
pub fn free_address() -> Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("cannot listen on 127.0.0.1")?;
    Ok(listener.local_addr()?)
}

/// A server that has answered. It ends when this is dropped.
pub struct Running {
    child: Child,
    address: SocketAddr,
    /// From just before its process was made to the end of its first answer.
    pub ready_after: Duration,
}

impl Running {
    /// Starts a server and waits for the first 200 to `GET path`.
    ///
    /// # Errors
    /// When it ends, answers something else, or takes longer than a minute; with what it wrote to standard error.
    pub fn start(mut command: Command, address: SocketAddr, path: &str, processors: &[usize]) -> Result<Self> {
        let said = tempfile::NamedTempFile::new()?;
        command.stderr(said.reopen()?);
        let started = Instant::now();
        let child = process::spawn_on(processors, &mut command)?;
        let mut running = Self { child, address, ready_after: Duration::ZERO };
        running.await_answer(path, started).with_context(|| {
            let said = fs::read_to_string(said.path()).unwrap_or_default();
            format!("{command:?} does not serve; it said: {said}")
        })?;
        running.ready_after = started.elapsed();
        Ok(running)
    }

    fn await_answer(&mut self, path: &str, started: Instant) -> Result<()> {
        loop {
            match ask(self.address, path) {
                Ok((200, _)) => return Ok(()),
                // Not listening yet, or about to end; 503: no guest yet.
                Ok((503, _)) | Err(_) if started.elapsed() < START_LIMIT => {}
                Ok((status, _)) => bail!("the first answer has status {status}"),
                Err(error) => return Err(error).context("it took too long"),
            }
            if let Some(status) = self.child.try_wait()? {
                bail!("it ended ({status})");
            }
            thread::sleep(RETRY_PAUSE);
        }
    }

    /// Asks once, and expects the benchmark's answer to the byte.
    pub fn check(&self) -> Result<()> {
        let (status, body) = ask(self.address, "/").context("no answer")?;
        ensure!(status == 200, "status {status} instead of 200");
        ensure!(body == BODY, "another body: {}", String::from_utf8_lossy(&body));
        Ok(())
    }

    /// Asks it to stop, and waits until it has.
    pub fn stop(mut self) -> Result<()> {
        let process = Pid::from_child(&self.child);
        kill_process(process, Signal::TERM).context("cannot ask a server to stop")?;
        self.child.wait()?;
        Ok(())
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

/// One `GET` on a connection of its own: status and body.
fn ask(address: SocketAddr, path: &str) -> io::Result<(u16, Vec<u8>)> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(ANSWER_LIMIT))?;
    stream.write_all(format!("GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n").as_bytes())?;
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes)?;
    let broken = || io::Error::new(io::ErrorKind::InvalidData, "not an HTTP answer");
    let head = bytes.windows(4).position(|window| window == b"\r\n\r\n").ok_or_else(broken)?;
    let status = bytes.get(9..12).and_then(|status| std::str::from_utf8(status).ok()?.parse().ok());
    Ok((status.ok_or_else(broken)?, bytes.split_off(head + 4)))
}
