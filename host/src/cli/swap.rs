//! `flexwasm swap`.

use super::output::Ended;
use super::running::Running;
use crate::config::source::MAX_GUEST;
use crate::guest::artifact::Artifact;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use std::path::PathBuf;
use std::process::ExitCode;

/// Let a running host serve another guest, without restarting it
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The host checks the guest first: it has to be a component that fits, to start, and to answer guest.smoke, if that is set. If it \
does not, the old one goes on serving, and the exit status is 1. Requests that are running end on the old one. The host \
forgets the new one when it is restarted.

Examples:
  flexwasm swap http_trigger new.wasm
  flexwasm swap http_trigger new-auth.wasm --part auth.wasm")]
pub struct Swap {
    /// The function, which is the name of its folder; `serve` for `flexwasm serve`
    function: String,
    /// The component: a .wasm file
    guest: PathBuf,
    /// Replace this component of guest.middleware in place of the guest itself
    #[arg(long, value_name = "FILE")]
    part: Option<String>,
    #[command(flatten)]
    running: Running,
}

impl Swap {
    pub fn run(self) -> Result<ExitCode, Ended> {
        let Self { function, guest, part, running } = self;
        let artifact = Artifact::read(&guest, MAX_GUEST).map_err(|error| format!("{} {error}", guest.display()))?;
        let query =
            part.map_or_else(String::new, |part| format!("?part={}", utf8_percent_encode(&part, NON_ALPHANUMERIC)));
        running.tell(&format!("/swap/{function}{query}"), artifact.wasm)
    }
}
