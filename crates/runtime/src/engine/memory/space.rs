//! Addresses for linear memories, and the handler that notes which pages of them are written to.
//!
//! JUSTIFICATION for `unsafe` here and in the modules around: wasmtime takes memories and stacks of an embedder only through unsafe traits, and no
//! safe library notes writes to a mapping on every kernel. All addresses that are mapped, protected or copied here lie in
//! blocks that this module has reserved and never gives back, and a slot has one owner at a time.

use super::lock;
use rustix::mm::{MapFlags, MprotectFlags, ProtFlags, mmap, mmap_anonymous, mprotect, munmap};
use std::ffi::{c_int, c_void};
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::AsFd as _;
use std::ptr;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicPtr, AtomicU64, AtomicUsize};
use std::sync::{Arc, Mutex, Once, OnceLock};

/// Bytes of the pieces in which writes are noted: the largest pages that kernels for this architecture have.
pub const PAGE: usize = if cfg!(target_arch = "x86_64") { 4 << 10 } else { 64 << 10 };

/// Addresses of one memory: all that 32 bits reach, so that compiled code needs no bounds checks.
pub const RESERVATION: usize = 4 << 30;
/// Addresses behind it that are never accessible: what an instruction can add to an address.
pub const GUARD: usize = 32 << 20;
/// From one slot to the next.
pub const DISTANCE: usize = RESERVATION + GUARD;

/// Slots that are reserved together, in a block. Where a process may have few addresses, it is one.
const BLOCK: usize = 64;
/// How many blocks there may be: more than fit into the 47 bits of a process.
const BLOCKS: usize = 1_000;

/// The most runs of pages that are opened for one instance, one after the other, before all of its memory is.
pub const RUNS: usize = 512;
/// Pages that are opened at once where a guest writes one after the other.
const MOST_AT_ONCE: u32 = 64;

/// Neighbouring pages of a memory: the number of the first, and of the one behind the last.
pub type Run = Range<u32>;

/// The bytes of a run.
pub fn bytes(run: &Run) -> Range<usize> {
    run.start as usize * PAGE..run.end as usize * PAGE
}

/// What a memory begins with, in a file.
#[derive(Debug)]
pub struct Content {
    file: Arc<File>,
    /// Where in the file it lies.
    offset: u64,
    /// Where in the memory it belongs.
    at: usize,
    len: usize,
    /// Mapped for reading.
    copy: *const u8,
}

// SAFETY: it is only read.
unsafe impl Send for Content {}
// SAFETY: as above.
unsafe impl Sync for Content {}

impl Content {
    /// Maps it. All three numbers are multiples of [`PAGE`].
    ///
    /// # Errors
    /// The system's.
    pub fn new(file: &Arc<File>, offset: u64, at: usize, len: usize) -> io::Result<Self> {
        let file = Arc::clone(file);
        // SAFETY: a new mapping changes no other.
        let copy = unsafe { mmap(ptr::null_mut(), len, ProtFlags::READ, MapFlags::PRIVATE, &file, offset) }?;
        Ok(Self { file, offset, at, len, copy: copy.cast() })
    }

    fn place(&self) -> Range<usize> {
        self.at..self.at + self.len
    }
}

impl Drop for Content {
    fn drop(&mut self) {
        // SAFETY: it was mapped in `new`, with this length, and nothing else has its address.
        let unmapped = unsafe { munmap(self.copy.cast_mut().cast(), self.len) };
        debug_assert!(unmapped.is_ok());
    }
}

/// What an instance has written to.
pub enum Written {
    /// These pages, or some of them.
    Runs(Vec<Run>),
    /// Nobody knows.
    Anything,
}

/// Addresses for one memory.
pub struct Slot {
    base: usize,
    /// How many of its first bytes can be read, and are opened for writing when they are written to.
    tracked: AtomicUsize,
    /// How many of `runs` have been opened. More than there are, if all of the memory has been.
    pub(super) opened: AtomicUsize,
    /// How many may be.
    most: AtomicUsize,
    runs: &'static [AtomicU64; RUNS],
}

struct Block {
    first: usize,
    slots: Box<[Slot]>,
}

