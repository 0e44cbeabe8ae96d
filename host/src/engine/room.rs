//! How large a pool the process has room for, so that one that is too large is refused at the start and never fails
//! under load.

use rustix::process::{Resource, getrlimit};
use std::fs;

/// Address space of one slot, in bytes. Counted at 400 slots: 4,134 MiB, nearly all of it reserved for the memory.
const ADDRESSES_PER_SLOT: u64 = 4136 << 20;
/// Memory mappings of one slot in use. Counted at 400 slots: 2 for the stack, 4 for a memory with an image in it.
const MAPPINGS_PER_SLOT: u64 = 6;

/// User space of a 64-bit process on Linux: 47 bits.
const ADDRESSES: u64 = 1 << 47;
/// Kept for everything else: code, heap, mapped guests.
const SPARE_ADDRESSES: u64 = 1 << 40;
/// The same, in mappings.
const SPARE_MAPPINGS: u64 = 1_000;

const MAX_MAP_COUNT: &str = "/proc/sys/vm/max_map_count";

/// Refuses a pool that does not fit. One slot more than the pool is made, for trials.
///
/// # Errors
/// One text for a person: the limit, the reason, and the largest pool that works.
pub fn check(pool_size: u32) -> Result<(), String> {
    let space = getrlimit(Resource::As).current;
    let mappings = fs::read_to_string(MAX_MAP_COUNT).ok().and_then(|text| text.trim().parse().ok());
    fits(u64::from(pool_size), space, mappings)
}

fn fits(pool_size: u64, space_limit: Option<u64>, mapping_limit: Option<u64>) -> Result<(), String> {
    let slots = pool_size + 1;
    let largest = |total: u64, spare: u64, each: u64| (total.saturating_sub(spare) / each).saturating_sub(1);
    let most = |largest: u64| match largest {
        0 => "not even one slot fits".to_owned(),
        largest => format!("set pool.size to at most {largest}"),
    };
    // A limited process needs no terabyte beside its slots.
    let (space, spare) = space_limit.map_or((ADDRESSES, SPARE_ADDRESSES), |limit| (limit, 1 << 30));
    let fitting = largest(space, spare, ADDRESSES_PER_SLOT);
    if pool_size > fitting {
        let limit = if space_limit.is_some() { "limited to (ulimit -v)" } else { "able to address" };
        return Err(format!(
            "pool.size {pool_size} does not fit: each slot reserves {} MiB of addresses and this process is {limit} {} MiB; {}",
            ADDRESSES_PER_SLOT >> 20,
            space >> 20,
            most(fitting)
        ));
    }
    // Where the kernel does not tell, nothing is known to be wrong.
    let Some(mappings) = mapping_limit else { return Ok(()) };
    let fitting = largest(mappings, SPARE_MAPPINGS, MAPPINGS_PER_SLOT);
    if pool_size > fitting {
        return Err(format!(
            "pool.size {pool_size} does not fit: each slot in use takes {MAPPINGS_PER_SLOT} memory mappings and Linux grants a \
             process {mappings} (vm.max_map_count); {}, or raise the limit: sysctl vm.max_map_count={}",
            most(fitting),
            slots * MAPPINGS_PER_SLOT + SPARE_MAPPINGS
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::fits;

    #[test]
    fn a_pool_is_held_to_the_mappings_of_a_process() {
        assert_eq!(fits(10_754, None, Some(65_530)), Ok(()));
        let why = fits(10_755, None, Some(65_530)).expect_err("one too many");
        assert!(why.contains("vm.max_map_count"), "{why}");
        assert!(why.contains("set pool.size to at most 10754"), "{why}");
        // What it advises works.
        assert!(why.ends_with("sysctl vm.max_map_count=65536"), "{why}");
        assert_eq!(fits(10_755, None, Some(65_536)), Ok(()));
    }

    #[test]
    fn a_pool_is_held_to_the_address_space() {
        assert_eq!(fits(32_000, None, None), Ok(()));
        let why = fits(40_000, None, Some(10_000_000)).expect_err("too many");
        assert!(why.contains("each slot reserves 4136 MiB") && why.contains("at most 32196"), "{why}");
        let why = fits(100, Some(100 << 30), None).expect_err("too many for the limit");
        assert!(why.contains("ulimit -v") && why.contains("at most 23"), "{why}");
        assert_eq!(fits(23, Some(100 << 30), None), Ok(()));
        let why = fits(1, Some(1 << 30), None).expect_err("no room");
        assert!(why.contains("not even one slot fits"), "{why}");
    }
}
