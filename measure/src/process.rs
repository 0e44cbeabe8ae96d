//! Processes of this machine: what `/proc` tells of them, and the processors that they may use.

use anyhow::{Context as _, Result};
use nix::time::{ClockId, clock_getcpuclockid};
use nix::unistd::Pid;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use std::fs;
use std::path::Path;
use std::process::{Child, Command};
use std::time::Duration;

/// A number of `/proc/PID/status`, such as `VmRSS` in KiB; 0 where it cannot be read.
pub fn status(process: u32, name: &str) -> u64 {
    let text = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    value.and_then(|value| value.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

/// Nanoseconds that a process has spent on a processor, in all of its threads, those that have ended too.
///
/// The clock that the scheduler keeps: the ticks of `/proc/PID/stat` are too coarse for a short run.
pub fn cpu_time(process: u32) -> Result<u64> {
    let process = Pid::from_raw(i32::try_from(process)?);
    let spent = clock_getcpuclockid(process).and_then(ClockId::now);
    let spent = Duration::from(spent.with_context(|| format!("cannot read the clock of process {process}"))?);
    Ok(u64::try_from(spent.as_nanos())?)
}

/// What the kernel has counted.
#[derive(Clone, Copy)]
pub struct Counted {
    /// On a processor, of all threads of the process, in clock ticks of 10 ms: for windows of a second and more.
    pub user_us: u64,
    pub system_us: u64,
    /// Minor page faults of the process.
    pub faults: u64,
    /// TLB shoot-downs of the whole machine, one for each core that was told.
    pub shootdowns: u64,
}

impl Counted {
    pub fn since(&self, before: &Self) -> Self {
        Self {
            user_us: self.user_us - before.user_us,
            system_us: self.system_us - before.system_us,
            faults: self.faults - before.faults,
            shootdowns: self.shootdowns - before.shootdowns,
        }
    }
}

/// What the kernel has counted of a process until now.
pub fn counted(process: u32) -> Result<Counted> {
    let read = |file: &str| fs::read_to_string(file).with_context(|| format!("cannot read {file}"));
    let tick_us = 1_000_000 / rustix::param::clock_ticks_per_second();
    let counted = count(&read(&format!("/proc/{process}/stat"))?, &read("/proc/interrupts")?, tick_us);
    counted.context("/proc/PID/stat is not as proc_pid_stat(5) says")
}

fn count(stat: &str, interrupts: &str, tick_us: u64) -> Option<Counted> {
    // The name in brackets may have anything in it; the state follows, which proc_pid_stat(5) counts as the third field.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
    // A machine with one processor has no such row.
    let row = interrupts.lines().find_map(|line| line.trim_start().strip_prefix("TLB:")).unwrap_or_default();
    Some(Counted {
        user_us: field(14)? * tick_us,
        system_us: field(15)? * tick_us,
        faults: field(10)?,
        shootdowns: row.split_whitespace().map_while(|number| number.parse::<u64>().ok()).sum(),
    })
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

#[cfg(test)]
mod tests {
    use super::count;

    #[test]
    fn counts_are_read_whatever_the_process_is_called() {
        let stat = "7 (a ) b) S 1 7 7 0 -1 4194560 120 0 3 0 25 5 0 0 20 0 4 0 100 0 0";
        let interrupts =
            "           CPU0       CPU1\n 24:  1  2  PCI-MSI\nTLB:       1000        234   TLB shootdowns\n";
        let counted = count(stat, interrupts, 10_000).expect("as the kernel writes it");
        assert_eq!((counted.user_us, counted.system_us), (250_000, 50_000));
        assert_eq!((counted.faults, counted.shootdowns), (120, 1234));
        assert!(count("7 (a) S 1", interrupts, 10_000).is_none());
    }
}
