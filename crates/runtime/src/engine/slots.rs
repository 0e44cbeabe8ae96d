//! Slots of which every page is mapped before their first reset, so that only written pages count as written.
//!
//! A slot is here the place of one memory. A guest that was composed of several components has several, each in a slot of its own.
//!
//! After each instance wasmtime asks the kernel which pages of its memory were written, and resets these. Linux 6.18 calls a page
//! written, too, that nothing has touched, as soon as its page table exists. Unmended, the first reset copies the whole image into
//! the slot, page by page, and so does each one after it. A page that has been mapped for reading is told apart from a written
//! one: this module has every page of a slot mapped so, once, after its first instance and before the reset that follows.
//!
//! wasmtime does not tell which slot an instance is in. But all of them lie at one distance from each other, so those that are
//! not mapped yet can be tried, and it can be counted when a guest must have come into a slot that is new to it: wasmtime gives
//! each memory of an instance a free slot that has its image already, if there is one. So a guest that has more instances than ever
//! before has been given other slots.
//!
//! A release of wasmtime that asks for pages that are written *and* present or swapped makes all of this superfluous: then
//! [`survey`] finds nothing to do on any kernel, and this module and `pages` can go (docs/upstream.md).

use super::MOST_MEMORIES;
use super::pages::{Pages, map_for_reading};
use std::num::NonZero;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread;
use wasmtime::error::Context as _;
use wasmtime::{Engine, Instance, Memory, Module, Result, Store, StoreLimitsBuilder};

/// A module with an empty memory, exported as `m`.
const MEMORY_ONLY: &[u8] = b"\0asm\x01\0\0\0\x05\x03\x01\0\0\x07\x05\x01\x01m\x02\0";

/// From so many slots on wasmtime 50.0.1 divides them into parts, one for each processor and [`MOST_PARTS`] at the most
/// (`ShardLayout` and `default_shard_count`).
const DIVIDED: u32 = 128;
const MOST_PARTS: usize = 16;

/// How many ends of instances look for more after a find. A slot can be new where the count does not show it: a memory grows in
/// one slot after the other, and from 128 slots on wasmtime divides them among the threads (`ShardLayout`).
const LOOKS: u32 = 128;

/// Where the slots of an engine are, and how much of each is mapped.
pub struct Slots {
    /// Address of the first.
    first: usize,
    /// From one to the next.
    distance: usize,
    pages: Pages,
    /// Bytes of each slot that are mapped, by its number.
    mapped: Mutex<Box<[usize]>>,
    images: Mutex<Vec<Weak<Image>>>,
    /// More than one image has been in them, so that one may have taken another's place.
    mixed: AtomicBool,
}

/// The slots of `engine`, of which there are `count`, if they have to be mapped. It has to be new: nobody has taken one yet.
///
/// # Errors
/// The kernel calls untouched pages written, but cannot map them; or wasmtime's, which no input can cause.
pub fn survey(engine: &Engine, count: u32) -> Result<Option<Arc<Slots>>> {
    let (module, pages) = (Module::new(engine, MEMORY_ONLY)?, Pages::open()?);
    if !calls_untouched_written(engine, &module, &pages)? {
        return Ok(None);
    }
    let (first, distance) = match few(engine, &module, count)? {
        Some(found) => found,
        None => {
            let all = addresses(engine, &module, count)?;
            (all[0], all.get(1).map_or(0, |second| second - all[0]))
        }
    };
    let mapped = Mutex::new(vec![0; count as usize].into());
    Ok(Some(Arc::new(Slots {
        first,
        distance,
        pages,
        mapped,
        images: Mutex::default(),
        mixed: AtomicBool::new(false),
    })))
}

