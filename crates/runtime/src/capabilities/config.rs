//! `grants.config`: app settings that the guest finds in `wasi:config/store`.

use super::{Capability, granted};
use crate::config::Function;
use crate::engine::Wasi;
use crate::sandbox::Sandbox;
use bindings::wasi::config::store::{Error, Host, add_to_linker};
use wasmtime::component::{HasSelf, Linker};

/// Generated from `wit/deps`, which has it as wasmtime does.
mod bindings {
    wasmtime::component::bindgen!({
        path: "../../wit",
        inline: "
            package flexwasm:generated;
            world imports { import wasi:config/store@0.2.0-rc.1; }
        ",
        world: "flexwasm:generated/imports",
    });
}

pub struct Config;

impl Capability for Config {
    fn link(&self, linker: &mut Linker<Sandbox>, _: Wasi) -> wasmtime::Result<()> {
        add_to_linker::<_, HasSelf<Sandbox>>(linker, |sandbox| sandbox)
    }

    fn describe(&self, function: &Function, interface: &str) -> Option<String> {
        (interface == "wasi:config/store").then(|| granted("grants.config", &function.grants.configured()))
    }
}

impl Host for Sandbox {
    fn get(&mut self, key: String) -> Result<Option<String>, Error> {
        let found = self.policy().grants.config.iter().find(|(name, _)| *name == key);
        Ok(found.map(|(_, value)| value.clone()))
    }

    fn get_all(&mut self) -> Result<Vec<(String, String)>, Error> {
        Ok(self.policy().grants.config.clone())
    }
}
