//! When free slots give back the memory that they keep for the next instance.
//!
//! A slot keeps open what guests write ([`crate::engine::memory`]). When callers become fewer, that memory is of no use. So the pool
//! looks twice in each `pool.idleTimeout`, and if fewer slots were taken since the last look than hold memory, all free ones give
//! theirs back. The next requests fault their pages in again, once.

use std::time::Duration;
use tokio::time::Instant;

/// Between two looks at the least.
const SHORTEST: Duration = Duration::from_millis(10);

/// How many slots hold memory, how many are used, and when to look again.
#[derive(Debug, Default)]
pub struct Idle {
    /// The most slots that were taken at the same time since memory was given back: so many hold memory.
    hold: u32,
    /// The most slots that were taken at the same time since the last look.
    taken: u32,
    /// From one look to the next.
    interval: Duration,
    next_look: Option<Instant>,
}

impl Idle {
    /// Notes that so many slots are taken, one of them just now by a guest with this `pool.idleTimeout`. Returns whether it planned
    /// a look where none was planned before.
    pub fn took(&mut self, taken: u32, idle_timeout: Duration) -> bool {
        self.taken = self.taken.max(taken);
        self.hold = self.hold.max(taken);
        if self.next_look.is_some() {
            return false;
        }
        self.interval = (idle_timeout / 2).max(SHORTEST);
        self.next_look = Some(Instant::now() + self.interval);
        true
    }

    /// When to look next.
    pub fn next_look(&self) -> Option<Instant> {
        self.next_look
    }

    /// Looks, if it is time. So many slots are taken now. Returns whether free ones are to give their memory back now.
    pub fn look(&mut self, now: Instant, taken: u32) -> bool {
        if self.next_look.is_none_or(|next| next > now) {
            return false;
        }
        let is_due = self.taken < self.hold;
        if is_due {
            self.hold = taken;
        }
        self.taken = taken;
        self.next_look = (self.hold > 0).then(|| now + self.interval);
        is_due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(60);

    #[test]
    fn memory_goes_when_fewer_slots_are_used_than_hold_it() {
        let mut idle = Idle::default();
        assert!(idle.took(1, TIMEOUT));
        assert!(!idle.took(32, TIMEOUT));
        let first = idle.next_look().expect("there is something to look at");
        assert!(!idle.look(first - Duration::from_secs(1), 0));
        assert!(!idle.look(first, 0), "all of them were in use");
        idle.took(2, TIMEOUT);
        assert!(idle.look(first + TIMEOUT / 2, 0));
        assert!(idle.next_look().is_none());
        assert!(idle.took(1, TIMEOUT));
    }

    #[test]
    fn memory_that_is_needed_again_stays() {
        let mut idle = Idle::default();
        idle.took(4, TIMEOUT);
        let first = idle.next_look().expect("a look");
        idle.look(first, 3);
        idle.took(4, TIMEOUT);
        assert!(!idle.look(first + TIMEOUT / 2, 3));
    }

    #[test]
    fn what_is_in_use_is_looked_at_again() {
        let mut idle = Idle::default();
        idle.took(3, TIMEOUT);
        let first = idle.next_look().expect("a look");
        assert!(!idle.look(first, 2));
        assert!(idle.look(first + TIMEOUT / 2, 2));
        // Two of them still hold memory.
        assert!(!idle.look(first + TIMEOUT, 0));
        assert!(idle.look(first + TIMEOUT * 3 / 2, 0));
        assert!(idle.next_look().is_none());
    }
}
