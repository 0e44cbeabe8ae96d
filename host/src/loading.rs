//! Loading the guests of all functions, side by side, before and after the host listens.
//!
//! The Functions host gives a process 30 seconds to answer (azure-contract.md §1.6), and a large guest can take longer to
//! compile. So whoever listens does not wait for the last guest: each function has a place that is filled when its guest is
//! loaded, and until then it is refused.

use crate::config::function_json::Trigger;
use crate::config::{Config, Function};
use crate::engine::{Size, Wasi, room};
use crate::engines::Engines;
use crate::guest::Loader;
use crate::guest::compiler::Compiler;
use crate::http::service::{Guests, Loaded};
use crate::observe::machine::Machine;
use crate::outgoing::{Client, Trust};
use crate::sandbox::{Policy, Rate};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

/// Guests on their way.
pub struct Loading {
    guests: Guests,
    /// What each of `guests` is called in messages.
    names: Vec<String>,
    tasks: JoinSet<()>,
}

impl Loading {
    /// Begins to load every guest.
    ///
    /// # Errors
    /// When the process has no room for the pool, whatever the guests are.
    pub fn start(config: &Config, machine: &Arc<Machine>) -> Result<Self, String> {
        room::check(config.pool_size, &[Wasi::P2])?;
        let (loader, trust) = (Arc::new(loader(config)), Arc::<Trust>::default());
        let names =
            config.functions.iter().map(|function| format!("function {}: {}", function.name, function.guest.display()));
        let names: Vec<_> = names.collect();
        let guests: Guests = config.functions.iter().map(|_| OnceLock::new()).collect();
        let mut tasks = JoinSet::new();
        for (index, function) in config.functions.iter().enumerate() {
            // One that is called with an envelope is refused before anybody asks for its guest.
            if function.trigger == Trigger::Envelope {
                continue;
            }
            let (guests, name) = (Arc::clone(&guests), names[index].clone());
            let load = load(Arc::clone(&loader), function.clone(), Arc::clone(machine), Arc::clone(&trust));
            tasks.spawn(async move {
                let loaded = load.await;
                if let Err(why) = &loaded {
                    tracing::error!("{name} {why}");
                }
                assert!(guests[index].set(loaded).is_ok(), "a guest is loaded once");
            });
        }
        Ok(Self { guests, names, tasks })
    }

    /// The places of the guests.
    pub fn guests(&self) -> Guests {
        Arc::clone(&self.guests)
    }

    /// Waits until every guest is loaded or known to be broken, but no longer than `most`. Answers whether all are.
    pub async fn within(&mut self, most: Duration) -> bool {
        tokio::time::timeout(most, self.finish()).await.is_ok()
    }

    /// Waits until every guest is loaded or known to be broken.
    pub async fn finish(&mut self) {
        while let Some(ended) = self.tasks.join_next().await {
            ended.expect("loading does not panic");
        }
    }

    /// Whether every guest is known to be broken.
    pub fn is_hopeless(&self) -> bool {
        self.guests.iter().all(|guest| matches!(guest.get(), Some(Err(_))))
    }

    /// What is wrong with the guests that are known to be broken, one line each.
    pub fn broken(&self) -> Vec<String> {
        let line = |(guest, name): (&OnceLock<Loaded>, &String)| {
            let why = guest.get()?.as_ref().err()?;
            Some(format!("{name} {why}"))
        };
        self.guests.iter().zip(&self.names).filter_map(line).collect()
    }

    /// How many guests are still on their way.
    pub fn pending(&self) -> usize {
        self.tasks.len()
    }
}

fn loader(config: &Config) -> Loader {
    let engines = Engines::new(Size {
        slots: config.pool_size,
        core_instances: config.core_instances,
        table_elements: config.functions.iter().map(|function| function.limits.table_elements).max().unwrap_or(0),
        total_memory: config.total_memory,
    });
    let compiler = Arc::new(Compiler::new(config.compiler.clone(), config.cache_folders.clone()));
    Loader { engines, compiler, total_memory: config.total_memory }
}

async fn load(loader: Arc<Loader>, function: Function, machine: Arc<Machine>, trust: Arc<Trust>) -> Loaded {
    let policy = Policy {
        function: function.name,
        log_rate: Rate::new(function.limits.log_rate),
        limits: function.limits,
        reuse: function.reuse,
        client: Client::for_grants(&function.grants.hosts, &trust),
        grants: function.grants,
        machine,
        made: Instant::now(),
    };
    let loaded = loader.load(&function.guest, Arc::new(policy)).await;
    loaded.map(Arc::new).map_err(|error| error.to_string())
}
