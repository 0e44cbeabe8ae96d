//! Loading a guest: from the bytes of a component to one that is linked, and known to fit its slot.

use super::artifact::Artifact;
use super::compiled::Code;
use super::compiler::{Compiler, Terms};
use super::error::LoadError;
use super::experience::Experience;
use super::footprint::Footprint;
use super::pre::Pre;
use super::worlds::{World, Worlds};
use super::{Guest, chain};
use crate::capabilities::parts;
use crate::config::units::spell_size;
use crate::engine::room::{self, Fit};
use crate::engine::{MOST_MEMORIES, Wasi, memory};
use crate::observe::startup;
use crate::sandbox::Policy;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;
use wasmtime_wasi_http::p2::bindings::ProxyPre;
use wasmtime_wasi_http::p3::bindings::ServicePre;

/// Bytes of state that the core instances of one component may have together beside memories and tables; `limits.totalMemory` does not count
/// them. Counted: Rust 10 KiB, JavaScript 350 KiB, Python 500 KiB.
const MOST_STATE: u64 = 4 << 20;

/// What loading needs beside the guest itself. Shared by all guests.
pub struct Loader {
    /// Where guests will run, and what they may import.
    pub worlds: Arc<Worlds>,
    /// Where their code comes from.
    pub compiler: Arc<Compiler>,
    /// `limits.totalMemory`.
    pub total_memory: u64,
    /// `limits.memories`.
    pub memories: u32,
    /// `limits.coreInstances`.
    pub core_instances: u32,
    /// `pool.size`.
    pub pool_size: u32,
}

impl Loader {
    /// Maps or compiles the code of `artifact`, and checks that it fits. It has still to be tried out (`run/trial`). Several
    /// guests may be loaded at the same time; no thread of the runtime is held up. `terms` are for a compilation, if it needs
    /// one.
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
        let needs = artifact.footprint.needs;
        self.check(&artifact.footprint)?;
        let fit = Fit { memories: needs.memories.max(1), wasi };
        room::check(self.pool_size, fit).map_err(LoadError::Engine)?;
        // limits.memory is at most limits.totalMemory by default.
        for (key, limit) in [("limits.totalMemory", self.total_memory), ("limits.memory", policy.limits.memory)] {
            if needs.memory > limit {
                return Err(LoadError::Memory { need: spell_size(needs.memory), key, limit: spell_size(limit) });
            }
        }
        let World { engine, linker } = self.worlds.get(wasi).await.map_err(LoadError::Engine)?;
        let begun = Instant::now();
        let Code { component, contents } = self.compiler.code_of(engine, &policy.function, artifact, terms).await?;
        let begun = startup::phase(format_args!("code of {}", policy.function), begun);
        let parts = Arc::clone(&artifact.parts);
        let linked = match parts.len() {
            0 => linker.instantiate_pre(&component),
            // Those in front of the guest have interfaces of their own.
            parts => {
                let mut linker = linker.clone();
                parts::link(&mut linker, wasi, parts - 1).and_then(|()| linker.instantiate_pre(&component))
            }
        };
        let pre = linked.and_then(|pre| match wasi {
            Wasi::P2 => ProxyPre::new(pre).map(Pre::P2),
            Wasi::P3 => ServicePre::new(pre).map(Pre::P3),
        });
        let pre = pre.map_err(|error| LoadError::World(chain(&error)))?;
        startup::phase(format_args!("linking of {}", policy.function), begun);
        let initial_memory = needs.memory;
        let compiled = artifact.compiled.clone();
        let (digest, engine) = (artifact.digest, engine.clone());
        let imports = artifact.interfaces.imports.clone().into();
        let keep = memory::keep(self.pool_size, self.total_memory);
        let memories = self.worlds.slots.memories(contents, keep, fit.memories);
        let outdated = AtomicBool::new(false);
        let experience = Experience::default();
        Ok(Guest {
            policy,
            pre,
            digest,
            imports,
            parts,
            compiled,
            generation,
            initial_memory,
            fit,
            core_instances: self.core_instances,
            engine,
            memories,
            experience,
            outdated,
        })
    }

    /// Refuses a component that has more of something than is allowed.
    fn check(&self, footprint: &Footprint) -> Result<(), LoadError> {
        let needs = &footprint.needs;
        let state = footprint.state(self.core_instances);
        if state > MOST_STATE {
            return Err(LoadError::State { need: spell_size(state), most: spell_size(MOST_STATE) });
        }
        let most = u64::from(MOST_MEMORIES);
        for (what, has, key, limit, most) in [
            ("memories", needs.memories, "limits.memories", self.memories, most),
            ("core instances", needs.core_instances, "limits.coreInstances", self.core_instances, 1_000),
        ] {
            if has > u64::from(limit) {
                return Err(LoadError::Parts { what, has, key, limit, most });
            }
        }
        Ok(())
    }
}
