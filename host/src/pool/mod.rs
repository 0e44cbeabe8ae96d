//! The pool: how many invocations run at the same time, who waits, and who is turned away.
//!
//! [`Pool::admit`] gives a [`Lease`], the right to run one invocation in one slot, or a [`Refusal`]. An admission needs a
//! free slot *and* the guest's initial memory within `limits.totalMemory`, and that its function does not hold its whole
//! share of the slots (`pool.share`). An invocation that does not get all three waits in the [`queue`], first come first
//! served, bounded in length and time. A lease is a value: dropping it frees the slot and admits the next in line. An
//! invocation that waits and goes away leaves the queue at once.
//!
//! Where `pool.reuse` allows it, an instance that has answered stays in its slot, *parked*, for the next request to the
//! same guest. Parked instances give way: an admission that finds no free slot, or no memory, evicts the one that has
//! been parked longest.

mod fault;
mod idle;
mod p3;
mod parked;
mod queue;
mod run;
mod trial;

pub use fault::Fault;
pub use run::{Reply, ReplyBody, Timings};

use crate::config::settings::Share;
use crate::guest::Guest;
use crate::sandbox::leftovers::NotParked;
use crate::sandbox::limits::{Budget, Reservation};
use idle::Idle;
use parked::Parked;
use queue::Queue;
use run::Instance;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, OwnedMutexGuard, oneshot};
use tokio::time::{Instant, sleep_until, timeout_at};

/// How large the pool and its queue are.
#[derive(Debug, Clone, Copy)]
pub struct Size {
    /// Slots.
    pub slots: u32,
    /// Invocations that may wait.
    pub queue_length: u32,
    /// How long one may wait.
    pub queue_timeout: Duration,
    /// Guest memory of all instances, in bytes.
    pub total_memory: u64,
}

/// Why an invocation is not admitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// As many wait as may wait.
    #[error("all {slots} instances are busy and {queue_length} requests are waiting")]
    QueueFull {
        /// Pool size.
        slots: u32,
        /// Queue length.
        queue_length: u32,
    },
    /// As many of its function wait as may wait.
    #[error(
        "all {share} instances that this function may have at once (pool.share) are busy and {waiting} of its requests are waiting"
    )]
    ShareFull {
        /// The function's share of the slots.
        share: u32,
        /// How many of it wait.
        waiting: usize,
    },
    /// It has waited as long as it may.
    #[error("no instance became free within {} ms", waited.as_millis())]
    WaitedTooLong {
        /// How long it waited.
        waited: Duration,
    },
    /// It has waited as long as it may for its function's share.
    #[error(
        "none of the {share} instances that this function may have at once (pool.share) became free within {} ms",
        waited.as_millis()
    )]
    WaitedForShare {
        /// The function's share of the slots.
        share: u32,
        /// How long it waited.
        waited: Duration,
    },
    /// The host is shutting down.
    #[error("the host is shutting down")]
    Closed,
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
    fn function(&self) -> &str;
    /// The most slots that the function may hold.
    fn share(&self) -> Share;
    /// Bytes of memory that an instance has from the start.
    fn initial_memory(&self) -> u64;
    /// How long one of its instances may stay parked.
    fn idle_timeout(&self) -> Duration;
    /// Whether its instances may be parked: not when another guest has taken its place, or when they cannot be used again.
    fn may_park(&self) -> bool;
}

impl Tenant for Guest {
    fn function(&self) -> &str {
        &self.policy.function
    }

    fn share(&self) -> Share {
        self.policy.share
    }

    fn initial_memory(&self) -> u64 {
        self.initial_memory
    }

    fn idle_timeout(&self) -> Duration {
        self.policy.reuse.idle_timeout
    }

    fn may_park(&self) -> bool {
        !self.is_outdated() && !self.experience.runs_fresh()
    }
}

/// See the module's documentation. Clones are handles to the same pool.
pub struct Pool<G: Tenant = Guest, I = Instance>(Arc<Shared<G, I>>);

impl<G: Tenant, I> Clone for Pool<G, I> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

