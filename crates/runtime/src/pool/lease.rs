//! The right to run one invocation of a guest in a slot.

use super::snapshot::Progress;
use super::{Phase, Pool, Tenant};
use crate::sandbox::limits::Reservation;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;
use tokio::sync::OwnedMutexGuard;

/// A slot for one invocation, and the memory that its instance begins with. Dropping it frees the slot and admits the next
/// in line, so whatever runs in the slot has to be dropped before.
///
/// An instance that was parked in the slot stays there unless it is taken.
pub struct Lease<G: Tenant, I> {
    pub(super) pool: Pool<G, I>,
    pub(super) guest: Arc<G>,
    pub(super) slot: u32,
    /// One that was parked, or one to be parked when the lease is dropped.
    pub(super) instance: Option<I>,
    /// The guest's initial memory, until a new instance takes it over. None beside an instance that was parked.
    pub(super) reservation: Option<Reservation>,
    /// Held in place of one of the pool's slots, while a guest is tried out.
    pub(super) spare: Option<OwnedMutexGuard<()>>,
}

impl<G: Tenant, I> Lease<G, I> {
    /// The guest that was admitted.
    pub fn guest(&self) -> &Arc<G> {
        &self.guest
    }

    /// The pool that the slot belongs to.
    pub fn pool(&self) -> &Pool<G, I> {
        &self.pool
    }

    /// The slot's number, from 0. That of the spare slot is the number of slots.
    pub fn slot(&self) -> u32 {
        self.slot
    }

    /// Whether this is the spare slot, in which nothing is ever parked.
    pub fn is_spare(&self) -> bool {
        self.spare.is_some()
    }

    /// Takes the instance that was parked in the slot, if there is one.
    pub fn take_parked(&mut self) -> Option<I> {
        self.instance.take()
    }

    /// Begins an instantiation: returns the id of the new instance, which is 0 in the spare slot, and the memory that was
    /// reserved for it. To be called once, and only where nothing was parked.
    pub fn new_instance(&mut self) -> (u64, Reservation) {
        let reservation = self.reservation.take().expect("a lease without an instance has memory for one");
        let id = if self.is_spare() { 0 } else { self.pool.0.instances.fetch_add(1, Ordering::Relaxed) + 1 };
        self.progress().instantiate(id);
        (id, reservation)
    }

    /// Notes for [`Pool::snapshot`] that the invocation began at this moment; to be called once its instance has an id.
    pub fn begin(&self, at: Instant) {
        self.progress().begin(at.saturating_duration_since(self.pool.0.made.into_std()));
    }

    /// Notes for [`Pool::snapshot`] how far the invocation has come.
    pub fn enter(&self, phase: Phase) {
        self.progress().enter(phase);
    }

    fn progress(&self) -> &Progress {
        &self.pool.0.progress[self.slot as usize]
    }

    /// Frees the slot, with `instance` parked in it for the next request to the same guest, if one may still be parked.
    pub fn park(mut self, instance: I) {
        self.instance = Some(instance);
    }
}

impl<G: Tenant, I> Drop for Lease<G, I> {
    fn drop(&mut self) {
        // Memory first: the next in line may wait for it.
        self.reservation = None;
        if self.is_spare() {
            // Before the next trial may begin.
            self.instance = None;
            return;
        }
        self.pool.release(&self.guest, self.slot, self.instance.take());
    }
}
