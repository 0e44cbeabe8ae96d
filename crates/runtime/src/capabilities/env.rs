//! `grants.env`: app settings that the guest sees as environment variables.

use super::{Capability, Equipment, granted};
use crate::config::Function;
use crate::engine::Wasi;
use crate::observe::trace::Tag;
use crate::sandbox::{Policy, Sandbox};
use std::sync::Arc;
use wasmtime::component::Linker;
use wasmtime_wasi::cli::{WasiCli, WasiCliView as _};
use wasmtime_wasi::{p2, p3};

pub struct Env;

impl Capability for Env {
    fn equip(&self, policy: &Arc<Policy>, _: &Tag, system: &mut Equipment) {
        system.wasi.envs(&policy.grants.env);
    }

    fn link(&self, linker: &mut Linker<Sandbox>, wasi: Wasi) -> wasmtime::Result<()> {
        p2::bindings::cli::environment::add_to_linker::<_, WasiCli>(linker, Sandbox::cli)?;
        if wasi == Wasi::P3 {
            p3::bindings::cli::environment::add_to_linker::<_, WasiCli>(linker, Sandbox::cli)?;
        }
        Ok(())
    }

    fn describe(&self, function: &Function, interface: &str) -> Option<String> {
        (interface == "wasi:cli/environment").then(|| granted("grants.env", &function.grants.variables()))
    }
}
