//! The life of the host: claim the port, load the guests, listen, run until told to stop, drain.

use crate::config::function_json::Trigger;
use crate::config::units::spell_size;
use crate::config::{Config, Role};
use crate::engine::{self, Engine};
use crate::guest::{self, Guest};
use crate::http::Stop;
use crate::http::listener::{self, Claim};
use crate::http::service::{Loaded, Service};
use crate::observe::machine::Machine;
use crate::pool::{self, Pool};
use crate::sandbox::{self, Policy};
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
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
}

impl App {
    /// Claims the port, then does everything that can fail before the first request.
    ///
    /// # Errors
    /// One text for a person: the port is taken, the engine cannot be made, or no function has a guest that works.
    pub async fn build(config: Config, machine: Arc<Machine>) -> Result<Self, String> {
        let claim: Claim = listener::claim(config.listen).map_err(|error| error.to_string())?;
        let guests = load(&config, &machine).await?;
        let serves = |loaded: &Option<Loaded>| !matches!(loaded, Some(Err(_)));
        if !guests.iter().any(serves) {
            return Err(broken(&config, &guests).join("\nflexwasm: "));
        }
        for problem in broken(&config, &guests) {
            tracing::error!("{problem}");
        }

        let pool = Pool::new(pool::Size {
            slots: config.pool_size,
            queue_length: config.queue_length,
            queue_timeout: config.queue_timeout,
            total_memory: config.total_memory,
        });
        let tasks = TaskTracker::new();
        // Whoever connects from here on is answered.
        let listener = claim.listen().map_err(|error| error.to_string())?;
        let local = listener.local_addr().map_err(|error| error.to_string())?;
        let not_plain = || Err("called with a JSON envelope".to_owned());
        let guests = guests.into_iter().map(|loaded| loaded.unwrap_or_else(not_plain)).collect();
        let stop = Stop::default();
        let service =
            Service::new(config, guests, pool.clone(), Arc::clone(&machine), local, tasks.clone(), stop.clone());
        Ok(Self { listener, service: Arc::new(service), pool, tasks, machine, local, stop })
    }

    /// Loads every guest and answers what is wrong with them, one line each.
    ///
    /// # Errors
    /// When the engine cannot be made.
    pub async fn check(config: Config, machine: Arc<Machine>) -> Result<Vec<String>, String> {
        let guests = load(&config, &machine).await?;
        Ok(broken(&config, &guests))
    }

    /// The address that is listened on.
    pub fn address(&self) -> SocketAddr {
        self.local
    }

    /// Announces the address, serves until SIGTERM or SIGINT, and drains. Answers the exit status.
    ///
    /// # Errors
    /// When the process cannot listen to signals.
    pub async fn run(self) -> Result<u8, String> {
        let no_signals = |error| format!("cannot listen to signals: {error}");
        let mut terminate = signal(SignalKind::terminate()).map_err(no_signals)?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(no_signals)?;
        let mut signalled = async || tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} };

        self.announce();
        let stop = self.stop;
        let accepting =
            tokio::spawn(listener::serve(self.listener, Arc::clone(&self.service), stop.clone(), self.tasks.clone()));
        let refreshing = tokio::spawn(self.machine.keep_fresh());
        let pool = self.pool.clone();
        let retiring = tokio::spawn(async move { pool.retire_idle().await });

        signalled().await;
        let config = &self.service.config;
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
        tracing::info!(status, "stopped");
        Ok(status)
    }

    fn announce(&self) {
        let config = &self.service.config;
        let version = env!("CARGO_PKG_VERSION");
        let pool = config.pool_size;
        if config.role == Role::CustomHandler {
            tracing::info!(version, pool, functions = config.functions.len(), "ready");
            return;
        }
        println!("flexwasm {version} runs up to {pool} instances at the same time:");
        for (name, methods, url) in self.service.urls() {
            println!("  {name}: [{methods}] {url}");
        }
    }
}

/// One entry for each function; none for those that no guest can serve yet.
async fn load(config: &Config, machine: &Arc<Machine>) -> Result<Vec<Option<Loaded>>, String> {
    let size = engine::Size {
        slots: config.pool_size,
        table_elements: config.functions.iter().map(|function| function.limits.table_elements).max().unwrap_or(0),
        total_memory: config.total_memory,
    };
    let engine = Engine::new(size).map_err(|error| {
        let slots = config.pool_size;
        format!("cannot reserve memory for {slots} instances ({}): lower pool.size", guest::chain(&error))
    })?;
    let linker = sandbox::linker(&engine.wasm).map_err(|error| guest::chain(&error))?;
    let mut guests: Vec<Option<Loaded>> = Vec::new();
    for function in &config.functions {
        if function.trigger == Trigger::Envelope {
            guests.push(None);
            continue;
        }
        let policy = Arc::new(Policy {
            function: Arc::clone(&function.name),
            limits: function.limits.clone(),
            reuse: function.reuse,
            env: function.env.clone(),
            machine: Arc::clone(machine),
        });
        let loaded: Result<Guest, _> =
            guest::load(&engine, &linker, &function.guest, policy, config.total_memory).await;
        guests.push(Some(loaded.map(Arc::new).map_err(|error| error.to_string())));
    }
    Ok(guests)
}

fn broken(config: &Config, guests: &[Option<Loaded>]) -> Vec<String> {
    let line = |(function, loaded): (&crate::config::Function, &Option<Loaded>)| {
        let Some(Err(why)) = loaded else { return None };
        Some(format!("function {}: {} {why}", function.name, function.guest.display()))
    };
    config.functions.iter().zip(guests).filter_map(line).collect()
}

/// The effective settings, as `flexwasm check` prints them. Names of granted variables, never their values.
pub fn describe(config: &Config) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: String| writeln!(text, "{name:24} {value}").expect("a string takes every line");
    line("pool.size", config.pool_size.to_string());
    line("queue.length", config.queue_length.to_string());
    line("queue.timeout", format!("{:?}", config.queue_timeout));
    line("limits.totalMemory", spell_size(config.total_memory));
    line("drain.timeout", format!("{:?}", config.drain_timeout));
    line("headers", format!("{:?}", config.headers).to_lowercase());
    for function in &config.functions {
        let limits = &function.limits;
        line("", String::new());
        line("function", function.name.to_string());
        match &function.trigger {
            Trigger::Http { route, methods, keyed } => {
                let methods = methods.as_ref().map_or("any".to_owned(), |methods| format!("{methods:?}"));
                line(
                    "  route",
                    format!("/{}", [config.route_prefix.as_str(), &route.to_string()].join("/").trim_matches('/')),
                );
                line("  methods", methods);
                line("  function key", if *keyed { "needed" } else { "not needed" }.to_owned());
            }
            Trigger::Envelope => line("  trigger", "JSON envelope: answered with 501".to_owned()),
        }
        line("  guest", function.guest.display().to_string());
        line("  pool.reuse", function.reuse.requests.to_string());
        line("  pool.idleTimeout", format!("{:?}", function.reuse.idle_timeout));
        line("  limits.timeout", format!("{:?}", limits.timeout));
        line("  limits.memory", spell_size(limits.memory));
        line("  limits.tableElements", limits.table_elements.to_string());
        line("  limits.requestBody", spell_size(limits.request_body));
        line("  limits.responseBody", limits.response_body.map_or("none".to_owned(), spell_size));
        line("  limits.log", spell_size(limits.log));
        line("  grants.env", format!("{:?}", function.env.iter().map(|(name, _)| name).collect::<Vec<_>>()));
    }
    text
}
