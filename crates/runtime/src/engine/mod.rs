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

/// Tables of one component for each memory that it may have. Counted: 2 in Rust, JavaScript and Python.
const TABLES_PER_MEMORY: u32 = 4;
/// The most linear memories that a component may have.
pub const MOST_MEMORIES: u32 = 16;

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

/// What components in the slots of an engine may be made of: one memory, or as many as components take that were composed of others.
/// Every slot reserves addresses for all of them, so there is an engine for each shape, and no more of these than guests need.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Shape(u8);

impl Shape {
    /// One memory, as components have that were not composed of others.
    pub const PLAIN: Self = Self(0);
    /// How many there are.
    pub const COUNT: usize = MOST_MEMORIES.ilog2() as usize + 1;

    /// The smallest one for a component with so many memories and tables. None if there is none.
    pub fn of(memories: u64, tables: u64) -> Option<Self> {
        let fits = |shape: &Self| memories <= u64::from(shape.memories()) && tables <= u64::from(shape.tables());
        Self::all().find(fits)
    }

    /// All of them, the smallest first.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..Self::COUNT as u8).map(Self)
    }

    /// Something for each of them, the smallest first.
    pub fn each<T>(make: impl Fn(Self) -> T) -> [T; Self::COUNT] {
        std::array::from_fn(|number| make(Self(number as u8)))
    }

    /// Memories of one component.
    pub fn memories(self) -> u32 {
        1 << self.0
    }

    /// Tables of one component.
    pub fn tables(self) -> u32 {
        self.memories() * TABLES_PER_MEMORY
    }
}

/// Which guests an engine is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Kind {
    /// The version of their handler.
    pub wasi: Wasi,
    /// What they are made of.
    pub shape: Shape,
}

impl Kind {
    /// Guests of this version with one memory.
    pub const fn plain(wasi: Wasi) -> Self {
        Self { wasi, shape: Shape::PLAIN }
    }

    /// All of them.
    pub fn all() -> impl Iterator<Item = Self> {
        [Wasi::P2, Wasi::P3].into_iter().flat_map(|wasi| Shape::all().map(move |shape| Self { wasi, shape }))
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.shape {
            Shape::PLAIN => self.wasi.fmt(f),
            shape => write!(f, "{} with {} memories", self.wasi, shape.memories()),
        }
    }
}

/// How large an engine is made. Its counts are fixed before any guest is known.
#[derive(Debug, Clone, Copy)]
pub struct Size {
    /// Instances that run at the same time. One more is made for trial instantiations.
    pub slots: u32,
    /// `limits.coreInstances`: core instances that one component may consist of. Counted, where its modules are linked
    /// before they are compiled: Rust, JavaScript and Python 2; where not: 3, 4 and 14.
    pub core_instances: u32,
    /// The largest `limits.tableElements` of any function.
    pub table_elements: u32,
    /// Whether written pages are asked for.
    pub scan: Scan,
    /// Bytes of each memory that stay resident in a slot between two requests, by the shape of the engine ([`residency::keep`]).
    pub keep_resident: [u64; Shape::COUNT],
}

/// Compiles and holds components; see [`Size`].
#[derive(Clone)]
pub struct Engine {
    /// wasmtime's own.
    pub wasm: wasmtime::Engine,
    /// The version of WASI of its guests.
    pub wasi: Wasi,
    shape: Shape,
    ticker: Ticker,
    /// If they have to be mapped.
    slots: Option<Arc<Slots>>,
}

impl Engine {
    /// Makes the engine and starts its epoch thread.
    ///
    /// # Errors
    /// When the address space does not hold the pool, or no thread can be started.
    pub fn new(size: Size, Kind { wasi, shape }: Kind) -> wasmtime::Result<Self> {
        let slots = size.slots + 1;
        let mut pool = PoolingAllocationConfig::new();
        pool.total_component_instances(slots)
            .total_core_instances(slots * size.core_instances)
            .max_core_instances_per_component(size.core_instances)
            .total_memories(slots * shape.memories())
            .max_memories_per_component(shape.memories())
            .total_tables(slots * shape.tables())
            .max_tables_per_component(shape.tables())
            .max_tables_per_module(shape.tables())
            .total_stacks(slots * wasi.stacks())
            // Each slot reserves the whole 4 GiB that a 32-bit address reaches, so that compiled code needs no bounds
            // checks; `limits.memory` is enforced when a memory grows.
            .max_memory_size(MEMORY_RESERVATION)
            .table_elements(size.table_elements as usize)
            .max_unused_warm_slots(slots * shape.memories());
        let keep_resident = size.keep_resident[usize::from(shape.0)];
        pool.linear_memory_keep_resident(usize::try_from(keep_resident).unwrap_or(usize::MAX))
            .table_keep_resident(TABLE_KEEP_RESIDENT)
            .pagemap_scan(if size.scan == Scan::On { Enabled::Yes } else { Enabled::No });

        let mut config = code::settings(wasi);
        config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
        // It compiles nothing but the survey's module, which has no code to share out.
        config.parallel_compilation(false);
        let wasm = wasmtime::Engine::new(&config)?;
        let ticker = Ticker::start(&wasm)?;
        let surveyed = if size.scan == Scan::On { slots::survey(&wasm, slots * shape.memories()) } else { Ok(None) };
        let slots = surveyed.unwrap_or_else(|error| {
            tracing::warn!("untouched pages count as written, so fresh instances are slower: {error:#}");
            None
        });
        Ok(Self { wasm, wasi, shape, ticker, slots })
    }

    /// Which guests it is for.
    pub fn kind(&self) -> Kind {
        Kind { wasi: self.wasi, shape: self.shape }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shape_is_the_smallest_that_fits() {
        let memories = |memories, tables| Shape::of(memories, tables).map(Shape::memories);
        assert_eq!(
            [memories(0, 0), memories(1, 4), memories(2, 4), memories(3, 4)],
            [Some(1), Some(1), Some(2), Some(4)]
        );
        assert_eq!([memories(1, 5), memories(16, 64)], [Some(2), Some(16)]);
        assert_eq!([memories(17, 1), memories(1, 65)], [None, None]);
        assert_eq!(Shape::all().map(Shape::memories).last(), Some(MOST_MEMORIES));
    }
}
