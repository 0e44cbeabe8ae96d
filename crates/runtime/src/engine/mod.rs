//! The wasmtime engine: every setting and pooling number with its reason, in one place.

pub mod code;
mod epoch;
mod pages;
pub mod residency;
pub mod room;
mod slots;

use crate::observe::machine::Scan;
use epoch::Ticker;
pub use epoch::{FIRST_YIELD, TICK, Ticking};
use slots::Slots;
pub use slots::{Image, Stay};
use std::fmt;
use std::sync::Arc;
use wasmtime::{Enabled, InstanceAllocationStrategy, PoolingAllocationConfig};

/// Tables of one component. Counted: 2 in Rust, JavaScript and Python.
const TABLES_PER_COMPONENT: u32 = 4;
/// Linear memories of one component.
const MEMORIES_PER_COMPONENT: u32 = 1;

/// Address space of one memory.
const MEMORY_RESERVATION: usize = 4 << 30;

/// Bytes of a table that stay resident in a slot between two requests. Counted: Python's largest table has 46 KiB.
const TABLE_KEEP_RESIDENT: usize = 64 << 10;

/// The version of WASI that a guest's handler is written for, which decides the engine it runs in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Wasi {
    /// `wasi:http/incoming-handler@0.2`. Its engine goes without component-model concurrency, which costs 24 % more CPU
    /// (docs/speed.md).
    P2,
    /// `wasi:http/handler@0.3`, which is built on component-model concurrency.
    P3,
}

impl Wasi {
    /// Stacks of one instance: one runs it; with concurrency one more delivers events while a call of it blocks.
    fn stacks(self) -> u32 {
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

/// How large an engine is made. Its counts are fixed before any guest is known.
#[derive(Debug, Clone, Copy)]
pub struct Size {
    /// Instances that run at the same time. One more is made for trial instantiations.
    pub slots: u32,
    /// `limits.coreInstances`: core instances that one component may consist of. Counted: Rust 3, JavaScript 4, Python 14.
    pub core_instances: u32,
    /// The largest `limits.tableElements` of any function.
    pub table_elements: u32,
    /// Whether written pages are asked for.
    pub scan: Scan,
    /// Bytes of a memory that stay resident in a slot between two requests ([`residency::keep`]).
    pub keep_resident: u64,
}

/// Compiles and holds components; see [`Size`].
#[derive(Clone)]
pub struct Engine {
    /// wasmtime's own.
    pub wasm: wasmtime::Engine,
    /// Which guests it is for.
    pub wasi: Wasi,
    ticker: Ticker,
    /// If they have to be mapped.
    slots: Option<Arc<Slots>>,
}

impl Engine {
    /// Makes the engine and starts its epoch thread.
    ///
    /// # Errors
    /// When the address space does not hold the pool, or no thread can be started.
    pub fn new(size: Size, wasi: Wasi) -> wasmtime::Result<Self> {
        let slots = size.slots + 1;
        let mut pool = PoolingAllocationConfig::new();
        pool.total_component_instances(slots)
            .total_core_instances(slots * size.core_instances)
            .max_core_instances_per_component(size.core_instances)
            .total_memories(slots * MEMORIES_PER_COMPONENT)
            .max_memories_per_component(MEMORIES_PER_COMPONENT)
            .total_tables(slots * TABLES_PER_COMPONENT)
            .max_tables_per_component(TABLES_PER_COMPONENT)
            .total_stacks(slots * wasi.stacks())
            // Each slot reserves the whole 4 GiB that a 32-bit address reaches, so that compiled code needs no bounds
            // checks; `limits.memory` is enforced when a memory grows.
            .max_memory_size(MEMORY_RESERVATION)
            .table_elements(size.table_elements as usize)
            .max_unused_warm_slots(slots);
        pool.linear_memory_keep_resident(usize::try_from(size.keep_resident).unwrap_or(usize::MAX))
            .table_keep_resident(TABLE_KEEP_RESIDENT)
            .pagemap_scan(if size.scan == Scan::On { Enabled::Yes } else { Enabled::No });

        let mut config = code::settings(wasi);
        config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
        // It compiles nothing but the survey's module, which has no code to share out.
        config.parallel_compilation(false);
        let wasm = wasmtime::Engine::new(&config)?;
        let ticker = Ticker::start(&wasm)?;
        let surveyed = if size.scan == Scan::On { slots::survey(&wasm, slots) } else { Ok(None) };
        let slots = surveyed.unwrap_or_else(|error| {
            tracing::warn!("untouched pages count as written, so fresh instances are slower: {error:#}");
            None
        });
        Ok(Self { wasm, wasi, ticker, slots })
    }

    /// The memory image of a component of this engine, whose instances begin with so many bytes.
    pub fn image(&self, initial_memory: u64) -> Arc<Image> {
        Image::new(self.slots.clone(), initial_memory)
    }

    /// Gives back the memory that free slots keep. An instance that is made meanwhile may find no slot.
    pub fn release_idle_memory(&self) {
        self.wasm.release_idle_pool_memory();
        if let Some(slots) = &self.slots {
            slots.forget();
        }
    }

    /// Keeps the epoch ticking while a guest runs.
    pub fn ticking(&self) -> Ticking {
        self.ticker.ticking()
    }
}
