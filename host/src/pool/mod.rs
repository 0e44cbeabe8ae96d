//! The pool: how many invocations run at the same time, who waits, and who is turned away.
//!
//! [`Pool::admit`] gives a [`Lease`], the right to run one invocation in one slot, or a [`Refusal`]. An admission needs a
//! free slot *and* the guest's initial memory within `limits.totalMemory`; who does not get both waits in one queue,
//! first come first served, bounded in length and time. A lease is a value: dropping it frees the slot and admits the
//! next in line. Whoever waits and goes away leaves the queue at once.

mod run;

pub use run::{Call, Fault, Reply, ReplyBody, Timings};

use crate::sandbox::limits::{Budget, Reservation};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

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
    /// It has waited as long as it may.
    #[error("no instance became free within {} ms", waited.as_millis())]
    WaitedTooLong {
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
    /// Invocations that wait.
    pub waiting: u32,
}

/// See the module's documentation. Clones are handles to the same pool.
#[derive(Clone)]
pub struct Pool(Arc<Shared>);

struct Shared {
    size: Size,
    memory: Arc<Budget>,
    /// Instantiations so far.
    instances: AtomicU64,
    state: Mutex<State>,
}

struct State {
    /// Free slots, the one freed last on top.
    free: Vec<u32>,
    waiting: VecDeque<Waiting>,
    /// Counts those who wait, to tell them apart.
    tickets: u64,
    closed: bool,
}

struct Waiting {
    ticket: u64,
    initial_memory: u64,
    answer: oneshot::Sender<Lease>,
}

impl Pool {
    /// An empty pool.
    pub fn new(size: Size) -> Self {
        let state =
            State { free: (0..size.slots).rev().collect(), waiting: VecDeque::new(), tickets: 0, closed: false };
        Self(Arc::new(Shared {
            size,
            memory: Budget::new(size.total_memory),
            instances: AtomicU64::new(0),
            state: Mutex::new(state),
        }))
    }

    /// Waits for a slot, no longer than the queue's timeout and no longer than until `deadline`.
    ///
    /// Dropping the future gives up the place in the queue. A guest whose initial memory is larger than
    /// `limits.totalMemory` would wait in vain: loading refuses it.
    ///
    /// # Errors
    /// [`Refusal`]; the guest has not run, so the request may safely be sent again.
    pub async fn admit(&self, initial_memory: u64, deadline: Instant) -> Result<Lease, Refusal> {
        let arrived = Instant::now();
        let mut place = {
            let mut state = self.0.state();
            if state.closed {
                return Err(Refusal::Closed);
            }
            // Nobody overtakes those who wait already.
            if state.waiting.is_empty()
                && let Some(lease) = self.0.try_lease(&mut state, initial_memory)
            {
                return Ok(lease);
            }
            let Size { slots, queue_length, .. } = self.0.size;
            if state.waiting.len() >= queue_length as usize {
                return Err(Refusal::QueueFull { slots, queue_length });
            }
            let (answer, receiver) = oneshot::channel();
            state.tickets += 1;
            let ticket = state.tickets;
            state.waiting.push_back(Waiting { ticket, initial_memory, answer });
            Place { shared: &self.0, ticket: Some(ticket), receiver }
        };
        let until = deadline.min(arrived + self.0.size.queue_timeout);
        match timeout_at(until, &mut place.receiver).await {
            Ok(Ok(lease)) => {
                place.ticket = None;
                Ok(lease)
            }
            Ok(Err(_)) => Err(Refusal::Closed),
            Err(_) => Err(Refusal::WaitedTooLong { waited: arrived.elapsed() }),
        }
    }

    /// Turns away everybody who waits or comes later. Running invocations are not touched.
    pub fn close(&self) {
        let mut state = self.0.state();
        state.closed = true;
        state.waiting.clear();
    }

    /// Counts slots and queue.
    pub fn occupancy(&self) -> Occupancy {
        let state = self.0.state();
        let count = |length| u32::try_from(length).expect("bounded by the configuration");
        let slots = self.0.size.slots;
        Occupancy { slots, busy: slots - count(state.free.len()), waiting: count(state.waiting.len()) }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        // Every change under the lock is complete before anything can panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn try_lease(self: &Arc<Self>, state: &mut State, initial_memory: u64) -> Option<Lease> {
        let slot = *state.free.last()?;
        let reservation = self.memory.reserve(initial_memory)?;
        state.free.pop();
        Some(Lease { shared: Arc::clone(self), slot, reservation: Some(reservation) })
    }