static BLOCK_LIST: [AtomicPtr<Block>; BLOCKS] = [const { AtomicPtr::new(ptr::null_mut()) }; BLOCKS];
static FREE: Mutex<Vec<&'static Slot>> = Mutex::new(Vec::new());

impl Slot {
    /// One that nobody has, of which nothing is accessible.
    ///
    /// # Errors
    /// No addresses are left.
    pub fn take() -> io::Result<&'static Self> {
        let mut free = lock(&FREE);
        if free.is_empty() {
            let block = Block::reserve(BLOCK).or_else(|_| Block::reserve(1))?;
            free.extend(block.slots.iter().rev());
        }
        Ok(free.pop().expect("a block has slots"))
    }

    /// Gives it back. Nothing of it is accessible any more.
    ///
    /// # Errors
    /// The system's; then its addresses are never used again.
    pub fn give(&'static self) -> io::Result<()> {
        self.tracked.store(0, Relaxed);
        self.hide(0..DISTANCE)?;
        lock(&FREE).push(self);
        Ok(())
    }

    /// The address of its first byte.
    pub fn base(&self) -> *mut u8 {
        ptr::with_exposed_provenance_mut(self.base)
    }

    fn at(&self, offset: usize) -> *mut c_void {
        debug_assert!(offset <= RESERVATION);
        ptr::with_exposed_provenance_mut(self.base + offset)
    }

    /// Makes its first `len` bytes what `content` says, and zero beside. They are opened for writing page by page, when they are first
    /// written to, in as many `runs`, unless they are `open`.
    ///
    /// # Errors
    /// The system's: it has no more mappings.
    pub fn map(&self, len: usize, content: Option<&Content>, open: bool, runs: usize) -> io::Result<()> {
        let access = ProtFlags::READ | ProtFlags::WRITE;
        let flags = MapFlags::PRIVATE | MapFlags::FIXED | MapFlags::NORESERVE;
        let (before, behind) = content.map_or((0..len, len..len), |content| {
            let place = content.place();
            (0..place.start, place.end..len)
        });
        let parts = [before, behind, content.map_or(0..0, Content::place)];
        if let Some(Content { file, offset, at, len, .. }) = content {
            // SAFETY: these addresses are this slot's own, and nobody has a memory in it.
            unsafe { mmap(self.at(*at), *len, access, flags, file.as_fd(), *offset) }?;
        }
        for part in &parts[..2] {
            if !part.is_empty() {
                // SAFETY: as above.
                unsafe { mmap_anonymous(self.at(part.start), part.len(), access, flags) }?;
            }
        }
        for part in parts.iter().filter(|part| !open && !part.is_empty()) {
            let first = self.at(part.start).cast::<u8>();
            // Once it has been written to, the kernel knows all of its pages as of one origin: neighbours of one protection become one
            // mapping again, whichever were opened first (`anon_vma` of mm/vma.c).
            // SAFETY: as above, and it is accessible.
            unsafe { first.write_volatile(first.read_volatile()) };
            self.protect(part.clone(), MprotectFlags::READ)?;
        }
        self.opened.store(0, Relaxed);
        self.most.store(runs, Relaxed);
        self.tracked.store(if open { 0 } else { len }, Relaxed);
        Ok(())
    }

    /// Makes further bytes accessible, all of them zero.
    ///
    /// # Errors
    /// The system's.
    pub fn grow(&self, more: Range<usize>) -> io::Result<()> {
        self.protect(more, MprotectFlags::READ | MprotectFlags::WRITE)
    }

    /// Takes these bytes away from whoever had them: they are inaccessible, and zero when they are made accessible again.
    ///
    /// # Errors
    /// The system's.
    pub fn hide(&self, range: Range<usize>) -> io::Result<()> {
        let flags = MapFlags::PRIVATE | MapFlags::FIXED | MapFlags::NORESERVE;
        // SAFETY: these addresses are this slot's own, and nobody has a memory in it.
        unsafe { mmap_anonymous(self.at(range.start), range.len(), ProtFlags::empty(), flags) }?;
        Ok(())
    }

    /// Opens pages for writing, or closes them again.
    ///
    /// # Errors
    /// The system's.
    pub fn open(&self, run: &Run, open: bool) -> io::Result<()> {
        let access = if open { MprotectFlags::READ | MprotectFlags::WRITE } else { MprotectFlags::READ };
        self.protect(bytes(run), access)
    }

    fn protect(&self, range: Range<usize>, access: MprotectFlags) -> io::Result<()> {
        // SAFETY: these addresses are this slot's own, and no reference of Rust leads there.
        unsafe { mprotect(self.at(range.start), range.len(), access) }?;
        Ok(())
    }

    /// What has been opened by writing to it since the last call.
    pub fn written(&self) -> Written {
        let opened = self.opened.swap(0, Relaxed);
        let Some(runs) = self.runs.get(..opened) else { return Written::Anything };
        Written::Runs(runs.iter().map(|run| unpack(run.load(Relaxed))).collect())
    }

    /// Makes open pages what they were in the beginning.
    pub fn restore(&self, run: &Run, content: Option<&Content>) {
        let Range { start, end } = bytes(run);
        let place = content.map_or(end..end, Content::place);
        let (from, to) = (place.start.clamp(start, end), place.end.clamp(start, end));
        // SAFETY: these bytes are accessible and nobody has a memory in this slot; those between `from` and `to` lie in the content,
        // whose copy is another mapping.
        unsafe {
            ptr::write_bytes(self.at(start).cast::<u8>(), 0, from - start);
            if let Some(content) = content.filter(|_| to > from) {
                let copy = content.copy.add(from - content.at);
                ptr::copy_nonoverlapping(copy, self.at(from).cast::<u8>(), to - from);
            }
            ptr::write_bytes(self.at(to).cast::<u8>(), 0, end - to);
        }
    }

    /// Whether a page is what it was in the beginning.
    pub fn is_unchanged(&self, page: u32, content: Option<&Content>) -> bool {
        const ZERO: &[u8; PAGE] = &[0; PAGE];
        let at = page as usize * PAGE;
        // SAFETY: these bytes are accessible and nobody has a memory in this slot while they are looked at.
        let now = unsafe { std::slice::from_raw_parts(self.at(at).cast::<u8>(), PAGE) };
        let begun = match content.filter(|content| content.place().contains(&at)) {
            // SAFETY: the copy is mapped for reading, in whole pages.
            Some(content) => unsafe { std::slice::from_raw_parts(content.copy.add(at - content.at), PAGE) },
            None => ZERO,
        };
        now == begun
    }

    /// Opens what a guest has just tried to write to. False if it must not be written to.
    fn open_at(&self, address: usize) -> bool {
        let tracked = self.tracked.load(Relaxed);
        let offset = address - self.base;
        if offset >= tracked {
            return false;
        }
        let (page, end) = ((offset / PAGE) as u32, (tracked / PAGE) as u32);
        let opened = self.opened.load(Relaxed);
        let last = opened.checked_sub(1).and_then(|last| self.runs.get(last)).map(|run| unpack(run.load(Relaxed)));
        let more =
            last.filter(|last| last.end == page).map_or(1, |last| (2 * (last.end - last.start)).min(MOST_AT_ONCE));
        let run = page..end.min(page + more);
        match self.runs.get(opened).filter(|_| opened < self.most.load(Relaxed)) {
            Some(place) if self.open(&run, true).is_ok() => {
                place.store(u64::from(run.start) << 32 | u64::from(run.end), Relaxed);
                self.opened.store(opened + 1, Relaxed);
                true
            }
            // Too many, or more than the system has mappings for: one for all of it takes none.
            _ => {
                self.opened.store(RUNS + 1, Relaxed);
                self.open(&(0..end), true).is_ok()
            }
        }
    }
}

