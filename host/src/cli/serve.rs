//! `flexwasm` on an app, and `flexwasm serve` on one component: as far as the life of a host begins.

use super::address;
use super::context::{Context, Setup};
use super::output::Ended;
use crate::config::hosts::{Refused, Server};
use crate::config::section::Problems;
use crate::config::settings::{self, HostPatch, MAX_POOL_SIZE, MAX_REUSE};
use crate::config::{self, Grants, units};
use serde_json::Value;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tracing::Level;

/// Serve one component on every path, without an app
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  flexwasm serve guest.wasm --pool 100 --timeout 10s --env GREETING=hello")]
pub struct Serve {
    /// The component: a .wasm file that exports wasi:http/incoming-handler@0.2 or wasi:http/handler@0.3
    guest: PathBuf,
    /// Address to listen on; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS", value_parser = address::any, default_value_t = config::DEFAULT_LISTEN)]
    listen: SocketAddr,
    /// Also answer operators at this address of this machine, such as 127.0.0.1:7072, with a token (docs/operate.md)
    #[arg(long, value_name = "ADDRESS", value_parser = address::loopback)]
    operate: Option<SocketAddr>,
    /// Instances that run at the same time
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_POOL_SIZE)))]
    pool: Option<u32>,
    /// Requests that one instance may serve; above 1 its memory outlives a request [default: 1]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_REUSE)))]
    reuse: Option<u32>,
    /// Longest time for one request, such as 30s [default: 220s]
    #[arg(long, value_name = "DURATION", value_parser = units::duration)]
    timeout: Option<Duration>,
    /// Most memory of one instance, such as 64MiB [default: 128MiB]
    #[arg(long, value_name = "SIZE", value_parser = settings::memory)]
    memory: Option<u64>,
    /// What reaches the log: error, warn, info or debug [default: info]
    #[arg(long, value_name = "LEVEL", value_parser = settings::log_level)]
    log_level: Option<Level>,
    /// An environment variable for the guest; may be repeated
    #[arg(long, value_name = "NAME=VALUE", value_parser = pair)]
    env: Vec<(String, String)>,
    /// A folder below the working directory that the guest may read, as /FOLDER; may be repeated
    #[arg(long, value_name = "FOLDER")]
    dir: Vec<String>,
    /// A server that the guest may send requests to, as scheme://host or scheme://host:port; `*.` in front of the host
    /// means what is below it; may be repeated
    #[arg(long, value_name = "SERVER")]
    allow_host: Vec<String>,
}

/// Reads the app that the environment names.
pub fn app(listen: Option<SocketAddr>, operate: Option<SocketAddr>) -> Result<Box<Setup>, Ended> {
    let context = Context::read();
    let root = context.app_root();
    let given = context.circumstances(&root, listen);
    let begun = Instant::now();
    let mut config = config::load(&root, context.settings.clone(), &given)?;
    config.operate = operate;
    Ok(context.setup(config, begun))
}

impl Serve {
    /// Makes an app of the component.
    pub fn setup(self) -> Result<Box<Setup>, Ended> {
        let context = Context::read();
        // Where the app would be.
        let here = Path::new(".");
        let given = context.circumstances(here, Some(self.listen));
        let begun = Instant::now();
        let mut host = HostPatch { pool_size: self.pool, log_level: self.log_level, ..HostPatch::default() };
        host.function.reuse = self.reuse;
        host.function.timeout = self.timeout;
        host.function.memory = self.memory;
        let mut problems = Problems::default();
        let dirs = config::dirs::find(here, &self.dir).unwrap_or_else(|refused| {
            for (entry, remedy) in refused {
                problems.add("command line", "--dir", Some(&entry.into()), remedy);
            }
            Vec::new()
        });
        let allowed: Vec<_> = self.allow_host.into_iter().map(Value::from).collect();
        let hosts = config::hosts::parse(&allowed).unwrap_or_else(|refused| {
            for Refused { shown, remedy, .. } in refused {
                problems.add("command line", "--allow-host", Some(&shown.into()), remedy);
            }
            Vec::new()
        });
        if !problems.0.is_empty() {
            return Err(problems.0.into());
        }
        let hosts = hosts.into_iter().map(Server::plain).collect();
        let grants = Grants { env: self.env, dirs, hosts, ..Grants::default() };
        let mut config = config::serve(self.guest, &host, grants, &context.settings, &given);
        config.operate = self.operate;
        Ok(context.setup(config, begun))
    }
}

/// A name with its value.
///
/// # Errors
/// For a person: it is none.
pub fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("write NAME=VALUE".to_owned()),
    }
}
