#![expect(clippy::single_range_in_vec_init, reason = "runs of pages are ranges")]

use super::*;
use crate::engine::{Engine, Wasi};
use std::cell::RefCell;
use std::io::Write as _;
use std::thread;
use wasmtime::{Instance, Memory, Module, Store, Trap, TypedFunc};

/// The first page of [`content`] in a memory, and what each of its bytes is.
const FIRST: usize = 20;
const BYTE: u8 = 0x77;
static ALL_ZERO: [u8; 32 << 16] = [0; 32 << 16];
const MOST: u64 = 64 << 20;

/// Ten pages of a file, behind one that is not theirs.
fn content() -> Arc<Content> {
    let mut file = Arc::new(tempfile::tempfile().expect("a file"));
    file.write_all(&[&[1; PAGE][..], &[BYTE; 10 * PAGE]].concat()).expect("written");
    Arc::new(Content::new(&file, PAGE as u64, FIRST * PAGE, 10 * PAGE).expect("mapped"))
}

/// It listens to where guests write.
fn engine() -> Engine {
    Engine::new(Wasi::P2, &Stacks::default()).expect("an engine")
}

fn image(most: u64) -> Arc<Image> {
    image_in(&Slots::new(10, RUNS), most)
}

fn image_in(slots: &Arc<Slots>, most: u64) -> Arc<Image> {
    engine();
    let memories = slots.memories(vec![Some(content())], most, 1);
    memories.image(&MemoryType::new(32, Some(marked(0) as u32)), 32 << 16).expect("an image")
}

/// A memory in a slot, as an instance has it.
fn begin(image: &Arc<Image>) -> Linear {
    Linear { image: Arc::clone(image), place: Some(image.take().expect("a slot")), size: image.initial }
}

impl Linear {
    fn bytes(&mut self) -> &mut [u8] {
        // SAFETY: so many bytes can be accessed, and nobody else has them.
        unsafe { std::slice::from_raw_parts_mut(self.as_ptr(), self.size) }
    }

    /// How often it was written to where it was not open.
    fn faults(&self) -> usize {
        self.slot().opened.load(Relaxed)
    }

    fn is_as_begun(&mut self) -> bool {
        let (start, end) = (FIRST * PAGE, (FIRST + 10) * PAGE);
        let zeros = |bytes: &[u8]| *bytes == ALL_ZERO[..bytes.len()];
        let bytes = self.bytes();
        zeros(&bytes[..start])
            && bytes[start..end] == [BYTE; 10 * PAGE]
            && zeros(&bytes[end..])
            && bytes.len() == 32 << 16
    }
}

/// What an instance writes to its memory.
type Pattern = Box<dyn Fn(&mut [u8])>;

fn write(pages: impl IntoIterator<Item = usize>) -> impl Fn(&mut [u8]) {
    let pages: Vec<usize> = pages.into_iter().collect();
    move |bytes| pages.iter().for_each(|page| bytes[page * PAGE + 5] ^= 0xff)
}

#[test]
fn what_one_instance_writes_the_next_does_not_see() {
    // Little, much, all, in order, from the end, in and around the content, and more places than are noted.
    let patterns: [Pattern; 7] = [
        Box::new(write([0, 3, 19, 20, 29, 30, 511])),
        Box::new(|bytes| bytes.fill(0x55)),
        Box::new(write((0..512).rev().step_by(5))),
        Box::new(write(15..40)),
        Box::new(|bytes| bytes[FIRST * PAGE..][..3].fill(0)),
        Box::new(|_| ()),
        Box::new(write((0..512).rev())),
    ];
    // All that is written may stay open, some of it, nothing; in as many places as there are, in two, in one, in no single one.
    for (most, runs) in [(MOST, RUNS), (40 * PAGE as u64, RUNS), (0, RUNS), (MOST, 2), (MOST, 1), (MOST, 0)] {
        let image = image_in(&Slots::new(10, runs), most);
        for round in 0..100 {
            let mut both = [begin(&image), begin(&image)];
            for (place, memory) in both.iter_mut().enumerate() {
                assert!(memory.is_as_begun(), "round {round} with {most} in {runs}");
                patterns[(round + 3 * place) % patterns.len()](memory.bytes());
            }
        }
        assert_eq!(image.is_large.load(Relaxed), most < MOST);
    }
}

