//! `flexwasm:host/bindings`: the bindings of the function, beside request and answer.

use super::Capability;
use crate::config::Function;
use crate::config::event::Binding;
use crate::engine::Wasi;
use crate::invocation::bindings::{Error, Given, Host, INTERFACE, Trigger, Value, add_to_linker};
use crate::sandbox::Sandbox;
use wasmtime::component::{HasSelf, Linker};

pub struct Bindings;

impl Capability for Bindings {
    fn link(&self, linker: &mut Linker<Sandbox>, _: Wasi) -> wasmtime::Result<()> {
        add_to_linker::<_, HasSelf<Sandbox>>(linker, |sandbox| sandbox)
    }

    fn describe(&self, function: &Function, interface: &str) -> Option<String> {
        let names = |bindings: &[Binding]| {
            let names: Vec<_> = bindings.iter().map(|binding| &*binding.name).collect();
            if names.is_empty() { "none".to_owned() } else { names.join(", ") }
        };
        let event = &function.event;
        (interface == INTERFACE).then(|| {
            format!("what triggers the function; inputs: {}; outputs: {}", names(&event.inputs), names(&event.outputs))
        })
    }
}

impl Host for Sandbox {
    fn get_trigger(&mut self) -> Option<Trigger> {
        self.bindings.as_ref().map(|bindings| bindings.trigger())
    }

    fn metadata(&mut self) -> Vec<(String, Value)> {
        self.bindings.as_ref().map_or_else(Vec::new, |bindings| bindings.metadata())
    }

    fn input(&mut self, name: String) -> Result<Option<Value>, Error> {
        self.bindings.as_ref().ok_or_else(without_bindings)?.input(&name)
    }

    fn set(&mut self, name: String, value: Value) -> Result<(), Error> {
        self.bindings.as_ref().ok_or_else(without_bindings)?.set(&name, Given::One(value))
    }

    fn set_messages(&mut self, name: String, messages: Vec<Value>) -> Result<(), Error> {
        self.bindings.as_ref().ok_or_else(without_bindings)?.set(&name, Given::Messages(messages))
    }
}

fn without_bindings() -> Error {
    Error::UnknownName("this invocation has no bindings beside its request and its answer".to_owned())
}
