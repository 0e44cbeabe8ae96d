//! The process that compiles one guest: this executable again, within bounds.
//!
//! The author of a component decides how much work compiling it makes, so everything has a bound:
//!
//! | what | bound |
//! |---|---|
//! | time | killed after `guest.compileTimeout`; the kernel ends it after as much time on every processor |
//! | memory | [`Bounds::memory`]; where the machine runs out of it, the kernel ends this process before any other |
//! | life | killed when nothing waits for the code any more, and when the host ends |
//!
//! Measured with the 19 MB Python guest on two processors: 476 MB resident; 640 MiB of private memory are too few, 1 GiB suffices.

use super::super::compiled;
use super::super::interfaces::Interfaces;
use super::NoCode;
use crate::config::units::spell_size;
use crate::engine::code::{self, Processors};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::process::{
    Pid, PidfdFlags, Resource, Rlimit, Signal, getrlimit, pidfd_open, set_parent_process_death_signal, setrlimit,
};
use std::fs::{self, File};
use std::io::{self, PipeReader, Read as _, Seek as _, Write as _};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// The subcommand with which this executable is a compiler.
pub const SUBCOMMAND: &str = "compile-for-host";
/// Bytes of a compiler's complaint that are read.
const COMPLAINT: u64 = 64 << 10;
/// What to do about a guest that needs more than the compiler gets.
const REMEDY: &str =
    "compile it with `flexwasm compile` on a machine that has more, and put that file beside the guest";

/// What one compilation may use.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// From its start to its end.
    pub time: Duration,
    /// Bytes of private memory.
    pub memory: u64,
}

/// Lets a process of `executable` compile `wasm`, from and into memory that has no name. Blocks until that process has ended; it
/// is killed when the other end of `wanted` is closed.
///
/// # Errors
/// [`NoCode`].
pub fn run(executable: &Path, wasm: &[u8], bounds: Bounds, wanted: &PipeReader) -> Result<File, NoCode> {
    let failed = |what: &str, error: io::Error| NoCode::Process(format!("{what}: {error}"));
    let [input, code, stderr] = [(); 3].map(|()| unnamed());
    let input = input.and_then(|mut file| file.write_all(wasm).and_then(|()| file.rewind()).map(|()| file));
    let input = input.map_err(|error| failed("no memory for the compiler's input", error))?;
    let (code, output) = code.and_then(shared).map_err(|error| failed("no memory for the code", error))?;
    let (complaint, stderr) = stderr.and_then(shared).map_err(|error| failed("no memory for errors", error))?;
    let mut command = Command::new(executable);
    // The compiler needs no app setting, so it gets none and knows no secret.
    command.arg0("flexwasm").arg(SUBCOMMAND).env_clear();
    // Else mimalloc's reservation of 1 GiB counts as used before the first guest's byte is read.
    command.env("MIMALLOC_ARENA_EAGER_COMMIT", "0");
    command.args([bounds.memory, bounds.time.as_secs() + 1].map(|bound| bound.to_string()));
    command.stdin(input).stdout(output).stderr(stderr);
    let mut compiler = command.spawn().map_err(|error| failed("cannot start a process to compile it", error))?;
    let waited = pidfd_open(Pid::from_child(&compiler), PidfdFlags::empty()).and_then(|process| {
        let mut events = [PollFd::new(&process, PollFlags::IN), PollFd::new(wanted, PollFlags::empty())];
        let time = bounds.time.try_into().expect("it is an hour at the most");
        rustix::io::retry_on_intr(|| poll(&mut events, Some(&time)))?;
        Ok(events.map(|event| !event.revents().is_empty()))
    });
    // Without effect on a process that has ended by itself.
    let status = compiler.kill().and_then(|()| compiler.wait());
    let lost = |error| failed("lost the process", error);
    let ([ended, unwanted], status) = (waited.map_err(io::Error::from).map_err(lost)?, status.map_err(lost)?);
    if !ended {
        return Err(if unwanted { NoCode::Unwanted } else { NoCode::Time(bounds.time) });
    }
    if status.success() {
        return rewound(code).map_err(|error| failed("cannot read the code", error));
    }
    let mut words = Vec::new();
    let read = rewound(complaint).and_then(|file| file.take(COMPLAINT).read_to_end(&mut words));
    read.map_err(|error| failed("cannot read what is wrong", error))?;
    let words = String::from_utf8_lossy(&words).trim().to_owned();
    let signal = |meant: Signal| status.signal() == Some(meant.as_raw());
    Err(if signal(Signal::XCPU) {
        NoCode::Time(bounds.time)
    } else if signal(Signal::ABORT) && words.contains("memory allocation of") {
        let memory = spell_size(bounds.memory);
        NoCode::Process(format!("it takes more than the {memory} of memory that its compiler may use here: {REMEDY}"))
    } else if signal(Signal::KILL) {
        NoCode::Process(format!("its compiler was ended by signal 9, the kernel's when memory runs out: {REMEDY}"))
    } else if let Some(signal) = status.signal() {
        NoCode::Process(format!("its compiler was ended by signal {signal}: {words}"))
    } else {
        NoCode::Invalid(words)
    })
}

/// What the process that [`run`] starts does: compiles the component on stdin for the engine that it needs, and writes
/// the file to stdout. `memory` and `seconds` are [`Bounds`].
///
/// # Errors
/// In the words that [`NoCode::Invalid`] wants.
pub fn compile_for_host(memory: u64, seconds: u64) -> Result<(), String> {
    // The host waits in the thread that started us; without that thread nothing wants the code.
    set_parent_process_death_signal(Some(Signal::KILL)).map_err(|error| error.to_string())?;
    // Where there is no such file, the kernel decides by size, which is likely to mean us too.
    let _ = fs::write("/proc/self/oom_score_adj", "1000");
    let processors = std::thread::available_parallelism().map_or(1, |count| count.get() as u64);
    for (resource, most) in [(Resource::Data, memory), (Resource::Cpu, seconds * processors)] {
        let held = getrlimit(resource);
        let current = Some(held.current.map_or(most, |current| current.min(most)));
        setrlimit(resource, Rlimit { current, ..held }).map_err(|error| error.to_string())?;
    }
    let mut wasm = Vec::new();
    io::stdin().read_to_end(&mut wasm).map_err(|error| error.to_string())?;
    let engine = code::compiler(Interfaces::of(&wasm).wasi, Processors::ThisKind);
    let content = engine.and_then(|engine| compiled::compile(&engine, &wasm));
    io::stdout().write_all(&content.map_err(|error| super::super::chain(&error))?).map_err(|error| error.to_string())
}

/// A file that is only memory.
fn unnamed() -> io::Result<File> {
    Ok(memfd_create("flexwasm", MemfdFlags::CLOEXEC)?.into())
}

/// The file twice: for us and for the process that writes to it.
fn shared(file: File) -> io::Result<(File, File)> {
    file.try_clone().map(|other| (file, other))
}

fn rewound(mut file: File) -> io::Result<File> {
    file.rewind().map(|()| file)
}
