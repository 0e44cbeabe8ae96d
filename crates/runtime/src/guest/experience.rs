//! What has been seen of a guest whose instances serve several requests (`pool.reuse`): whether that works at all.

use crate::sandbox::leftovers::NotParked;
use std::fmt::Display;
use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};

/// After how many requests whose instance was not parked the log has a line about it.
const ENOUGH: u32 = 100;

/// No instance has been parked yet.
const UNTRIED: u8 = 0;
/// One has been.
const PARKED: u8 = 1;
/// One that had been parked has answered another request.
const PROVEN: u8 = 2;
/// One that had been parked failed its second request, before any had answered one.
const FAILED: u8 = 3;

/// What the instances of one guest have shown so far.
#[derive(Debug, Default)]
pub struct Experience {
    state: AtomicU8,
    /// Requests whose instance was not parked.
    unparked: AtomicU32,
}

impl Experience {
    /// Whether every request gets a fresh instance, whatever `pool.reuse` says.
    pub fn runs_fresh(&self) -> bool {
        self.state.load(Ordering::Acquire) == FAILED
    }

    /// An instance is parked.
    pub fn parked(&self) {
        self.becomes(UNTRIED, PARKED);
    }

    /// An instance has answered a request that was not its first.
    pub fn answered_again(&self) {
        self.becomes(PARKED, PROVEN);
    }

    /// An instance of `function` has failed its second request. Returns whether the guest runs fresh from now on, and logs that.
    ///
    /// Where another instance has answered its second request before, it is the request that was at fault.
    pub fn failed_again(&self, function: &str, why: &impl Display) -> bool {
        let fails = self.becomes(PARKED, FAILED);
        if fails {
            tracing::warn!(
                %function,
                "pool.reuse is without effect: in an instance that had answered one request the guest failed the next: it {why}; \
                 from now on each request gets a fresh instance"
            );
        }
        fails
    }

    /// An instance of `function` has answered and is not parked. Says so once, if none ever was.
    pub fn not_parked(&self, function: &str, why: NotParked) {
        if self.state.load(Ordering::Acquire) == UNTRIED && self.unparked.fetch_add(1, Ordering::Relaxed) + 1 == ENOUGH
        {
            tracing::warn!(
                %function,
                "pool.reuse is without effect: of {ENOUGH} instances none could be given a second request, the last one because {}",
                why.explained()
            );
        }
    }

    fn becomes(&self, from: u8, to: u8) -> bool {
        // Most of the time there is nothing to change, so nothing is written.
        self.state.load(Ordering::Acquire) == from
            && self.state.compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guest_that_fails_its_second_request_runs_fresh_unless_another_instance_has_answered_one() {
        let experience = Experience::default();
        assert!(!experience.failed_again("f", &"was never parked"));
        experience.parked();
        assert!(experience.failed_again("f", &"trapped"));
        assert!(!experience.failed_again("f", &"trapped") && experience.runs_fresh());

        let experience = Experience::default();
        experience.parked();
        experience.answered_again();
        assert!(!experience.failed_again("f", &"trapped") && !experience.runs_fresh());
    }
}
