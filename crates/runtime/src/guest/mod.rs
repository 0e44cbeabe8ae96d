//! A guest: a compiled component, checked so thoroughly that a request only has to instantiate it.
//!
//! Its way, a file for each step: [`artifact`] reads the component, [`composition`] makes one of several, [`interfaces`] and [`footprint`] say what is in it, [`worlds`] has
//! the engine that it runs in, [`compiler`] finds or makes its code ([`linked`] is what is compiled, [`compiled`] the file, [`cache`] a place for it), [`loader`] links
//! it and holds it to its limits, and in [`published`] requests find it. [`experience`] is what has been seen of it since.

pub mod artifact;
pub mod cache;
pub mod compiled;
pub mod compiler;
pub mod composition;
mod contents;
mod error;
pub mod experience;
pub mod footprint;
pub mod interfaces;
pub mod linked;
mod loader;
mod pre;
pub mod published;
pub mod worlds;

pub use compiler::Keep;
pub use error::LoadError;
pub use loader::Loader;
pub use pre::{Handler, Pre};

use crate::config::digest::Digest;
use crate::engine::code::Processors;
use crate::engine::memory::Memories;
use crate::engine::room::Fit;
use crate::engine::{Engine, FIRST_YIELD};
use crate::invocation::bindings::INTERFACE;
use crate::sandbox::{Policy, Sandbox};
use compiled::Unusable;
use composition::Part;
use experience::Experience;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use wasmtime::{Store, UpdateDeadline};

/// A component that is ready to be instantiated for a function.
pub struct Guest {
    /// What its invocations may use.
    pub policy: Arc<Policy>,
    /// Linked and type-checked.
    pub pre: Pre,
    /// Of the component.
    pub digest: Digest,
    /// What it asks for, such as `wasi:cli/environment@0.2.12`.
    pub imports: Arc<[String]>,
    /// The components that it was composed of; see [`artifact::Artifact::parts`].
    pub parts: Arc<[Part]>,
    /// Where its compiled file may lie; see [`artifact::Artifact::compiled`].
    pub compiled: Option<PathBuf>,
    /// Counts the guests of the function, from 1.
    pub generation: u64,
    /// Bytes of memory that an instance has from the start.
    pub initial_memory: u64,
    /// What it needs in a slot.
    pub fit: Fit,
    /// Core instances that it may consist of.
    pub core_instances: u32,
    /// Where it runs.
    pub engine: Engine,
    /// The memories of its instances.
    pub memories: Arc<Memories>,
    /// Whether its instances can be used again.
    pub experience: Experience,
    /// Another has taken its place.
    outdated: AtomicBool,
}

impl Guest {
    /// The same component as another generation.
    pub fn again(&self, generation: u64) -> Self {
        Self {
            policy: Arc::clone(&self.policy),
            pre: self.pre.clone(),
            digest: self.digest,
            imports: Arc::clone(&self.imports),
            parts: Arc::clone(&self.parts),
            compiled: self.compiled.clone(),
            generation,
            initial_memory: self.initial_memory,
            fit: self.fit,
            core_instances: self.core_instances,
            engine: self.engine.clone(),
            memories: Arc::clone(&self.memories),
            experience: Experience::default(),
            outdated: AtomicBool::new(false),
        }
    }

    /// Whether it can ask for the bindings of its invocations.
    pub fn asks_for_bindings(&self) -> bool {
        self.imports.iter().any(|import| import.split('@').next() == Some(INTERFACE))
    }

    /// Another has taken its place: no instance of it is kept any more.
    pub fn outdate(&self) {
        self.outdated.store(true, Ordering::Release);
    }

    /// Whether another has taken its place.
    pub fn is_outdated(&self) -> bool {
        self.outdated.load(Ordering::Acquire)
    }

    /// The data for one instance.
    pub fn store(&self, mut sandbox: Sandbox) -> Store<Sandbox> {
        sandbox.limiter.allow(self.fit.memories as usize, self.core_instances as usize);
        let mut store = Store::new(&self.engine.wasm, sandbox);
        store.limiter(|sandbox| &mut sandbox.limiter);
        store.set_max_component_handles(self.policy.handles());
        store.set_hostcall_fuel(self.policy.call_bytes());
        if let Some(table) = store.concurrent_resource_table() {
            table.set_max_capacity(self.policy.concurrent_entries());
        }
        // Behind everything else that is ready: tokio's own way to yield lets sockets be looked at first, so that their
        // requests wait for one tick and not for as many as there are polls between two looks.
        store.epoch_deadline_callback(|context| {
            context.data().cpu.check()?;
            Ok(UpdateDeadline::YieldCustom(1, Box::pin(tokio::task::yield_now())))
        });
        // A new store's deadline is 0, which has passed: without this each guest would yield before its first instruction.
        store.set_epoch_deadline(FIRST_YIELD);
        store
    }

    /// For which processors the compiled file beside it is, where it came from files. None if there is none.
    ///
    /// # Errors
    /// Why it would not be used.
    pub fn code_beside(&self) -> Result<Option<Processors>, Unusable> {
        let Some(path) = &self.compiled else { return Ok(None) };
        compiled::verify_at(path, &self.digest, &self.engine.wasm, self.engine.wasi)
    }
}

/// An error with its causes, in one line.
pub fn chain(error: &wasmtime::Error) -> String {
    format!("{error:#}").split_whitespace().collect::<Vec<_>>().join(" ")
}
