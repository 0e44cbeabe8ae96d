//! `flexwasm timeline`.

use super::output::Ended;
use super::pictures::Pictures;
use crate::timeline::log;
use std::process::ExitCode;

const AFTER_HELP: &str = "\
The log may be the host's own (with log.timestamps true and log.requests \"all\"), or an export of Azure as JSON or CSV, as long as \
each closing line has its time.

Example:
  flexwasm timeline --html timeline.html < flexwasm.log";

/// Show which slot ran each request of a log, which is read from standard input, and when
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub struct Timeline {
    #[command(flatten)]
    pictures: Pictures,
}

impl Timeline {
    /// Reads the log, and writes what was asked for.
    pub fn run(self) -> Result<ExitCode, Ended> {
        self.pictures.write(&log::read(std::io::stdin().lock())?)?;
        Ok(ExitCode::SUCCESS)
    }
}
