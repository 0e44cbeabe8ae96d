//! What guests run in, one world for each version of WASI: an engine, and a linker with everything that a guest may import.
//!
//! A world is made when the first guest needs it. All have the same slots.

use crate::capabilities;
use crate::engine::memory::{Slots, Stacks};
use crate::engine::{Engine, Wasi, room};
use crate::observe::startup;
use crate::sandbox::Sandbox;
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::OnceCell;
use wasmtime::component::Linker;

/// The worlds that have been made.
pub struct Worlds {
    /// Where the memories of all instances are.
    pub slots: Arc<Slots>,
    stacks: Stacks,
    made: [OnceCell<World>; 2],
}

/// What the guests of one version of WASI run in.
pub struct World {
    /// Holds components.
    pub engine: Engine,
    /// Everything that a guest may import.
    pub linker: Linker<Sandbox>,
}

impl Worlds {
    /// Makes no world yet, for a pool of this size.
    pub fn new(pool_size: u32) -> Self {
        // One more slot is for trials.
        let slots = Slots::new(pool_size as usize + 1, room::runs(pool_size));
        Self { slots, stacks: Stacks::default(), made: Default::default() }
    }

    /// The world for guests of this version, made now if this is the first of them. No thread of the runtime is held up. One that
    /// could not be made is tried again at the next call.
    ///
    /// # Errors
    /// For a person: no thread can be started.
    pub async fn get(&self, wasi: Wasi) -> Result<&World, String> {
        let stacks = self.stacks.clone();
        let make = move || {
            let begun = Instant::now();
            let engine = Engine::new(wasi, &stacks)?;
            let linker = capabilities::linker(&engine.wasm, wasi)?;
            startup::phase(format_args!("engine and linker of {wasi}"), begun);
            wasmtime::error::Ok(World { engine, linker })
        };
        let made = self.made[wasi as usize].get_or_try_init(async || {
            let made = tokio::task::spawn_blocking(make).await.expect("making an engine does not panic");
            made.map_err(|error| format!("cannot be run, for want of an engine ({error:#})"))
        });
        made.await
    }

    /// Gives back the memory that free slots keep.
    pub fn release_idle_memory(&self) {
        self.slots.trim();
        self.stacks.trim();
    }
}