struct Shared<G: Tenant, I> {
    size: Size,
    memory: Arc<Budget>,
    /// Instantiations so far.
    instances: AtomicU64,
    state: Mutex<State<G, I>>,
    /// Tells [`Pool::retire_idle`] that there is something to do before it would look again.
    sooner: Notify,
    /// Who has it may use the slot that each engine has beside those of the pool.
    spare: Arc<tokio::sync::Mutex<()>>,
}

struct State<G: Tenant, I> {
    /// Free slots, the one freed last on top.
    free: Vec<u32>,
    parked: Parked<G, I>,
    /// When [`Pool::retire_idle`] looks again.
    look_again: Option<Instant>,
    idle: Idle,
    queue: Queue<G, oneshot::Sender<Lease<G, I>>>,
    closed: bool,
}

impl<G: Tenant, I> Pool<G, I> {
    /// An empty pool.
    pub fn new(size: Size) -> Self {
        let state = State {
            free: (0..size.slots).rev().collect(),
            parked: Parked::new(),
            look_again: None,
            idle: Idle::default(),
            queue: Queue::new(size.slots, size.queue_length),
            closed: false,
        };
        Self(Arc::new(Shared {
            size,
            memory: Budget::new(size.total_memory),
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
            let mut state = self.0.state();
            if state.closed {
                return Err(Refusal::Closed);
            }
            if state.queue.is_next(guest)
                && let Some(lease) = self.0.try_lease(&mut state, guest)
            {
                return Ok(lease);
            }
            state.queue.room(guest)?;
            let (answer, receiver) = oneshot::channel();
            let ticket = state.queue.push(guest, answer);
            (Instant::now(), Place { shared: &self.0, guest, ticket, receiver })
        };
        let until = deadline.min(arrived + self.0.size.queue_timeout);
        match timeout_at(until, &mut place.receiver).await {
            Ok(Ok(lease)) => Ok(lease),
            Ok(Err(_)) => Err(Refusal::Closed),
            Err(_) => {
                let waited = arrived.elapsed();
                let share = self.0.state().queue.waits_for_share(place.ticket, guest);
                Err(match share {
                    Some(share) => Refusal::WaitedForShare { share, waited },
                    None => Refusal::WaitedTooLong { waited },
                })
            }
        }
    }

    /// Turns away everybody who waits or comes later. Running invocations are not touched.
    pub fn close(&self) {
        let mut state = self.0.state();
        state.closed = true;
        state.queue.clear();
        while state.evict() {}
    }

    /// Ends parked instances whose idle time is over, and calls `give_back` when free slots are to give up the memory that they
    /// keep, for as long as it is polled. While that runs no instance is made, so it must not take long.
    pub async fn retire_idle(&self, give_back: impl Fn()) {
        loop {
            let next = {
                let mut state = self.0.state();
                let now = Instant::now();
                while let Some((slot, instance)) = state.parked.expire(now) {
                    drop(instance);
                    state.free.push(slot);
                }
                let taken = self.0.taken(&state);
                state.idle.look(now, taken);
                // A trial takes a slot, too; the next look comes.
                if state.idle.is_due()
                    && self.0.busy(&state) == 0
                    && let Ok(_spare) = self.0.spare.try_lock()
                {
                    give_back();
                    state.idle.given_back(taken);
                }
                state.look_again = state.parked.next_expiry().into_iter().chain(state.idle.next_look()).min();
                state.look_again
            };
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
            let mut state = self.0.state();
            let Some((slot, instance)) = state.parked.take(guest) else { return };
            drop(instance);
            state.free.push(slot);
        }
    }

    /// Counts slots and queue.
    pub fn occupancy(&self) -> Occupancy {
        let state = self.0.state();
        Occupancy {
            slots: self.0.size.slots,
            busy: self.0.busy(&state),
            parked: count(state.parked.len()),
            waiting: count(state.queue.len()),
        }
    }
}

/// A count of slots or of those that wait.
fn count(length: usize) -> u32 {
    u32::try_from(length).expect("bounded by the configuration")
}

impl<G: Tenant, I> Shared<G, I> {
    /// Slots with a lease or a parked instance.
    fn taken(&self, state: &State<G, I>) -> u32 {
        self.size.slots - count(state.free.len())
    }

    /// Slots with a lease.
    fn busy(&self, state: &State<G, I>) -> u32 {
        self.taken(state) - count(state.parked.len())
    }

    fn state(&self) -> MutexGuard<'_, State<G, I>> {
        // Every change under the lock is complete before anything can panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn try_lease(self: &Arc<Self>, state: &mut State<G, I>, guest: &Arc<G>) -> Option<Lease<G, I>> {
        let lease = |slot, instance, reservation| Lease {
            shared: Arc::clone(self),
            guest: Arc::clone(guest),
            slot,
            instance,
            reservation,
            spare: None,
            served: 0,
            not_parked: None,
        };
        if let Some((slot, instance)) = state.parked.take(guest) {
            state.queue.hold(guest);
            return Some(lease(slot, Some(instance), None));
        }
        if state.free.is_empty() && !state.evict() {
            return None;
        }
        let reservation = loop {
            if let Some(reservation) = self.memory.reserve(guest.initial_memory()) {
                break reservation;
            }
            if !state.evict() {
                return None;
            }
        };
        let slot = state.free.pop()?;
        let taken = self.taken(state);
        if state.idle.took(taken, guest.idle_timeout()) {
            self.sooner.notify_one();
        }
        state.queue.hold(guest);
        Some(lease(slot, None, Some(reservation)))
    }

    /// Takes a slot back, with the instance in it if that is to be parked, and admits those that wait.
    fn release(self: &Arc<Self>, guest: &Arc<G>, slot: u32, parked: Option<I>) {
        let mut state = self.state();
        match parked {
            Some(instance) if !state.closed && guest.may_park() => {
                let now = Instant::now();
                let until = now + guest.idle_timeout();
                state.parked.park(guest, slot, instance, now, until);
                if state.look_again.is_none_or(|look| until < look) {
                    state.look_again = Some(until);
                    self.sooner.notify_one();
                }
            }
            unwanted => {
                drop(unwanted);
                state.free.push(slot);
            }
        }
        state.queue.release(guest);
        if state.idle.is_due() && self.busy(&state) == 0 {
            self.sooner.notify_one();
        }
        self.admit_waiting(state);
    }

    /// Gives leases to those that wait, for as long as there are any.
    fn admit_waiting(self: &Arc<Self>, mut state: MutexGuard<'_, State<G, I>>) {
        // A lease that nobody takes any more is released when it is dropped, so never under the lock.
        let mut orphans = Vec::new();
        while let Some(guest) = state.queue.front().map(Arc::clone) {
            let Some(lease) = self.try_lease(&mut state, &guest) else { break };
            let next = state.queue.pop_front().expect("it was at the front just now");
            orphans.extend(next.answer.send(lease).err());
        }
        drop(state);
    }
}

impl<G: Tenant, I> State<G, I> {
    /// Ends the instance that has been parked longest, and frees its slot. Under the lock, so that nobody is given a slot
    /// or memory that is not free yet; dropping a store takes some microseconds.
    fn evict(&mut self) -> bool {
        let Some((slot, instance)) = self.parked.evict() else { return false };
        drop(instance);
        self.free.push(slot);
        true
    }
}

/// A place in the queue; dropping it gives it up.
struct Place<'a, G: Tenant, I> {
    shared: &'a Arc<Shared<G, I>>,
    guest: &'a Arc<G>,
    ticket: u64,
    receiver: oneshot::Receiver<Lease<G, I>>,
}

