//! Memory and tables: what one instance may have, and what all of them together may have.

use super::hit::Hit;
use crate::config::settings::Limits;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use wasmtime::ResourceLimiter;

/// Guest memory of all instances (`limits.totalMemory`). What has been taken is never more than the limit.
#[derive(Debug)]
pub struct Budget {
    limit: u64,
    taken: AtomicU64,
}

impl Budget {
    /// A budget of `limit` bytes.
    pub fn new(limit: u64) -> Arc<Self> {
        Arc::new(Self { limit, taken: AtomicU64::new(0) })
    }

    /// Bytes in all.
    pub fn limit(&self) -> u64 {
        self.limit
    }

    /// Bytes that are taken now.
    pub fn taken(&self) -> u64 {
        self.taken.load(Ordering::Acquire)
    }

    /// Takes `bytes`, or nothing when they are not there.
    pub fn reserve(self: &Arc<Self>, bytes: u64) -> Option<Reservation> {
        let mut reservation = Reservation { budget: Arc::clone(self), bytes: 0 };
        reservation.grow_to(bytes).then_some(reservation)
    }
}

/// Bytes taken from a [`Budget`]; dropping gives them back.
#[derive(Debug)]
pub struct Reservation {
    budget: Arc<Budget>,
    bytes: u64,
}

impl Reservation {
    /// Makes sure that at least `bytes` are taken. False, and no change, when the budget does not hold them.
    fn grow_to(&mut self, bytes: u64) -> bool {
        let Some(more) = bytes.checked_sub(self.bytes).filter(|more| *more > 0) else { return true };
        let take = |taken: u64| taken.checked_add(more).filter(|sum| *sum <= self.budget.limit);
        let done = self.budget.taken.try_update(Ordering::AcqRel, Ordering::Acquire, take).is_ok();
        if done {
            self.bytes = bytes;
        }
        done
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.budget.taken.fetch_sub(self.bytes, Ordering::AcqRel);
    }
}

/// Answers wasmtime's questions whether a memory or table may grow. A refused growth is an error value in the guest,
/// which most guests then turn into a trap.
///
/// wasmtime asks before it looks at the maximum that the component declares, so that is looked at here as well: a growth
/// that cannot happen is not booked. The callbacks for failed growth are of no use for this, because they also report
/// growth that was never asked about. What remains is the system refusing memory that was granted; that stays booked until
/// the instance ends.
#[derive(Debug)]
pub struct Limiter {
    memory: u64,
    memory_limit: u64,
    tables: u64,
    table_limit: u32,
    /// How many memories and core instances there may be.
    most_memories: usize,
    most_instances: usize,
    reservation: Reservation,
    hit: Option<Hit>,
}

/// How many tables an instance may have; their elements are bounded together.
const MOST_TABLES: usize = 64;

impl Limiter {
    /// A limiter whose first bytes have been reserved at admission.
    pub fn new(limits: &Limits, reservation: Reservation) -> Self {
        Self {
            memory: 0,
            memory_limit: limits.memory,
            tables: 0,
            table_limit: limits.table_elements,
            most_memories: 1,
            most_instances: 1,
            reservation,
            hit: None,
        }
    }

    /// Allows the instance so many memories and core instances, in place of one each. What a component says of itself may be less than what
    /// it makes.
    pub fn allow(&mut self, memories: usize, core_instances: usize) {
        (self.most_memories, self.most_instances) = (memories, core_instances);
    }

    /// Bytes of memory that the instance has.
    pub fn memory(&self) -> u64 {
        self.memory
    }

    /// Forgets what an earlier invocation ran into.
    pub fn begin(&mut self) {
        self.hit = None;
    }

    /// The limit that refused the last growth.
    pub fn hit(&self) -> Option<Hit> {
        self.hit
    }
}

