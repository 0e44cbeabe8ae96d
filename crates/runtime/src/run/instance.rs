//! A store with an instance of a guest in it: making it, and making it ready for another request.

use super::fault::Fault;
use crate::guest::composition::Part;
use crate::guest::{Guest, Handler};
use crate::outgoing::Cut;
use crate::sandbox::Sandbox;
use crate::sandbox::cpu::metered;
use crate::sandbox::leftovers::{Leftovers, NotParked};
use std::pin::pin;
use std::sync::Arc;
use wasmtime::Store;

/// One instantiation of a guest, with everything that ends with it.
pub struct Instance {
    /// Dropped before the store.
    _cut: Cut,
    pub(super) store: Store<Sandbox>,
    pub(super) handler: Handler,
    /// What the guest was composed of.
    parts: Arc<[Part]>,
    /// What the guest held after its first request.
    held: Option<usize>,
    /// The guest has called exit(0), and cannot be called any more: [`Fault::Exit`].
    exited: Option<Fault>,
}

impl Instance {
    /// What came of the call. A guest that exits with success has ended well if its answer is whole, which
    /// [`Self::without`] decides.
    pub(super) fn called(mut self, result: wasmtime::Result<()>) -> Result<Self, Fault> {
        let fault = result.map_err(|error| Fault::of_call(&self.store, &self.parts, &error));
        match fault {
            Ok(()) => Ok(self),
            Err(exit @ Fault::Exit(0, _)) => {
                self.exited = Some(exit);
                Ok(self)
            }
            Err(fault) => Err(fault),
        }
    }

    /// Why there is no whole answer, though the guest has ended.
    pub(super) fn without(&self, missing: Fault) -> Fault {
        self.exited.clone().unwrap_or(missing)
    }

    /// Makes it ready for another request.
    ///
    /// # Errors
    /// Why it may not be given one.
    pub(super) fn clear(&mut self, guest: &Guest) -> Result<(), NotParked> {
        if self.exited.is_some() {
            return Err(NotParked::Exited);
        }
        let streams = self.store.concurrent_resource_table().map_or(0, |table| table.iter_mut().count());
        let sandbox = self.store.data_mut();
        let Leftovers { kept, retired } = sandbox.clear(guest.engine.wasi)?;
        // One that leaks would sooner or later fail in the middle of a request.
        if sandbox.limiter.memory() > guest.initial_memory.max(guest.policy.limits.memory / 2) {
            return Err(NotParked::Memory);
        }
        let held = kept + streams;
        if held > *self.held.get_or_insert(held) || retired > guest.policy.handles() / 2 {
            return Err(NotParked::Handles);
        }
        Ok(())
    }
}

/// What a lease runs in.
pub enum Prepared {
    /// An instance that has served before.
    Parked(Instance),
    /// A store without an instance.
    New(Store<Sandbox>),
}

impl Prepared {
    /// The instance, made now if there is none.
    ///
    /// # Errors
    /// No room is left for a memory, or a start function failed.
    pub async fn instance(self, guest: &Guest) -> Result<Instance, Fault> {
        match self {
            Self::Parked(instance) => Ok(instance),
            // In a box, because the future is large and only a fresh instance needs it.
            Self::New(store) => Box::pin(instantiate(guest, store)).await,
        }
    }
}

async fn instantiate(guest: &Guest, mut store: Store<Sandbox>) -> Result<Instance, Fault> {
    let (meter, cut) = (Arc::clone(&store.data().cpu), store.data().cut());
    let instantiated = metered(meter, pin!(guest.memories.provide(guest.pre.instantiate(&mut store)))).await;
    match instantiated {
        Ok(handler) => {
            let parts = Arc::clone(&guest.parts);
            Ok(Instance { _cut: cut, store, handler, parts, held: None, exited: None })
        }
        Err(error) => Err(Fault::of_start(&store, &guest.parts, &error)),
    }
}
