//! The wasmtime engine: its settings, the memories of its instances, and the stacks that guests are called on.

pub mod code;
mod epoch;
#[expect(unsafe_code, reason = "see memory/space.rs")]
pub mod memory;
pub mod room;

use epoch::Ticker;
pub use epoch::{FIRST_YIELD, TICK, Ticking};
use memory::Stacks;
use std::fmt;
use std::sync::Arc;

/// The most linear memories that a component may have.
pub const MOST_MEMORIES: u32 = 16;

/// The version of WASI that a guest's handler is written for, which decides the engine it runs in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Wasi {
    /// `wasi:http/incoming-handler@0.2`. Its engine goes without component-model concurrency, which costs 24 % more CPU
    /// (docs/speed.md).
    P2,
    /// `wasi:http/handler@0.3`, which is built on component-model concurrency.
    P3,
}

impl Wasi {
    /// Stacks of one instance: one runs it; with concurrency one more delivers events while a call of it blocks.
    pub fn stacks(self) -> u32 {
        match self {
            Self::P2 => 1,
            Self::P3 => 2,
        }
    }
}

impl fmt::Display for Wasi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::P2 => "WASI 0.2",
            Self::P3 => "WASI 0.3",
        })
    }
}

/// Compiles and holds components.
#[derive(Clone)]
pub struct Engine {
    /// wasmtime's own.
    pub wasm: wasmtime::Engine,
    /// The version of WASI of its guests.
    pub wasi: Wasi,
    ticker: Ticker,
}

impl Engine {
    /// Makes the engine and starts its epoch thread. Its guests are called on these stacks.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn new(wasi: Wasi, stacks: &Stacks) -> wasmtime::Result<Self> {
        let mut config = code::settings(wasi);
        config.with_host_memory(Arc::new(memory::Creator)).with_host_stack(Arc::new(stacks.clone()));
        let wasm = wasmtime::Engine::new(&config)?;
        memory::listen();
        let ticker = Ticker::start(&wasm)?;
        Ok(Self { wasm, wasi, ticker })
    }

    /// Keeps the epoch ticking while a guest runs.
    pub fn ticking(&self) -> Ticking {
        self.ticker.ticking()
    }
}
