//! The memories of instances, each in a slot, which is made as it was in the beginning when its instance ends.
//!
//! All of a memory can be read in the beginning, and nothing can be written. The first write to a page is an access violation, whose
//! handler ([`space`]) opens the page and notes it. Pages that have been opened stay open for the instances that come after. When an
//! instance ends, the open pages of its slot are copied back, whether it wrote to them or not; the others cannot have changed. Now
//! and then the open pages are compared first, and those that were not written to are closed again.
//!
//! So a slot whose guests write to the same pages again and again needs a copy of these pages between two instances and nothing else: no
//! fault, no question to the kernel about what was written, and no interrupt for other processors, as unmapping would send.
//!
//! wasmtime asks for a memory and does not say for which component. So [`Memories::provide`] notes that while one is instantiated, and
//! the maximum of a memory says which of the component's it is ([`marked`]).

mod space;
mod stack;

use super::MOST_MEMORIES;
pub use space::{Content, DISTANCE, PAGE, RUNS, listen};
use space::{GUARD, RESERVATION, Run, Slot, Written, bytes};
pub use stack::Stacks;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use wasmtime::{LinearMemory, MemoryCreator, MemoryType};

/// After so many instances the open pages of a slot are compared for the first time, and then each so many.
const FIRST_LOOK: u32 = 8;
const LOOK: u32 = 128;
/// Closed pages between two open ones that are opened as well: copying them costs less than one more mapping.
const GAP: u32 = 3;

/// Pages of WebAssembly that a memory of 32 bits has at the most.
const MOST_PAGES: u64 = 65_536;

/// The maximum, in pages of WebAssembly, of a memory that has the content with this number and had no maximum.
pub fn marked(number: u32) -> u64 {
    MOST_PAGES - 1 - u64::from(number)
}

/// The number of the content that a memory with this maximum has, if it had none of its own.
pub fn number(maximum: u64) -> Option<usize> {
    let number = (MOST_PAGES - 1).checked_sub(maximum)?;
    usize::try_from(number).ok().filter(|number| *number < MOST_MEMORIES as usize)
}

/// Slots keep at most this part of `limits.totalMemory` open together between two instances: a quarter.
const SHARE: u64 = 4;

/// Bytes that each slot of a pool of this size may keep open.
pub fn keep(pool_size: u32, total_memory: u64) -> u64 {
    // One more is for trials.
    total_memory / SHARE / (u64::from(pool_size) + 1)
}

/// How many slots there may be, and what each may keep. The process has one.
pub struct Slots {
    /// Beyond this number a new one takes the place of a free one, if there is one.
    enough: usize,
    /// Runs of pages that may be open for each instance: more take more mappings than the system grants.
    runs: usize,
    /// How many memories have one, free ones included.
    held: AtomicUsize,
    /// What they have in them.
    images: Mutex<Vec<Weak<Image>>>,
}

impl Slots {
    /// So many that are `enough`, with at most so many `runs` of open pages for each instance.
    pub fn new(enough: usize, runs: usize) -> Arc<Self> {
        Arc::new(Self { enough, runs, held: AtomicUsize::new(0), images: Mutex::default() })
    }

    /// The memories of a component that has this number of them and this content. They keep at most so many bytes open together.
    pub fn memories(self: &Arc<Self>, contents: Vec<Option<Arc<Content>>>, most: u64, number: u64) -> Arc<Memories> {
        let (slots, number) = (Arc::clone(self), usize::try_from(number).unwrap_or(usize::MAX));
        let (most, runs) = (usize::try_from(most).unwrap_or(usize::MAX) / number, self.runs / number);
        Arc::new(Memories { slots, contents, most, runs, images: Mutex::default() })
    }

    /// Gives back what free ones hold.
    pub fn trim(&self) {
        self.images().iter().for_each(|image| image.trim());
    }

    /// Those that there are. They are returned without the lock: dropping the last reference to one gives back its slots.
    fn images(&self) -> Vec<Arc<Image>> {
        lock(&self.images).iter().filter_map(Weak::upgrade).collect()
    }

    fn add(&self, image: &Arc<Image>) {
        let mut images = lock(&self.images);
        images.retain(|image| image.strong_count() > 0);
        images.push(Arc::downgrade(image));
    }

    /// One that has no image. If there are enough already, another image loses a free one.
    fn take(&self) -> io::Result<&'static Slot> {
        if self.held.load(Relaxed) >= self.enough {
            let free = |image: &Arc<Image>| lock(&image.free).len();
            let place = self.images().into_iter().max_by_key(free).and_then(|image| lock(&image.free).pop());
            if let Some(place) = place {
                self.give(place);
            }
        }
        let slot = Slot::take()?;
        self.held.fetch_add(1, Relaxed);
        Ok(slot)
    }

    fn give(&self, place: Place) {
        self.held.fetch_sub(1, Relaxed);
        if let Err(error) = place.slot.give() {
            tracing::warn!("the addresses of a slot are lost: {error}");
        }
    }
}

