//! What commands find around them: environment, machine, and the threads that they run on.

use crate::config::{self, AppSettings, Circumstances, Config, Role};
use crate::control;
use crate::guest::cache;
use crate::observe::log;
use crate::observe::machine::Machine;
use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::runtime::{Builder, Runtime};

/// Everything that a host is built from.
pub struct Setup {
    /// What it serves.
    pub config: Config,
    /// Where it runs.
    pub machine: Arc<Machine>,
    /// How long the phases of the start took that were over before there was a log.
    pub phases: [(&'static str, Duration); 2],
}

impl Setup {
    /// What the log of this host looks like.
    pub fn log(&self) -> log::Shape {
        let Config { log_level, log_timestamps, role, .. } = self.config;
        log::Shape { level: log_level, timestamps: log_timestamps, split: role == Role::CustomHandler }
    }
}

/// The surroundings of a command that reads a configuration.
pub struct Context {
    pub settings: AppSettings,
    pub machine: Arc<Machine>,
    machine_read: Duration,
}

impl Context {
    pub fn read() -> Self {
        let begun = Instant::now();
        let settings = environment();
        let machine = Arc::new(Machine::read(config::azure_instance(&settings)));
        Self { settings, machine, machine_read: begun.elapsed() }
    }

    /// Where the app is, unless the command line says so.
    pub fn app_root(&self) -> PathBuf {
        app_root(&self.settings)
    }

    /// What a configuration depends on beside its files, for a host that serves the app in `served`.
    pub fn circumstances(&self, served: &Path, listen: Option<SocketAddr>) -> Circumstances {
        Circumstances {
            machine_memory: self.machine.memory_total,
            listen,
            cache_folders: cache::candidates(|name| self.settings.get(name).cloned()),
            // A folder that is not there is reported with what is missing in it.
            control_sockets: control::sockets(served, &self.settings).unwrap_or_default(),
        }
    }

    /// What a host is built from, with a configuration that has been read since `begun`.
    pub fn setup(self, config: Config, begun: Instant) -> Box<Setup> {
        let phases = [("machine", self.machine_read), ("configuration", begun.elapsed())];
        Box::new(Setup { config, machine: self.machine, phases })
    }
}

/// The environment, as far as it is text.
pub fn environment() -> AppSettings {
    let text = |(name, value): (OsString, OsString)| Some((name.into_string().ok()?, value.into_string().ok()?));
    std::env::vars_os().filter_map(text).collect()
}

/// Where these settings say that the app is.
pub fn app_root(settings: &AppSettings) -> PathBuf {
    let named = settings.get("FUNCTIONS_APP_ROOT_PATH").filter(|path| !path.is_empty());
    named.map_or_else(|| PathBuf::from("."), PathBuf::from)
}

/// Threads that run guests are named and as many as there are processors: guests that wait need none. It is made by hand because
/// its settings are measured (docs/speed.md).
///
/// # Errors
/// For a person: no thread can be started.
pub fn runtime() -> Result<Runtime, String> {
    let next = AtomicUsize::new(0);
    Builder::new_multi_thread()
        .enable_all()
        .thread_name_fn(move || format!("worker-{}", next.fetch_add(1, Ordering::Relaxed)))
        // Looking at the sockets after every poll would starve connections under load: the task that became ready last runs
        // first. Measured with 64 connections: 1 costs 15 % of throughput, and its p99 is five times that of 16. Guests that
        // compute need no smaller number, because they yield behind the sockets (`Guest::store`).
        .event_interval(16)
        .build()
        .map_err(|error| format!("cannot start threads: {error}"))
}