/// Asks the kernel as wasmtime does, and whether a page that is mapped for reading is told apart.
fn calls_untouched_written(engine: &Engine, module: &Module, pages: &Pages) -> Result<bool> {
    let mut store = Store::new(engine, ());
    let probe = memory(&mut store, module)?;
    // A WebAssembly page is 16 of the kernel's, at least on this architecture: one of them is touched.
    probe.grow(&mut store, 1)?;
    probe.data_mut(&mut store)[0] = 1;
    let start = probe.data_ptr(&store).expose_provenance();
    let page = start..start + probe.data_size(&store);
    if !pages.has_untouched(page.clone())? {
        return Ok(false);
    }
    map_for_reading(page.clone()).context("MADV_POPULATE_READ (Linux 5.14)")?;
    if pages.has_untouched(page)? {
        return Err(wasmtime::Error::msg("pages that are mapped for reading still count as written"));
    }
    Ok(true)
}

fn memory<T: 'static>(store: &mut Store<T>, module: &Module) -> Result<Memory> {
    let memory = Instance::new(&mut *store, module, &[])?.get_memory(&mut *store, "m");
    memory.context("the module exports its memory")
}

/// The addresses of so many slots, taken at the same time, in order.
fn addresses(engine: &Engine, module: &Module, count: u32) -> Result<Vec<usize>> {
    let instances = count as usize;
    let mut store = Store::new(engine, StoreLimitsBuilder::new().instances(instances).memories(instances).build());
    store.limiter(|limits| limits);
    let mut addresses = Vec::with_capacity(instances);
    for _ in 0..count {
        let memory = memory(&mut store, module)?;
        addresses.push(memory.data_ptr(&store).expose_provenance());
    }
    addresses.sort_unstable();
    Ok(addresses)
}

/// The first of many slots and the distance, found by two slots of each of the parts that wasmtime divides a large pool into: taking
/// all 1,000 would double the time in which an engine is made. None if there are few, or if they do not lie as expected.
fn few(engine: &Engine, module: &Module, count: u32) -> Result<Option<(usize, usize)>> {
    if count < DIVIDED {
        return Ok(None);
    }
    let processors = std::thread::available_parallelism().map_or(1, NonZero::get).min(MOST_PARTS);
    let part = count.div_ceil(u32::try_from(processors)?);
    let (mut firsts, mut distances) = (Vec::new(), Vec::new());
    for _ in 0..count.div_ceil(part) {
        // A thread has a part for life, and the next one has the next.
        let pair = thread::scope(|scope| scope.spawn(|| addresses(engine, module, 2)).join());
        let pair = pair.map_err(|_| wasmtime::Error::msg("taking a slot panicked"))??;
        firsts.push(pair[0]);
        distances.push(pair[1] - pair[0]);
    }
    firsts.sort_unstable();
    let distance = distances[0];
    let is_even = distances.iter().all(|other| *other == distance)
        && firsts.windows(2).all(|two| two[1] - two[0] == part as usize * distance);
    Ok(is_even.then_some((firsts[0], distance)))
}

impl Slots {
    /// Maps the first bytes of every slot, as many as the largest of these `lengths`, in ascending order, that it has. Returns whether
    /// that changed anything. One image may have `replaced` another since.
    fn map(&self, lengths: &[u64], replaced: bool) -> bool {
        let mut mapped = self.mapped.lock().unwrap_or_else(PoisonError::into_inner);
        let mut changed = false;
        for (slot, mapped) in mapped.iter_mut().enumerate() {
            let start = self.first + slot * self.distance;
            // With another image its pages are untouched again.
            if replaced && *mapped > 0 && self.pages.has_untouched(start..start + *mapped).unwrap_or(true) {
                *mapped = 0;
            }
            for length in lengths.iter().map(|length| usize::try_from(*length).unwrap_or(usize::MAX)) {
                if *mapped >= length {
                    continue;
                }
                if map_for_reading(start + *mapped..start + length).is_err() {
                    break;
                }
                *mapped = length;
                changed = true;
            }
        }
        changed
    }

    /// Free slots have given their memory back: no page of them is mapped.
    pub(super) fn forget(&self) {
        self.mapped.lock().unwrap_or_else(PoisonError::into_inner).fill(0);
        for image in self.images.lock().unwrap_or_else(PoisonError::into_inner).iter().filter_map(Weak::upgrade) {
            // The next instance, whatever slot it is given, looks.
            image.known.store(0, Ordering::Release);
        }
    }
}

