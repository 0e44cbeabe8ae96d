//! The pool: how many invocations run at the same time, which of them wait, and which are turned away.
//!
//! [`Pool::admit`] returns a [`Lease`], the right to run one invocation in one slot, or a [`Refusal`]. An admission needs a
//! free slot *and* the guest's initial memory within `limits.totalMemory`, and that its function does not hold its whole
//! share of the slots (`pool.share`). An invocation that does not get all three waits in the [`queue`], first come first
//! served, bounded in length and time. A lease is a value: dropping it frees the slot and admits the next in line. An
//! invocation that waits and goes away leaves the queue at once.
//!
//! Where `pool.reuse` allows it, an instance that has answered stays in its slot, *parked*, for the next request to the
//! same guest. Parked instances give way: an admission that finds no free slot, or no memory, evicts the one that has
//! been parked longest.
//!
//! It runs nothing. It knows a guest `G` by what [`Tenant`] says, and an instance `I` only as a value to keep, to hand out
//! and to drop.

mod idle;
mod lease;
mod parked;
mod queue;
mod refusal;
mod snapshot;

pub use lease::Lease;
pub use refusal::Refusal;
pub use snapshot::{Occupant, Phase, Slot, Snapshot};

use crate::config::settings::Share;
use crate::observe::metrics::Levels;
use crate::sandbox::limits::{Budget, Reservation};
use idle::Idle;
use parked::Parked;
use queue::Queue;
use snapshot::Progress;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, sleep_until, timeout_at};

/// How much the pool and its queue hold.
#[derive(Debug, Clone, Copy)]
pub struct Capacity {
    /// Slots.
    pub slots: u32,
    /// Invocations that may wait.
    pub queue_length: u32,
    /// How long one may wait.
    pub queue_timeout: Duration,
    /// Guest memory of all instances, in bytes.
    pub total_memory: u64,
}

/// What the pool is doing right now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Occupancy {
    /// Slots in all.
    pub slots: u32,
    /// Slots with a lease.
    pub busy: u32,
    /// Slots with a parked instance.
    pub parked: u32,
    /// Invocations that wait.
    pub waiting: u32,
}

/// What the pool needs to know of a guest.
pub trait Tenant {
    /// The name of its function, whose guests have one share of the pool together.
    fn function(&self) -> &Arc<str>;
    /// Counts the guests of its function.
    fn generation(&self) -> u64;
    /// The most slots that the function may hold.
    fn share(&self) -> Share;
    /// Bytes of memory that an instance has from the start.
    fn initial_memory(&self) -> u64;
    /// How long one of its instances may stay parked.
    fn idle_timeout(&self) -> Duration;
    /// Whether its instances may be parked: not when another guest has taken its place, or when they cannot be used again.
    fn may_park(&self) -> bool;
}

/// Slots that the guests of all functions share. Clones are handles to the same pool.
pub struct Pool<G: Tenant, I>(Arc<Inner<G, I>>);

impl<G: Tenant, I> Clone for Pool<G, I> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

struct Inner<G: Tenant, I> {
    capacity: Capacity,
    /// When the pool was made: what [`Progress`] counts from.
    made: Instant,
    /// One for each slot, and one for the spare slot.
    progress: Box<[Progress]>,
    memory: Arc<Budget>,
    /// Instantiations so far.
    instances: AtomicU64,
    state: Mutex<State<G, I>>,
    /// Tells [`Pool::retire_idle`] that there is something to do before it would look again.
    sooner: Notify,
    /// Held by the lease of the slot that is there beside those of the pool.
    spare: Arc<tokio::sync::Mutex<()>>,
}

struct State<G: Tenant, I> {
    /// Free slots, the one freed last on top.
    free: Vec<u32>,
    /// The guest that each slot was last given to.
    occupants: Box<[Option<Occupant>]>,
    parked: Parked<G, I>,
    /// When [`Pool::retire_idle`] looks again.
    look_again: Option<Instant>,
    idle: Idle,
    queue: Queue<G, oneshot::Sender<Lease<G, I>>>,
    closed: bool,
}

impl<G: Tenant, I> Pool<G, I> {
    /// An empty pool.
    pub fn new(capacity: Capacity) -> Self {
        let state = State {
            free: (0..capacity.slots).rev().collect(),
            occupants: (0..capacity.slots).map(|_| None).collect(),
            parked: Parked::new(),
            look_again: None,
            idle: Idle::default(),
            queue: Queue::new(capacity.slots, capacity.queue_length),
            closed: false,
        };
        Self(Arc::new(Inner {
            capacity,
            made: Instant::now(),
            progress: (0..=capacity.slots).map(|_| Progress::default()).collect(),
            memory: Budget::new(capacity.total_memory),
            instances: AtomicU64::new(0),
            state: Mutex::new(state),
            sooner: Notify::new(),
            spare: Arc::default(),
        }))
    }

