//! The life of the host: claim the port, load the guests, listen, run until told to stop, drain.
//!
//! Guests that take longer than [`Config::ready_within`] are loaded while it listens already.

use crate::config::{Config, Role};
use crate::control::server::Control;
use crate::engine::Wasi;
use crate::engine::code::Processors;
use crate::guest;
use crate::http::listener::{self, Claim};
use crate::http::service::{Service, Setup};
use crate::http::{Stop, home};
use crate::loading::Loading;
use crate::observe::line::Lines;
use crate::observe::machine::Machine;
use crate::observe::record::Sink;
use crate::observe::startup;
use crate::pool::{self, Pool};
use std::io::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::task::TaskTracker;

/// Exit status when a second signal cuts the draining short: 128 + SIGTERM.
const CUT_SHORT: u8 = 143;

/// How long invocations that are cut off may take to end.
const CUT_OFF_TIME: Duration = Duration::from_secs(1);

/// A host that is ready to listen.
pub struct App {
    listener: TcpListener,
    service: Arc<Service>,
    pool: Pool,
    tasks: TaskTracker,
    machine: Arc<Machine>,
    local: SocketAddr,
    stop: Stop,
    loading: Loading,
    control: Option<Control>,
}

/// What `flexwasm check` found.
pub struct Checked {
    /// What each guest's compiled file is good for.
    pub compiled: Vec<String>,
    /// What is wrong, one line each.
    pub broken: Vec<String>,
    /// Bytes that the largest guest starts with.
    pub initial_memory: u64,
    /// What the guests run in.
    pub engines: Vec<Wasi>,
}

impl App {
    /// Claims the port, then does everything that can fail before the first request.
    ///
    /// # Errors
    /// One text for a person: the port is taken, or no function has a guest that works.
    pub async fn build(config: Config, machine: Arc<Machine>) -> Result<Self, String> {
        let begun = Instant::now();
        let claim: Claim = listener::claim(config.listen).map_err(|error| error.to_string())?;
        startup::phase("claim", begun);
        let begun = Instant::now();
        let pool = pool(&config);
        startup::phase("pool", begun);
        let mut loading = Loading::start(&config, &machine, &pool)?;
        if !loading.within(config.ready_within).await {
            tracing::warn!(guests = loading.pending(), "listening, though not every guest is loaded");
        } else if loading.is_hopeless() {
            return Err(loading.newly_broken().join("\nflexwasm: "));
        }
        tell(&loading.newly_broken());

        let begun = Instant::now();
        let control = match Control::listen(&config.control_sockets) {
            Ok(control) => Some(control),
            Err(why) => {
                tracing::warn!("`flexwasm swap` cannot reach this host: {why}");
                None
            }
        };
        let begun = startup::phase("control", begun);
        let tasks = TaskTracker::new();
        // Whoever connects from here on is answered.
        let listener = claim.listen().map_err(|error| error.to_string())?;
        let local = listener.local_addr().map_err(|error| error.to_string())?;
        let (stop, guests) = (Stop::default(), loading.guests());
        let service = Service::new(Setup {
            guests,
            pool: pool.clone(),
            machine: Arc::clone(&machine),
            sinks: Arc::new([Arc::new(Lines::new(&config)) as Arc<dyn Sink>]),
            local,
            tasks: tasks.clone(),
            stop: stop.clone(),
            config,
        });
        startup::phase("listen", begun);
        Ok(Self { listener, service: Arc::new(service), pool, tasks, machine, local, stop, loading, control })
    }

    /// Loads every guest and answers what is wrong with it, and what the compiled file beside it is good for.
    ///
    /// # Errors
    /// When the process has no room for the pool.
    pub async fn check(config: Config, machine: Arc<Machine>) -> Result<Checked, String> {
        let mut loading = Loading::start(&config, &machine, &pool(&config))?;
        loading.finish().await;
        let (mut compiled, mut broken) = (Vec::new(), loading.broken());
        let loaded: Vec<_> = loading.guests().iter().filter_map(|place| place.guest()).collect();
        let initial_memory = loaded.iter().map(|guest| guest.initial_memory).max().unwrap_or(0);
        let runs = |wasi: &Wasi| loaded.iter().any(|guest| guest.engine.wasi == *wasi);
        let engines = [Wasi::P2, Wasi::P3].into_iter().filter(runs).collect();
        broken.extend(loading.undelivered());
        for (function, guest) in config.functions.iter().zip(loading.guests().iter()) {
            let Some(guest) = guest.guest().filter(|_| function.guest.source.is_none()) else { continue };
            let file = guest::compiled::beside(&function.script_file).display().to_string();
            match guest.compiled_beside(&function.script_file) {
                Ok(None) => {
                    compiled.push(format!("{file} absent: compiled at the first start, then in the cache folder"))
                }
                Ok(Some(Processors::ThisKind)) => {
                    compiled.push(format!("{file} compiled for processors like this one"))
                }
                Ok(Some(Processors::EveryKind)) => {
                    compiled.push(format!("{file} compiled for every processor of its kind"))
                }
                Err(why) => broken.push(format!(
                    "function {}: {file} {why}: it would not be used; remove it, or run `flexwasm compile`",
                    function.name
                )),
            }
        }
        Ok(Checked { compiled, broken, initial_memory, engines })
    }

