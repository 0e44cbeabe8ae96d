//! Tools that end with us, whatever ends us: cargo, npm and their like start processes of their own, which would live on.
//!
//! A tool is started by this executable, as a process that leads a group of its own. The kernel tells that process when the thread that
//! started it ends, and it then kills the group.

use crate::config::OWN_EXECUTABLE;
use rustix::process::{Pid, Signal, getppid, kill_current_process_group, set_parent_process_death_signal};
use std::ffi::OsString;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{Command, ExitCode, ExitStatus, Stdio};
use tokio::runtime::Builder;
use tokio::signal::unix::{SignalKind, signal};

/// The subcommand with which this executable holds a tool.
pub const SUBCOMMAND: &str = "hold-on-leash";

/// A command that starts `tool`, by its name or path, with the arguments that it is given.
pub fn command(tool: &str) -> Command {
    let mut command = Command::new(OWN_EXECUTABLE);
    command.arg0("flexwasm").args([SUBCOMMAND, &std::process::id().to_string(), tool]);
    command.process_group(0).stdin(Stdio::null());
    command
}

/// What the process that [`command`] starts does: runs the tool to its end, for as long as `owner`, which started it, is there.
///
/// # Errors
/// For a person: the tool cannot be started.
pub fn hold(owner: u32, tool: &OsString, arguments: &[OsString]) -> Result<ExitCode, String> {
    let failed = |error: std::io::Error| format!("cannot start {}: {error}", tool.display());
    let runtime = Builder::new_current_thread().enable_all().build().map_err(failed)?;
    let status = runtime.block_on(async {
        let mut ended = signal(SignalKind::terminate())?;
        set_parent_process_death_signal(Some(Signal::TERM))?;
        // It may have ended before that.
        if getppid().map(Pid::as_raw_nonzero).is_some_and(|parent| parent.get().cast_unsigned() == owner) {
            let mut tool = Command::new(tool).args(arguments).spawn()?;
            let waited = tokio::task::spawn_blocking(move || tool.wait());
            tokio::select! {
                status = waited => return status.map_err(std::io::Error::other)?,
                _ = ended.recv() => {}
            }
        }
        // Of this process, too.
        kill_current_process_group(Signal::KILL)?;
        Ok::<ExitStatus, std::io::Error>(ExitStatus::from_raw(Signal::KILL.as_raw()))
    });
    // What a shell says of a process that a signal ended.
    let code = |status: ExitStatus| status.code().or(status.signal().map(|signal| 128 + signal)).unwrap_or(1);
    status.map(|status| ExitCode::from(u8::try_from(code(status)).unwrap_or(1))).map_err(failed)
}
