//! What every slot of a pool is doing at one moment, for people and pages that look on.
//!
//! Which slots are free, parked or leased is read under the pool's lock, and is exact. How far an invocation has come its lease
//! notes in the [`Progress`] of its slot, by a few stores without a lock or a clock of their own; that may be a moment old.

use super::Tenant;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::Duration;
use tokio::time::Instant;

/// A pool at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// The moment, from which ages count back.
    pub at: Instant,
    /// Every slot, by its number.
    pub slots: Vec<Slot>,
    /// Invocations that wait for a slot, for memory or for their function's share.
    pub waiting: u32,
}

/// What one slot is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Slot {
    /// Nothing.
    Free,
    /// It keeps an instance for the next request to the same guest.
    Parked {
        /// Whose instance.
        guest: Occupant,
        /// The instance's id.
        instance: u64,
        /// How long it has been parked.
        age: Duration,
    },
    /// It was given to an invocation that has not begun yet: its task has still to be woken.
    Admitted {
        /// Which guest is to run.
        guest: Occupant,
    },
    /// An invocation runs in it.
    Running {
        /// Which guest runs.
        guest: Occupant,
        /// The instance's id.
        instance: u64,
        /// How far it has come.
        phase: Phase,
        /// How long ago the invocation began.
        age: Duration,
    },
}

/// The guest that a slot was given to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Occupant {
    /// The name of its function.
    pub function: Arc<str>,
    /// Counts the guests of the function.
    pub generation: u64,
}

/// The phases of an invocation, in their order. One that is over early leaves the others out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Phase {
    /// The instance is being made, start functions included, or a parked one is given its request.
    Instantiate = 1,
    /// The guest has been called; the head of its answer is not there yet.
    Head,
    /// The head is there; the body is not known to its end.
    Body,
    /// The answer is whole; the guest works on.
    After,
}

impl Phase {
    const ALL: [Self; 4] = [Self::Instantiate, Self::Head, Self::Body, Self::After];

    /// One word for programs.
    pub fn word(self) -> &'static str {
        match self {
            Self::Instantiate => "instantiate",
            Self::Head => "head",
            Self::Body => "body",
            Self::After => "after",
        }
    }
}

impl Occupant {
    /// Notes that `guest` has been given the slot. It costs nothing where the slot had the same guest before.
    pub(super) fn note(place: &mut Option<Self>, guest: &impl Tenant) {
        let (function, generation) = (guest.function(), guest.generation());
        let same = |before: &Self| before.generation == generation && Arc::ptr_eq(&before.function, function);
        if !place.as_ref().is_some_and(same) {
            *place = Some(Self { function: Arc::clone(function), generation });
        }
    }
}

/// How far the invocation in a slot has come. A line of the cache is its own, because the threads of neighbouring slots write at
/// the same time.
#[derive(Default)]
#[repr(align(64))]
pub struct Progress {
    /// 0 until the invocation begins; else a [`Phase`].
    phase: AtomicU8,
    /// The id of the instance that was made in the slot last.
    instance: AtomicU64,
    /// When the invocation began, in nanoseconds since the pool was made.
    begun: AtomicU64,
}

impl Progress {
    /// The slot has been given to an invocation.
    pub(super) fn admit(&self) {
        self.phase.store(0, Ordering::Relaxed);
    }

    /// An instance is being made in the slot.
    pub(super) fn instantiate(&self, id: u64) {
        self.instance.store(id, Ordering::Relaxed);
    }

    /// The invocation begins, so long after the pool was made.
    pub(super) fn begin(&self, at: Duration) {
        self.begun.store(at.as_secs() * 1_000_000_000 + u64::from(at.subsec_nanos()), Ordering::Relaxed);
        self.enter(Phase::Instantiate);
    }

    /// The invocation enters this phase.
    pub(super) fn enter(&self, phase: Phase) {
        // What a reader of this phase reads beside it belongs to the same invocation.
        self.phase.store(phase as u8, Ordering::Release);
    }

    /// The slot while `guest` has the lease, so long after the pool was made.
    pub(super) fn leased(&self, guest: Occupant, now: Duration) -> Slot {
        let number = usize::from(self.phase.load(Ordering::Acquire));
        let Some(phase) = number.checked_sub(1).and_then(|index| Phase::ALL.get(index)) else {
            return Slot::Admitted { guest };
        };
        let begun = Duration::from_nanos(self.begun.load(Ordering::Relaxed));
        Slot::Running { guest, instance: self.made(), phase: *phase, age: now.saturating_sub(begun) }
    }

    /// The id of the instance that was made in the slot last, which is the one that is parked there.
    pub(super) fn made(&self) -> u64 {
        self.instance.load(Ordering::Relaxed)
    }
}
