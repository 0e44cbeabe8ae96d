//! `flexwasm:host/diagnostics`: what a guest may know of where it runs.

use super::Capability;
use crate::config::Function;
use crate::engine::Wasi;
use crate::observe::machine::current_thread;
use crate::sandbox::Sandbox;
use bindings::flexwasm::host::diagnostics::{
    Description, Host, Instance, Invocation, Machine, Process, Thread, add_to_linker,
};
use wasmtime::component::{HasSelf, Linker};

/// Generated from `wit/`, where its documentation stands: the host's side of the interface.
mod bindings {
    wasmtime::component::bindgen!({
        path: "../../wit",
        inline: "
            package flexwasm:generated;
            world imports { import flexwasm:host/diagnostics@0.1.0; }
        ",
        world: "flexwasm:generated/imports",
    });
}

pub struct Diagnostics;

impl Capability for Diagnostics {
    fn link(&self, linker: &mut Linker<Sandbox>, _: Wasi) -> wasmtime::Result<()> {
        add_to_linker::<_, HasSelf<Sandbox>>(linker, |sandbox| sandbox)
    }

    fn describe(&self, _: &Function, interface: &str) -> Option<String> {
        let words = "which process, thread, instance and machine it runs on";
        (interface == "flexwasm:host/diagnostics").then(|| words.to_owned())
    }
}

impl Host for Sandbox {
    fn describe(&mut self) -> Description {
        let process = Process { id: self.process_id(), thread: self.current_thread() };
        let (instance, invocation, machine) = (self.get_instance(), self.get_invocation(), self.get_machine());
        Description { process, instance, invocation, machine }
    }

    fn process_id(&mut self) -> u32 {
        self.policy().machine.process_id
    }

    fn get_instance(&mut self) -> Instance {
        let identity = self.identity();
        Instance {
            id: identity.instance,
            slot: identity.slot,
            pool_size: identity.pool_size,
            served: identity.served,
            generation: identity.generation,
            digest: identity.digest.to_string(),
        }
    }

    fn get_invocation(&mut self) -> Invocation {
        let id = Some(self.tag().id.to_string());
        Invocation { id, timeout_ms: u64::try_from(self.policy().limits.timeout.as_millis()).unwrap_or(u64::MAX) }
    }

    fn get_machine(&mut self) -> Machine {
        let machine = &self.policy().machine;
        Machine {
            azure_instance: machine.platform_instance.clone(),
            host_name: machine.host_name.clone(),
            cpu_count: machine.cpu_count,
            cpu_model: machine.cpu_model.clone(),
            memory_total: machine.memory_total,
            memory_available: machine.memory_available(),
            platform: machine.platform.clone(),
        }
    }

    fn current_thread(&mut self) -> Thread {
        let (id, name) = current_thread();
        Thread { id, name: name.to_string() }
    }
}
