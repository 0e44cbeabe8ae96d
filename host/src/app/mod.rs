//! The life of the host: claim the port, load the guests, listen, run until told to stop, drain.
//!
//! [`compose`] makes the parts, [`ready`] waits for the first guests, [`check`] loads them and serves nobody. Guests that take
//! longer than [`Config::ready_within`] are loaded while the host listens already.

pub mod check;
pub mod compose;
pub mod ready;

use crate::config::{Config, Role};
use crate::control::plane::Plane;
use crate::control::server::Control;
use crate::export::Exporter;
use crate::http::listener::{self, Claim};
use crate::http::service::{Service, Setup};
use crate::http::{Stop, home};
use crate::observe::line::Lines;
use crate::observe::machine::Machine;
use crate::observe::record::Sink;
use crate::observe::startup;
use compose::Parts;
use ready::Loading;
use std::future::poll_fn;
use std::io::Write as _;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::JoinHandle;
use tokio_util::task::TaskTracker;

/// Exit status when a second signal cuts the draining short: 128 + SIGTERM.
const CUT_SHORT: u8 = 143;

/// How long invocations that are cut off may take to end.
const CUT_OFF_TIME: Duration = Duration::from_secs(1);

/// How long the last telemetry may take to leave, where the drain has so much time left.
const FLUSH_TIME: Duration = Duration::from_secs(5);

/// A host that is ready to listen.
pub struct App {
    listener: TcpListener,
    service: Arc<Service>,
    parts: Parts,
    tasks: TaskTracker,
    machine: Arc<Machine>,
    local: SocketAddr,
    stop: Stop,
    loading: Loading,
    control: Option<Control>,
    exporter: Exporter,
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
        let parts = Parts::new(&config, &machine)?;
        let mut loading = Loading::start(&parts.swaps);
        if !loading.within(config.ready_within).await {
            tracing::warn!(guests = loading.pending(), "listening, though not every guest is loaded");
        } else if loading.is_hopeless() {
            return Err(loading.newly_broken().join("\nflexwasm: "));
        }
        tell(&loading.newly_broken());

        let begun = Instant::now();
        let control = match Control::listen(&config.control_sockets, config.operate) {
            Ok(control) => Some(control),
            // An operator that asks for a port relies on it.
            Err(why) if config.operate.is_some() => return Err(format!("--operate: {why}")),
            Err(why) => {
                tracing::warn!("`flexwasm swap` cannot reach this host: {why}");
                None
            }
        };
        let begun = startup::phase("control", begun);
        let tasks = TaskTracker::new();
        // A client that connects from here on is answered.
        let listener = claim.listen().map_err(|error| error.to_string())?;
        let local = listener.local_addr().map_err(|error| error.to_string())?;
        let stop = Stop::default();
        let exporter = Exporter::start(&config, &parts.metrics, &parts.pool);
        let own = [
            Arc::new(Lines::new(&config, exporter.logs())) as Arc<dyn Sink>,
            Arc::clone(&parts.metrics) as _,
            Arc::clone(&parts.live) as _,
        ];
        let service = Service::new(Setup {
            guests: Arc::clone(&parts.guests),
            pool: parts.pool.clone(),
            machine: Arc::clone(&machine),
            sinks: own.into_iter().chain(exporter.spans()).collect(),
            live: Arc::clone(&parts.live),
            local,
            tasks: tasks.clone(),
            stop: stop.clone(),
            config,
        });
        startup::phase("listen", begun);
        let service = Arc::new(service);
        Ok(Self { listener, service, parts, tasks, machine, local, stop, loading, control, exporter })
    }

    /// The address that is listened on.
    pub fn address(&self) -> SocketAddr {
        self.local
    }

    /// Announces the address, serves until SIGTERM, SIGINT or SIGHUP, and drains. Returns the exit status.
    ///
    /// # Errors
    /// When the process cannot listen to signals, or when the last guest that was still loaded turns out to be broken too.
    pub async fn run(self) -> Result<u8, String> {
        let mut signals = Signals::listen().map_err(|error| format!("cannot listen to signals: {error}"))?;
        self.announce();
        for objection in &self.service.setup.config.objections {
            tracing::warn!("{objection}");
        }
        let mut serving = self.serve();
        tokio::select! {
            () = signals.next() => {}
            why = serving.hopeless() => {
                serving.end().await;
                return Err(why);
            }
        }
        Ok(serving.drain(signals.next()).await)
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
        for function in &config.functions {
            let name = &function.name;
            let (by, how) = home::called(config, self.local, function).unwrap_or_else(|| {
                // Nobody but Azure has its events; `flexwasm send` makes them.
                (function.event.trigger.kind.clone(), format!("flexwasm send {name}"))
            });
            text += &format!("  {name}: [{by}] {how}\n");
        }
        for note in &config.notes {
            text += &format!("note: {note}\n");
        }
        // Whether anybody reads it or not, the host serves.
        let _ = std::io::stdout().lock().write_all(text.as_bytes());
    }

    /// Begins to answer: requests, and people who operate the host.
    fn serve(self) -> Serving {
        let Self { listener, service, parts, tasks, machine, local, stop, loading, control, exporter } = self;
        let accepting = listener::serve(listener, Arc::clone(&service), stop.clone(), tasks.clone());
        let (pool, worlds, live) = (parts.pool.clone(), Arc::clone(&parts.worlds), Arc::clone(&parts.live));
        let beside = vec![
            tokio::spawn(accepting),
            tokio::spawn(machine.keep_fresh()),
            tokio::spawn(async move { live.keep().await }),
            tokio::spawn(async move {
                let give_back = || {
                    let worlds = Arc::clone(&worlds);
                    drop(tokio::task::spawn_blocking(move || worlds.release_idle_memory()));
                };
                pool.retire_idle(give_back).await;
            }),
        ];
        let (swaps, metrics, live) = (Arc::clone(&parts.swaps), Arc::clone(&parts.metrics), Arc::clone(&parts.live));
        let plane = Plane::new(&service.setup.config, swaps, parts.pool.clone(), metrics, live, local);
        let control = control.map(|control| tokio::spawn(control.serve(plane)));
        Serving { service, parts, tasks, stop, loading, beside, control, exporter }
    }
}

