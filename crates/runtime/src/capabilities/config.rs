//! `grants.config`: app settings that the guest finds in `wasi:config/store`.

use super::{Capability, granted};
use crate::config::{Function, Grants};
use crate::engine::Wasi;
use crate::sandbox::Sandbox;
use bindings::wasi::config::store::{Error, Host, add_to_linker};
use wasmtime::StoreContextMut;
use wasmtime::component::{HasSelf, Linker, LinkerInstance};

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

/// Links what the part with this number finds.
pub fn link_part(linker: &mut LinkerInstance<'_, Sandbox>, part: usize) -> wasmtime::Result<()> {
    linker.func_wrap("get", move |store: StoreContextMut<'_, Sandbox>, (key,): (String,)| {
        Ok((Ok::<_, Error>(value(&store.data().policy().parts[part].grants, &key)),))
    })?;
    linker.func_wrap("get-all", move |store: StoreContextMut<'_, Sandbox>, ()| {
        Ok((Ok::<_, Error>(store.data().policy().parts[part].grants.config.clone()),))
    })
}

fn value(grants: &Grants, key: &str) -> Option<String> {
    grants.config.iter().find(|(name, _)| name == key).map(|(_, value)| value.clone())
}

impl Host for Sandbox {
    fn get(&mut self, key: String) -> Result<Option<String>, Error> {
        Ok(value(&self.policy().grants, &key))
    }

    fn get_all(&mut self) -> Result<Vec<(String, String)>, Error> {
        Ok(self.policy().grants.config.clone())
    }
}
