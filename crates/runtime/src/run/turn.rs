//! One invocation's turn in an instance, from the lease to the decision whether the instance may have another turn.

use super::Lease;
use super::fault::Fault;
use super::instance::{Instance, Prepared};
use crate::guest::Guest;
use crate::observe::trace::Tag;
use crate::pool::{Phase, Tenant as _};
use crate::sandbox::leftovers::NotParked;
use crate::sandbox::{Identity, Sandbox};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

/// A lease that is being used. It is dropped after the instance, so that the slot is free when it says so.
pub struct Turn {
    lease: Lease,
    /// How many requests the instance has been given, with this one.
    served: u64,
    /// Why the instance is not parked, once the guest has returned. None where `pool.reuse` does not ask for that.
    pub(super) not_parked: Option<Arc<OnceLock<NotParked>>>,
}

impl Turn {
    /// Gives the instance that was parked in the slot its next request, or makes the store for a new one. The invocation began
    /// at this moment.
    pub fn begin(mut lease: Lease, tag: Tag, at: Instant) -> (Self, Prepared) {
        let not_parked = (lease.guest().policy.reuse.requests > 1).then(Arc::default);
        let (served, prepared) = match lease.take_parked() {
            Some(mut parked) => {
                parked.store.data_mut().begin(tag);
                (parked.store.data().identity().served, Prepared::Parked(parked))
            }
            None => {
                let (instance, reservation) = lease.new_instance();
                let guest = lease.guest();
                let identity = Identity {
                    instance,
                    slot: lease.slot(),
                    pool_size: lease.pool().slots(),
                    served: 1,
                    generation: guest.generation,
                    digest: guest.digest,
                };
                let sandbox = Sandbox::new(Arc::clone(&guest.policy), identity, tag, reservation);
                (1, Prepared::New(guest.store(sandbox)))
            }
        };
        lease.begin(at);
        (Self { lease, served, not_parked }, prepared)
    }

    /// Whose turn it is.
    pub fn guest(&self) -> &Guest {
        self.lease.guest()
    }

    /// How far it has come.
    pub fn enter(&self, phase: Phase) {
        self.lease.enter(phase);
    }

    /// The guest has returned with a whole answer: parks the instance, or ends it, and frees the slot.
    pub fn settle(self, mut instance: Instance) {
        instance.store.data_mut().end();
        let sandbox = instance.store.data();
        if !self.lease.is_spare() {
            sandbox.policy().metrics.used(sandbox.cpu.spent(), sandbox.limiter.memory());
        }
        let guest = self.guest();
        let experience = &guest.experience;
        if self.served > 1 {
            experience.answered_again();
        }
        if self.served >= u64::from(guest.policy.reuse.requests) || self.lease.is_spare() || !guest.may_park() {
            return;
        }
        match instance.clear(guest) {
            Ok(()) => {
                experience.parked();
                self.lease.park(instance);
            }
            Err(why) => {
                experience.not_parked(&guest.policy.function, why);
                if let Some(noted) = &self.not_parked {
                    let _ = noted.set(why);
                }
            }
        }
    }

    /// The guest has failed. If its first request in this instance went well, that may be why.
    pub fn failed(&self, fault: &Fault) {
        let guest = self.lease.guest();
        if self.served == 2 && guest.experience.failed_again(&guest.policy.function, fault) {
            self.lease.pool().retire(guest);
        }
    }
}
