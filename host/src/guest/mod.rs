//! A guest: a compiled component, checked so thoroughly that a request only has to instantiate it.

pub mod cache;
pub mod compiled;
pub mod compiler;
pub mod interfaces;

use crate::engine::code::Processors;
use crate::engine::{Engine, FIRST_YIELD, Wasi};
use crate::engines::{Engines, Linked};
use crate::explain::{self, Failure};
use crate::observe::startup;
use crate::sandbox::cpu::metered;
use crate::sandbox::hit::Hit;
use crate::sandbox::limits::Budget;
use crate::sandbox::{Identity, Policy, Sandbox};
use compiled::{Digest, Unusable};
use compiler::Compiler;
use interfaces::Interfaces;
use std::fmt::Write as _;
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::time::Instant;
use wasmtime::{Store, UpdateDeadline};
use wasmtime_wasi_http::p2::bindings::{ProxyPre, exports::wasi::http::incoming_handler};
use wasmtime_wasi_http::p3::bindings::{ServicePre, exports::wasi::http::handler};

/// The largest file that is read.
const MAX_FILE: u64 = 256 << 20;

/// Bytes of a WebAssembly page.
const PAGE: u64 = 64 << 10;

/// The component model's first bytes: magic number, version and layer.
const COMPONENT: &[u8] = b"\0asm\x0d\0\x01\0";
/// A core module's first bytes.
const CORE_MODULE: &[u8] = b"\0asm\x01\0\0\0";

/// A component that is ready to be instantiated for a function.
pub struct Guest {
    /// Who may use it and how much.
    pub policy: Arc<Policy>,
    /// Linked and type-checked.
    pub pre: Pre,
    /// SHA-256 of the file, in hexadecimal.
    pub digest: Arc<str>,
    /// Counts the guests of the function, from 1.
    pub generation: u64,
    /// Bytes of memory that an instance has from the start.
    pub initial_memory: u64,
    /// Where it runs.
    pub engine: Engine,
}

/// What an instance is made of, by the version of WASI.
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
    /// No such file, no access, a folder.
    #[error("cannot be read ({0}): check scriptFile in function.json, and that the guest has been built")]
    Read(#[from] std::io::Error),
    /// Beyond [`MAX_FILE`].
    #[error("is larger than {} MiB: no guest of this size is accepted", MAX_FILE >> 20)]
    TooLarge,
    /// A component's own building block.
    #[error(
        "is a core WebAssembly module, not a component: build it for the target wasm32-wasip2, or wrap it with `wasm-tools component new`"
    )]
    CoreModule,
    /// Something else altogether.
    #[error(
        "is not a WebAssembly component: name a .wasm file built for wasm32-wasip2 (or by componentize-js or componentize-py)"
    )]
    NotComponent,
    /// Its requests are to share instances.
    #[error(
        "exports wasi:http/incoming-handler@0.2, whose instances answer one request at a time, but pool.concurrentPerInstance is {0}: set it to 1 for this function, or build the guest for wasi:http/handler@0.3"
    )]
    Shared(u32),
    /// There is no engine for it.
    #[error("{0}")]
    Engine(String),
    /// wasmtime refused it.
    #[error("is not a valid component, or uses what this host does not support: {0}")]
    Compile(String),
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
    /// A trial instantiation failed: a trap in a start function, say.
    #[error("cannot be instantiated: {0}")]
    Trial(String),
}

/// What loading needs beside the guest itself. Shared by all guests.
pub struct Loader {
    /// Where guests will run, and what they may import.
    pub engines: Engines,
    /// Where their code comes from.
    pub compiler: Arc<Compiler>,
    /// `limits.totalMemory`.
    pub total_memory: u64,
}

