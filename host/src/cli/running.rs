//! Telling a running host what to do.

use super::context::{app_root, environment};
use super::output::{Ended, print};
use crate::control::{self, client};
use std::path::PathBuf;
use std::process::ExitCode;

/// Which running host to speak to.
#[derive(Debug, clap::Args)]
pub struct Running {
    /// The app root of the running host; for `flexwasm serve` the folder that it was started in [default:
    /// FUNCTIONS_APP_ROOT_PATH, else the working directory]
    #[arg(long, value_name = "FOLDER")]
    app: Option<PathBuf>,
}

impl Running {
    /// Sends it `POST path`, and prints what came of it.
    pub fn tell(self, path: &str, body: Vec<u8>) -> Result<ExitCode, Ended> {
        let settings = environment();
        let root = self.app.unwrap_or_else(|| app_root(&settings));
        let sockets = control::sockets(&root, &settings);
        let sockets =
            sockets.map_err(|error| format!("{} cannot be read ({error}): name the app's folder", root.display()))?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| format!("cannot start: {error}"))?;
        print(format_args!("{}\n", runtime.block_on(client::ask(&sockets, path, body))?))?;
        Ok(ExitCode::SUCCESS)
    }
}