#[test]
fn what_is_written_to_at_every_request_is_open() {
    let image = image(MOST);
    let written = write([1, 7, 8, 25, 300, 301]);
    // Two slots, of which the first knows nothing.
    for (instance, faults) in [(0, 6), (1, 0), (2, 0)] {
        let mut memory = begin(&image);
        written(memory.bytes());
        // Two of them lie behind one another: both are opened at once.
        assert!(memory.faults() <= faults, "{instance}: {}", memory.faults());
        assert_eq!(memory.faults() == 0, faults == 0);
    }
    let mut both = [begin(&image), begin(&image)];
    both.iter_mut().for_each(|memory| written(memory.bytes()));
    assert_eq!(both.each_ref().map(Linear::faults), [0, 0]);
}

#[test]
fn what_is_not_written_to_any_more_is_closed() {
    let image = image(MOST);
    begin(&image).bytes().fill(1);
    let whole = [0..512];
    assert_eq!(*lock(&image.open), whole);
    for _ in 0..FIRST_LOOK {
        write([2, 9])(begin(&image).bytes());
    }
    assert_eq!(*lock(&image.open), [2..3, 9..10]);
    let mut memory = begin(&image);
    write([2, 9])(memory.bytes());
    assert_eq!(memory.faults(), 0);
    write([100])(memory.bytes());
    assert_eq!(memory.faults(), 1);
    assert!(begin(&image).is_as_begun());
}

#[test]
fn pages_near_each_other_are_one_mapping() {
    let mut runs = vec![40..41, 2..3, 6..8, 7..9, 20..30];
    let gaps = RefCell::default();
    let open = |gap: &Run| {
        Vec::push(&mut gaps.borrow_mut(), gap.clone());
        Ok(())
    };
    merge(&mut runs, GAP, open).expect("nothing fails");
    assert_eq!((&runs[..], gaps.take()), (&[2..9, 20..30, 40..41][..], Vec::from_iter([3..6])));
    merge(&mut runs, u32::MAX, open).expect("nothing fails");
    assert_eq!((&runs[..], gaps.take()), (&[2..41][..], vec![9..20, 30..40]));
}

#[test]
fn memory_that_grew_is_gone() {
    let image = image(MOST);
    for _ in 0..3 {
        let mut memory = begin(&image);
        assert!(memory.is_as_begun());
        memory.grow_to(40 << 16).expect("room");
        assert!(memory.bytes()[32 << 16..].iter().all(|byte| *byte == 0));
        memory.bytes()[32 << 16..].fill(3);
    }
    let mut memory = begin(&image);
    assert!(memory.grow_to(RESERVATION + 1).is_err());
    assert!(memory.is_as_begun());
}

#[test]
fn free_slots_give_back_what_they_hold() {
    let slots = Slots::new(10, RUNS);
    let image = image_in(&slots, MOST);
    write(0..512)(begin(&image).bytes());
    assert_eq!((lock(&image.free).len(), slots.held.load(Relaxed)), (1, 1));
    slots.trim();
    assert_eq!(slots.held.load(Relaxed), 0);
    assert!(lock(&image.free).is_empty());
    let mut memory = begin(&image);
    assert!(memory.is_as_begun());
    // It is known what was open.
    write(0..512)(memory.bytes());
    assert_eq!(memory.faults(), 0);
}

#[test]
fn a_slot_that_is_free_goes_to_whom_it_is_needed_by() {
    let slots = Slots::new(2, RUNS);
    let (first, second) = (image_in(&slots, MOST), image_in(&slots, MOST));
    drop([begin(&first), begin(&first)]);
    let free = || [&first, &second].map(|image| lock(&image.free).len());
    assert_eq!((free(), slots.held.load(Relaxed)), ([2, 0], 2));
    drop(begin(&second));
    assert_eq!((free(), slots.held.load(Relaxed)), ([1, 1], 2));
    // Those that run all have one, however many they are.
    let three = [begin(&first), begin(&second), begin(&second)];
    assert_eq!((free(), slots.held.load(Relaxed)), ([0, 0], 3));
    drop(three);
    drop(second);
    assert_eq!(slots.held.load(Relaxed), 1);
}