fn unpack(run: u64) -> Run {
    (run >> 32) as u32..run as u32
}

impl Block {
    /// Reserves so many slots. Whoever does has locked the free ones, so it is one block at a time.
    fn reserve(slots: usize) -> io::Result<&'static Self> {
        let place = BLOCK_LIST.iter().find(|block| block.load(Relaxed).is_null()).ok_or(io::ErrorKind::OutOfMemory)?;
        let (flags, access) = (MapFlags::PRIVATE | MapFlags::NORESERVE, ProtFlags::READ | ProtFlags::WRITE);
        // SAFETY: a new mapping changes no other.
        let runs = unsafe { mmap_anonymous(ptr::null_mut(), slots * size_of::<[AtomicU64; RUNS]>(), access, flags) }?;
        // SAFETY: it has room for so many, stays mapped, and is zero, which these numbers may be.
        let runs = unsafe { std::slice::from_raw_parts(runs.cast::<[AtomicU64; RUNS]>(), slots) };
        // SAFETY: a new mapping changes no other.
        let start = unsafe { mmap_anonymous(ptr::null_mut(), GUARD + slots * DISTANCE, ProtFlags::empty(), flags) }?;
        let first = start.expose_provenance() + GUARD;
        let slot = |(number, runs)| Slot {
            base: first + number * DISTANCE,
            tracked: AtomicUsize::new(0),
            opened: AtomicUsize::new(0),
            most: AtomicUsize::new(0),
            runs,
        };
        let block: &'static Self =
            Box::leak(Box::new(Self { first, slots: runs.iter().enumerate().map(slot).collect() }));
        place.store(ptr::from_ref(block).cast_mut(), Release);
        Ok(block)
    }
}

