//! The wasmtime engine: every setting and pooling number with its reason, in one place.

pub mod code;
mod epoch;
pub mod room;

use epoch::Ticker;
pub use epoch::{FIRST_YIELD, TICK, Ticking};
use std::fmt;
use wasmtime::{Enabled, InstanceAllocationStrategy, PoolingAllocationConfig};

/// Tables of one component. Counted: 2 in Rust, JavaScript and Python.
const TABLES_PER_COMPONENT: u32 = 4;
/// Linear memories of one component.
const MEMORIES_PER_COMPONENT: u32 = 1;

/// Address space of one memory.
const MEMORY_RESERVATION: usize = 4 << 30;

/// Bytes of a memory that stay resident in a slot between two requests. Measured with PAGEMAP_SCAN: instantiation 9.5 µs
/// without, 6.2 µs with 2 MiB (performance.md).
const MEMORY_KEEP_RESIDENT: u64 = 2 << 20;
/// The same for a table, in bytes.
const TABLE_KEEP_RESIDENT: usize = 64 << 10;

/// The version of WASI that a guest's handler is written for, which decides the engine it runs in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wasi {
    /// `wasi:http/incoming-handler@0.2`. Its engine goes without component-model concurrency, which costs 24 % more CPU
    /// (performance.md).
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
    /// Guest memory of all instances, in bytes; bounds what may stay resident.
    pub total_memory: u64,
}

/// Compiles and holds components; see [`Size`].
#[derive(Clone)]
pub struct Engine {
    /// wasmtime's own.
    pub wasm: wasmtime::Engine,
    /// Which guests it is for.
    pub wasi: Wasi,
    ticker: Ticker,
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
        if PoolingAllocationConfig::is_pagemap_scan_available() {
            // Without the scan, keeping memory resident costs a memset of all kept bytes. What every slot together may
            // keep is held to a quarter of the guests' memory.
            let keep = MEMORY_KEEP_RESIDENT.min(size.total_memory / 4 / u64::from(slots));
            pool.pagemap_scan(Enabled::Yes)
                .linear_memory_keep_resident(usize::try_from(keep).expect("2 MiB fit in 64 bits"))
                .table_keep_resident(TABLE_KEEP_RESIDENT);
        } else {
            tracing::info!("this kernel has no PAGEMAP_SCAN (Linux 6.7): instantiation is slower");
        }

        let mut config = code::settings(wasi);
        config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
        let wasm = wasmtime::Engine::new(&config)?;
        let ticker = Ticker::start(&wasm)?;
        Ok(Self { wasm, wasi, ticker })
    }

    /// Keeps the epoch ticking while a guest runs.
    pub fn ticking(&self) -> Ticking {
        self.ticker.ticking()
    }
}
