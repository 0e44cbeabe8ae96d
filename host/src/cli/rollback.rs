//! `flexwasm rollback`.

use super::output::Ended;
use super::running::Running;
use std::process::ExitCode;

/// Let a running host serve the guest that it served before the present one
#[derive(Debug, clap::Args)]
#[command(
    after_help = "A second rollback undoes the first one. A source that is watched takes effect again when it changes."
)]
pub struct Rollback {
    /// The function, which is the name of its folder; `serve` for `flexwasm serve`
    function: String,
    #[command(flatten)]
    running: Running,
}

impl Rollback {
    pub fn run(self) -> Result<ExitCode, Ended> {
        self.running.tell(&format!("/rollback/{}", self.function), Vec::new())
    }
}
