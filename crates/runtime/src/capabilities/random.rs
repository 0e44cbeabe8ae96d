//! Random numbers from the system, `limits.random` in one call.

use super::{Capability, Equipment};
use crate::config::Function;
use crate::config::units::spell_size;
use crate::engine::Wasi;
use crate::observe::trace::Tag;
use crate::sandbox::{Policy, Sandbox};
use std::sync::Arc;
use wasmtime::component::Linker;
use wasmtime_wasi::p2::bindings::random::{insecure, insecure_seed, random};
use wasmtime_wasi::p3;
use wasmtime_wasi::random::{WasiRandom, WasiRandomView as _};

pub struct Random;

impl Capability for Random {
    fn equip(&self, policy: &Arc<Policy>, _: &Tag, system: &mut Equipment) {
        system.wasi.max_random_size(policy.limits.random);
    }

    fn link(&self, linker: &mut Linker<Sandbox>, wasi: Wasi) -> wasmtime::Result<()> {
        random::add_to_linker::<_, WasiRandom>(linker, Sandbox::random)?;
        insecure::add_to_linker::<_, WasiRandom>(linker, Sandbox::random)?;
        insecure_seed::add_to_linker::<_, WasiRandom>(linker, Sandbox::random)?;
        if wasi == Wasi::P3 {
            p3::random::add_to_linker(linker)?;
        }
        Ok(())
    }

    fn describe(&self, function: &Function, interface: &str) -> Option<String> {
        let most = spell_size(function.limits.random);
        interface.starts_with("wasi:random/").then(|| format!("random numbers, {most} in one call"))
    }
}
