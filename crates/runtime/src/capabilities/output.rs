//! A guest's standard output and error: whole lines in the host's log, tagged with function and invocation.
//!
//! An instance that serves several requests keeps its streams; the tag and the budget change with each of them. Both
//! streams share `limits.log`; what goes beyond is dropped, and the log says so once. Writing never blocks and never
//! fails: a guest cannot be slowed down or ended by its own log.
//!
//! `limits.logRate` holds for all invocations of a function together: a flood of short ones, each within its `limits.log`,
//! would otherwise push everybody else's records out of the log. Lines beyond it are dropped as a whole.
//!
//! The lines of an invocation that has a [`Transcript`] stay out of the log if its answer takes them along.

use super::{Capability, Equipment};
use crate::config::Function;
use crate::config::units::spell_size;
use crate::engine::Wasi;
use crate::observe::rate::Dropped;
use crate::observe::trace::Tag;
use crate::observe::transcript::{Line, Lines};
use crate::sandbox::{Policy, Sandbox, Scoped};
use bytes::Bytes;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use tokio::io::AsyncWrite;
use wasmtime::component::Linker;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream, WasiCli, WasiCliView as _};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamResult};
use wasmtime_wasi::{p2, p3};

/// A line without an end is cut here, in bytes.
const LINE_LIMIT: usize = 8 << 10;
/// What a guest may offer in one write, in bytes.
const WRITE_LIMIT: usize = 64 << 10;
/// What a record takes in the log beside its text, in bytes: time, level, names, ids.
const RECORD: usize = 200;

/// Links what WASI 0.2 and 0.3 have under the same names.
macro_rules! link {
    ($version:ident, $linker:ident) => {
        link!($version, $linker: stdin stdout stderr terminal_input terminal_output terminal_stdin terminal_stdout terminal_stderr)
    };
    ($version:ident, $linker:ident: $($interface:ident)+) => {
        $($version::bindings::cli::$interface::add_to_linker::<_, WasiCli>($linker, Sandbox::cli)?;)+
    };
}

pub struct Output;

impl Capability for Output {
    fn equip(&self, policy: &Arc<Policy>, tag: &Tag, system: &mut Equipment) {
        let log = Arc::new(Mutex::new(Log {
            policy: Arc::clone(policy),
            tag: tag.clone(),
            left: policy.limits.log,
            cut: false,
            lines: [("stdout", Vec::new()), ("stderr", Vec::new())],
        }));
        let [stdout, stderr] = [0, 1].map(|index| Stream { log: Arc::clone(&log), index });
        system.wasi.stdout(stdout).stderr(stderr);
        system.scoped.push(log);
    }

    fn link(&self, linker: &mut Linker<Sandbox>, wasi: Wasi) -> wasmtime::Result<()> {
        link!(p2, linker);
        if wasi == Wasi::P3 {
            link!(p3, linker);
        }
        Ok(())
    }

    fn describe(&self, function: &Function, interface: &str) -> Option<String> {
        match interface.strip_prefix("wasi:cli/")? {
            "stdout" | "stderr" => {
                Some(format!("lines in the host's log, {} for each request", spell_size(function.limits.log)))
            }
            "stdin" => Some("nothing: it is empty".to_owned()),
            "types" => Some("the kinds of errors of its standard streams".to_owned()),
            name if name.starts_with("terminal-") => Some("nothing: there is no terminal".to_owned()),
            _ => None,
        }
    }
}

/// Both streams of an instance, which may keep them for as long as it lives.
impl Scoped for Mutex<Log> {
    /// From here on the output is that of this invocation, which has the whole of `limits.log` for itself.
    fn begin(&self, tag: &Tag) {
        let mut log = lock(self);
        log.end_lines();
        log.tag = tag.clone();
        log.left = log.policy.limits.log;
        log.cut = false;
    }

    /// Logs what has no end of line yet.
    fn end(&self) {
        lock(self).end_lines();
    }
}

/// The lines of one invocation for its answer. They reach the log after all where no answer takes them along.
pub struct Transcript {
    policy: Arc<Policy>,
    tag: Tag,
    lines: Arc<Lines>,
}