    /// Waits for a slot, no longer than the queue's timeout and no longer than until `deadline`.
    ///
    /// Dropping the future gives up the place in the queue. A guest whose initial memory is larger than
    /// `limits.totalMemory` would wait in vain: loading refuses it.
    ///
    /// # Errors
    /// [`Refusal`]; the guest has not run, so the request may safely be sent again.
    pub async fn admit(&self, guest: &Arc<G>, deadline: Instant) -> Result<Lease<G, I>, Refusal> {
        let (arrived, mut place) = {
            let mut state = self.state();
            if state.closed {
                return Err(Refusal::Closed);
            }
            if state.queue.is_next(guest)
                && let Some(lease) = self.try_lease(&mut state, guest)
            {
                return Ok(lease);
            }
            state.queue.room(guest)?;
            let (sender, receiver) = oneshot::channel();
            let ticket = state.queue.push(guest, sender);
            (Instant::now(), Place { pool: self, guest, ticket, receiver })
        };
        let until = deadline.min(arrived + self.0.capacity.queue_timeout);
        match timeout_at(until, &mut place.receiver).await {
            Ok(Ok(lease)) => Ok(lease),
            Ok(Err(_)) => Err(Refusal::Closed),
            Err(_) => {
                let waited = arrived.elapsed();
                let share = self.state().queue.waits_for_share(place.ticket, guest);
                Err(match share {
                    Some(share) => Refusal::WaitedForShare { share, waited },
                    None => Refusal::WaitedTooLong { waited },
                })
            }
        }
    }

    /// The right to run `guest` in the slot that is there beside those of the pool, once no other guest is tried out there.
    /// Neither the slot nor the memory in `reservation` is counted by the pool.
    pub async fn spare(&self, guest: &Arc<G>, reservation: Reservation) -> Lease<G, I> {
        let spare = Some(Arc::clone(&self.0.spare).lock_owned().await);
        let (pool, guest, reservation) = (self.clone(), Arc::clone(guest), Some(reservation));
        Lease { pool, guest, slot: self.slots(), instance: None, reservation, spare }
    }

    /// Slots in all.
    pub fn slots(&self) -> u32 {
        self.0.capacity.slots
    }

    /// Turns away the invocations that wait and those that come later. Running ones are not touched.
    pub fn close(&self) {
        let mut state = self.state();
        state.closed = true;
        state.queue.clear();
        while state.evict() {}
    }

    /// Ends parked instances whose idle time is over, and calls `give_back` when free slots are to give up the memory that they
    /// keep, for as long as it is polled.
    pub async fn retire_idle(&self, give_back: impl Fn()) {
        loop {
            let (next, is_due) = {
                let mut state = self.state();
                let now = Instant::now();
                while let Some((slot, instance)) = state.parked.expire(now) {
                    drop(instance);
                    state.free.push(slot);
                }
                let taken = self.taken(&state);
                let is_due = state.idle.look(now, taken);
                state.look_again = state.parked.next_expiry().into_iter().chain(state.idle.next_look()).min();
                (state.look_again, is_due)
            };
            if is_due {
                give_back();
            }
            let sooner = self.0.sooner.notified();
            match next {
                Some(next) => tokio::select! { () = sooner => {}, () = sleep_until(next) => {} },
                None => sooner.await,
            }
        }
    }

    /// Ends the parked instances of a guest of which none may be parked any more; those that run end with their requests.
    pub fn retire(&self, guest: &Arc<G>) {
        debug_assert!(!guest.may_park(), "or it would be parked again");
        // One at a time, so that requests get their turn in between.
        loop {
            let mut state = self.state();
            let Some((slot, instance)) = state.parked.take(guest) else { return };
            drop(instance);
            state.free.push(slot);
        }
    }

    /// Counts slots and queue.
    pub fn occupancy(&self) -> Occupancy {
        let state = self.state();
        Occupancy {
            slots: self.slots(),
            busy: self.busy(&state),
            parked: count(state.parked.len()),
            waiting: count(state.queue.len()),
        }
    }

    /// The numbers of the pool, for what is counted.
    pub fn levels(&self) -> Levels {
        let Occupancy { slots, busy, parked, waiting } = self.occupancy();
        let (instances, memory) = (self.0.instances.load(Ordering::Relaxed), self.0.memory.taken());
        Levels { slots, running: busy, parked, waiting, instances, memory }
    }