impl<G: Tenant, I> Drop for Place<'_, G, I> {
    fn drop(&mut self) {
        let mut state = self.shared.state();
        if state.queue.remove(self.ticket, self.guest) {
            // It may have stood before others that have room.
            self.shared.admit_waiting(state);
        }
    }
}

/// The right to run one invocation of a guest in a slot.
pub struct Lease<G: Tenant = Guest, I = Instance> {
    shared: Arc<Shared<G, I>>,
    guest: Arc<G>,
    slot: u32,
    /// One that was parked; or one to be parked, when the lease is dropped.
    instance: Option<I>,
    /// The guest's initial memory, until a new store takes it over.
    reservation: Option<Reservation>,
    /// It is not one of the pool's slots: a guest is tried out.
    spare: Option<OwnedMutexGuard<()>>,
    /// How many requests the instance has been given, with this one.
    served: u64,
    /// Where it is noted why the instance is not parked, if that was to be expected.
    not_parked: Option<Arc<OnceLock<NotParked>>>,
}

impl<G: Tenant, I> Lease<G, I> {
    /// Counts an instantiation; those for trials are not.
    fn next_instance(&self) -> u64 {
        if self.spare.is_some() {
            return 0;
        }
        self.shared.instances.fetch_add(1, Ordering::Relaxed) + 1
    }
}

