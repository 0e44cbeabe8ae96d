//! `flexwasm doctor`: an app held to the plan.

use super::context::{app_root, environment, runtime};
use super::output::{Ended, print};
use crate::burst::KEY;
use crate::config::Circumstances;
use crate::doctor::{Finding, local, remote};
use crate::guest::cache;
use crate::observe::machine::Machine;
use reqwest::Url;
use std::process::ExitCode;
use std::sync::Arc;

const AFTER_HELP: &str = "\
Without a URL it looks at the app in FUNCTIONS_APP_ROOT_PATH, or in the working directory, and at its dist/flexwasm.zip: \
configuration, package, deadlines, and whether the pool fits into an instance.

With a URL it sends the deployed app four requests, and then twice as many at once as its pool has slots, of two seconds each. \
Of the demonstration it tells more than of other functions, which take no delay and tell about themselves only with headers \"full\". \
It reports the instance, the cold start, and whether the platform sends an instance as many requests as its pool has slots. A \
function key is read from the variable FUNCTION_KEY.

The exit status is 1 if something has to change.";

/// Diagnose this app, or a deployed one, for the Flex Consumption plan, and say what to change
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub struct Doctor {
    /// A function where it is deployed, such as the demonstration's, as deploy.sh printed it
    url: Option<Url>,
    /// MB of one instance there, as deploy.sh was told
    #[arg(long, value_name = "MB", default_value = "2048", value_parser = ["512", "2048", "4096"], conflicts_with = "url")]
    instance_memory: String,
}

impl Doctor {
    /// Prints what is found; the status is 1 where something has to change.
    pub fn run(self) -> Result<ExitCode, Ended> {
        let settings = environment();
        let runtime = runtime()?;
        let findings = match self.url {
            Some(url) => runtime.block_on(remote::examine(&url, settings.get(KEY).cloned()))?,
            None => {
                let memory = self.instance_memory.parse::<u64>().map_err(|error| error.to_string())? << 20;
                let machine = Arc::new(Machine::read(None));
                let given = Circumstances {
                    machine_memory: memory,
                    listen: None,
                    cache_folders: cache::candidates(|name| settings.get(name).cloned()),
                    control_sockets: Vec::new(),
                };
                runtime.block_on(local::examine(&app_root(&settings), settings.clone(), &given, machine))
            }
        };
        runtime.shutdown_background();
        for finding in &findings {
            print(format_args!("{finding}\n"))?;
        }
        let sick = findings.iter().any(|finding| matches!(finding, Finding::Change(_)));
        Ok(if sick { ExitCode::from(1) } else { ExitCode::SUCCESS })
    }
}
