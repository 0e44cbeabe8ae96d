//! `flexwasm deploy`: an app packed and published, by the script that is also the repository's `deploy.sh`.

use super::output::Ended;
use std::ffi::OsString;
use std::io::ErrorKind;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode};

const SCRIPT: &str = include_str!("../../../deploy.sh");

/// Make or update a function app on the Flex Consumption plan with the Azure CLI, and publish this app to it
#[derive(Debug, clap::Args)]
#[command(disable_help_flag = true)]
pub struct Deploy {
    /// The name of the function app, unique in all of Azure, and options, which --help lists
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "NAME")]
    arguments: Vec<OsString>,
}

impl Deploy {
    pub fn run(self) -> Result<ExitCode, Ended> {
        let own = std::env::current_exe().map_err(|error| format!("cannot find the file of this command: {error}"))?;
        let mut script = Command::new("bash");
        script.args(["-c", SCRIPT, "deploy.sh"]).args(self.arguments).env("FLEXWASM_DEPLOYS", own);
        // It takes this process's place, so that Ctrl-C reaches it alone.
        let error = script.exec();
        Err(Ended::Failed(match error.kind() {
            ErrorKind::NotFound => {
                "bash is needed and was not found: install it, then run the same command again".into()
            }
            _ => format!("cannot start bash: {error}"),
        }))
    }
}
