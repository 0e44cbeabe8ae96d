//! Clocks: the time, and waiting for it.

use super::Capability;
use crate::config::Function;
use crate::engine::Wasi;
use crate::sandbox::Sandbox;
use crate::sandbox::leftovers::Entry;
use std::any::TypeId;
use std::sync::LazyLock;
use wasmtime::component::{Linker, ResourceTable};
use wasmtime_wasi::clocks::{WasiClocks, WasiClocksCtx, WasiClocksCtxView, WasiClocksView as _};
use wasmtime_wasi::p2::DynPollable;
use wasmtime_wasi::p2::bindings::clocks::{monotonic_clock, wall_clock};
use wasmtime_wasi::p3;

pub struct Clocks;

impl Capability for Clocks {
    fn link(&self, linker: &mut Linker<Sandbox>, wasi: Wasi) -> wasmtime::Result<()> {
        wall_clock::add_to_linker::<_, WasiClocks>(linker, Sandbox::clocks)?;
        monotonic_clock::add_to_linker::<_, WasiClocks>(linker, Sandbox::clocks)?;
        if wasi == Wasi::P3 {
            p3::clocks::add_to_linker(linker)?;
        }
        Ok(())
    }

    fn describe(&self, _: &Function, interface: &str) -> Option<String> {
        interface.starts_with("wasi:clocks/").then(|| "the time".to_owned())
    }

    fn keeps(&self, resource: &Entry) -> bool {
        *DEADLINE == Some(resource.type_id())
    }
}

/// The type that a clock's pollable waits for, which has no public name.
static DEADLINE: LazyLock<Option<TypeId>> = LazyLock::new(|| {
    let (mut table, mut clocks) = (ResourceTable::new(), WasiClocksCtx::default());
    let mut view = WasiClocksCtxView { ctx: &mut clocks, table: &mut table };
    monotonic_clock::Host::subscribe_duration(&mut view, 0).ok()?;
    let kinds = table.iter_mut().map(|(_, entry)| (*entry).type_id());
    kinds.into_iter().find(|kind| *kind != TypeId::of::<DynPollable>())
});