#[test]
fn a_memory_of_another_component_is_another() {
    let slots = Slots::new(10, RUNS);
    let memories = slots.memories(vec![Some(content()), None], MOST, 2);
    let image = |maximum| memories.image(&MemoryType::new(32, maximum), 32 << 16);
    let marked = |number| Some(marked(number) as u32);
    let (first, zeros, plain) = (image(marked(0)).expect("1"), image(marked(1)).expect("2"), image(None).expect("3"));
    assert!(Arc::ptr_eq(&first, &image(marked(0)).expect("known")));
    assert!(!Arc::ptr_eq(&first, &zeros) && !Arc::ptr_eq(&zeros, &plain));
    assert!(first.content.is_some() && zeros.content.is_none() && plain.content.is_none());
    assert!(image(marked(2)).is_err());
    // And one that has no content at all has no marks.
    let other = slots.memories(Vec::new(), MOST, 1);
    assert!(other.image(&MemoryType::new(32, Some(65_535)), 32 << 16).is_ok());
}

/// Writes where it is told to, and reads.
const GUEST: &str = r#"(module (memory (export "m") 32)
    (func (export "store") (param i32) (i32.store8 (local.get 0) (i32.const 1)))
    (func (export "load") (param i32) (result i32) (i32.load8_u (local.get 0))))"#;

struct Guest {
    store: Store<()>,
    memory: Memory,
    write: TypedFunc<u32, ()>,
    read: TypedFunc<u32, u32>,
}

fn guest(module: &Module) -> Guest {
    let mut store = Store::new(module.engine(), ());
    store.set_epoch_deadline(1);
    let memories = Slots::new(1, RUNS).memories(Vec::new(), MOST, 1);
    let instance = CURRENT.sync_scope(memories, || Instance::new(&mut store, module, &[]).expect("an instance"));
    let memory = instance.get_memory(&mut store, "m").expect("it is exported");
    let write = instance.get_typed_func(&mut store, "store").expect("it is exported");
    let read = instance.get_typed_func(&mut store, "load").expect("it is exported");
    Guest { store, memory, write, read }
}

#[test]
fn what_lies_beyond_a_memory_is_no_guests() {
    let module = Module::new(&engine().wasm, wat::parse_str(GUEST).expect("a module")).expect("a module");
    let mut guest = guest(&module);
    for beyond in [32 << 16, (32 << 16) + 5, 1 << 31, u32::MAX] {
        for _ in 0..2 {
            let wrote = guest.write.call(&mut guest.store, beyond).expect_err("a trap");
            assert_eq!(wrote.downcast_ref(), Some(&Trap::MemoryOutOfBounds), "{beyond}");
            let read = guest.read.call(&mut guest.store, beyond).expect_err("a trap");
            assert_eq!(read.downcast_ref(), Some(&Trap::MemoryOutOfBounds), "{beyond}");
        }
    }
    guest.write.call(&mut guest.store, (32 << 16) - 1).expect("it is its own");
    guest.memory.grow(&mut guest.store, 1).expect("room");
    guest.write.call(&mut guest.store, 32 << 16).expect("it is its own now");
    assert!(guest.write.call(&mut guest.store, 33 << 16).is_err());
    // What the host writes is opened as well.
    guest.memory.write(&mut guest.store, 70 * PAGE - 1, b"ab").expect("it is its own");
    assert_eq!(guest.read.call(&mut guest.store, (70 * PAGE) as u32).expect("it is its own"), u32::from(b'b'));
}

#[test]
fn many_threads_have_memories_at_the_same_time() {
    let image = image(MOST);
    let done = AtomicUsize::new(0);
    thread::scope(|scope| {
        for thread in 0..8 {
            let (image, done) = (&image, &done);
            scope.spawn(move || {
                for round in 0..100 {
                    let mut memory = begin(image);
                    assert!(memory.is_as_begun(), "round {round} of {thread}");
                    write((thread..512).step_by(7 + round % 3))(memory.bytes());
                }
                done.fetch_add(1, Relaxed);
            });
        }
    });
    assert_eq!(done.into_inner(), 8);
}
