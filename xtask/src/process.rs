//! Processes of this machine: what `/proc` tells of them, and the processors that they may use.

use anyhow::{Context as _, Result, ensure};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use std::fs;
use std::path::Path;
use std::process::{Child, Command};

/// A number of `/proc/PID/status`, such as `VmRSS` in KiB; 0 where it cannot be read.
pub fn status(process: u32, name: &str) -> u64 {
    let text = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    value.and_then(|value| value.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

/// Nanoseconds that the threads of a process have spent on a processor, those that have ended left out.
///
/// The scheduler's own count: the clock ticks of `/proc/PID/stat` are too coarse for a short run.
pub fn cpu_time(process: u32) -> Result<u64> {
    let tasks = format!("/proc/{process}/task");
    let mut total = 0;
    for task in fs::read_dir(&tasks).with_context(|| format!("cannot read {tasks}"))? {
        // A thread may end between the two reads.
        let Ok(text) = fs::read_to_string(task?.path().join("schedstat")) else { continue };
        let spent: Option<u64> = text.split_whitespace().next().and_then(|number| number.parse().ok());
        total += spent.with_context(|| format!("{tasks}/*/schedstat has no number"))?;
    }
    ensure!(total > 0, "{tasks}/*/schedstat tells no time: the kernel was built without CONFIG_SCHED_INFO");
    Ok(total)
}

/// The processors that this process may use.
pub fn processors() -> Result<Vec<usize>> {
    let allowed = sched_getaffinity(None).context("cannot read the processor affinity")?;
    Ok((0..CpuSet::MAX_CPU).filter(|processor| allowed.is_set(*processor)).collect())
}

/// Binds the calling thread to a processor.
pub fn bind_to(processor: usize) -> Result<()> {
    let mut chosen = CpuSet::new();
    chosen.set(processor);
    sched_setaffinity(None, &chosen).context("cannot set the processor affinity")
}

/// Starts a process that may use only these processors.
pub fn spawn_on(processors: &[usize], command: &mut Command) -> Result<Child> {
    let before = sched_getaffinity(None).context("cannot read the processor affinity")?;
    let mut chosen = CpuSet::new();
    for processor in processors {
        chosen.set(*processor);
    }
    // A child inherits what the thread has that starts it.
    sched_setaffinity(None, &chosen).context("cannot set the processor affinity")?;
    let child = command.spawn();
    sched_setaffinity(None, &before).context("cannot restore the processor affinity")?;
    let program = Path::new(command.get_program());
    child.with_context(|| format!("cannot start {}", program.display()))
}

/// Lets the peak of a process's resident memory, `VmHWM`, begin anew.
pub fn reset_peak(process: u32) -> Result<()> {
    let file = format!("/proc/{process}/clear_refs");
    fs::write(&file, "5").with_context(|| format!("cannot write {file}"))
}