impl ResourceLimiter for Limiter {
    fn memory_growing(&mut self, current: usize, desired: usize, most: Option<usize>) -> wasmtime::Result<bool> {
        if most.is_some_and(|most| desired > most) {
            self.hit = None;
            return Ok(false);
        }
        let wanted = self.memory + (desired - current) as u64;
        if wanted > self.memory_limit {
            self.hit = Some(Hit::Memory(self.memory_limit));
        } else if !self.reservation.grow_to(wanted) {
            self.hit = Some(Hit::TotalMemory(self.reservation.budget.limit));
        } else {
            self.memory = wanted;
            return Ok(true);
        }
        Ok(false)
    }

    fn table_growing(&mut self, current: usize, desired: usize, most: Option<usize>) -> wasmtime::Result<bool> {
        let wanted = self.tables + (desired - current) as u64;
        if wanted > u64::from(self.table_limit) {
            self.hit = Some(Hit::TableElements(self.table_limit));
            return Ok(false);
        }
        if most.is_some_and(|most| desired > most) {
            self.hit = None;
            return Ok(false);
        }
        self.tables = wanted;
        Ok(true)
    }

    fn memories(&self) -> usize {
        self.most_memories
    }

    fn instances(&self) -> usize {
        self.most_instances
    }

    fn tables(&self) -> usize {
        MOST_TABLES
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_budget_is_never_overdrawn() {
        let budget = Budget::new(100);
        let mut first = budget.reserve(60).expect("60 of 100");
        assert!(budget.reserve(41).is_none());
        let second = budget.reserve(40).expect("the rest");
        assert!(!first.grow_to(61));
        drop(second);
        assert!(first.grow_to(100));
        drop(first);
        assert_eq!(budget.taken.load(Ordering::Acquire), 0);
    }

    #[test]
    fn growth_beyond_what_the_component_declares_is_not_booked() {
        let budget = Budget::new(128 << 20);
        let mut limiter = Limiter::new(&Limits::default(), budget.reserve(64 << 10).expect("there is room"));
        assert!(limiter.memory_growing(0, 64 << 10, Some(64 << 10)).expect("no trap"));
        assert!(!limiter.memory_growing(64 << 10, 124 << 20, Some(64 << 10)).expect("no trap"));
        assert_eq!((limiter.memory(), limiter.hit()), (64 << 10, None));
        assert_eq!(budget.taken.load(Ordering::Acquire), 64 << 10);
        assert!(!limiter.table_growing(1, 19_000, Some(1)).expect("no trap"));
        assert!(limiter.table_growing(1, 20_000, None).expect("no trap"), "a refused growth was counted");
    }

    #[test]
    fn growth_stops_at_the_limit_and_says_which() {
        let budget = Budget::new(1 << 20);
        let limits = Limits { memory: 128 << 10, table_elements: 10, ..Limits::default() };
        let mut limiter = Limiter::new(&limits, budget.reserve(64 << 10).expect("there is room"));
        assert!(limiter.memory_growing(0, 64 << 10, None).expect("no trap"));
        assert!(limiter.memory_growing(0, 32 << 10, None).expect("no trap"));
        assert!(limiter.memory_growing(32 << 10, 64 << 10, None).expect("no trap"));
        assert_eq!((limiter.memory(), limiter.hit()), (128 << 10, None));
        assert!(!limiter.memory_growing(128 << 10, 192 << 10, None).expect("no trap"));
        assert_eq!(limiter.hit(), Some(Hit::Memory(128 << 10)));
        assert!(limiter.table_growing(0, 10, None).expect("no trap"));
        assert!(!limiter.table_growing(10, 11, None).expect("no trap"));
        assert_eq!(limiter.hit(), Some(Hit::TableElements(10)));

        let mut poor = Limiter::new(&Limits::default(), Budget::new(10).reserve(0).expect("nothing"));
        assert!(!poor.memory_growing(0, 11, None).expect("no trap"));
        assert_eq!(poor.hit(), Some(Hit::TotalMemory(10)));
    }
}
