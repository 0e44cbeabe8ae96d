//! How large a pool the process has room for, so that one that is too large is refused at the start and never fails
//! under load.

use super::Wasi;
use super::memory::{DISTANCE, RUNS};
use rustix::process::{Resource, getrlimit};
use std::fs;

/// Memory mappings of one stack: itself and its guard.
const MAPPINGS_PER_STACK: u64 = 2;
/// Memory mappings of a memory in use: what it begins with, zeros before and behind, and what is inaccessible.
const MAPPINGS_PER_MEMORY: u64 = 4;
/// One more where some pages are open and others are not: what has grown is no part of the zeros then.
const MAPPINGS_OF_GROWTH: u64 = 1;
/// More memory mappings for each run of open pages.
const MAPPINGS_PER_RUN: u64 = 2;

/// User space of a 64-bit process on Linux: 47 bits.
const ADDRESSES: u64 = 1 << 47;
/// Addresses that are kept for everything else: code, heap, mapped guests.
const SPARE_ADDRESSES: u64 = 1 << 40;
/// Mappings that are kept for everything else.
const SPARE_MAPPINGS: u64 = 1_000;

/// Linux's `DEFAULT_MAX_MAP_COUNT`.
const DEFAULT_MAPPINGS: u64 = 65_530;

const MAX_MAP_COUNT: &str = "/proc/sys/vm/max_map_count";

/// What guests need in a slot while they run, each the most of any of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fit {
    /// Linear memories.
    pub memories: u64,
    /// The version of WASI.
    pub wasi: Wasi,
}

impl Default for Fit {
    /// What every guest needs.
    fn default() -> Self {
        Self { memories: 1, wasi: Wasi::P2 }
    }
}

impl Fit {
    /// What this needs, and that.
    pub fn and(self, other: Self) -> Self {
        Self { memories: self.memories.max(other.memories), wasi: self.wasi.max(other.wasi) }
    }

    fn mappings(self) -> u64 {
        MAPPINGS_PER_MEMORY * self.memories + MAPPINGS_PER_STACK * u64::from(self.wasi.stacks())
    }
}

/// Refuses a pool of which not every slot could hold such a guest at the same time. There is one slot more, for trials.
///
/// # Errors
/// One text for a person: the limit, the reason, and the largest pool that works.
pub fn check(pool_size: u32, fit: Fit) -> Result<(), String> {
    fits(u64::from(pool_size), fit, getrlimit(Resource::As).current, mappings())
}

/// As [`check`], by the limits that Linux has by default in place of this machine's.
///
/// # Errors
/// As [`check`].
pub fn check_defaults(pool_size: u32, fit: Fit) -> Result<(), String> {
    fits(u64::from(pool_size), fit, None, Some(DEFAULT_MAPPINGS))
}

/// Runs of open pages that each slot of a pool can have, while plain guests are in all of them.
pub fn runs(pool_size: u32) -> usize {
    runs_of(u64::from(pool_size), mappings())
}

fn runs_of(pool_size: u64, mappings: Option<u64>) -> usize {
    let each = mappings.unwrap_or(DEFAULT_MAPPINGS).saturating_sub(SPARE_MAPPINGS) / (pool_size + 1);
    let most = Fit { wasi: Wasi::P3, ..Fit::default() }.mappings() + MAPPINGS_OF_GROWTH;
    usize::try_from(each.saturating_sub(most) / MAPPINGS_PER_RUN).map_or(RUNS, |runs| runs.min(RUNS))
}

/// What the kernel grants a process.
fn mappings() -> Option<u64> {
    fs::read_to_string(MAX_MAP_COUNT).ok().and_then(|text| text.trim().parse().ok())
}

