//! `flexwasm run`: an app built and served.

use super::context::{Setup, app_root, environment};
use super::output::{Ended, complain};
use super::{address, build, serve};
use crate::tool::sources;
use crate::tool::watch::{self, Watched};
use std::net::SocketAddr;
use std::thread;

/// Build the guests of this app, and serve it on this machine
#[derive(Debug, clap::Args)]
#[command(after_help = "A guest whose sources are not here is served as it is.")]
pub struct Run {
    /// Build a guest again whenever its sources change; requests go to the new one as soon as it is ready
    #[arg(long)]
    watch: bool,
    /// Address to listen on, 127.0.0.1:7071 unless given; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS", value_parser = address::any)]
    listen: Option<SocketAddr>,
    /// Also answer operators at this address of this machine, such as 127.0.0.1:7072, with a token (docs/operate.md)
    #[arg(long, value_name = "ADDRESS", value_parser = address::loopback)]
    operate: Option<SocketAddr>,
}

impl Run {
    /// Builds; the life of the host begins with what is returned.
    pub fn setup(self) -> Result<Box<Setup>, Ended> {
        let setup = serve::app(self.listen, self.operate)?;
        let sources = sources::find(&app_root(&environment()), &setup.config);
        // Before the first build: what is saved meanwhile is built again.
        let watched: Vec<_> = sources.iter().cloned().map(Watched::new).collect();
        build::guests(&sources)?;
        if self.watch && sources.is_empty() {
            complain("nothing to watch: no function has a source here");
        } else if self.watch {
            let builder = thread::Builder::new().name("builder".to_owned());
            let started = builder.spawn(|| watch::follow(watched));
            started.map_err(|error| format!("cannot start a thread to watch the sources: {error}"))?;
        }
        Ok(setup)
    }
}