/// Opens the page at this address. False if it is none of ours to open.
fn open(address: usize) -> bool {
    for block in &BLOCK_LIST {
        let block = block.load(Acquire);
        // SAFETY: blocks are never freed.
        let Some(block) = (unsafe { block.as_ref() }) else { return false };
        if let Some(number) = address.checked_sub(block.first).map(|distance| distance / DISTANCE)
            && let Some(slot) = block.slots.get(number)
        {
            return slot.open_at(address);
        }
    }
    false
}

/// What happened to an access violation before [`listen`].
static BEFORE: OnceLock<libc::sigaction> = OnceLock::new();

/// Has pages opened when they are written to. wasmtime must have installed its own handler before, which decides about every other
/// access violation.
pub fn listen() {
    static DONE: Once = Once::new();
    DONE.call_once(|| {
        // SAFETY: all zero is a valid `sigaction`; the handler has the signature that SA_SIGINFO asks for, and touches nothing but
        // atomic numbers and the protection of pages.
        unsafe {
            let mut before: libc::sigaction = std::mem::zeroed();
            libc::sigaction(libc::SIGSEGV, ptr::null(), &raw mut before);
            BEFORE.get_or_init(|| before);
            let mut own: libc::sigaction = std::mem::zeroed();
            own.sa_sigaction = on_violation as *const () as usize;
            own.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_NODEFER;
            assert_eq!(libc::sigaction(libc::SIGSEGV, &raw const own, ptr::null_mut()), 0, "SIGSEGV can be handled");
        }
    });
}

/// `si_code` of an access that a mapping does not allow: include/uapi/asm-generic/siginfo.h of Linux.
const SEGV_ACCERR: c_int = 2;

unsafe extern "C" fn on_violation(signal: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    // SAFETY: the kernel passes what SA_SIGINFO asks for.
    let (code, address) = unsafe { ((*info).si_code, (*info).si_addr()) };
    if code == SEGV_ACCERR && open(address.addr()) {
        return;
    }
    let Some(before) = BEFORE.get() else { return };
    match before.sa_sigaction {
        // It happens again, and ends the process.
        libc::SIG_DFL | libc::SIG_IGN => {
            // SAFETY: it is what the kernel gave us.
            unsafe { libc::sigaction(signal, before, ptr::null_mut()) };
        }
        handler if before.sa_flags & libc::SA_SIGINFO != 0 => {
            // SAFETY: with this flag it has this signature.
            let handler: extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void) =
                unsafe { std::mem::transmute(handler) };
            handler(signal, info, context);
        }
        handler => {
            // SAFETY: without it, this one.
            let handler: extern "C" fn(c_int) = unsafe { std::mem::transmute(handler) };
            handler(signal);
        }
    }
}
