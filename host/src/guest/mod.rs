//! A guest: a compiled component, checked so thoroughly that a request only has to instantiate it.

pub mod artifact;
pub mod cache;
pub mod compiled;
pub mod compiler;
pub mod experience;
pub mod footprint;
pub mod interfaces;
pub mod published;

use crate::config::digest::Digest;
use crate::engine::code::Processors;
use crate::engine::{Engine, FIRST_YIELD, Image, Wasi};
use crate::engines::{Engines, Linked};
use crate::observe::startup;
use crate::sandbox::{Policy, Sandbox};
use artifact::{Artifact, NoArtifact};
use compiled::Unusable;
use compiler::{Compiler, NoCode, Terms};
use experience::Experience;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;
use wasmtime::{Store, UpdateDeadline};
use wasmtime_wasi_http::p2::bindings::{ProxyPre, exports::wasi::http::incoming_handler};
use wasmtime_wasi_http::p3::bindings::{ServicePre, exports::wasi::http::handler};

/// Bytes of a WebAssembly page.
const PAGE: u64 = 64 << 10;

/// A component that is ready to be instantiated for a function.
pub struct Guest {
    /// Who may use it and how much.
    pub policy: Arc<Policy>,
    /// Linked and type-checked.
    pub pre: Pre,
    /// Of the component.
    pub digest: Digest,
    /// What it asks for, such as `wasi:cli/environment@0.2.12`.
    pub imports: Arc<[String]>,
    /// Counts the guests of the function, from 1.
    pub generation: u64,
    /// Bytes of memory that an instance has from the start.
    pub initial_memory: u64,
    /// Where it runs.
    pub engine: Engine,
    /// Its memory, in the slots of the engine.
    pub image: Arc<Image>,
    /// Whether its instances can be used again.
    pub experience: Experience,
    /// Another has taken its place.
    outdated: AtomicBool,
}

/// What an instance is made of, by the version of WASI.
#[derive(Clone)]
pub enum Pre {
    /// Of 0.2.
    P2(ProxyPre<Sandbox>),
    /// Of 0.3.
    P3(ServicePre<Sandbox>),
}

/// What is called in an instance.
#[derive(Clone)]
pub enum Handler {
    /// Of 0.2.
    P2(incoming_handler::Guest),
    /// Of 0.3.
    P3(handler::Guest),
}

impl Pre {
    /// Makes an instance.
    ///
    /// # Errors
    /// No slot of the engine is free, or a start function failed.
    pub async fn instantiate(&self, store: &mut Store<Sandbox>) -> wasmtime::Result<Handler> {
        match self {
            Self::P2(pre) => {
                let proxy = pre.instantiate_async(store).await?;
                Ok(Handler::P2(proxy.wasi_http_incoming_handler().clone()))
            }
            Self::P3(pre) => {
                let service = pre.instantiate_async(store).await?;
                Ok(Handler::P3(service.wasi_http_handler().clone()))
            }
        }
    }
}

/// Why a file cannot serve, and what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// Its bytes are no component.
    #[error(transparent)]
    Artifact(#[from] NoArtifact),
    /// Its source did not deliver it.
    #[error("{0}")]
    Fetch(String),
    /// Not what `guest.sha256` names.
    #[error("has the SHA-256 {0}, but guest.sha256 allows only {1}: deliver that very guest, or change the setting")]
    Digest(Digest, Digest),
    /// There is no engine for it.
    #[error("{0}")]
    Engine(String),
    /// Its code cannot be had.
    #[error(transparent)]
    Compile(#[from] NoCode),
    /// Another decision came first.
    #[error("was not published, because a rollback came first: publish it again if it is still wanted")]
    Superseded,
    /// It wants what the host does not have, or does not export an HTTP handler.
    #[error(
        "does not fit the world of this host: {0}; it must export wasi:http/incoming-handler@0.2 and import only wasi 0.2 interfaces, or export wasi:http/handler@0.3 and import only wasi 0.3 and 0.2 interfaces, and in both cases flexwasm:host/diagnostics@0.1.0"
    )]
    World(String),
    /// It fits no slot.
    #[error(
        "needs {need} of memory from the start, but {key} allows {limit}: raise that limit, or give the guest a smaller initial memory"
    )]
    Memory {
        /// Spelt size.
        need: String,
        /// Which setting.
        key: &'static str,
        /// Spelt size.
        limit: String,
    },
    /// Its code could not be kept, though there is a cache folder.
    #[error("was not installed: {0}")]
    Keep(String),
    /// A trial instantiation failed: a trap in a start function, say.
    #[error("cannot be instantiated: {0}")]
    Trial(String),
    /// It did not answer the trial request as it should.
    #[error("failed its smoke request {path}: {why}; expected is status {expected} (guest.smoke)")]
    Smoke {
        /// What was asked.
        path: String,
        /// What happened.
        why: String,
        /// What should have.
        expected: u16,
    },
}

