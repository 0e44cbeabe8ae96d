//! `flexwasm manual`: pages for man, which the release takes along.

use super::Arguments;
use super::output::Ended;
use clap::CommandFactory as _;
use std::path::PathBuf;
use std::process::ExitCode;

/// Write a page for man about each command
#[derive(Debug, clap::Args)]
pub struct Manual {
    /// Where to; it is made
    folder: PathBuf,
}

impl Manual {
    pub fn run(self) -> Result<ExitCode, Ended> {
        let folder = &self.folder;
        let written = std::fs::create_dir_all(folder)
            .and_then(|()| clap_mangen::generate_to(Arguments::command().disable_help_subcommand(true), folder));
        written.map_err(|error| format!("{} cannot be written ({error}): name another folder", folder.display()))?;
        Ok(ExitCode::SUCCESS)
    }
}
