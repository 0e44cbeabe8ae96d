//! `flexwasm swap`.

use super::output::Ended;
use super::running::Running;
use crate::config::source::MAX_GUEST;
use crate::guest::artifact::Artifact;
use std::path::PathBuf;
use std::process::ExitCode;

/// Let a running host serve another guest, without restarting it
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The host checks the guest first: it has to be a component that fits, to start, and to answer guest.smoke, if that is set. If it \
does not, the old one goes on serving, and the exit status is 1. Requests that are running end on the old one. The host \
forgets the new one when it is restarted.

Example:
  flexwasm swap http_trigger new.wasm")]
pub struct Swap {
    /// The function, which is the name of its folder; `serve` for `flexwasm serve`
    function: String,
    /// The component: a .wasm file
    guest: PathBuf,
    #[command(flatten)]
    running: Running,
}

impl Swap {
    pub fn run(self) -> Result<ExitCode, Ended> {
        let Self { function, guest, running } = self;
        let artifact = Artifact::read(&guest, MAX_GUEST).map_err(|error| format!("{} {error}", guest.display()))?;
        running.tell(&format!("/swap/{function}"), artifact.wasm)
    }
}