/// Whether code that has been compiled has to be kept in the cache folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// Where it cannot be, it is compiled again at the next start.
    IfPossible,
    /// A guest whose code cannot be kept, though there is a folder, is refused: nothing is half-installed.
    Always,
}

/// What loading needs beside the guest itself. Shared by all guests.
pub struct Loader {
    /// Where guests will run, and what they may import.
    pub engines: Arc<Engines>,
    /// Where their code comes from.
    pub compiler: Arc<Compiler>,
    /// `limits.totalMemory`.
    pub total_memory: u64,
}

impl Loader {
    /// Maps or compiles the code of `artifact`, and checks that it fits. It has still to be tried out
    /// ([`Pool::try_out`](crate::pool::Pool::try_out)). Several guests may be loaded at the same time; no thread of the runtime
    /// is held up. `terms` are for a compilation, if it needs one.
    ///
    /// # Errors
    /// [`LoadError`], in the words of a person who starts the host.
    pub async fn load(
        &self,
        artifact: &Arc<Artifact>,
        policy: Arc<Policy>,
        generation: u64,
        terms: Terms,
    ) -> Result<Guest, LoadError> {
        let wasi = artifact.interfaces.wasi;
        let Linked { engine, linker } = self.engines.get(wasi).await.map_err(LoadError::Engine)?;
        let begun = Instant::now();
        let component = self.compiler.component(engine, &policy.function, artifact, terms).await?;
        let begun = startup::phase(format_args!("code of {}", policy.function), begun);
        let pre = linker.instantiate_pre(&component).and_then(|pre| match wasi {
            Wasi::P2 => ProxyPre::new(pre).map(Pre::P2),
            Wasi::P3 => ServicePre::new(pre).map(Pre::P3),
        });
        let pre = pre.map_err(|error| LoadError::World(chain(&error)))?;
        let begun = startup::phase(format_args!("linking of {}", policy.function), begun);

        // In pages. Each component has one memory at the most, so the largest one is all of it.
        let required = component.resources_required();
        let initial_memory = required.and_then(|required| required.max_initial_memory_size).unwrap_or(0) * PAGE;
        for (key, limit) in [("limits.memory", policy.limits.memory), ("limits.totalMemory", self.total_memory)] {
            if initial_memory > limit {
                let spell = crate::config::units::spell_size;
                return Err(LoadError::Memory { need: spell(initial_memory), key, limit: spell(limit) });
            }
        }
        startup::phase(format_args!("needs of {}", policy.function), begun);
        let (digest, engine) = (artifact.digest, engine.clone());
        let imports = artifact.interfaces.imports.clone().into();
        let (image, outdated) = (engine.image(initial_memory), AtomicBool::new(false));
        let experience = Experience::default();
        Ok(Guest { policy, pre, digest, imports, generation, initial_memory, engine, image, experience, outdated })
    }
}

impl Guest {
    /// The same component as another generation.
    pub fn again(&self, generation: u64) -> Self {
        Self {
            policy: Arc::clone(&self.policy),
            pre: self.pre.clone(),
            digest: self.digest,
            imports: Arc::clone(&self.imports),
            generation,
            initial_memory: self.initial_memory,
            engine: self.engine.clone(),
            image: Arc::clone(&self.image),
            experience: Experience::default(),
            outdated: AtomicBool::new(false),
        }
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
    pub fn store(&self, sandbox: Sandbox) -> Store<Sandbox> {
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

    /// For which processors the compiled file beside `path` is, where this guest came from. None if there is none.
    ///
    /// # Errors
    /// Why it would not be used.
    pub fn compiled_beside(&self, path: &Path) -> Result<Option<Processors>, Unusable> {
        compiled::verify_beside(path, &Digest::of(&std::fs::read(path)?), &self.engine.wasm, self.engine.wasi)
    }
}

/// An error with its causes, in one line.
pub fn chain(error: &wasmtime::Error) -> String {
    format!("{error:#}").split_whitespace().collect::<Vec<_>>().join(" ")
}