/// The memories of one component, as they are when an instance begins.
pub struct Image {
    slots: Option<Arc<Slots>>,
    /// Instances, counted from before they are given a slot until after it is free.
    most: AtomicU32,
    /// Instances, counted from after they are given a slot until before it is free: never more than there are slots with this image.
    least: AtomicU32,
    /// How many slots have had this image at least.
    known: AtomicU32,
    /// Bytes of all its memories that instances are known to have.
    reach: AtomicU64,
    /// How many more instances look for pages to map when they end, whether their slot is new or not.
    due: AtomicU32,
}

impl Image {
    /// The image of a component of this engine, whose instances begin with so many bytes of memory.
    pub(super) fn new(slots: Option<Arc<Slots>>, initial_memory: u64) -> Arc<Self> {
        let image = Arc::new(Self {
            slots,
            most: AtomicU32::new(0),
            least: AtomicU32::new(0),
            known: AtomicU32::new(0),
            reach: AtomicU64::new(initial_memory),
            due: AtomicU32::new(0),
        });
        if let Some(slots) = &image.slots {
            let mut images = slots.images.lock().unwrap_or_else(PoisonError::into_inner);
            if !images.is_empty() {
                slots.mixed.store(true, Ordering::Relaxed);
            }
            images.retain(|image| image.strong_count() > 0);
            images.push(Arc::downgrade(&image));
        }
        image
    }

    /// An instance is about to be made.
    pub fn enter(self: &Arc<Self>) -> Stay {
        let most = self.most.fetch_add(1, Ordering::AcqRel) + 1;
        Stay { new: most > self.known.load(Ordering::Acquire), image: Arc::clone(self), settled: false }
    }

    /// It was given a slot that was new to this image, perhaps one of another image's.
    fn took_another(&self, slots: &Arc<Slots>, least: u32) {
        self.known.fetch_max(least, Ordering::AcqRel);
        if slots.mixed.load(Ordering::Relaxed) {
            let images = slots.images.lock().unwrap_or_else(PoisonError::into_inner);
            for other in images.iter().filter_map(Weak::upgrade).filter(|other| !std::ptr::eq(&raw const **other, self))
            {
                other.known.fetch_min(other.least.load(Ordering::Acquire), Ordering::AcqRel);
            }
        }
    }

    /// An instance ends with memories of so many bytes each.
    fn map(&self, slots: &Slots, new: bool, mut memories: [u64; MOST_MEMORIES as usize]) {
        let (memory, reach) = (memories.iter().sum(), self.reach.load(Ordering::Relaxed));
        let grown = memory > reach + reach / 8;
        if grown {
            self.reach.fetch_max(memory, Ordering::Relaxed);
        }
        let is_due = |due: u32| due.checked_sub(1);
        if !(new || grown || self.due.try_update(Ordering::Relaxed, Ordering::Relaxed, is_due).is_ok()) {
            return;
        }
        // What a guest writes beyond what slots keep is given back, and looks untouched too: this is no reason to look again.
        let replaced = new && slots.mixed.load(Ordering::Relaxed);
        memories.sort_unstable();
        if slots.map(&memories, replaced) || grown {
            self.due.store(LOOKS, Ordering::Relaxed);
        }
    }
}

/// The time that one instance spends in a slot. Drop it after the store: only then is the slot free.
pub struct Stay {
    image: Arc<Image>,
    /// The slot must be new to the image.
    new: bool,
    settled: bool,
}

impl Stay {
    /// The instance has been made.
    pub fn settle(&mut self) {
        let Some(slots) = &self.image.slots else { return };
        self.settled = true;
        let least = self.image.least.fetch_add(1, Ordering::AcqRel) + 1;
        if self.new {
            self.image.took_another(slots, least);
        }
    }

    /// The instance, which has memories of so many bytes now, is about to be dropped: their pages are mapped, if they have to be.
    pub fn leave(&mut self, memories: [u64; MOST_MEMORIES as usize]) {
        if let Some(slots) = self.image.slots.as_ref().filter(|_| self.settled) {
            self.image.map(slots, self.new, memories);
            self.image.least.fetch_sub(1, Ordering::AcqRel);
            self.settled = false;
        }
    }
}

