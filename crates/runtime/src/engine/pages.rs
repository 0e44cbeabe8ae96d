//! What the kernel knows about pages of this process, and asking it to map them. The one place in `engine` with `unsafe`.
//!
//! JUSTIFICATION: whether a slot of the pool is reset cheaply depends on what the kernel says about pages that nothing has
//! touched ([`super::slots`]), and neither wasmtime nor a safe library asks it. Both calls leave the content of every page as it
//! is, whatever addresses they are given.

use rustix::ioctl::{Updater, ioctl, opcode};
use rustix::mm::{Advice, madvise};
use std::fs::File;
use std::io;
use std::ops::Range;

// Categories of pages: include/uapi/linux/fs.h of Linux 6.7.
const WRITTEN: u64 = 1 << 1;
const FILE: u64 = 1 << 2;
const PRESENT: u64 = 1 << 3;
const SWAPPED: u64 = 1 << 4;
const ZERO: u64 = 1 << 5;

/// `struct pm_scan_arg` of include/uapi/linux/fs.h.
#[repr(C)]
#[derive(Default)]
struct Scan {
    size: u64,
    flags: u64,
    start: u64,
    end: u64,
    walk_end: u64,
    vec: u64,
    vec_len: u64,
    max_pages: u64,
    category_inverted: u64,
    category_mask: u64,
    category_anyof_mask: u64,
    return_mask: u64,
}

/// `struct page_region` of the same file.
#[repr(C)]
#[derive(Default)]
struct Region {
    start: u64,
    end: u64,
    categories: u64,
}

/// The page map of this process.
#[derive(Debug)]
pub struct Pages(File);

impl Pages {
    /// Opens it.
    ///
    /// # Errors
    /// The kernel's.
    pub fn open() -> io::Result<Self> {
        File::open("/proc/self/pagemap").map(Self)
    }

    /// Whether the kernel calls a page in this range of addresses written that nothing has touched. wasmtime 50.0.1 then resets it.
    ///
    /// # Errors
    /// The kernel has no PAGEMAP_SCAN, or refuses it.
    #[expect(unsafe_code, reason = "see the module's documentation")]
    pub fn has_untouched(&self, addresses: Range<usize>) -> io::Result<bool> {
        let mut found = Region::default();
        let not = FILE | ZERO | PRESENT | SWAPPED;
        let mut scan = Scan {
            size: size_of::<Scan>() as u64,
            start: addresses.start as u64,
            end: addresses.end as u64,
            vec: &raw mut found as u64,
            vec_len: 1,
            max_pages: 1,
            category_inverted: not,
            category_mask: WRITTEN | not,
            ..Scan::default()
        };
        // SAFETY: the opcode belongs to this structure, whose `vec` is one region that outlives the call. Without flags the
        // kernel only reads page tables, and it writes to nothing but the structure and the region.
        unsafe { ioctl(&self.0, Updater::<{ opcode::read_write::<Scan>(b'f', 16) }, _>::new(&mut scan)) }?;
        Ok(found.end > found.start)
    }
}

/// Maps every page in this range of addresses for reading, as if each had been read once.
///
/// # Errors
/// The kernel is older than 5.14, or refuses it; some pages of the range are not there to be read. Those before the first of them
/// are mapped nevertheless.
pub fn map_for_reading(addresses: Range<usize>) -> io::Result<()> {
    advise(addresses, Advice::LinuxPopulateRead)
}

/// Moves the pages in this range of addresses to swap, if there is any.
#[cfg(test)]
pub fn page_out(addresses: Range<usize>) -> io::Result<()> {
    advise(addresses, Advice::LinuxPageOut)
}

#[expect(unsafe_code, reason = "see the module's documentation")]
fn advise(addresses: Range<usize>, advice: Advice) -> io::Result<()> {
    let start = std::ptr::with_exposed_provenance_mut(addresses.start);
    // SAFETY: neither MADV_POPULATE_READ nor MADV_PAGEOUT, all that is asked for here, changes what is in a page; where there
    // are none, the call fails.
    unsafe { madvise(start, addresses.len(), advice) }?;
    Ok(())
}
