//! Loading a guest: from the bytes of a component to one that is linked, and known to fit its slot.

use super::artifact::Artifact;
use super::compiler::{Compiler, Terms};
use super::error::LoadError;
use super::experience::Experience;
use super::footprint::Needs;
use super::pre::Pre;
use super::worlds::{World, Worlds};
use super::{Guest, chain};
use crate::capabilities::parts;
use crate::config::units::spell_size;
use crate::engine::{Kind, MOST_MEMORIES, Shape, Wasi, room};
use crate::observe::startup;
use crate::sandbox::Policy;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;
use wasmtime_wasi_http::p2::bindings::ProxyPre;
use wasmtime_wasi_http::p3::bindings::ServicePre;

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
        let shape = self.shape(&needs)?;
        // limits.memory is at most limits.totalMemory by default.
        for (key, limit) in [("limits.totalMemory", self.total_memory), ("limits.memory", policy.limits.memory)] {
            if needs.memory > limit {
                return Err(LoadError::Memory { need: spell_size(needs.memory), key, limit: spell_size(limit) });
            }
        }
        let World { engine, linker } = self.worlds.get(Kind { wasi, shape }).await.map_err(LoadError::Engine)?;
        let begun = Instant::now();
        let component = self.compiler.component(engine, &policy.function, artifact, terms).await?;
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
        let (image, outdated) = (engine.image(initial_memory), AtomicBool::new(false));
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
            engine,
            image,
            experience,
            outdated,
        })
    }

    /// What a component with these needs fits.
    fn shape(&self, needs: &Needs) -> Result<Shape, LoadError> {
        let allowed = Shape::of(self.memories.into(), 0).expect("no more than there are");
        let too_many = needs.memories > self.memories.into();
        let remedy = match Shape::of(needs.memories, needs.tables) {
            Some(shape) if !too_many && shape.memories() <= allowed.memories() => return Ok(shape),
            Some(shape) => {
                let cost = spell_size(room::ADDRESSES_PER_MEMORY * u64::from(shape.memories()));
                format!("set it to {}, for which each slot reserves {cost} of addresses", shape.memories())
            }
            None => {
                let tables = MOST_MEMORIES * allowed.tables() / allowed.memories();
                format!("there can be {MOST_MEMORIES} memories and {tables} tables at the most")
            }
        };
        let (need, limit) = if too_many {
            (format!("{} memories", needs.memories), self.memories)
        } else {
            (format!("{} tables", needs.tables), allowed.tables())
        };
        Err(LoadError::Parts { need, memories: self.memories, limit, remedy })
    }
}
