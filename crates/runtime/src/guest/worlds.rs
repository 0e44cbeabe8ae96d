//! What guests run in, one world for each version of WASI and for each number of memories: an engine, and a linker with everything
//! that a guest may import.
//!
//! A world is made when the first guest needs it, because an engine reserves its slots at once. Each has room for the whole pool,
//! whose slots they share.

use crate::capabilities;
use crate::engine::{Engine, Kind, Shape, Size, room};
use crate::observe::startup;
use crate::sandbox::Sandbox;
use std::time::Instant;
use tokio::sync::OnceCell;
use wasmtime::component::Linker;

/// The worlds that have been made, and how large the next one is made.
pub struct Worlds {
    size: Size,
    made: [[OnceCell<World>; Shape::COUNT]; 2],
}

/// What the guests of one kind run in.
pub struct World {
    /// Holds components.
    pub engine: Engine,
    /// Everything that a guest may import.
    pub linker: Linker<Sandbox>,
}

impl Worlds {
    /// Makes no world yet.
    pub fn new(size: Size) -> Self {
        Self { size, made: Default::default() }
    }

    /// The world for guests of this kind, made now if this is the first of them. No thread of the runtime is held up. One that
    /// could not be made is tried again at the next call.
    ///
    /// # Errors
    /// For a person: the address space does not hold the pool, or no thread can be started.
    pub async fn get(&self, kind: Kind) -> Result<&World, String> {
        let size = self.size;
        let make = move || {
            let begun = Instant::now();
            let engine = Engine::new(size, kind)?;
            let linker = capabilities::linker(&engine.wasm, kind.wasi)?;
            startup::phase(format_args!("engine and linker of {kind}"), begun);
            wasmtime::error::Ok(World { engine, linker })
        };
        let made = self.place(kind).get_or_try_init(async || {
            // Another that is being made just now fails, if at all, when it is made.
            let others = Kind::all().filter(|other| self.place(*other).initialized());
            room::check(size.slots, &others.chain([kind]).collect::<Vec<_>>())?;
            let made = tokio::task::spawn_blocking(make).await.expect("making an engine does not panic");
            let slots = size.slots;
            made.map_err(|error| format!("cannot reserve memory for {slots} instances ({error:#}): lower pool.size"))
        });
        made.await
    }

    fn place(&self, kind: Kind) -> &OnceCell<World> {
        &self.made[kind.wasi as usize][kind.shape.memories().ilog2() as usize]
    }

    /// Gives back the memory that free slots keep. An instance that is made meanwhile may find no slot.
    pub fn release_idle_memory(&self) {
        for world in self.made.iter().flatten().filter_map(OnceCell::get) {
            world.engine.release_idle_memory();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Wasi;
    use crate::observe::machine::Scan;

    #[tokio::test]
    async fn an_engine_that_could_not_be_made_is_tried_again() {
        // Tables that no address space holds.
        let (scan, table_elements) = (Scan::detect(), u32::MAX);
        let size =
            Size { slots: 1000, core_instances: 32, table_elements, scan, keep_resident: [1 << 20; Shape::COUNT] };
        let mut worlds = Worlds::new(size);
        let why = worlds.get(Kind::plain(Wasi::P2)).await.err().expect("no room");
        assert!(why.contains("cannot reserve memory for 1000 instances") && why.contains("lower pool.size"), "{why}");
        worlds.size.table_elements = 100;
        assert!(worlds.get(Kind::plain(Wasi::P2)).await.is_ok());
    }
}
