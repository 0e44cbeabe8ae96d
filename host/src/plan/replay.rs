//! Requests, played against instances.

use super::Arrival;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Seconds that are billed for a period at least, and the step above (docs/flex-deploy.md §1.3).
const SHORTEST: f64 = 1.0;
const STEP: f64 = 0.1;
/// For times that are sums: less than a log tells.
const TINY: f64 = 1e-6;

/// What became of them.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Replay {
    /// Requests that found all slots of all instances taken.
    pub waited: usize,
    /// Billed seconds of all instances.
    pub billed: f64,
    /// Seconds from the first arrival to the end of the last request.
    pub span: f64,
}

#[derive(Default, Clone)]
struct Instance {
    /// When its requests end.
    ends: BinaryHeap<Reverse<Moment>>,
    /// The period that is running: when it began, and when the last of its requests ends.
    period: Option<(f64, f64)>,
    billed: f64,
}

/// Seconds, in order.
#[derive(Clone, Copy, PartialEq)]
struct Moment(f64);

impl Eq for Moment {}

impl PartialOrd for Moment {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Moment {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.total_cmp(&other.0)
    }
}

impl Instance {
    fn leave(&mut self, now: f64) {
        while self.ends.peek().is_some_and(|Reverse(Moment(end))| *end <= now) {
            self.ends.pop();
        }
    }

    fn take(&mut self, at: f64, end: f64) {
        self.ends.push(Reverse(Moment(end)));
        self.period = match self.period {
            Some((begun, last)) if at <= last.max(begun + SHORTEST) => Some((begun, last.max(end))),
            _ => {
                self.close();
                Some((at, end))
            }
        };
    }

    fn close(&mut self) {
        if let Some((begun, last)) = self.period.take() {
            self.billed += (((last - begun).max(SHORTEST) - TINY) / STEP).ceil() * STEP;
        }
    }
}

/// Gives each request, in the order in which they arrive, to the instance that runs the fewest, by turns where several do. Where none has a
/// free slot the request waits for the first.
pub fn replay(arrivals: &[Arrival], instances: usize, at_once: usize) -> Replay {
    let mut all = vec![Instance::default(); instances];
    let (mut waited, mut last) = (0, 0.0_f64);
    for (turn, Arrival { at, took }) in arrivals.iter().copied().enumerate() {
        all.iter_mut().for_each(|instance| instance.leave(at));
        let by_turns = |place: &usize| (place + instances - turn % instances) % instances;
        let freest = (0..instances).min_by_key(|place| (all[*place].ends.len(), by_turns(place))).unwrap_or_default();
        let (chosen, start) = if all[freest].ends.len() < at_once {
            (&mut all[freest], at)
        } else {
            waited += 1;
            let next = |instance: &Instance| instance.ends.peek().map_or(at, |Reverse(Moment(end))| *end);
            let place = (0..instances).min_by_key(|place| Moment(next(&all[*place]))).unwrap_or_default();
            let start = next(&all[place]);
            // It has the slot from now on, for the other and then for itself.
            all[place].ends.pop();
            (&mut all[place], start)
        };
        chosen.take(start, start + took);
        last = last.max(start + took);
    }
    all.iter_mut().for_each(Instance::close);
    let span = last - arrivals.first().map_or(last, |first| first.at);
    Replay { waited, billed: all.iter().map(|instance| instance.billed).sum(), span }
}

/// How many are in flight when one arrives, with it: the number that 999 of 1,000 do not exceed.
pub fn in_flight(arrivals: &[Arrival]) -> u32 {
    let mut running = Instance::default();
    let mut counts: Vec<usize> = arrivals
        .iter()
        .map(|Arrival { at, took }| {
            running.leave(*at);
            running.ends.push(Reverse(Moment(at + took)));
            running.ends.len()
        })
        .collect();
    counts.sort_unstable();
    let place = (counts.len() * 999).div_ceil(1000).saturating_sub(1);
    counts.get(place).map_or(0, |count| u32::try_from(*count).unwrap_or(u32::MAX))
}
