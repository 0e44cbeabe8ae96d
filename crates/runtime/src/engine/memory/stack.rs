//! Stacks that guests are called on, kept for the next.

use super::lock;
use rustix::mm::{MapFlags, MprotectFlags, ProtFlags, mmap_anonymous, mprotect, munmap};
use std::io;
use std::ops::Range;
use std::ptr;
use std::sync::{Arc, Mutex};
use wasmtime::{StackCreator, StackMemory};

/// Bytes below a stack that are never accessible.
const GUARD: usize = super::space::PAGE;

/// The stacks that nobody has.
#[derive(Clone, Default)]
pub struct Stacks(Arc<Mutex<Vec<Mapping>>>);

impl Stacks {
    /// Gives the free ones back.
    pub fn trim(&self) {
        let free = std::mem::take(&mut *lock(&self.0));
        drop(free);
    }
}

// SAFETY: each stack has a guard below it and one owner at a time. It is not cleared in between: compiled code reads nothing there that it
// has not written, and `async_stack_zeroing` is off.
unsafe impl StackCreator for Stacks {
    fn new_stack(&self, size: usize, zeroed: bool) -> wasmtime::Result<Box<dyn StackMemory>> {
        debug_assert!(!zeroed);
        let free = lock(&self.0).pop();
        let mapping = free.filter(|free| free.len == GUARD + size).map_or_else(|| Mapping::new(size), Ok)?;
        Ok(Box::new(Stack { mapping: Some(mapping), stacks: self.clone() }))
    }
}

struct Mapping {
    start: usize,
    len: usize,
}

impl Mapping {
    fn new(size: usize) -> io::Result<Self> {
        let (len, flags) = (GUARD + size, MapFlags::PRIVATE | MapFlags::NORESERVE);
        // SAFETY: a new mapping changes no other, and what is opened is a part of it.
        let start = unsafe {
            let start = mmap_anonymous(ptr::null_mut(), len, ProtFlags::empty(), flags)?;
            mprotect(start.byte_add(GUARD), size, MprotectFlags::READ | MprotectFlags::WRITE)?;
            start.expose_provenance()
        };
        Ok(Self { start, len })
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: it was mapped in `new`, with this length, and nobody is on it.
        let unmapped = unsafe { munmap(ptr::with_exposed_provenance_mut(self.start), self.len) };
        debug_assert!(unmapped.is_ok());
    }
}

struct Stack {
    /// None when it is dropped.
    mapping: Option<Mapping>,
    stacks: Stacks,
}

impl Stack {
    fn mapping(&self) -> &Mapping {
        self.mapping.as_ref().expect("it is taken when the stack is dropped")
    }
}

// SAFETY: see above.
unsafe impl StackMemory for Stack {
    fn top(&self) -> *mut u8 {
        let Mapping { start, len } = self.mapping();
        ptr::with_exposed_provenance_mut(start + len)
    }

    fn range(&self) -> Range<usize> {
        let Mapping { start, len } = self.mapping();
        start + GUARD..start + len
    }

    fn guard_range(&self) -> Range<*mut u8> {
        let start = self.mapping().start;
        ptr::with_exposed_provenance_mut(start)..ptr::with_exposed_provenance_mut(start + GUARD)
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        lock(&self.stacks.0).extend(self.mapping.take());
    }
}
