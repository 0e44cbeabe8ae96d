//! The arithmetic of the reports.

use serde::Serialize;
use std::time::Duration;

/// A figure over several rounds: its median, and the quartiles, between which half of the values lie.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Spread {
    pub median: f64,
    pub low: f64,
    pub high: f64,
}

impl Spread {
    /// None without a value.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut sorted: Vec<f64> = values.into_iter().collect();
        sorted.sort_by(f64::total_cmp);
        let last = sorted.len().checked_sub(1)?;
        // Between two values where the place is.
        let at = |quarter: usize| f64::midpoint(sorted[last * quarter / 4], sorted[(last * quarter).div_ceil(4)]);
        Some(Self { median: at(2), low: at(1), high: at(3) })
    }
}

/// The latency, in microseconds, that `share` of a hundred stay below. `sorted` is not empty.
pub fn percentile(sorted: &[Duration], share: usize) -> f64 {
    sorted[sorted.len() * share / 100].as_nanos() as f64 / 1e3
}

#[cfg(test)]
mod tests {
    use super::Spread;

    #[test]
    fn an_odd_count_has_a_middle_value() {
        assert_eq!(Spread::of([3.0, 1.0, 8.0, 4.0, 9.0]), Some(Spread { median: 4.0, low: 3.0, high: 8.0 }));
    }

    #[test]
    fn what_lies_between_two_values_is_their_mean() {
        assert_eq!(Spread::of([4.0, 1.0, 8.0, 2.0]), Some(Spread { median: 3.0, low: 1.5, high: 6.0 }));
    }

    #[test]
    fn no_value_has_no_median() {
        assert_eq!(Spread::of([]), None);
    }
}
