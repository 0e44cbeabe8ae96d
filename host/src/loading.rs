//! Loading the guests of all functions, side by side, before and after the host listens, and then every guest that takes the
//! place of one of them.
//!
//! The Functions host gives a process 30 seconds to answer (azure-contract.md §1.6), and a large guest can take longer to
//! compile. So whoever listens does not wait for the last guest: each function has a place that is filled when its guest is
//! loaded, and until then it is refused.

use crate::config::{Config, Function};
use crate::describe;
use crate::engine::{Size, Wasi, residency, room};
use crate::engines::Engines;
use crate::guest::Loader;
use crate::guest::compiler::Compiler;
use crate::guest::footprint::Footprint;
use crate::guest::published::Published;
use crate::observe::machine::{Machine, Scan};
use crate::observe::rate::Rate;
use crate::outgoing::Client;
use crate::pool::Pool;
use crate::sandbox::Policy;
use crate::swap::Swap;
use crate::tls::Trust;
use std::num::NonZero;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

/// A place for the guest of each function.
pub type Guests = Arc<[Arc<Published>]>;

/// Guests on their way. Dropping it ends the watch for others.
pub struct Loading {
    guests: Guests,
    engines: Arc<Engines>,
    swaps: Arc<[Arc<Swap>]>,
    /// Each has one sender, until its first guest is loaded or known to be broken.
    unloaded: mpsc::Receiver<()>,
    /// Broken guests that somebody has been told of.
    told: Vec<String>,
    _following: JoinSet<()>,
}

impl Loading {
    /// Begins to load every guest.
    ///
    /// # Errors
    /// When the process has no room for the pool, whatever the guests are.
    pub fn start(config: &Config, machine: &Arc<Machine>, pool: &Pool) -> Result<Self, String> {
        room::check(config.pool_size, &[Wasi::P2])?;
        let (loader, trust) = (Arc::new(loader(config, machine)), Arc::<Trust>::default());
        let engines = Arc::clone(&loader.engines);
        let guests: Guests = config.functions.iter().map(|_| Arc::default()).collect();
        let swap = |(function, place): (&Function, &Arc<Published>)| {
            let policy = Arc::new(policy(function, machine, &trust));
            Arc::new(Swap::new(function.clone(), policy, Arc::clone(&loader), pool.clone(), Arc::clone(place)))
        };
        let swaps: Arc<[Arc<Swap>]> = config
            .functions
            .iter()
            .zip(guests.iter())
            // Others are refused before anybody asks for their guest.
            .filter(|(function, _)| function.runs())
            .map(swap)
            .collect();
        let (loaded, unloaded) = mpsc::channel(1);
        let mut following = JoinSet::new();
        for swap in swaps.iter() {
            let (swap, loaded) = (Arc::clone(swap), loaded.clone());
            following.spawn(async move { swap.follow(loaded).await });
        }
        Ok(Self { guests, engines, swaps, unloaded, told: Vec::new(), _following: following })
    }

    /// The places of the guests.
    pub fn guests(&self) -> Guests {
        Arc::clone(&self.guests)
    }

    /// What the guests run in.
    pub fn engines(&self) -> Arc<Engines> {
        Arc::clone(&self.engines)
    }

    /// What replaces the guests, for each function that has one.
    pub fn swaps(&self) -> Arc<[Arc<Swap>]> {
        Arc::clone(&self.swaps)
    }

    /// Waits until every guest is loaded or known to be broken, but no longer than `most`. Answers whether all are.
    pub async fn within(&mut self, most: Duration) -> bool {
        tokio::time::timeout(most, self.finish()).await.is_ok()
    }

    /// Waits until every guest is loaded or known to be broken.
    pub async fn finish(&mut self) {
        // Nothing is ever sent.
        let _ = self.unloaded.recv().await;
    }

    /// Whether every guest is known to be broken, and no source can mend it.
    pub fn is_hopeless(&self) -> bool {
        let lost = |swap: &Arc<Swap>| swap.function.guest.source.is_none() && swap.problem().is_some();
        !self.swaps.is_empty() && self.swaps.iter().all(lost)
    }

    /// What is wrong with the guests that are known to be broken, one line each.
    pub fn broken(&self) -> Vec<String> {
        let line = |swap: &Arc<Swap>| Some(format!("function {}: {}", swap.function.name, swap.problem()?));
        self.swaps.iter().filter_map(line).collect()
    }

    /// The same without those that a former call has answered.
    pub fn newly_broken(&mut self) -> Vec<String> {
        let mut broken = self.broken();
        broken.retain(|line| !self.told.contains(line));
        self.told.extend_from_slice(&broken);
        broken
    }

    /// Which sources did not deliver what serves now, one line each.
    pub fn undelivered(&self) -> impl Iterator<Item = String> {
        self.swaps.iter().filter_map(|swap| Some(format!("function {}: {}", swap.function.name, swap.undelivered()?)))
    }

    /// How many guests are still on their way.
    pub fn pending(&self) -> usize {
        self.unloaded.sender_strong_count()
    }
}

fn loader(config: &Config, machine: &Machine) -> Loader {
    let size = engine_size(config, machine);
    if size.scan != Scan::On {
        tracing::info!("{}", describe::residency(&size, &machine.kernel));
    }
    let engines = Arc::new(Engines::new(size));
    let compiler = Compiler::new(config.compiler.clone(), config.cache_folders.clone(), config.compiler_memory);
    Loader { engines, compiler: Arc::new(compiler), total_memory: config.total_memory }
}

/// How large the engines are made for the functions of an app on this machine.
pub fn engine_size(config: &Config, machine: &Machine) -> Size {
    let scan = machine.scan;
    let most = residency::most(config.pool_size, config.total_memory);
    // With the scan nobody has to know them. One that is fetched later is not known yet.
    let known = if scan == Scan::On { &[][..] } else { &config.functions[..] };
    let local = known.iter().filter(|function| function.guest.source.is_none());
    let read = local.filter_map(|function| std::fs::read(&function.script_file).ok());
    // Those that this process may use.
    let processors = std::thread::available_parallelism().map_or(1, NonZero::get);
    let memories: Vec<u64> = read.map(|wasm| Footprint::of(&wasm).memory).collect();
    Size {
        slots: config.pool_size,
        core_instances: config.core_instances,
        table_elements: config.functions.iter().map(|function| function.limits.table_elements).max().unwrap_or(0),
        scan,
        keep_resident: residency::keep(scan, processors, most, &memories),
    }
}

fn policy(function: &Function, machine: &Arc<Machine>, trust: &Arc<Trust>) -> Policy {
    Policy {
        function: Arc::clone(&function.name),
        log_rate: Rate::new(function.limits.log_rate),
        limits: function.limits.clone(),
        share: function.share,
        reuse: function.reuse,
        client: Client::for_grants(&function.grants.hosts, trust),
        grants: function.grants.clone(),
        machine: Arc::clone(machine),
        made: Instant::now(),
    }
}
