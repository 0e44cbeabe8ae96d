//! How many instances of the Flex Consumption plan a load needs, how many requests each of them takes at the same time, and what they cost.
//!
//! The formulas and prices are in docs/cost.md. [`mod@replay`] plays requests against instances, one by one: those of a log, whose
//! bursts no formula knows, and in the tests random ones, which the formulas are held to.

mod replay;
#[cfg(test)]
mod tests;

use crate::config::for_guests;
use crate::timeline::{Request, Timeline};
use replay::{Replay, in_flight, replay};

/// The sizes of instances: MB, and cores (docs/flex-deploy.md §1.3).
const SIZES: [(u32, f64); 3] = [(512, 0.25), (2048, 1.0), (4096, 2.0)];
/// The most instances that the plan starts for an app (docs/flex-deploy.md §1.4).
const MOST_INSTANCES: f64 = 1000.0;
/// The most requests that `deploy.sh` lets the platform send to one instance.
const MOST_AT_ONCE: f64 = 1000.0;
/// How much of its cores an instance may use on average, so that a request seldom waits for a processor.
const BUSY: f64 = 0.7;
/// Of 1,000 requests 999 find a slot: so many standard deviations of a normal distribution.
const DEVIATIONS: f64 = 3.09;

/// An average month, in seconds: 730 hours.
const MONTH: f64 = 2_628_000.0;
/// US dollars for a GB second, on demand (docs/cost.md).
const GB_SECOND: f64 = 0.000_026;
/// US dollars for an execution (docs/cost.md).
const EXECUTION: f64 = 0.4 / 1e6;

/// What requests ask for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Load {
    /// Requests a second, on average.
    pub rate: f64,
    /// Seconds that one takes with a whole core, on average.
    pub latency: f64,
    /// Seconds of that on a processor.
    pub cpu: f64,
    /// Bytes of memory that one takes.
    pub memory: u64,
}

/// A request of a log.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Arrival {
    /// When it arrived, in seconds.
    pub at: f64,
    /// How many seconds it ran.
    pub took: f64,
}

/// What a load needs of instances of one size.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Plan {
    /// MB of an instance.
    pub size: u32,
    /// `perInstanceConcurrency` and `pool.size`.
    pub at_once: u32,
    /// Requests at the same time, all instances together, that no more than one of 1,000 arrivals exceeds.
    pub peak: u32,
    /// Instances for that peak.
    pub instances: u32,
    /// Bytes that guests take of an instance whose slots are all in use.
    pub guests: u64,
    /// Seconds of an instance that are billed in a month, all instances together.
    pub billed: f64,
    /// US dollars a month.
    pub dollars: f64,
}

/// The requests of a log that ran, in the order in which they arrived, without their wait for a slot.
pub fn arrivals(log: &Timeline) -> Vec<Arrival> {
    let arrival = |request: &Request| {
        let receipt = request.receipt.as_ref().ok()?;
        Some(Arrival { at: request.sent / 1e3, took: (receipt.end - receipt.start).max(0.0) / 1e3 })
    };
    log.requests.iter().filter_map(arrival).collect()
}

/// Requests a second, and seconds that one takes, on average. `None` for requests that took no time.
pub fn averages(arrivals: &[Arrival]) -> Option<(f64, f64)> {
    let count = arrivals.len() as f64;
    let begin = arrivals.first()?.at;
    let end = arrivals.iter().map(|one| one.at + one.took).fold(begin, f64::max);
    let latency = arrivals.iter().map(|one| one.took).sum::<f64>() / count;
    (latency > 0.0).then(|| (count / (end - begin), latency))
}

/// Plans for every size of instance; for one that does not do, why. `arrivals` are of a log, in the order in which they came, and may be none.
pub fn plans(load: &Load, arrivals: &[Arrival]) -> [(u32, Result<Plan, String>); 3] {
    SIZES.map(|(size, cores)| (size, plan(load, arrivals, size, cores)))
}

fn plan(load: &Load, arrivals: &[Arrival], size: u32, cores: f64) -> Result<Plan, String> {
    // A guest computes on one core, or on the part of it that there is.
    let slowed = load.cpu * (1.0 / cores.min(1.0) - 1.0);
    let latency = load.latency + slowed;
    let memory = for_guests(u64::from(size) << 20);
    let by_memory = memory.checked_div(load.memory).map_or(MOST_AT_ONCE, |fitting| fitting as f64);
    if by_memory < 1.0 {
        return Err(format!("guests get {} MB together", memory >> 20));
    }
    // By Little's law, as many at once as keep the cores as busy as they may be.
    // A little more makes up for what fractions lose.
    let by_cores = if load.cpu > 0.0 { BUSY * cores * latency / load.cpu + 1e-9 } else { MOST_AT_ONCE };
    let at_once = by_memory.min(by_cores).clamp(1.0, MOST_AT_ONCE).floor();
    let arrivals: Vec<_> = arrivals.iter().map(|one| Arrival { took: one.took + slowed, ..*one }).collect();
    let peak = if arrivals.is_empty() { poisson(load.rate * latency) } else { f64::from(in_flight(&arrivals)) };
    let computing = load.rate * load.cpu / (BUSY * cores);
    let instances = (peak / at_once).max(computing).ceil();
    if instances > MOST_INSTANCES {
        return Err(format!("{instances} instances, but the plan starts {MOST_INSTANCES} at most"));
    }
    let share = if arrivals.is_empty() {
        billed_share(load.rate / instances, latency)
    } else {
        let Replay { billed, span, .. } = replay(&arrivals, instances as usize, at_once as usize);
        billed / (span * instances)
    };
    let billed = instances * share * MONTH;
    Ok(Plan {
        size,
        at_once: at_once as u32,
        peak: peak as u32,
        instances: instances as u32,
        guests: load.memory * at_once as u64,
        billed,
        dollars: billed * f64::from(size) / 1024.0 * GB_SECOND + load.rate * MONTH * EXECUTION,
    })
}

/// The number that 999 of 1,000 values of a Poisson distribution with this mean do not exceed, by Cornish and Fisher's expansion: so many
/// requests are in flight where they arrive independently of each other, however long each takes (M/G/∞).
fn poisson(mean: f64) -> f64 {
    (mean + DEVIATIONS * mean.sqrt() + (DEVIATIONS * DEVIATIONS - 1.0) / 6.0).ceil()
}

/// The part of all time that is billed for an instance with this rate and latency. A period begins with a request that finds none running, lasts to
/// the end of the last that overlaps, and for a second at least; the next begins after 1 / rate.
fn billed_share(rate: f64, latency: f64) -> f64 {
    let mean = rate * latency;
    // From any moment on, busy or not, it takes (e^mean - 1 - mean) / rate until no request runs.
    let period = latency.max(1.0) + (mean.exp() - 1.0 - mean) / rate;
    if period.is_finite() { period / (period + 1.0 / rate) } else { 1.0 }
}