impl Drop for Stay {
    fn drop(&mut self) {
        self.image.most.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::pages::page_out;
    use crate::engine::{Kind, Shape, Size, Wasi};
    use crate::observe::machine::Scan;

    /// 32 pages of memory, of which the last but one has data. What it exports is all of it.
    const GUEST: &str = r#"(module (memory (export "m") 32) (data (i32.const 1966080) "data"))"#;

    fn engine(slots: u32) -> crate::engine::Engine {
        engine_of(slots, Kind::plain(Wasi::P2))
    }

    fn engine_of(slots: u32, kind: Kind) -> crate::engine::Engine {
        let size = Size {
            slots,
            core_instances: 4,
            table_elements: 10,
            scan: Scan::detect(),
            keep_resident: [4 << 20; Shape::COUNT],
        };
        crate::engine::Engine::new(size, kind).expect("an engine")
    }

    /// An instance in its store, as a guest's: of one module, or of several as a guest that was composed of them.
    struct Running {
        store: Store<()>,
        memories: Vec<Memory>,
        stay: Stay,
    }

    impl Running {
        fn new(modules: &[Module], image: &Arc<Image>) -> Self {
            let mut stay = image.enter();
            let mut store = Store::new(modules[0].engine(), ());
            store.set_epoch_deadline(1);
            let mut memory = |module| {
                let instance = Instance::new(&mut store, module, &[]).expect("an instance");
                instance.get_memory(&mut store, "m").expect("it is exported")
            };
            let memories = modules.iter().map(&mut memory).collect();
            stay.settle();
            Self { store, memories, stay }
        }

        /// Writes to every 64th page, which is what makes page tables of the others.
        fn write(&mut self) {
            for memory in &self.memories {
                for byte in memory.data_mut(&mut self.store).iter_mut().step_by(64 * 4096) {
                    *byte = 0xaa;
                }
            }
        }

        fn addresses(&self) -> impl Iterator<Item = std::ops::Range<usize>> {
            self.memories.iter().map(|memory| {
                let start = memory.data_ptr(&self.store).addr();
                start..start + memory.data_size(&self.store)
            })
        }

        /// Whether a page would be taken for written, though nothing has touched it.
        fn has_untouched(&self) -> bool {
            let slots = self.stay.image.slots.as_ref();
            let has = |slots: &Arc<Slots>, addresses| slots.pages.has_untouched(addresses).expect("a scan");
            slots.is_some_and(|slots| self.addresses().any(|addresses| has(slots, addresses)))
        }

        /// Ends as a guest's instance does. Returns whether its reset finds untouched pages.
        fn end(mut self) -> bool {
            let mut memories = [0; MOST_MEMORIES as usize];
            for (size, memory) in memories.iter_mut().zip(&self.memories) {
                *size = memory.data_size(&self.store) as u64;
            }
            self.stay.leave(memories);
            self.has_untouched()
        }
    }

    fn guest(engine: &crate::engine::Engine, text: &str) -> ([Module; 1], Arc<Image>) {
        ([module(engine, text)], engine.image(32 << 16))
    }

    fn module(engine: &crate::engine::Engine, text: &str) -> Module {
        Module::new(&engine.wasm, wat::parse_str(text).expect("a module")).expect("a module")
    }

    #[test]
    fn every_page_of_a_slot_is_mapped_before_its_first_reset() {
        let engine = engine(8);
        let (module, image) = guest(&engine, GUEST);
        // More at a time in every round, and each round in slots that it knows and some that it does not.
        for round in 1..=9 {
            let mut running: Vec<_> = (0..round).map(|_| Running::new(&module, &image)).collect();
            running.iter_mut().for_each(Running::write);
            // Or there would be nothing to do.
            assert_eq!(running[round - 1].has_untouched(), engine.slots.is_some());
            assert!(!running.into_iter().any(Running::end), "round {round}");
        }
    }

    #[test]
    fn the_slots_of_a_large_pool_are_found_by_a_few_of_them() {
        let engine = engine(999);
        let Some(slots) = &engine.slots else { return };
        let module = Module::new(&engine.wasm, MEMORY_ONLY).expect("a module");
        let all = addresses(&engine.wasm, &module, 1000).expect("nobody has taken one");
        let expected = (0..1000).map(|slot| slots.first + slot * slots.distance);
        assert!(all.into_iter().eq(expected));
        // Another thread of these tests may be given a part in between.
        assert!((0..100).any(|_| few(&engine.wasm, &module, 1000).expect("slots").is_some()));
    }

    #[test]
    fn a_slot_that_another_guest_takes_is_mapped_again() {
        let engine = engine(1);
        let guests = [guest(&engine, GUEST), guest(&engine, &GUEST.replace("data\"", "other\""))];
        for round in 0..20 {
            // Two slots, and one guest or the other has both of them, or each has one.
            let mut running: Vec<_> = [round & 1, round >> 1 & 1]
                .map(|which| Running::new(&guests[which].0, &guests[which].1))
                .into_iter()
                .collect();
            running.iter_mut().for_each(Running::write);
            assert!(!running.into_iter().any(Running::end), "round {round}");
        }
    }

    #[test]
    fn memory_that_grows_is_mapped_in_each_slot() {
        let engine = engine(3);
        let (module, image) = guest(&engine, GUEST);
        for round in 0..10 {
            let mut running: Vec<_> = (0..4).map(|_| Running::new(&module, &image)).collect();
            for running in &mut running {
                running.memories[0].grow(&mut running.store, 10).expect("room");
                running.write();
            }
            assert!(!running.into_iter().any(Running::end), "round {round}");
        }
    }

    #[test]
    fn every_memory_of_a_composed_guest_is_mapped_in_each_slot() {
        let engine = engine_of(8, Kind { wasi: Wasi::P2, shape: Shape::of(3, 3).expect("a shape") });
        assert_eq!(engine.slots.is_some(), self::engine(8).slots.is_some());
        // Of two sizes, and one module twice.
        let small = module(&engine, &GUEST.replace("32)", "5)").replace("1966080", "66000"));
        let modules = [module(&engine, GUEST), small.clone(), small];
        let image = engine.image((32 + 5 + 5) << 16);
        for round in 1..=9 {
            let mut running: Vec<_> = (0..round).map(|_| Running::new(&modules, &image)).collect();
            for running in &mut running {
                running.memories[1].grow(&mut running.store, round as u64 * 3).expect("room");
                running.write();
            }
            assert_eq!(running[round - 1].has_untouched(), engine.slots.is_some());
            assert!(!running.into_iter().any(Running::end), "round {round}");
        }
    }

    #[test]
    fn slots_that_gave_their_memory_back_are_mapped_again() {
        let engine = engine(3);
        let (module, image) = guest(&engine, GUEST);
        for round in 0..10 {
            let mut running: Vec<_> = (0..4).map(|_| Running::new(&module, &image)).collect();
            running.iter_mut().for_each(Running::write);
            assert!(!running.into_iter().any(Running::end), "round {round}");
            engine.release_idle_memory();
        }
    }

    #[test]
    fn what_one_instance_writes_the_next_does_not_see() {
        let engine = engine(1);
        let (module, image) = guest(&engine, GUEST);
        for _ in 0..10 {
            let mut running = [Running::new(&module, &image), Running::new(&module, &image)];
            for Running { store, memories, .. } in &mut running {
                let data = memories[0].data_mut(&mut *store);
                assert_eq!(&data[1_966_080..1_966_084], b"data");
                assert!(data[..1_966_080].iter().chain(&data[1_966_084..]).all(|byte| *byte == 0));
                data.fill(0x55);
            }
            for running in running {
                running.addresses().for_each(|addresses| page_out(addresses).expect("Linux 5.4"));
                running.end();
            }
        }
        if std::fs::read_to_string("/proc/swaps").is_ok_and(|swaps| swaps.lines().count() < 2) {
            println!("this machine has no swap: no page was swapped out");
        }
    }
}