/// A host that answers.
struct Serving {
    service: Arc<Service>,
    parts: Parts,
    tasks: TaskTracker,
    stop: Stop,
    loading: Loading,
    /// Tasks that run for as long as the host serves.
    beside: Vec<JoinHandle<()>>,
    control: Option<JoinHandle<()>>,
    exporter: Exporter,
}

impl Serving {
    /// Waits until no guest is left that could serve, which may never be. Returns why, a line for each.
    async fn hopeless(&mut self) -> String {
        self.loading.finish().await;
        let broken = self.loading.newly_broken();
        if self.loading.is_hopeless() {
            return broken.join("\nflexwasm: ");
        }
        tell(&broken);
        std::future::pending().await
    }

    /// Lets what runs end, until `drain.timeout` is over or `sooner` is, and cuts off the rest. Returns the exit status.
    async fn drain(self, sooner: impl Future<Output = ()>) -> u8 {
        let config = &self.service.setup.config;
        let end = Instant::now() + config.drain_timeout + CUT_OFF_TIME;
        tracing::info!(running = self.parts.pool.occupancy().busy, timeout = ?config.drain_timeout, "draining");
        self.stop.gently.cancel();
        self.parts.pool.close();
        self.tasks.close();
        let mut sooner = pin!(sooner);
        let mut status = tokio::select! {
            () = self.tasks.wait() => 0,
            () = tokio::time::sleep(config.drain_timeout) => {
                tracing::warn!(cut_off = self.parts.pool.occupancy().busy, "drain.timeout is over");
                0
            }
            () = &mut sooner => CUT_SHORT,
        };
        self.stop.now.cancel();
        // For the closing lines of what was cut off; no guest that computes yields later than this.
        let _ = tokio::time::timeout(CUT_OFF_TIME, self.tasks.wait()).await;
        if status != CUT_SHORT {
            let within = end.saturating_duration_since(Instant::now()).min(FLUSH_TIME);
            tokio::select! {
                () = self.exporter.finish(within) => {}
                () = sooner => status = CUT_SHORT,
            }
        }
        self.end().await;
        tracing::info!(status, "stopped");
        status
    }

    /// Ends the tasks, and takes the control socket away.
    async fn end(self) {
        for task in self.beside {
            task.abort();
        }
        if let Some(control) = self.control {
            control.abort();
            // Until its socket is removed.
            let _ = control.await;
        }
    }
}

/// SIGTERM, SIGINT, and the SIGHUP of a terminal that is closed, unless `nohup` has it ignored.
struct Signals(Vec<Signal>);

impl Signals {
    fn listen() -> std::io::Result<Self> {
        let hangup = (!ignores_hangup()).then(SignalKind::hangup);
        let kinds = [SignalKind::terminate(), SignalKind::interrupt()].into_iter().chain(hangup);
        Ok(Self(kinds.map(signal).collect::<Result<_, _>>()?))
    }

    /// Waits for one of them.
    async fn next(&mut self) {
        poll_fn(|cx| match self.0.iter_mut().any(|signal| signal.poll_recv(cx).is_ready()) {
            true => Poll::Ready(()),
            false => Poll::Pending,
        })
        .await;
    }
}

/// Whether this process was started with SIGHUP ignored (proc_pid_status(5), `SigIgn`).
fn ignores_hangup() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = ignored.and_then(|digits| u64::from_str_radix(digits.trim(), 16).ok()).unwrap_or_default();
    ignored & (1 << (SignalKind::hangup().as_raw_value() - 1)) != 0
}

/// Notes each broken guest of a host that serves others.
fn tell(broken: &[String]) {
    for line in broken {
        tracing::error!("{line}");
    }
}
