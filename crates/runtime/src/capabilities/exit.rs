//! Exit: a guest that calls it ends its own invocation and its instance, never the host.

use super::Capability;
use crate::config::Function;
use crate::engine::Wasi;
use crate::sandbox::Sandbox;
use wasmtime::component::Linker;
use wasmtime_wasi::cli::{WasiCli, WasiCliView as _};
use wasmtime_wasi::{p2, p3};

pub struct Exit;

impl Capability for Exit {
    fn link(&self, linker: &mut Linker<Sandbox>, wasi: Wasi) -> wasmtime::Result<()> {
        p2::bindings::cli::exit::add_to_linker::<_, WasiCli>(linker, Sandbox::cli)?;
        if wasi == Wasi::P3 {
            p3::bindings::cli::exit::add_to_linker::<_, WasiCli>(linker, Sandbox::cli)?;
        }
        Ok(())
    }

    fn describe(&self, _: &Function, interface: &str) -> Option<String> {
        (interface == "wasi:cli/exit").then(|| "its invocation ends, with status 500".to_owned())
    }
}