impl<G: Tenant, I> Drop for Lease<G, I> {
    fn drop(&mut self) {
        // Memory first: the next in line may wait for it.
        self.reservation = None;
        if self.spare.is_some() {
            // Before the next trial may begin.
            self.instance = None;
            return;
        }
        self.shared.release(&self.guest, self.slot, self.instance.take());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A guest by its initial memory.
    impl Tenant for u64 {
        fn function(&self) -> &'static str {
            "function"
        }

        fn share(&self) -> Share {
            Share::default()
        }

        fn initial_memory(&self) -> u64 {
            *self
        }

        fn idle_timeout(&self) -> Duration {
            Duration::from_millis(40)
        }

        fn may_park(&self) -> bool {
            *self != OUTDATED
        }
    }

    /// The guest that another has replaced.
    const OUTDATED: u64 = 7;

    fn pool(slots: u32, queue_length: u32) -> Pool<u64, &'static str> {
        Pool::new(Size { slots, queue_length, queue_timeout: Duration::from_millis(40), total_memory: 100 })
    }

    fn far() -> Instant {
        Instant::now() + Duration::from_secs(3600)
    }

    /// Polls `future` once.
    async fn waits<F: Future + Unpin>(future: &mut F) -> bool {
        tokio::select! { biased; _ = future => false, () = std::future::ready(()) => true }
    }

    #[tokio::test]
    async fn a_full_pool_queues_and_a_full_queue_refuses() {
        let guest = Arc::new(0);
        let pool = pool(1, 1);
        let lease = pool.admit(&guest, far()).await.expect("free");
        let mut second = Box::pin(pool.admit(&guest, far()));
        assert!(waits(&mut second).await);
        assert_eq!(pool.occupancy(), Occupancy { slots: 1, busy: 1, parked: 0, waiting: 1 });
        assert_eq!(pool.admit(&guest, far()).await.err(), Some(Refusal::QueueFull { slots: 1, queue_length: 1 }));
        drop(lease);
        drop(second.await.expect("freed"));
        assert_eq!(pool.occupancy(), Occupancy { slots: 1, busy: 0, parked: 0, waiting: 0 });
    }

    #[tokio::test]
    async fn waiting_ends_at_the_timeout_or_the_deadline() {
        let guest = Arc::new(0);
        let pool = pool(1, 5);
        let _lease = pool.admit(&guest, far()).await.expect("free");
        for (deadline, least) in [(3_600_000, 40), (10, 10)] {
            let deadline = Instant::now() + Duration::from_millis(deadline);
            let Some(Refusal::WaitedTooLong { waited }) = pool.admit(&guest, deadline).await.err() else {
                panic!("admitted")
            };
            assert!(waited >= Duration::from_millis(least), "{waited:?}");
        }
        assert_eq!(pool.occupancy().waiting, 0);
    }

    #[tokio::test]
    async fn who_goes_away_leaves_the_queue() {
        let guest = Arc::new(0);
        let pool = pool(1, 1);
        let lease = pool.admit(&guest, far()).await.expect("free");
        let mut gone = Box::pin(pool.admit(&guest, far()));
        assert!(waits(&mut gone).await);
        drop(gone);
        let mut second = Box::pin(pool.admit(&guest, far()));
        assert!(waits(&mut second).await);
        drop(lease);
        drop(second.await.expect("the place of the one who left"));
        assert_eq!(pool.occupancy().busy, 0);
    }

    #[tokio::test]
    async fn a_lease_that_was_granted_but_not_taken_comes_back() {
        let guest = Arc::new(0);
        let pool = pool(1, 2);
        let lease = pool.admit(&guest, far()).await.expect("free");
        let mut first = Box::pin(pool.admit(&guest, far()));
        let mut second = Box::pin(pool.admit(&guest, far()));
        assert!(waits(&mut first).await && waits(&mut second).await);
        drop(lease);
        drop(first);
        drop(second.await.expect("what the first did not take"));
        assert_eq!(pool.occupancy(), Occupancy { slots: 1, busy: 0, parked: 0, waiting: 0 });
    }

    #[tokio::test]
    async fn memory_is_admitted_too_and_nobody_overtakes() {
        let [large, medium, small] = [90, 20, 1].map(Arc::new);
        let pool = pool(4, 4);
        let large = pool.admit(&large, far()).await.expect("free");
        let mut second = Box::pin(pool.admit(&medium, far()));
        let mut third = Box::pin(pool.admit(&small, far()));
        assert!(waits(&mut second).await && waits(&mut third).await);
        drop(large);
        let (second, third) = (second.await.expect("memory"), third.await.expect("memory"));
        assert_ne!(second.slot, third.slot);
    }

    #[tokio::test]
    async fn one_that_leaves_makes_way_for_those_behind_it() {
        let [large, medium, small] = [90, 20, 1].map(Arc::new);
        let pool = pool(4, 4);
        let _large = pool.admit(&large, far()).await.expect("free");
        let mut medium = Box::pin(pool.admit(&medium, far()));
        let mut small = Box::pin(pool.admit(&small, far()));
        assert!(waits(&mut medium).await && waits(&mut small).await);
        drop(medium);
        drop(small.await.expect("it had room, but for the one before it"));
    }

    /// A guest by its function and that one's share.
    struct Sharing(&'static str, Share);

    impl Tenant for Sharing {
        fn function(&self) -> &str {
            self.0
        }

        fn share(&self) -> Share {
            self.1
        }

        fn initial_memory(&self) -> u64 {
            0
        }

        fn idle_timeout(&self) -> Duration {
            Duration::from_secs(3600)
        }

        fn may_park(&self) -> bool {
            true
        }
    }

    fn shared_pool(slots: u32, queue_length: u32) -> (Pool<Sharing, ()>, Arc<Sharing>, Arc<Sharing>) {
        let size = Size { slots, queue_length, queue_timeout: Duration::from_millis(40), total_memory: 0 };
        let functions = [Sharing("greedy", Share::Percent(50)), Sharing("modest", Share::default())].map(Arc::new);
        let [greedy, modest] = functions;
        (Pool::new(size), greedy, modest)
    }

    #[tokio::test]
    async fn a_function_that_holds_its_share_waits_and_blocks_nobody() {
        let (pool, greedy, modest) = shared_pool(4, 8);
        let held =
            [pool.admit(&greedy, far()).await.expect("1 of 2"), pool.admit(&greedy, far()).await.expect("2 of 2")];
        // The next generation of the function has no share of its own.
        let next = Arc::new(Sharing("greedy", Share::Percent(50)));
        let mut aside = [&greedy, &next].map(|guest| Box::pin(pool.admit(guest, far())));
        assert!(waits(&mut aside[0]).await && waits(&mut aside[1]).await);

        let first = pool.admit(&modest, far()).await.expect("nobody is in its way");
        let _second = pool.admit(&modest, far()).await.expect("the last slot");
        let mut third = Box::pin(pool.admit(&modest, far()));
        assert!(waits(&mut third).await);
        assert_eq!(pool.occupancy(), Occupancy { slots: 4, busy: 4, parked: 0, waiting: 3 });

        // A slot of the others goes to the others, though the greedy one has waited longer.
        drop(first);
        let third = third.await.expect("the slot that became free");
        let mut fourth = Box::pin(pool.admit(&modest, far()));
        assert!(waits(&mut fourth).await);
        // With one of its own back, its first stands where it would have stood all the time.
        let [one, two] = held;
        drop(one);
        let [longest, mut shorter] = aside;
        let _longest = longest.await.expect("its function has room again");
        assert!(waits(&mut shorter).await && waits(&mut fourth).await);
        drop(third);
        let _fourth = fourth.await.expect("not the greedy one's, which holds its share");
        drop(two);
        drop(shorter.await.expect("room again"));
    }

    #[tokio::test]
    async fn a_function_fills_no_more_of_the_queue_than_of_the_pool() {
        let (pool, greedy, modest) = shared_pool(2, 3);
        let _greedy = pool.admit(&greedy, far()).await.expect("1 of 1");
        let _modest = pool.admit(&modest, far()).await.expect("the last slot");
        let mut waiting = [&greedy, &greedy, &modest].map(|guest| Box::pin(pool.admit(guest, far())));
        assert!(waits(&mut waiting[0]).await && waits(&mut waiting[1]).await);
        let refused = pool.admit(&greedy, far()).await.err().expect("its half of the queue is full");
        assert_eq!(refused, Refusal::ShareFull { share: 1, waiting: 2 });
        assert!(refused.to_string().contains("(pool.share)"), "{refused}");
        assert!(waits(&mut waiting[2]).await);
        assert!(matches!(pool.admit(&modest, far()).await.err(), Some(Refusal::QueueFull { .. })));
        let [first, ..] = waiting;
        assert!(matches!(first.await.err(), Some(Refusal::WaitedForShare { share: 1, .. })));
    }

    #[tokio::test]
    async fn one_that_leaves_gives_its_part_of_the_share_back() {
        let (pool, greedy, modest) = shared_pool(2, 8);
        let slots = [pool.admit(&modest, far()).await.expect("free"), pool.admit(&modest, far()).await.expect("free")];
        // The first waits for a slot, the others for their share.
        let [mut first, mut second, mut third] = [(); 3].map(|()| Box::pin(pool.admit(&greedy, far())));
        assert!(waits(&mut first).await && waits(&mut second).await && waits(&mut third).await);
        drop(second);
        drop(first);
        let [slot, _other] = slots;
        drop(slot);
        drop(third.await.expect("it moved up"));
        drop(pool.admit(&greedy, far()).await.expect("nothing of the share is lost"));
        pool.close();
        assert_eq!(pool.occupancy().waiting, 0);
    }

    #[tokio::test]
    async fn a_parked_instance_is_no_part_of_the_share() {
        let (pool, greedy, modest) = shared_pool(2, 0);
        let mut lease = pool.admit(&greedy, far()).await.expect("1 of 1");
        lease.instance = Some(());
        drop(lease);
        assert!(pool.admit(&greedy, far()).await.expect("parked").instance.is_some());
        let _leases =
            [pool.admit(&modest, far()).await.expect("free"), pool.admit(&modest, far()).await.expect("evicted")];
        assert_eq!(pool.occupancy(), Occupancy { slots: 2, busy: 2, parked: 0, waiting: 0 });
    }

    #[tokio::test]
    async fn a_closed_pool_turns_everybody_away() {
        let guest = Arc::new(0);
        let pool = pool(1, 5);
        let lease = pool.admit(&guest, far()).await.expect("free");
        let mut waiting = Box::pin(pool.admit(&guest, far()));
        assert!(waits(&mut waiting).await);
        pool.close();
        assert_eq!(waiting.await.err(), Some(Refusal::Closed));
        assert_eq!(pool.admit(&guest, far()).await.err(), Some(Refusal::Closed));
        drop(lease);
        assert_eq!(pool.occupancy().busy, 0);
    }

    /// A lease whose instance is parked when it is dropped.
    fn park(mut lease: Lease<u64, &'static str>, instance: &'static str) {
        lease.instance = Some(instance);
        drop(lease);
    }

    #[tokio::test]
    async fn the_next_request_to_the_same_guest_gets_the_instance_parked_last() {
        let (guest, other) = (Arc::new(0), Arc::new(0));
        let pool = pool(3, 0);
        let leases = [pool.admit(&guest, far()).await.expect("free"), pool.admit(&guest, far()).await.expect("free")];
        for (lease, name) in leases.into_iter().zip(["first", "last"]) {
            park(lease, name);
        }
        assert_eq!(pool.occupancy(), Occupancy { slots: 3, busy: 0, parked: 2, waiting: 0 });
        let foreign = pool.admit(&other, far()).await.expect("the free slot");
        assert_eq!((foreign.slot, foreign.instance), (2, None));
        let warm = pool.admit(&guest, far()).await.expect("parked");
        assert_eq!((warm.slot, warm.instance), (1, Some("last")));
    }

    #[tokio::test]
    async fn the_longest_parked_gives_way_to_any_guest() {
        let (guest, other) = (Arc::new(0), Arc::new(0));
        let pool = pool(2, 1);
        let leases = [pool.admit(&guest, far()).await.expect("free"), pool.admit(&guest, far()).await.expect("free")];
        for (lease, name) in leases.into_iter().zip(["first", "last"]) {
            park(lease, name);
        }
        let foreign = pool.admit(&other, far()).await.expect("evicted");
        assert_eq!((foreign.slot, foreign.instance), (0, None));
        let own = pool.admit(&guest, far()).await.expect("parked");
        assert_eq!(own.instance, Some("last"));
        // Who waits gets the slot, not the instance of another guest.
        let mut waiting = Box::pin(pool.admit(&other, far()));
        assert!(waits(&mut waiting).await);
        park(own, "last");
        assert_eq!(waiting.await.expect("evicted").instance, None);
    }

    #[tokio::test]
    async fn of_an_outdated_guest_nothing_stays_parked() {
        let old = Arc::new(OUTDATED);
        let pool = pool(3, 0);
        let [first, second] =
            [pool.admit(&old, far()).await.expect("free"), pool.admit(&old, far()).await.expect("free")];
        // As if it had been parked before it was outdated.
        pool.0.state().parked.park(&old, 2, "early", Instant::now(), far());
        pool.0.state().free.retain(|slot| *slot != 2);
        park(first, "while it is replaced");
        pool.retire(&old);
        park(second, "late");
        assert_eq!(pool.occupancy(), Occupancy { slots: 3, busy: 0, parked: 0, waiting: 0 });
    }

    #[tokio::test]
    async fn a_lease_that_nobody_used_keeps_its_instance_parked() {
        let guest = Arc::new(0);
        let pool = pool(1, 0);
        park(pool.admit(&guest, far()).await.expect("free"), "warm");
        drop(pool.admit(&guest, far()).await.expect("parked"));
        assert_eq!(pool.admit(&guest, far()).await.expect("parked").instance, Some("warm"));
    }

    #[tokio::test]
    async fn an_idle_instance_is_retired_and_a_closed_pool_parks_nothing() {
        let guest = Arc::new(0);
        let pool = pool(1, 0);
        let retiring = tokio::spawn({
            let pool = pool.clone();
            async move { pool.retire_idle(|| ()).await }
        });
        let begun = Instant::now();
        park(pool.admit(&guest, far()).await.expect("free"), "warm");
        while pool.occupancy().parked > 0 {
            tokio::task::yield_now().await;
        }
        assert!(begun.elapsed() >= guest.idle_timeout());
        retiring.abort();

        let lease = pool.admit(&guest, far()).await.expect("free");
        pool.close();
        park(lease, "late");
        assert_eq!(pool.occupancy(), Occupancy { slots: 1, busy: 0, parked: 0, waiting: 0 });
    }
    #[tokio::test]
    async fn free_slots_give_memory_back_when_nothing_runs() {
        let guest = Arc::new(0);
        let pool = pool(2, 0);
        let (told, mut given_back) = tokio::sync::mpsc::unbounded_channel();
        let looking = pool.clone();
        let retiring = tokio::spawn(async move { looking.retire_idle(|| told.send(()).expect("it is read")).await });
        let two = [pool.admit(&guest, far()).await.expect("free"), pool.admit(&guest, far()).await.expect("free")];
        drop(two);
        given_back.recv().await.expect("it looks");

        let one = [pool.admit(&guest, far()).await.expect("free"), pool.admit(&guest, far()).await.expect("free")];
        let [first, second] = one;
        drop(first);
        // Two looks without a second one.
        tokio::time::sleep(3 * guest.idle_timeout()).await;
        assert!(given_back.try_recv().is_err(), "one runs");
        drop(second);
        given_back.recv().await.expect("nothing runs any more");
        retiring.abort();
    }
}