fn fits(pool_size: u64, fit: Fit, space_limit: Option<u64>, mapping_limit: Option<u64>) -> Result<(), String> {
    let addresses = DISTANCE as u64 * fit.memories;
    let slots = pool_size + 1;
    let largest = |total: u64, spare: u64, each: u64| (total.saturating_sub(spare) / each).saturating_sub(1);
    let most = |largest: u64| match largest {
        0 => "not even one slot fits".to_owned(),
        largest => format!("set pool.size to at most {largest}"),
    };
    let whom = if fit.memories > 1 { format!(" (for a guest with {} memories)", fit.memories) } else { String::new() };
    // A limited process needs no terabyte beside its slots.
    let (space, spare) = space_limit.map_or((ADDRESSES, SPARE_ADDRESSES), |limit| (limit, 1 << 30));
    let fitting = largest(space, spare, addresses);
    if pool_size > fitting {
        let limit = if space_limit.is_some() { "limited to (ulimit -v)" } else { "able to address" };
        return Err(format!(
            "pool.size {pool_size} does not fit: each slot reserves {} MiB of addresses{whom} and this process is {limit} {} MiB; {}",
            addresses >> 20,
            space >> 20,
            most(fitting)
        ));
    }
    // Where the kernel does not tell, nothing is known to be wrong.
    let Some(mappings) = mapping_limit else { return Ok(()) };
    let each = fit.mappings();
    let fitting = largest(mappings, SPARE_MAPPINGS, each);
    if pool_size > fitting {
        return Err(format!(
            "pool.size {pool_size} does not fit: each slot in use takes {each} memory mappings{whom} and Linux grants a \
             process {mappings} (vm.max_map_count); {}, or raise the limit: sysctl vm.max_map_count={}",
            most(fitting),
            slots * each + SPARE_MAPPINGS
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Fit = Fit { memories: 1, wasi: Wasi::P2 };

    #[test]
    fn a_pool_is_held_to_the_mappings_of_a_process() {
        assert_eq!(fits(10_754, PLAIN, None, Some(65_530)), Ok(()));
        let why = fits(10_755, PLAIN, None, Some(65_530)).expect_err("one too many");
        assert!(why.contains("vm.max_map_count"), "{why}");
        assert!(why.contains("set pool.size to at most 10754"), "{why}");
        // What it advises works.
        assert!(why.ends_with("sysctl vm.max_map_count=65536"), "{why}");
        assert_eq!(fits(10_755, PLAIN, None, Some(65_536)), Ok(()));
    }

    #[test]
    fn slots_have_the_mappings_that_are_left() {
        // 9 for what every guest has.
        assert_eq!([32, 1_000, 4_000, 10_000].map(|size| runs_of(size, Some(65_530))), [RUNS, 27, 3, 0]);
        assert_eq!(runs_of(10_000, Some(1 << 20)), 47);
        assert_eq!(runs_of(100, None), 314);
    }

    #[test]
    fn every_memory_and_stack_of_a_slot_takes_room() {
        // 4 mappings for each memory, 2 for each stack.
        assert_eq!(fits(8_065, Fit { wasi: Wasi::P3, ..PLAIN }, None, Some(65_530)), Ok(()));
        assert!(fits(8_066, Fit { wasi: Wasi::P3, ..PLAIN }, None, Some(65_530)).is_err());
        let eight = Fit { memories: 8, ..PLAIN };
        assert_eq!(eight.and(Fit { wasi: Wasi::P3, ..PLAIN }), Fit { memories: 8, wasi: Wasi::P3 });
        assert_eq!(fits(1_896, eight, None, Some(65_530)), Ok(()));
        assert!(fits(1_897, eight, None, Some(65_530)).is_err());
        let why = fits(4_500, eight, None, None).expect_err("too many");
        assert!(why.contains("reserves 33024 MiB of addresses (for a guest with 8 memories)"), "{why}");
    }

    #[test]
    fn a_pool_is_held_to_the_address_space() {
        assert_eq!(fits(32_000, PLAIN, None, None), Ok(()));
        let why = fits(40_000, PLAIN, None, Some(10_000_000)).expect_err("too many");
        assert!(why.contains("each slot reserves 4128 MiB") && why.contains("at most 32258"), "{why}");
        let why = fits(100, PLAIN, Some(100 << 30), None).expect_err("too many for the limit");
        assert!(why.contains("ulimit -v") && why.contains("at most 23"), "{why}");
        assert_eq!(fits(23, PLAIN, Some(100 << 30), None), Ok(()));
        let why = fits(1, PLAIN, Some(1 << 30), None).expect_err("no room");
        assert!(why.contains("not even one slot fits"), "{why}");
    }
}