    /// What every slot is doing right now. Admissions wait while it is taken, so not for every request.
    pub fn snapshot(&self) -> Snapshot {
        let state = self.state();
        let now = Instant::now();
        let age = now.duration_since(self.0.made);
        let leased = |(guest, progress): (&Option<Occupant>, &Progress)| match guest {
            Some(guest) => progress.leased(guest.clone(), age),
            None => Slot::Free,
        };
        let mut slots: Vec<Slot> = state.occupants.iter().zip(&*self.0.progress).map(leased).collect();
        for (slot, since) in state.parked.iter() {
            let guest = state.occupants[slot as usize].clone().expect("it was given to the guest that is parked in it");
            let instance = self.0.progress[slot as usize].made();
            slots[slot as usize] = Slot::Parked { guest, instance, age: now.duration_since(since) };
        }
        for slot in &state.free {
            slots[*slot as usize] = Slot::Free;
        }
        Snapshot { at: now, slots, waiting: count(state.queue.len()) }
    }
}

/// A count of slots or of those that wait.
fn count(length: usize) -> u32 {
    u32::try_from(length).expect("bounded by the configuration")
}

impl<G: Tenant, I> Pool<G, I> {
    /// Slots with a lease or a parked instance.
    fn taken(&self, state: &State<G, I>) -> u32 {
        self.slots() - count(state.free.len())
    }

    /// Slots with a lease.
    fn busy(&self, state: &State<G, I>) -> u32 {
        self.taken(state) - count(state.parked.len())
    }

    fn state(&self) -> MutexGuard<'_, State<G, I>> {
        // Every change under the lock is complete before anything can panic.
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn try_lease(&self, state: &mut State<G, I>, guest: &Arc<G>) -> Option<Lease<G, I>> {
        let lease = |slot, instance, reservation| {
            self.0.progress[slot as usize].admit();
            Lease { pool: self.clone(), guest: Arc::clone(guest), slot, instance, reservation, spare: None }
        };
        if let Some((slot, instance)) = state.parked.take(guest) {
            state.queue.hold(guest);
            return Some(lease(slot, Some(instance), None));
        }
        if state.free.is_empty() && !state.evict() {
            return None;
        }
        let reservation = loop {
            if let Some(reservation) = self.0.memory.reserve(guest.initial_memory()) {
                break reservation;
            }
            if !state.evict() {
                return None;
            }
        };
        let slot = state.free.pop()?;
        let taken = self.taken(state);
        if state.idle.took(taken, guest.idle_timeout()) {
            self.0.sooner.notify_one();
        }
        Occupant::note(&mut state.occupants[slot as usize], &**guest);
        state.queue.hold(guest);
        Some(lease(slot, None, Some(reservation)))
    }

    /// Takes a slot back, with the instance in it if that is to be parked, and admits those that wait.
    fn release(&self, guest: &Arc<G>, slot: u32, parked: Option<I>) {
        let mut state = self.state();
        match parked {
            Some(instance) if !state.closed && guest.may_park() => {
                let now = Instant::now();
                let until = now + guest.idle_timeout();
                state.parked.park(guest, slot, instance, now, until);
                if state.look_again.is_none_or(|look| until < look) {
                    state.look_again = Some(until);
                    self.0.sooner.notify_one();
                }
            }
            unwanted => {
                drop(unwanted);
                state.free.push(slot);
            }
        }
        state.queue.release(guest);
        self.admit_waiting(state);
    }

    /// Gives leases to those that wait, for as long as there are any.
    fn admit_waiting(&self, mut state: MutexGuard<'_, State<G, I>>) {
        // A lease whose invocation has gone away is released when it is dropped, so never under the lock.
        let mut orphans = Vec::new();
        while let Some(guest) = state.queue.front().map(Arc::clone) {
            let Some(lease) = self.try_lease(&mut state, &guest) else { break };
            let next = state.queue.pop_front().expect("it was at the front just now");
            orphans.extend(next.waiter.send(lease).err());
        }
        drop(state);
    }
}

impl<G: Tenant, I> State<G, I> {
    /// Ends the instance that has been parked longest, and frees its slot. Under the lock, so that no invocation is given a
    /// slot or memory that is not free yet; dropping a store takes some microseconds. False where none is parked.
    fn evict(&mut self) -> bool {
        let Some((slot, instance)) = self.parked.evict() else { return false };
        drop(instance);
        self.free.push(slot);
        true
    }
}

/// A place in the queue; dropping it gives it up.
struct Place<'a, G: Tenant, I> {
    pool: &'a Pool<G, I>,
    guest: &'a Arc<G>,
    ticket: u64,
    receiver: oneshot::Receiver<Lease<G, I>>,
}

impl<G: Tenant, I> Drop for Place<'_, G, I> {
    fn drop(&mut self) {
        let mut state = self.pool.state();
        if state.queue.remove(self.ticket, self.guest) {
            // It may have stood before others that have room.
            self.pool.admit_waiting(state);
        }
    }
}

#[cfg(test)]
mod tests;