    fn release(self: &Arc<Self>, slot: u32) {
        // A lease that nobody takes any more comes back here when it is dropped, so never under the lock.
        let mut orphans = Vec::new();
        let mut state = self.state();
        state.free.push(slot);
        while let Some(next) = state.waiting.front() {
            let initial_memory = next.initial_memory;
            let Some(lease) = self.try_lease(&mut state, initial_memory) else { break };
            let next = state.waiting.pop_front().expect("it was at the front just now");
            orphans.extend(next.answer.send(lease).err());
        }
        drop(state);
    }
}

/// A place in the queue; dropping it gives it up.
struct Place<'a> {
    shared: &'a Shared,
    /// None once it has been called up.
    ticket: Option<u64>,
    receiver: oneshot::Receiver<Lease>,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket {
            self.shared.state().waiting.retain(|waiting| waiting.ticket != ticket);
        }
    }
}

/// The right to run one invocation in a slot.
pub struct Lease {
    shared: Arc<Shared>,
    slot: u32,
    /// The guest's initial memory, until its store takes it over.
    reservation: Option<Reservation>,
}

impl Lease {
    /// Counts an instantiation.
    fn next_instance(&self) -> u64 {
        self.shared.instances.fetch_add(1, Ordering::Relaxed) + 1
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        // Memory first: the next in line may wait for it.
        self.reservation = None;
        self.shared.release(self.slot);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(slots: u32, queue_length: u32) -> Pool {
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
        let pool = pool(1, 1);
        let lease = pool.admit(0, far()).await.expect("free");
        let mut second = Box::pin(pool.admit(0, far()));
        assert!(waits(&mut second).await);
        assert_eq!(pool.occupancy(), Occupancy { slots: 1, busy: 1, waiting: 1 });
        assert_eq!(pool.admit(0, far()).await.err(), Some(Refusal::QueueFull { slots: 1, queue_length: 1 }));
        drop(lease);
        drop(second.await.expect("freed"));
        assert_eq!(pool.occupancy(), Occupancy { slots: 1, busy: 0, waiting: 0 });
    }

    #[tokio::test]
    async fn waiting_ends_at_the_timeout_or_the_deadline() {
        let pool = pool(1, 5);
        let _lease = pool.admit(0, far()).await.expect("free");
        for (deadline, least) in [(3_600_000, 40), (10, 10)] {
            let deadline = Instant::now() + Duration::from_millis(deadline);
            let Some(Refusal::WaitedTooLong { waited }) = pool.admit(0, deadline).await.err() else {
                panic!("admitted")
            };
            assert!(waited >= Duration::from_millis(least), "{waited:?}");
        }
        assert_eq!(pool.occupancy().waiting, 0);
    }

    #[tokio::test]
    async fn who_goes_away_leaves_the_queue() {
        let pool = pool(1, 1);
        let lease = pool.admit(0, far()).await.expect("free");
        let mut gone = Box::pin(pool.admit(0, far()));
        assert!(waits(&mut gone).await);
        drop(gone);
        let mut second = Box::pin(pool.admit(0, far()));
        assert!(waits(&mut second).await);
        drop(lease);
        drop(second.await.expect("the place of the one who left"));
        assert_eq!(pool.occupancy().busy, 0);
    }

    #[tokio::test]
    async fn a_lease_that_was_granted_but_not_taken_comes_back() {
        let pool = pool(1, 2);
        let lease = pool.admit(0, far()).await.expect("free");
        let mut first = Box::pin(pool.admit(0, far()));
        let mut second = Box::pin(pool.admit(0, far()));
        assert!(waits(&mut first).await && waits(&mut second).await);
        drop(lease);
        drop(first);
        drop(second.await.expect("what the first did not take"));
        assert_eq!(pool.occupancy(), Occupancy { slots: 1, busy: 0, waiting: 0 });
    }

    #[tokio::test]
    async fn memory_is_admitted_too_and_nobody_overtakes() {
        let pool = pool(4, 4);
        let large = pool.admit(90, far()).await.expect("free");
        let mut second = Box::pin(pool.admit(20, far()));
        let mut third = Box::pin(pool.admit(1, far()));
        assert!(waits(&mut second).await && waits(&mut third).await);
        drop(large);
        let (second, third) = (second.await.expect("memory"), third.await.expect("memory"));
        assert_ne!(second.slot, third.slot);
    }

    #[tokio::test]
    async fn a_closed_pool_turns_everybody_away() {
        let pool = pool(1, 5);
        let lease = pool.admit(0, far()).await.expect("free");
        let mut waiting = Box::pin(pool.admit(0, far()));
        assert!(waits(&mut waiting).await);
        pool.close();
        assert_eq!(waiting.await.err(), Some(Refusal::Closed));
        assert_eq!(pool.admit(0, far()).await.err(), Some(Refusal::Closed));
        drop(lease);
        assert_eq!(pool.occupancy().busy, 0);
    }
}
