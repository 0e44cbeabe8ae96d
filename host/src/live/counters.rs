//! What is counted of the second that is under way: how invocations ended, and how long their parts took.

use crate::observe::record::{Outcome, Record};
use serde_json::{Value, json};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

/// What outcomes are told apart, in the order of [`Second::outcomes`].
pub const OUTCOMES: [&str; 5] = ["answered", "refused", "failed", "deadline", "gone"];

/// Ranges of a [`Spread`]: four for each doubling, from a microsecond to some minutes.
const RANGES: usize = 4 * 28;

/// Counts, without a lock.
#[derive(Default)]
pub struct Counters {
    outcomes: [AtomicU32; OUTCOMES.len()],
    queue: Spread,
    instantiate: Spread,
    guest: Spread,
}

/// What was counted of one second.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Second {
    /// How many invocations ended in which way.
    pub outcomes: [u32; OUTCOMES.len()],
    /// How long they waited for a slot.
    pub queue: Option<Quantiles>,
    /// How long it took to make or to take their instance.
    pub instantiate: Option<Quantiles>,
    /// How long the guest took, to the last byte.
    pub guest: Option<Quantiles>,
}

/// In milliseconds, right to an eighth.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Quantiles {
    /// Half of them took no longer.
    pub p50: f64,
    /// 99 of 100 took no longer.
    pub p99: f64,
}

impl Quantiles {
    /// As a pair.
    pub fn json(self) -> Value {
        json!([self.p50, self.p99])
    }
}

impl Counters {
    /// Counts an invocation.
    pub fn add(&self, record: &Record) {
        let place = match record.outcome {
            Outcome::Answered | Outcome::Rejected(_) => 0,
            Outcome::Refused(_) => 1,
            Outcome::Faulted(_) | Outcome::Stalled(_) => 2,
            Outcome::Deadline(_) => 3,
            Outcome::ClientGone | Outcome::CutOff => 4,
        };
        self.outcomes[place].fetch_add(1, Relaxed);
        if let Some(ran) = record.ran {
            self.queue.add(record.queued);
            self.instantiate.add(ran.instantiate);
            self.guest.add(record.total.saturating_sub(record.queued + ran.instantiate));
        }
    }

    /// What was counted since the last time.
    pub fn take(&self) -> Second {
        Second {
            outcomes: std::array::from_fn(|place| self.outcomes[place].swap(0, Relaxed)),
            queue: self.queue.take(),
            instantiate: self.instantiate.take(),
            guest: self.guest.take(),
        }
    }
}

/// How durations are spread.
struct Spread([AtomicU32; RANGES]);

impl Default for Spread {
    fn default() -> Self {
        Self([const { AtomicU32::new(0) }; RANGES])
    }
}

impl Spread {
    fn add(&self, time: Duration) {
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX).max(1);
        let octave = micros.ilog2();
        let quarter = if octave < 2 { micros << (2 - octave) } else { micros >> (octave - 2) } & 3;
        let range = octave as usize * 4 + quarter as usize;
        self.0[range.min(RANGES - 1)].fetch_add(1, Relaxed);
    }

    fn take(&self) -> Option<Quantiles> {
        let counts: [u32; RANGES] = std::array::from_fn(|range| self.0[range].swap(0, Relaxed));
        let all: u64 = counts.iter().map(|count| u64::from(*count)).sum();
        let below = |hundredths: u64| {
            let wanted = (all * hundredths).div_ceil(100);
            let mut so_far = 0;
            let range = counts.iter().position(|count| {
                so_far += u64::from(*count);
                so_far >= wanted
            })?;
            // The middle of the range.
            let (octave, quarter) = (range / 4, range % 4);
            Some((1 << octave) as f64 * (1.125 + 0.25 * quarter as f64) / 1e3)
        };
        if all == 0 { None } else { Some(Quantiles { p50: below(50)?, p99: below(99)? }) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_right_to_an_eighth() {
        let spread = Spread::default();
        for micros in [1, 2, 3, 7, 90, 1_000, 5_300, 60_000_000, 200_000_000] {
            for _ in 0..100 {
                spread.add(Duration::from_micros(micros));
            }
            let Quantiles { p50, p99 } = spread.take().expect("some");
            let wanted = micros as f64 / 1e3;
            assert!((p50 / wanted - 1.0).abs() <= 0.126, "{micros} µs: {p50} ms");
            assert!((p50 - p99).abs() < f64::EPSILON);
        }
        assert_eq!(spread.take(), None, "taken");
        spread.add(Duration::MAX);
        spread.add(Duration::ZERO);
        assert!(spread.take().expect("both").p99 > 100_000.0);
        for micros in 1..=100 {
            spread.add(Duration::from_millis(micros));
        }
        let Quantiles { p50, p99 } = spread.take().expect("some");
        assert!((44.0..57.0).contains(&p50) && (87.0..112.0).contains(&p99), "{p50} {p99}");
    }
}
