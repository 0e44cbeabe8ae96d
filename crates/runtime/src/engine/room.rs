//! How large a pool the process has room for, so that one that is too large is refused at the start and never fails
//! under load.

use super::{Kind, Shape};
use rustix::process::{Resource, getrlimit};
use std::fs;

/// Address space of one slot of an engine for each memory in it, in bytes. Counted at 400 slots: 4,134 MiB, nearly all of it
/// reserved for the memory.
pub const ADDRESSES_PER_MEMORY: u64 = 4136 << 20;
/// Memory mappings of one stack: itself and its guard.
const MAPPINGS_PER_STACK: u64 = 2;
/// Memory mappings of a memory in use, with an image in it. Counted at 400 slots.
const MAPPINGS_PER_MEMORY: u64 = 4;

/// User space of a 64-bit process on Linux: 47 bits.
const ADDRESSES: u64 = 1 << 47;
/// Addresses that are kept for everything else: code, heap, mapped guests.
const SPARE_ADDRESSES: u64 = 1 << 40;
/// Mappings that are kept for everything else.
const SPARE_MAPPINGS: u64 = 1_000;

/// Linux's `DEFAULT_MAX_MAP_COUNT`.
const DEFAULT_MAPPINGS: u64 = 65_530;

const MAX_MAP_COUNT: &str = "/proc/sys/vm/max_map_count";

/// Refuses a pool that does not fit into these engines together: each of them reserves every slot, though only as many are
/// used at the same time as the pool has. Each makes one slot more, for trials.
///
/// # Errors
/// One text for a person: the limit, the reason, and the largest pool that works.
pub fn check(pool_size: u32, engines: &[Kind]) -> Result<(), String> {
    let space = getrlimit(Resource::As).current;
    let mappings = fs::read_to_string(MAX_MAP_COUNT).ok().and_then(|text| text.trim().parse().ok());
    fits(u64::from(pool_size), engines, space, mappings)
}

/// As [`check`], by the limits that Linux has by default in place of this machine's.
///
/// # Errors
/// As [`check`].
pub fn check_defaults(pool_size: u32, engines: &[Kind]) -> Result<(), String> {
    fits(u64::from(pool_size), engines, None, Some(DEFAULT_MAPPINGS))
}

fn fits(pool_size: u64, engines: &[Kind], space_limit: Option<u64>, mapping_limit: Option<u64>) -> Result<(), String> {
    let memories = engines.iter().map(|kind| u64::from(kind.shape.memories()));
    let addresses = ADDRESSES_PER_MEMORY * memories.clone().sum::<u64>();
    let stacks: u64 = engines.iter().map(|kind| u64::from(kind.wasi.stacks())).sum();
    let mappings_per_slot = MAPPINGS_PER_MEMORY * memories.max().unwrap_or(0) + MAPPINGS_PER_STACK * stacks;
    let slots = pool_size + 1;
    let largest = |total: u64, spare: u64, each: u64| (total.saturating_sub(spare) / each).saturating_sub(1);
    let most = |largest: u64| match largest {
        0 => "not even one slot fits".to_owned(),
        largest => format!("set pool.size to at most {largest}"),
    };
    // A limited process needs no terabyte beside its slots.
    let (space, spare) = space_limit.map_or((ADDRESSES, SPARE_ADDRESSES), |limit| (limit, 1 << 30));
    let fitting = largest(space, spare, addresses);
    if pool_size > fitting {
        let limit = if space_limit.is_some() { "limited to (ulimit -v)" } else { "able to address" };
        return Err(format!(
            "pool.size {pool_size} does not fit: each slot reserves {} MiB of addresses{} and this process is {limit} {} MiB; {}",
            addresses >> 20,
            for_whom(engines),
            space >> 20,
            most(fitting)
        ));
    }
    // Where the kernel does not tell, nothing is known to be wrong.
    let Some(mappings) = mapping_limit else { return Ok(()) };
    let fitting = largest(mappings, SPARE_MAPPINGS, mappings_per_slot);
    if pool_size > fitting {
        return Err(format!(
            "pool.size {pool_size} does not fit: each slot in use takes {mappings_per_slot} memory mappings{} and Linux grants a \
             process {mappings} (vm.max_map_count); {}, or raise the limit: sysctl vm.max_map_count={}",
            for_whom(engines),
            most(fitting),
            slots * mappings_per_slot + SPARE_MAPPINGS
        ));
    }
    Ok(())
}

/// Names the engines, where it is a guest of several memories that takes the room.
fn for_whom(engines: &[Kind]) -> String {
    if engines.iter().all(|kind| kind.shape == Shape::PLAIN) {
        return String::new();
    }
    let names: Vec<String> = engines.iter().map(ToString::to_string).collect();
    format!(" (for guests of {})", names.join(", of "))
}

#[cfg(test)]
mod tests {
    use super::super::Wasi;
    use super::{Kind, Shape, fits};

    const ONE: &[Kind] = &[Kind::plain(Wasi::P2)];

    #[test]
    fn a_pool_is_held_to_the_mappings_of_a_process() {
        assert_eq!(fits(10_754, ONE, None, Some(65_530)), Ok(()));
        let why = fits(10_755, ONE, None, Some(65_530)).expect_err("one too many");
        assert!(why.contains("vm.max_map_count"), "{why}");
        assert!(why.contains("set pool.size to at most 10754"), "{why}");
        // What it advises works.
        assert!(why.ends_with("sysctl vm.max_map_count=65536"), "{why}");
        assert_eq!(fits(10_755, ONE, None, Some(65_536)), Ok(()));
    }

    #[test]
    fn a_second_engine_takes_room_too() {
        // 4 mappings for the memory in use, 2 and 4 for the stacks of the two.
        let both = &[Wasi::P2, Wasi::P3].map(Kind::plain);
        assert_eq!(fits(6_452, both, None, Some(65_530)), Ok(()));
        assert!(fits(6_453, both, None, Some(65_530)).is_err());
        assert!(fits(17_000, both, None, None).is_err());
    }

    #[test]
    fn every_memory_of_a_slot_takes_room() {
        let eight = Kind { wasi: Wasi::P2, shape: Shape::of(8, 0).expect("a shape") };
        // 4 mappings for each of the memories, 2 and 2 for the stacks of the two engines.
        let engines = &[ONE[0], eight];
        assert_eq!(fits(1_791, engines, None, Some(65_530)), Ok(()));
        assert!(fits(1_792, engines, None, Some(65_530)).is_err());
        let why = fits(4_000, engines, None, None).expect_err("too many");
        assert!(
            why.contains("reserves 37224 MiB of addresses (for guests of WASI 0.2, of WASI 0.2 with 8 memories)"),
            "{why}"
        );
    }

    #[test]
    fn a_pool_is_held_to_the_address_space() {
        assert_eq!(fits(32_000, ONE, None, None), Ok(()));
        let why = fits(40_000, ONE, None, Some(10_000_000)).expect_err("too many");
        assert!(why.contains("each slot reserves 4136 MiB") && why.contains("at most 32196"), "{why}");
        let why = fits(100, ONE, Some(100 << 30), None).expect_err("too many for the limit");
        assert!(why.contains("ulimit -v") && why.contains("at most 23"), "{why}");
        assert_eq!(fits(23, ONE, Some(100 << 30), None), Ok(()));
        let why = fits(1, ONE, Some(1 << 30), None).expect_err("no room");
        assert!(why.contains("not even one slot fits"), "{why}");
    }
}
