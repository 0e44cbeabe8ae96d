//! What builds start their tools with.

use super::output::Ended;
use crate::tool::leash;
use std::ffi::OsString;
use std::process::ExitCode;

/// What builds start their tools with: runs one to its end, for as long as its owner is there
#[derive(Debug, clap::Args)]
pub struct HoldOnLeash {
    /// The id of the process that wants it
    owner: u32,
    tool: OsString,
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<OsString>,
}

impl HoldOnLeash {
    pub fn run(self) -> Result<ExitCode, Ended> {
        Ok(leash::hold(self.owner, &self.tool, &self.arguments)?)
    }
}
