//! How much of a guest's memory a slot keeps between two requests.
//!
//! What is given back to the kernel has to be faulted in again by the next instance, and each page that a guest then writes is made
//! known to every processor that runs a thread of this process: two of them were slower than one (measured with JavaScript: 1,249
//! answers a second in place of 1,670). So whatever guests write at every request is kept and copied back.

use super::Shape;
use crate::observe::machine::Scan;

/// Slots keep at most this part of `limits.totalMemory` together: a quarter.
const SHARE: u64 = 4;

/// Without the scan a single processor, which has no other to tell, copies so much back faster than it faults it in. Measured: a
/// memory of 256 KiB makes 1.6 times the answers, one of 2 MiB 0.6 times.
const SMALL: u64 = 512 << 10;

/// Bytes that each of so many slots may keep, within its share of `limits.totalMemory`.
pub fn most(slots: u32, total_memory: u64) -> u64 {
    // One more is for trials.
    total_memory / SHARE / (u64::from(slots) + 1)
}

/// Bytes of each of its memories that a slot keeps, of the `most` that it may in all, by the shape of its engine.
///
/// With the scan it is a bound: wasmtime copies back what was written and no more. Without it, wasmtime copies back the first bytes
/// of a memory, written or not, and gives back the rest, which for a guest with a larger memory is the worst of both. So it is the
/// whole memory of the guests that it fits, with as much again for growth, and nothing of the others but that. `memories` are those
/// that the known guests, and what stands in front of them, begin with.
pub fn keep(scan: Scan, processors: usize, most: u64, memories: &[u64]) -> [u64; Shape::COUNT] {
    Shape::each(|shape| keep_of_each(scan, processors, most / u64::from(shape.memories()), memories))
}

fn keep_of_each(scan: Scan, processors: usize, most: u64, memories: &[u64]) -> u64 {
    if scan == Scan::On {
        return most;
    }
    let most = if processors > 1 { most } else { most.min(SMALL) };
    let kept = memories.iter().copied().filter(|memory| *memory <= most).max().unwrap_or(0);
    most.min(2 * kept)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn with_the_scan_a_slot_keeps_what_it_may() {
        assert_eq!(most(31, 1228 * MIB), 1228 * MIB / 128);
        assert_eq!(keep(Scan::On, 1, 8 * MIB, &[]), [8 * MIB, 4 * MIB, 2 * MIB, MIB, MIB / 2]);
    }

    #[test]
    fn without_it_each_memory_of_several_is_kept_as_a_whole_or_not_at_all() {
        assert_eq!(keep(Scan::Missing, 2, 8 * MIB, &[3 * MIB, MIB]), [6 * MIB, 4 * MIB, 2 * MIB, MIB, 0]);
    }

    #[test]
    fn without_it_a_memory_is_kept_as_a_whole_or_not_at_all() {
        let keep = |scan, processors, most, memories: &[u64]| keep(scan, processors, most, memories)[0];
        for scan in [Scan::Missing, Scan::SwitchedOff] {
            assert_eq!(keep(scan, 2, 9 * MIB, &[]), 0);
            assert_eq!(keep(scan, 2, 9 * MIB, &[MIB, 3 * MIB]), 6 * MIB);
            assert_eq!(keep(scan, 2, 9 * MIB, &[8 * MIB]), 9 * MIB);
            assert_eq!(keep(scan, 2, 9 * MIB, &[MIB, 40 * MIB]), 2 * MIB);
            assert_eq!(keep(scan, 2, 9 * MIB, &[40 * MIB]), 0);
            // A single processor keeps a small one, or nothing.
            assert_eq!(keep(scan, 1, 9 * MIB, &[MIB]), 0);
            assert_eq!(keep(scan, 1, 9 * MIB, &[256 << 10]), 512 << 10);
        }
    }
}
