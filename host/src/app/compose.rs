//! What is made of what: the parts that live as long as the process, and that know of each other.

use crate::config::middleware::Middleware;
use crate::config::{Config, Function, file};
use crate::describe;
use crate::engine::{Kind, Size, Wasi, residency, room};
use crate::guest::Loader;
use crate::guest::compiler::Compiler;
use crate::guest::footprint::Footprint;
use crate::guest::published::Published;
use crate::guest::worlds::Worlds;
use crate::keyvalue::Stores;
use crate::live::Live;
use crate::observe::machine::{Machine, Scan};
use crate::observe::metrics::Metrics;
use crate::observe::rate::Rate;
use crate::observe::startup;
use crate::outgoing::{Client, Tokens};
use crate::pool::Capacity;
use crate::run::Pool;
use crate::sandbox::{PartPolicy, Policy};
use crate::swap::Swap;
use crate::tls::Trust;
use std::num::NonZero;
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
        room::check(config.pool_size, &[Kind::plain(Wasi::P2)])?;
        let (loader, shared) = (Arc::new(loader(config, machine)), Shared::default());
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

fn loader(config: &Config, machine: &Machine) -> Loader {
    let size = engine_size(config, machine);
    if size.scan != Scan::On {
        tracing::info!("{}", describe::residency(&size, &machine.kernel));
    }
    let worlds = Arc::new(Worlds::new(size));
    let compiler = Compiler::new(config.compiler.clone(), config.cache_folders.clone(), config.compiler_memory);
    Loader { worlds, compiler: Arc::new(compiler), total_memory: config.total_memory, memories: config.memories }
}

/// How large the engines are made for the functions of an app on this machine.
pub fn engine_size(config: &Config, machine: &Machine) -> Size {
    let scan = machine.scan;
    let most = residency::most(config.pool_size, config.total_memory);
    // With the scan nobody has to know them. One that is fetched later is not known yet.
    let known = if scan == Scan::On { &[][..] } else { &config.functions[..] };
    let files = known.iter().flat_map(|function| {
        let parts = function.middleware.iter().map(|part| (&part.source, &part.path));
        let files = parts.chain([(&function.guest.source, &function.script_file)]);
        files.filter(|(source, _)| source.is_none()).map(|(_, path)| (path, function.guest.max_size))
    });
    let read = files.filter_map(|(path, most)| file::read(path, most).ok());
    // Those that this process may use.
    let processors = std::thread::available_parallelism().map_or(1, NonZero::get);
    let memories: Vec<u64> = read.map(|wasm| Footprint::of(&wasm).needs.largest).collect();
    Size {
        slots: config.pool_size,
        core_instances: config.core_instances,
        table_elements: config.functions.iter().map(|function| function.limits.table_elements).max().unwrap_or(0),
        scan,
        keep_resident: residency::keep(scan, processors, most, &memories),
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
