//! Loading a guest: from the bytes of a component to one that is linked, and known to fit its slot.

use super::artifact::Artifact;
use super::compiler::{Compiler, Terms};
use super::error::LoadError;
use super::experience::Experience;
use super::pre::Pre;
use super::worlds::{World, Worlds};
use super::{Guest, chain};
use crate::config::units::spell_size;
use crate::engine::Wasi;
use crate::observe::startup;
use crate::sandbox::Policy;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;
use wasmtime_wasi_http::p2::bindings::ProxyPre;
use wasmtime_wasi_http::p3::bindings::ServicePre;

/// Bytes of a WebAssembly page.
const PAGE: u64 = 64 << 10;

/// What loading needs beside the guest itself. Shared by all guests.
pub struct Loader {
    /// Where guests will run, and what they may import.
    pub worlds: Arc<Worlds>,
    /// Where their code comes from.
    pub compiler: Arc<Compiler>,
    /// `limits.totalMemory`.
    pub total_memory: u64,
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
        let World { engine, linker } = self.worlds.get(wasi).await.map_err(LoadError::Engine)?;
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
                return Err(LoadError::Memory { need: spell_size(initial_memory), key, limit: spell_size(limit) });
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
