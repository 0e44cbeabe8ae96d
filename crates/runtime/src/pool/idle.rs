//! When free slots give back the memory that they keep for the next instance.
//!
//! A slot keeps what guests write at every request ([`crate::engine::residency`]). When callers become fewer, that memory is of no
//! use. So the pool looks twice in each `pool.idleTimeout`, and if fewer slots were taken since the last look than hold memory, all
//! free ones give theirs back, as soon as no request runs: wasmtime has no slot to give to an instance while it does that. The next
//! requests fault their pages in again, once.

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
    due: bool,
}

impl Idle {
    /// Notes that so many slots are taken, one of them just now by a guest with this `pool.idleTimeout`. Returns whether it planned
    /// a look where none was planned before.
    pub fn took(&mut self, taken: u32, idle_timeout: Duration) -> bool {
        self.taken = self.taken.max(taken);
        self.hold = self.hold.max(taken);
        self.due &= self.taken < self.hold;
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

    /// Looks, if it is time. So many slots are taken now.
    pub fn look(&mut self, now: Instant, taken: u32) {
        if self.next_look.is_none_or(|next| next > now) {
            return;
        }
        self.due = self.taken < self.hold;
        self.taken = taken;
        self.next_look = Some(now + self.interval);
    }

    /// Whether free slots are to give their memory back.
    pub fn is_due(&self) -> bool {
        self.due
    }

    /// They have given it back, and so many are taken, by parked instances.
    pub fn given_back(&mut self, taken: u32) {
        self.due = false;
        (self.hold, self.taken) = (taken, taken);
        if taken == 0 {
            self.next_look = None;
        }
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
        idle.look(first - Duration::from_secs(1), 0);
        idle.look(first, 0);
        assert!(!idle.is_due(), "all of them were in use");
        idle.took(2, TIMEOUT);
        idle.look(first + TIMEOUT / 2, 0);
        assert!(idle.is_due());
        idle.given_back(0);
        assert!(!idle.is_due() && idle.next_look().is_none());
        assert!(idle.took(1, TIMEOUT));
    }

    #[test]
    fn memory_that_is_needed_again_stays() {
        let mut idle = Idle::default();
        idle.took(4, TIMEOUT);
        let first = idle.next_look().expect("a look");
        idle.look(first, 3);
        idle.look(first + TIMEOUT / 2, 3);
        assert!(idle.is_due());
        idle.took(4, TIMEOUT);
        assert!(!idle.is_due());
    }

    #[test]
    fn parked_instances_are_looked_at_again() {
        let mut idle = Idle::default();
        idle.took(3, TIMEOUT);
        idle.given_back(2);
        let next = idle.next_look().expect("two of them still hold memory");
        idle.look(next, 0);
        idle.look(next + TIMEOUT / 2, 0);
        assert!(idle.is_due());
    }
}
