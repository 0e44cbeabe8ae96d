//! Telling a running host what to do.

use super::context::{app_root, environment};
use super::output::{Ended, print};
use crate::control::{self, client};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use tokio::runtime::{Builder, Runtime};

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
        let sockets = sockets(&self.root())?;
        print(format_args!("{}\n", waiting()?.block_on(client::ask(&sockets, path, body))?))?;
        Ok(ExitCode::SUCCESS)
    }

    /// The app root of the host.
    pub fn root(self) -> PathBuf {
        self.app.unwrap_or_else(|| app_root(&environment()))
    }
}

/// Where the host of the app in `root` may listen to us.
pub fn sockets(root: &Path) -> Result<Vec<PathBuf>, String> {
    let sockets = control::sockets(root, &environment());
    sockets.map_err(|error| format!("{} cannot be read ({error}): name the app's folder", root.display()))
}

/// What waits for answers.
pub fn waiting() -> Result<Runtime, String> {
    Builder::new_current_thread().enable_all().build().map_err(|error| format!("cannot start: {error}"))
}