impl Loader {
    /// Reads the guest at `path`, maps or compiles its code, checks that it fits, and instantiates it once in its engine's
    /// spare slot, under the normal limits. Several guests may be loaded at the same time; no thread of the runtime is held
    /// up.
    ///
    /// # Errors
    /// [`LoadError`], in the words of a person who starts the host.
    pub async fn load(&self, path: &Path, policy: Arc<Policy>) -> Result<Guest, LoadError> {
        let (wasm, wasi) = blocking(path, |path| {
            let wasm = read(path)?;
            let wasi = Interfaces::of(&wasm).wasi;
            Ok::<_, LoadError>((wasm, wasi))
        })
        .await?;
        if wasi == Wasi::P2 && policy.reuse.concurrent > 1 {
            return Err(LoadError::Shared(policy.reuse.concurrent));
        }
        // The digest is taken while the engine is made, if this is the first guest that needs it.
        let function = Arc::clone(&policy.function);
        let digest = blocking(path, move |_| {
            let begun = Instant::now();
            let digest = compiled::digest(&wasm);
            startup::phase(format_args!("digest of {function}"), begun);
            digest
        });
        let (digest, linked) = tokio::join!(digest, self.engines.get(wasi));
        let Linked { engine, linker, trial } = linked.map_err(LoadError::Engine)?;
        let begun = Instant::now();
        let component = self.compiler.component(engine, &policy.function, path, digest).await?;
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
        let (digest, engine) = (hexadecimal(&digest).into(), engine.clone());
        let guest = Guest { policy, pre, digest, generation: 1, initial_memory, engine };
        let trial = trial.lock().await;
        guest.try_out().await?;
        drop(trial);
        startup::phase(format_args!("trial of {}", guest.policy.function), begun);
        Ok(guest)
    }
}

impl Guest {
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
        let Some(file) = compiled::open(&compiled::beside(path))? else { return Ok(None) };
        let digest = compiled::digest(&std::fs::read(path)?);
        compiled::verify(&file, &digest, &self.engine.wasm, self.engine.wasi).map(Some)
    }

    /// Instantiates once, so that what start functions do wrong is known before the first request.
    async fn try_out(&self) -> Result<(), LoadError> {
        let identity = Identity {
            instance: 0,
            slot: 0,
            pool_size: 0,
            served: 0,
            generation: self.generation,
            digest: Arc::clone(&self.digest),
        };
        let budget = Budget::new(self.policy.limits.memory);
        let reservation = budget.reserve(self.initial_memory).expect("the initial memory is below the limit");
        let sandbox = Sandbox::new(Arc::clone(&self.policy), identity, Some("trial".into()), reservation);
        let mut store = self.store(sandbox);
        let _ticking = self.engine.ticking();
        let timeout = self.policy.limits.timeout;
        let meter = Arc::clone(&store.data().cpu);
        let instantiated = tokio::time::timeout(timeout, metered(meter, pin!(self.pre.instantiate(&mut store)))).await;
        let why = match instantiated {
            Ok(Ok(_)) => return Ok(()),
            Ok(Err(error)) => match explain::failure(&store, &error) {
                Failure::Exit(status) => format!("called exit with status {status}"),
                Failure::Limit(words) | Failure::Trap(words) => words,
            },
            Err(_) => format!("its start functions did not end, {}", Hit::Timeout(timeout).explained()),
        };
        Err(LoadError::Trial(why))
    }
}

/// Does `work` with `path` on a blocking thread, from the first poll on.
async fn blocking<T: Send + 'static>(path: &Path, work: impl FnOnce(&Path) -> T + Send + 'static) -> T {
    let path = path.to_owned();
    tokio::task::spawn_blocking(move || work(&path)).await.expect("reading does not panic")
}

/// Reads the component at `path`.
///
/// # Errors
/// [`LoadError`]: it is no file, too large, or no component at first sight.
pub fn read(path: &Path) -> Result<Vec<u8>, LoadError> {
    if std::fs::metadata(path)?.len() > MAX_FILE {
        return Err(LoadError::TooLarge);
    }
    let bytes = std::fs::read(path)?;
    match &bytes {
        component if component.starts_with(COMPONENT) => Ok(bytes),
        module if module.starts_with(CORE_MODULE) => Err(LoadError::CoreModule),
        _ => Err(LoadError::NotComponent),
    }
}

/// A digest as text.
pub fn hexadecimal(digest: &Digest) -> String {
    digest.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a string takes every byte");
        text
    })
}

/// An error with its causes, in one line.
pub fn chain(error: &wasmtime::Error) -> String {
    format!("{error:#}").split_whitespace().collect::<Vec<_>>().join(" ")
}
