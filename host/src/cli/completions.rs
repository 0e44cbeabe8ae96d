//! `flexwasm completions`: what a shell completes.

use super::Arguments;
use super::output::{Ended, print};
use clap::{Command, CommandFactory as _};
use clap_complete::{Shell, generate};
use std::process::ExitCode;

/// Print what a shell needs to complete the command line of flexwasm
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  flexwasm completions bash > ~/.local/share/bash-completion/completions/flexwasm")]
pub struct Completions {
    /// Which shell
    shell: Shell,
}

impl Completions {
    pub fn run(self) -> Result<ExitCode, Ended> {
        let mut script = Vec::new();
        // It would offer those as well that people do not call.
        let all = Arguments::command();
        let shown = all.get_subcommands().filter(|command| !command.is_hide_set()).cloned();
        let mut command = Command::new("flexwasm").args(all.get_arguments().cloned()).subcommands(shown);
        generate(self.shell, &mut command, "flexwasm", &mut script);
        print(format_args!("{}", String::from_utf8_lossy(&script)))?;
        Ok(ExitCode::SUCCESS)
    }
}