impl Transcript {
    /// Keeps the guest's lines of the invocation that begins with this tag.
    pub fn begin(policy: &Arc<Policy>, tag: &mut Tag) -> Self {
        let lines = Arc::clone(tag.lines.insert(Arc::default()));
        Self { policy: Arc::clone(policy), tag: tag.clone(), lines }
    }

    /// What was written so far.
    pub fn lines(&self) -> Vec<String> {
        self.lines.texts()
    }

    /// An answer has taken the lines along.
    pub fn done(self) {
        self.lines.take();
    }
}

impl Drop for Transcript {
    fn drop(&mut self) {
        for line in self.lines.take() {
            log(&self.policy, &self.tag, &line);
        }
    }
}

/// Writes a line to the log, if it takes one.
fn log(policy: &Arc<Policy>, Tag { id, trace, .. }: &Tag, Line { stream, text }: &Line) {
    // The log quotes the text and escapes every control character in it, which can make it much longer.
    if may_log(policy, format!("{text:?}").len()) {
        tracing::info!(target: "guest", function = %policy.function, %id, trace_id = %trace.trace_id(),
            span_id = %trace.span_id(), stream, text);
    }
}

/// Whether the log takes a record whose escaped text has `length` bytes from this function now.
fn may_log(policy: &Arc<Policy>, length: usize) -> bool {
    policy.log_rate.admits(length + RECORD, || {
        let policy = Arc::clone(policy);
        move |Dropped { bytes, .. }| {
            let rate = spell_size(policy.log_rate.limit());
            tracing::warn!(target: "guest", function = %policy.function,
                "output beyond limits.logRate ({rate} per second) was dropped: {bytes} bytes");
        }
    })
}

fn lock(log: &Mutex<Log>) -> MutexGuard<'_, Log> {
    // A panic while the lock is held could only lose a log line: go on.
    log.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A handle to one of the two streams; all handles of a stream write to the same place.
#[derive(Clone)]
struct Stream {
    log: Arc<Mutex<Log>>,
    index: usize,
}

struct Log {
    policy: Arc<Policy>,
    tag: Tag,
    /// Bytes that may still be logged.
    left: u64,
    /// Whether the log already says that something is missing.
    cut: bool,
    /// Name and unfinished line of each stream.
    lines: [(&'static str, Vec<u8>); 2],
}

impl Log {
    fn write(&mut self, index: usize, bytes: &[u8]) {
        let allowed = usize::try_from(self.left).unwrap_or(usize::MAX).min(bytes.len());
        if allowed < bytes.len() && !self.cut {
            self.cut = true;
            let limit = self.policy.limits.log;
            if may_log(&self.policy, 0) {
                let Tag { id, trace, .. } = &self.tag;
                tracing::warn!(target: "guest", function = %self.policy.function, %id, trace_id = %trace.trace_id(),
                    span_id = %trace.span_id(), "output beyond limits.log ({limit} bytes) is dropped");
            }
        }
        self.left -= allowed as u64;
        for piece in bytes[..allowed].split_inclusive(|byte| *byte == b'\n').flat_map(|piece| piece.chunks(LINE_LIMIT))
        {
            if self.lines[index].1.len() + piece.len() > LINE_LIMIT {
                self.end_line(index);
            }
            self.lines[index].1.extend(piece);
            if piece.ends_with(b"\n") {
                self.end_line(index);
            }
        }
    }

    fn end_lines(&mut self) {
        self.end_line(0);
        self.end_line(1);
    }

    fn end_line(&mut self, index: usize) {
        let (stream, line) = &mut self.lines[index];
        let said = line.trim_ascii_end();
        if !said.is_empty() {
            let line = Line { stream, text: String::from_utf8_lossy(said).into_owned() };
            let left = match &self.tag.lines {
                Some(lines) => lines.keep(line).err(),
                None => Some(line),
            };
            if let Some(line) = left {
                log(&self.policy, &self.tag, &line);
            }
        }
        line.clear();
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        self.end_lines();
    }
}

impl Stream {
    fn append(&self, bytes: &[u8]) {
        lock(&self.log).write(self.index, bytes);
    }
}

impl IsTerminal for Stream {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for Stream {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.clone())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

#[wasmtime_wasi::async_trait]
impl Pollable for Stream {
    async fn ready(&mut self) {}
}

impl OutputStream for Stream {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.append(&bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(WRITE_LIMIT)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.append(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
