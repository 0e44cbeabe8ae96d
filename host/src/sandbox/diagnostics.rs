//! `flexwasm:host/diagnostics`: what a guest may know of where it runs.

use super::Sandbox;
use crate::bindings::flexwasm::host::diagnostics::{Description, Host, Instance, Invocation, Machine, Process, Thread};
use crate::observe::machine::current_thread;

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
        let id = Some(self.sender.invocation.to_string());
        Invocation { id, timeout_ms: u64::try_from(self.policy().limits.timeout.as_millis()).unwrap_or(u64::MAX) }
    }

    fn get_machine(&mut self) -> Machine {
        let machine = &self.policy().machine;
        Machine {
            azure_instance: machine.azure_instance.clone(),
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
