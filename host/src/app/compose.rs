//! What is made of what: the parts that live as long as the process, and that know of each other.

use crate::config::middleware::Middleware;
use crate::config::{Config, Function};
use crate::engine::room::{self, Fit};
use crate::guest::Loader;
use crate::guest::compiler::Compiler;
use crate::guest::published::Published;
use crate::guest::worlds::Worlds;
use crate::keyvalue::Stores;
use crate::live::Live;
use crate::observe::machine::Machine;
use crate::observe::metrics::Metrics;
use crate::observe::rate::Rate;
use crate::observe::startup;
use crate::outgoing::{Client, Tokens};
use crate::pool::Capacity;
use crate::run::Pool;
use crate::sandbox::{PartPolicy, Policy};
use crate::swap::Swap;
use crate::tls::Trust;
use std::sync::Arc;
use std::time::Instant;

/// A place for the guest of each function.
pub type Guests = Arc<[Arc<Published>]>;

/// What serves the functions of an app. Nothing is loaded yet.
pub struct Parts {
    /// The slots of all functions.
    pub pool: Pool,
    /// What the guests run in.
    pub worlds: Arc<Worlds>,
    /// Where requests find the guests, in the order of `Config::functions`.
    pub guests: Guests,
    /// What loads and replaces the guests, for each function that has one.
    pub swaps: Arc<[Arc<Swap>]>,
    /// What is counted of all of this.
    pub metrics: Arc<Metrics>,
    /// What people who look on are shown of it.
    pub live: Arc<Live>,
}

impl Parts {
    /// Makes them for an app on this machine.
    ///
    /// # Errors
    /// When the process has no room for the pool, whatever the guests are.
    pub fn new(config: &Config, machine: &Arc<Machine>) -> Result<Self, String> {
        let begun = Instant::now();
        let pool = Pool::new(Capacity {
            slots: config.pool_size,
            queue_length: config.queue_length,
            queue_timeout: config.queue_timeout,
            total_memory: config.total_memory,
        });
        startup::phase("pool", begun);
        room::check(config.pool_size, Fit::default())?;
        let (loader, shared) = (Arc::new(loader(config)), Shared::default());
        let worlds = Arc::clone(&loader.worlds);
        let guests: Guests = config.functions.iter().map(|_| Arc::default()).collect();
        let metrics = Arc::new(Metrics::new(config));
        let live = Arc::new(Live::new(config, machine, pool.clone(), &guests));
        let swap = |(function, place): (&Function, &Arc<Published>)| {
            let policy = Arc::new(policy(function, machine, &shared, &metrics));
            let (loader, place, live) = (Arc::clone(&loader), Arc::clone(place), Arc::clone(&live));
            Arc::new(Swap::new(function.clone(), policy, loader, pool.clone(), place, live))
        };
        let swaps = config
            .functions
            .iter()
            .zip(guests.iter())
            // Others are refused before anybody asks for their guest.
            .filter(|(function, _)| function.runs())
            .map(swap)
            .collect();
        Ok(Self { pool, worlds, guests, swaps, metrics, live })
    }
}

fn loader(config: &Config) -> Loader {
    let compiler = Compiler::new(config.compiler.clone(), config.cache_folders.clone(), config.compiler_memory);
    Loader {
        worlds: Arc::new(Worlds::new(config.pool_size)),
        compiler: Arc::new(compiler),
        total_memory: config.total_memory,
        memories: config.memories,
        core_instances: config.core_instances,
        pool_size: config.pool_size,
    }
}

/// What the grants of all functions need, each of it once.
#[derive(Default)]
struct Shared {
    trust: Arc<Trust>,
    tokens: Tokens,
    stores: Stores,
}

fn part(entry: &Middleware, shared: &Shared) -> PartPolicy {
    let Middleware { file, grants, .. } = entry;
    let client = Client::for_grants(&grants.hosts, &shared.trust, &shared.tokens);
    let buckets = shared.stores.of(&grants.keyvalue, &shared.trust, &shared.tokens);
    PartPolicy { name: Arc::clone(file), grants: grants.clone(), client, buckets }
}

fn policy(function: &Function, machine: &Arc<Machine>, shared: &Shared, metrics: &Metrics) -> Policy {
    Policy {
        function: Arc::clone(&function.name),
        log_rate: Rate::new(function.limits.log_rate),
        metrics: Arc::clone(metrics.of(&function.name).expect("it counts every function of the configuration")),
        limits: function.limits.clone(),
        share: function.share,
        reuse: function.reuse,
        client: Client::for_grants(&function.grants.hosts, &shared.trust, &shared.tokens),
        buckets: shared.stores.of(&function.grants.keyvalue, &shared.trust, &shared.tokens),
        grants: function.grants.clone(),
        parts: function.middleware.iter().map(|entry| part(entry, shared)).collect(),
        machine: Arc::clone(machine),
        made: Instant::now(),
    }
}