/// The memories of one component, as they are when an instance begins.
pub struct Memories {
    slots: Arc<Slots>,
    contents: Vec<Option<Arc<Content>>>,
    /// Bytes that may stay open in each slot, and in how many runs of pages.
    most: usize,
    runs: usize,
    images: Mutex<Vec<Arc<Image>>>,
}

tokio::task_local! {
    /// Those of the component that is being instantiated.
    static CURRENT: Arc<Memories>;
}

impl Memories {
    /// Lets the component that is instantiated by this future have these memories.
    pub fn provide<F: Future>(self: &Arc<Self>, instantiating: F) -> impl Future<Output = F::Output> {
        CURRENT.scope(Arc::clone(self), instantiating)
    }

    /// The image of a memory of this type.
    fn image(&self, ty: &MemoryType, initial: usize) -> Result<Arc<Image>, String> {
        let number = ty.maximum().and_then(number).filter(|_| !self.contents.is_empty());
        let mut images = lock(&self.images);
        if let Some(known) = images.iter().find(|image| image.initial == initial && image.number == number) {
            return Ok(Arc::clone(known));
        }
        let content = match number {
            Some(number) => {
                self.contents.get(number).cloned().ok_or("its maximum tells of content that is not there")?
            }
            None => None,
        };
        let image = Image {
            slots: Arc::clone(&self.slots),
            number,
            content,
            initial,
            most: self.most,
            runs: self.runs,
            free: Mutex::default(),
            open: Mutex::default(),
            is_large: AtomicBool::new(false),
        };
        let image = Arc::new(image);
        self.slots.add(&image);
        images.push(Arc::clone(&image));
        Ok(image)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A memory as it is when an instance begins.
struct Image {
    slots: Arc<Slots>,
    number: Option<usize>,
    content: Option<Arc<Content>>,
    /// Its bytes.
    initial: usize,
    most: usize,
    runs: usize,
    /// The slots that have it and no instance.
    free: Mutex<Vec<Place>>,
    /// What was open last in one of its slots. A new one begins with that.
    open: Mutex<Vec<Run>>,
    /// Guests write to more than may stay open. All of a slot is open then, and is given back after each instance, until free slots
    /// are trimmed.
    is_large: AtomicBool,
}

/// A slot with an image in it.
struct Place {
    slot: &'static Slot,
    /// In ascending order, apart from each other.
    open: Vec<Run>,
    /// All of it is open, `open` is empty, and what its instance writes is not noted.
    is_whole: bool,
    instances: u32,
}

impl Image {
    fn content(&self) -> Option<&Content> {
        self.content.as_deref()
    }

    fn all(&self) -> Run {
        0..(self.initial / PAGE) as u32
    }

    fn take(&self) -> io::Result<Place> {
        if let Some(place) = lock(&self.free).pop() {
            return Ok(place);
        }
        let mut place =
            Place { slot: self.slots.take()?, open: lock(&self.open).clone(), is_whole: false, instances: 0 };
        match self.begin(&mut place) {
            Ok(()) => Ok(place),
            Err(error) => {
                self.slots.give(place);
                Err(error)
            }
        }
    }

    /// Gives a slot its image, whatever it had before.
    fn begin(&self, place: &mut Place) -> io::Result<()> {
        place.is_whole = self.is_large.load(Relaxed);
        // Where there may be no runs, all of it is one, and copied back.
        let is_open = place.is_whole || self.runs == 0;
        place.slot.map(self.initial, self.content(), is_open, self.runs)?;
        if is_open {
            place.open = (!place.is_whole).then(|| self.all()).into_iter().collect();
        }
        place.open.iter().try_for_each(|run| place.slot.open(run, true))
    }

    /// Makes a slot what it was before an instance had it, whose memory has `size` bytes now.
    fn restore(&self, place: &mut Place, size: usize) -> io::Result<()> {
        if size > self.initial {
            place.slot.hide(self.initial..size)?;
        }
        if place.is_whole {
            return self.begin(place);
        }
        let written = match place.slot.written() {
            Written::Runs(runs) => runs,
            Written::Anything => {
                place.slot.open(&self.all(), true)?;
                std::iter::once(self.all()).collect()
            }
        };
        let is_new = !written.is_empty();
        if is_new {
            place.open.extend(written);
            self.join(place)?;
        }
        place.instances += 1;
        let is_due = place.instances == FIRST_LOOK || place.instances.is_multiple_of(LOOK);
        if self.runs > 0 && (is_due || self.is_too_much(place)) {
            self.close(place)?;
        }
        if self.is_too_much(place) {
            self.is_large.store(true, Relaxed);
            return self.begin(place);
        }
        for run in &place.open {
            place.slot.restore(run, self.content());
        }
        if is_new || is_due {
            lock(&self.open).clone_from(&place.open);
        }
        Ok(())
    }

    fn is_too_much(&self, place: &Place) -> bool {
        place.open.iter().map(|run| bytes(run).len()).sum::<usize>() > self.most
    }

    /// Closes the pages that were not written to.
    fn close(&self, place: &mut Place) -> io::Result<()> {
        let pages = place.open.iter().cloned().flatten();
        let changed = pages.filter(|page| !place.slot.is_unchanged(*page, self.content())).map(|page| page..page + 1);
        let changed = changed.collect();
        let before = std::mem::replace(&mut place.open, changed);
        self.join(place)?;
        for run in before {
            let mut start = run.start;
            for kept in place.open.iter().filter(|kept| kept.start < run.end && kept.end > run.start) {
                if kept.start > start {
                    place.slot.open(&(start..kept.start), false)?;
                }
                start = kept.end;
            }
            if start < run.end {
                place.slot.open(&(start..run.end), false)?;
            }
        }
        Ok(())
    }

    /// Makes no more runs of the open ones than a slot may have, and opens what lies between two that become one.
    fn join(&self, place: &mut Place) -> io::Result<()> {
        let mut gap = GAP;
        loop {
            merge(&mut place.open, gap, |between| place.slot.open(between, true))?;
            if place.open.len() <= self.runs.max(1) {
                return Ok(());
            }
            gap *= 4;
        }
    }

    fn give(&self, mut place: Place, size: usize) {
        match self.restore(&mut place, size) {
            Ok(()) => lock(&self.free).push(place),
            // What it holds nobody may see.
            Err(error) => {
                tracing::warn!("a slot could not be restored, another takes its place: {error}");
                self.slots.give(place);
            }
        }
    }

    fn trim(&self) {
        let places = std::mem::take(&mut *lock(&self.free));
        places.into_iter().for_each(|place| self.slots.give(place));
        self.is_large.store(false, Relaxed);
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        self.trim();
    }
}

/// Puts runs in order, and opens with `open` what lies between two with no more than `gap` pages between them.
fn merge(runs: &mut Vec<Run>, gap: u32, open: impl Fn(&Run) -> io::Result<()>) -> io::Result<()> {
    runs.sort_unstable_by_key(|run| run.start);
    let mut merged: Vec<Run> = Vec::with_capacity(runs.len());
    for run in runs.drain(..) {
        match merged.last_mut() {
            Some(last) if run.start <= last.end.saturating_add(gap) => {
                if run.start > last.end {
                    open(&(last.end..run.start))?;
                }
                last.end = last.end.max(run.end);
            }
            _ => merged.push(run),
        }
    }
    *runs = merged;
    Ok(())
}

/// Makes memories.
pub struct Creator;

// SAFETY: a memory lies in a slot that nobody else has, at the beginning of RESERVATION bytes with GUARD bytes behind, all of which are
// inaccessible beyond the page in which the memory ends.
unsafe impl MemoryCreator for Creator {
    fn new_memory(
        &self,
        ty: MemoryType,
        minimum: usize,
        _: Option<usize>,
        reserved: Option<usize>,
        guard: usize,
    ) -> Result<Box<dyn LinearMemory>, String> {
        if minimum > RESERVATION || reserved.is_some_and(|reserved| reserved > RESERVATION) || guard > GUARD {
            return Err(format!("a memory can have {} GiB at the most", RESERVATION >> 30));
        }
        // One with pages of its own size may end within one of the kernel's; wasmtime then checks its bounds.
        let initial = minimum.next_multiple_of(PAGE);
        let image = CURRENT.try_with(|memories| memories.image(&ty, initial));
        let image = image.map_err(|_| "no component is being instantiated")??;
        let place = image.take().map_err(|error| format!("no room for a memory: {error}"))?;
        Ok(Box::new(Linear { image, place: Some(place), size: minimum }))
    }
}

/// The memory of an instance.
struct Linear {
    image: Arc<Image>,
    /// None when it is dropped.
    place: Option<Place>,
    size: usize,
}

impl Linear {
    fn slot(&self) -> &'static Slot {
        self.place.as_ref().expect("it is taken when the memory is dropped").slot
    }
}

// SAFETY: see above.
unsafe impl LinearMemory for Linear {
    fn byte_size(&self) -> usize {
        self.size
    }

    fn byte_capacity(&self) -> usize {
        RESERVATION
    }

    fn grow_to(&mut self, size: usize) -> wasmtime::Result<()> {
        if size > RESERVATION {
            return Err(io::Error::from(io::ErrorKind::OutOfMemory).into());
        }
        let (before, after) = (self.size.next_multiple_of(PAGE), size.next_multiple_of(PAGE));
        if after > before {
            self.slot().grow(before..after)?;
        }
        self.size = size;
        Ok(())
    }

    fn as_ptr(&self) -> *mut u8 {
        self.slot().base()
    }
}

impl Drop for Linear {
    fn drop(&mut self) {
        if let Some(place) = self.place.take() {
            self.image.give(place, self.size.next_multiple_of(PAGE));
        }
    }
}

#[cfg(test)]
mod tests;