    /// The address that is listened on.
    pub fn address(&self) -> SocketAddr {
        self.local
    }

    /// Announces the address, serves until SIGTERM or SIGINT, and drains. Answers the exit status.
    ///
    /// # Errors
    /// When the process cannot listen to signals, or when the last guest that was still loaded turns out to be broken too.
    pub async fn run(mut self) -> Result<u8, String> {
        let no_signals = |error| format!("cannot listen to signals: {error}");
        let mut terminate = signal(SignalKind::terminate()).map_err(no_signals)?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(no_signals)?;
        let mut signalled = async || tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} };

        self.announce();
        for objection in &self.service.setup.config.objections {
            tracing::warn!("{objection}");
        }
        let stop = self.stop;
        let accepting =
            tokio::spawn(listener::serve(self.listener, Arc::clone(&self.service), stop.clone(), self.tasks.clone()));
        let refreshing = tokio::spawn(self.machine.keep_fresh());
        let (pool, engines) = (self.pool.clone(), self.loading.engines());
        let retiring = tokio::spawn(async move { pool.retire_idle(|| engines.release_idle_memory()).await });
        let controlled = self.control.map(|control| tokio::spawn(control.serve(self.loading.swaps())));
        let uncontrolled = async || {
            if let Some(controlled) = controlled {
                controlled.abort();
                // Until its socket is removed.
                let _ = controlled.await;
            }
        };

        let hopeless = async {
            self.loading.finish().await;
            let broken = self.loading.newly_broken();
            if self.loading.is_hopeless() {
                return broken;
            }
            tell(&broken);
            std::future::pending().await
        };
        tokio::select! {
            () = signalled() => {}
            broken = hopeless => {
                uncontrolled().await;
                return Err(broken.join("\nflexwasm: "));
            }
        }
        let config = &self.service.setup.config;
        tracing::info!(running = self.pool.occupancy().busy, timeout = ?config.drain_timeout, "draining");
        stop.gently.cancel();
        self.pool.close();
        self.tasks.close();
        let status = tokio::select! {
            () = self.tasks.wait() => 0,
            () = tokio::time::sleep(config.drain_timeout) => {
                tracing::warn!(cut_off = self.pool.occupancy().busy, "drain.timeout is over");
                0
            }
            () = signalled() => CUT_SHORT,
        };
        stop.now.cancel();
        // For the closing lines of what was cut off; nobody who computes yields later than this.
        let _ = tokio::time::timeout(CUT_OFF_TIME, self.tasks.wait()).await;
        refreshing.abort();
        retiring.abort();
        accepting.abort();
        uncontrolled().await;
        tracing::info!(status, "stopped");
        Ok(status)
    }

    fn announce(&self) {
        let config = &self.service.setup.config;
        let version = env!("CARGO_PKG_VERSION");
        let pool = config.pool_size;
        if config.role == Role::CustomHandler {
            tracing::info!(version, pool, functions = config.functions.len(), "ready");
            return;
        }
        let mut text = format!("flexwasm {version} runs up to {pool} instances at the same time:\n");
        for (name, methods, url) in home::urls(config, self.local) {
            text += &format!("  {name}: [{methods}] {url}\n");
        }
        for note in &config.notes {
            text += &format!("note: {note}\n");
        }
        // Whether anybody reads it or not, the host serves.
        let _ = std::io::stdout().lock().write_all(text.as_bytes());
    }
}

/// Notes each broken guest of a host that serves others.
fn tell(broken: &[String]) {
    for line in broken {
        tracing::error!("{line}");
    }
}

fn pool(config: &Config) -> Pool {
    Pool::new(pool::Size {
        slots: config.pool_size,
        queue_length: config.queue_length,
        queue_timeout: config.queue_timeout,
        total_memory: config.total_memory,
    })
}
