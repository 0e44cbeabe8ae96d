//! Why a call into a guest failed, in one line for the operator: what happened, where in the guest, at which limit, and
//! what to try.
//!
//! What comes from the guest, names above all, is cut to a length that a log can bear. Nothing of this reaches a client.

use crate::guest::composition::Part;
use crate::sandbox::Sandbox;
use crate::sandbox::hit::Hit;
use wasmtime::{FrameInfo, Store, Trap, WasmBacktrace};
use wasmtime_wasi::I32Exit;

/// Frames that are shown.
const FRAMES: usize = 8;
/// A function with so many frames is said to recurse. wasmtime keeps 20 frames in all.
const RECURSIONS: usize = 8;
/// Bytes of one function's name that are shown.
const NAME: usize = 160;
/// Bytes of any other text of a guest that are shown.
const WORDS: usize = 500;

/// How a call failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// The guest called exit, with this status. The text is `, in PART` for a guest of several parts.
    Exit(i32, String),
    /// It was ended because it ran into a limit.
    Limit(String),
    /// It trapped, perhaps because a limit refused it something before.
    Trap(String),
}

/// Puts a failed call into words, while the store that it failed in still knows. `parts` are those that the guest was composed of.
pub fn failure(store: &Store<Sandbox>, parts: &[Part], error: &wasmtime::Error) -> Failure {
    let trace = error.downcast_ref::<WasmBacktrace>();
    if let Some(I32Exit(status)) = error.downcast_ref() {
        let part = trace.and_then(|trace| part_of(trace, parts));
        return Failure::Exit(*status, part.map(|part| format!(", in {part}")).unwrap_or_default());
    }
    let place = trace.map(|trace| place(trace, parts)).unwrap_or_default();
    let sandbox = store.data();
    if let Some(hit) = Hit::behind(error, &sandbox.policy().limits) {
        return Failure::Limit(format!("{hit}{place}: {}", hit.remedy()));
    }
    let (what, remedy) = match error.downcast_ref::<Trap>() {
        Some(trap) => {
            let (what, remedy) = match trap {
                Trap::MemoryOutOfBounds if trace.is_some_and(recurses) => ("used up its stack", RECURSION),
                trap => words(*trap),
            };
            let own = trap.to_string();
            (format!("{what} ({})", own.trim_start_matches("wasm trap: ")), format!(": {remedy}"))
        }
        // The engine's own words, or those of an import that failed.
        None => (words_of_guest(&error.root_cause().to_string()), String::new()),
    };
    let why = sandbox.limiter.hit().map_or(remedy, |hit| format!(", after {}", hit.explained()));
    Failure::Trap(format!("{what}{place}{why}"))
}

const RECURSION: &str = "look for a recursion without end, and keep large values on the heap";

/// Whether a function has called itself again and again. A guest in Rust or C has a stack of its own below everything else in its
/// memory, so that it leaves the memory where that ends.
fn recurses(trace: &WasmBacktrace) -> bool {
    let called =
        |frame: &FrameInfo| trace.frames().iter().filter(|other| other.func_index() == frame.func_index()).count();
    trace.frames().iter().any(|frame| called(frame) >= RECURSIONS)
}

/// What happened, and what to try.
fn words(trap: Trap) -> (&'static str, &'static str) {
    const POINTER: &str = "a wrong pointer or index in the guest, or an allocation whose failure it does not notice";
    const TABLE: &str = "a wrong function pointer in the guest, or code that was linked with other types";
    const ARITHMETIC: &str = "let the guest check its numbers first";
    const REFERENCE: &str = "let the guest check the reference first";
    const BINDINGS: &str = "a fault of its bindings: build it with current ones, or report it to their authors";
    const ASYNC: &str = "a fault of its asynchronous bindings or runtime: build it with current ones";
    const SETTING: &str = "this host does not use it: please report it";
    match trap {
        Trap::UnreachableCodeReached => (
            "reached code that must not run, as a panic, a failed assertion or a failed allocation does",
            "its standard error may say more",
        ),
        Trap::StackOverflow => ("used up its call stack", RECURSION),
        Trap::MemoryOutOfBounds => ("accessed memory beyond the end of its own", POINTER),
        Trap::HeapMisaligned => ("used an atomic operation on an address that is not aligned", POINTER),
        Trap::TableOutOfBounds => ("called or read a place beyond the end of a table", TABLE),
        Trap::IndirectCallToNull => ("called a function pointer that points to nothing", TABLE),
        Trap::BadSignature => ("called a function pointer to a function of another type", TABLE),
        Trap::IntegerOverflow => ("divided integers with a result that is too large", ARITHMETIC),
        Trap::IntegerDivisionByZero => ("divided an integer by zero", ARITHMETIC),
        Trap::BadConversionToInteger => ("converted a number to an integer that cannot hold it", ARITHMETIC),
        Trap::Interrupt => ("was interrupted", SETTING),
        Trap::OutOfFuel => ("used up its fuel", SETTING),
        Trap::DisabledOpcode => ("was compiled for an interpreter", SETTING),
        Trap::AtomicWaitNonSharedMemory => {
            ("waited for another thread", "a guest has one thread: build it without threads")
        }
        Trap::NullReference => ("used a reference to nothing", REFERENCE),
        Trap::CastFailure => ("cast a reference to a type that it does not have", REFERENCE),
        Trap::ArrayOutOfBounds => ("accessed an array beyond its end", "let the guest check the index first"),
        Trap::AllocationTooLarge => ("asked for an object that is too large", "let the guest ask for less at a time"),
        Trap::UnhandledTag => ("suspended for what nobody handles", "let the guest handle it"),
        Trap::ContinuationAlreadyConsumed => ("resumed a continuation twice", "let the guest resume it once"),
        Trap::UncaughtException => ("threw an exception that nobody caught", "let the guest catch it"),
        Trap::NoAsyncResult => ("ended its work without a result", "let the handler return a response or an error"),
        Trap::AsyncDeadlock => {
            ("waits for something that can no longer happen", "look for a stream or future that nobody writes to")
        }
        Trap::CannotEnterComponent => ("was called while it was not ready to be called", BINDINGS),
        Trap::CannotLeaveComponent => ("called the host where it may not, as while it cleans up", BINDINGS),
        Trap::CannotBlockSyncTask => {
            ("waited in a function that may not wait", "let the guest export it as an asynchronous function")
        }
        Trap::InvalidChar => ("passed a character that does not exist", BINDINGS),
        Trap::StringOutOfBounds => ("passed a string that lies outside of its memory", BINDINGS),
        Trap::ListOutOfBounds => ("passed a list that lies outside of its memory", BINDINGS),
        Trap::InvalidDiscriminant => ("passed a variant that does not exist", BINDINGS),
        Trap::UnalignedPointer => ("passed a pointer that is not aligned", BINDINGS),
        Trap::DebugAssertStringEncodingFinished
        | Trap::DebugAssertEqualCodeUnits
        | Trap::DebugAssertPointerAligned
        | Trap::DebugAssertUpperBitsUnset => ("failed a check between two of its components", BINDINGS),
        Trap::TaskCancelNotCancelled => ("confirmed a cancellation that nobody asked for", ASYNC),
        Trap::TaskCancelOrReturnTwice => ("returned, or was cancelled, twice", ASYNC),
        Trap::SubtaskCancelAfterTerminal => ("cancelled a call that was over", ASYNC),
        Trap::TaskReturnInvalid => ("returned a result of another type", ASYNC),
        Trap::WaitableSetDropHasWaiters => ("dropped a set that it was waiting for", ASYNC),
        Trap::SubtaskDropNotResolved => ("dropped a call that was not over", ASYNC),
        Trap::ThreadNewIndirectInvalidType => ("started a thread with a function of another type", ASYNC),
        Trap::ThreadNewIndirectUninitialized => ("started a thread with a function that does not exist", ASYNC),
        Trap::BackpressureOverflow => ("asked for back-pressure too often", ASYNC),
        Trap::UnsupportedCallbackCode => ("answered an event with a code that does not exist", ASYNC),
        Trap::CannotResumeThread => ("resumed a thread that was not suspended", ASYNC),
        Trap::ConcurrentFutureStreamOp => {
            ("began a second operation on a stream or future before the first ended", ASYNC)
        }
        Trap::ReferenceCountOverflow => ("shared a value too often", ASYNC),
        Trap::StreamOpTooBig => ("moved too much through a stream at once", ASYNC),
        Trap::WaitableSyncAndAsync => ("waited for the same thing in two ways at once", ASYNC),
        Trap::ReadFromDroppedStream => ("read from a stream that its writer had closed", ASYNC),
        Trap::WriteToDroppedStream => ("wrote to a stream that its reader had closed", ASYNC),
        Trap::WriteToDroppedFuture => ("wrote to a future that nobody reads any more", ASYNC),
        Trap::LiftDroppedStream => ("passed on a stream that its writer had closed", ASYNC),
        // A later wasmtime may have more; it has words of its own.
        _ => ("trapped", "see the documentation of wasmtime"),
    }
}

/// `, in a < b < c`: the frames, innermost first, without the machinery of a panic, which is the same in every Rust guest
/// and explains nothing. Of a guest with middleware, the name of the part follows: that of the innermost frame, because frames between
/// two parts belong to neither.
fn place(trace: &WasmBacktrace, parts: &[Part]) -> String {
    let name = |frame: &FrameInfo| match frame.func_name() {
        Some(name) => format!("{:#}", rustc_demangle::demangle(name)),
        None => format!("function {}", frame.func_index()),
    };
    let frames = shown(trace.frames().iter().map(name));
    match part_of(trace, parts) {
        Some(part) if frames.is_empty() => format!(", in {part}"),
        Some(part) => format!("{frames} of {part}"),
        None => frames,
    }
}

/// The name of the part that has the innermost of these frames that belongs to any.
fn part_of<'a>(trace: &WasmBacktrace, parts: &'a [Part]) -> Option<&'a str> {
    let mut offsets = trace.frames().iter().filter_map(FrameInfo::module_offset);
    let part = offsets.find_map(|offset| parts.iter().find(|part| part.at.contains(&offset)))?;
    Some(&part.name)
}

fn shown(names: impl Iterator<Item = String>) -> String {
    let machinery = ["std::", "core::", "alloc::", "__rustc::", "__rust_", "rust_panic", "rust_begin_unwind", "abort"];
    let own = |name: &String| !machinery.iter().any(|prefix| name.starts_with(prefix));
    let mut shown: Vec<String> = Vec::new();
    for name in names.filter(own) {
        let name = cut(&one_line(&name), NAME);
        // A recursion is shown once.
        if shown.last() != Some(&name) {
            shown.push(name);
        }
        if shown.len() == FRAMES {
            break;
        }
    }
    if shown.is_empty() { String::new() } else { format!(", in {}", shown.join(" < ")) }
}

/// A text of a guest, cut to what the log can bear.
pub fn words_of_guest(text: &str) -> String {
    cut(&one_line(text), WORDS)
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn cut(text: &str, most: usize) -> String {
    if text.len() <= most {
        return text.to_owned();
    }
    format!("{}…", &text[..text.floor_char_boundary(most)])
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    fn traps() -> impl Iterator<Item = Trap> {
        (0..=u8::MAX).filter_map(Trap::from_u8)
    }

    #[test]
    fn every_trap_has_words_of_its_own() {
        assert!(traps().count() > 40, "these are all");
        let mut seen = HashSet::new();
        for trap in traps() {
            let (what, remedy) = words(trap);
            assert_ne!(what, "trapped", "{trap:?}");
            assert!(!what.is_empty() && !remedy.is_empty());
            let same = format!("{trap:?}").starts_with("DebugAssert");
            assert!(seen.insert(what) || same, "{trap:?} has the words of another trap");
        }
    }

    #[test]
    fn the_words_fit_what_happened() {
        for (trap, words_in) in [
            (Trap::UnreachableCodeReached, "panic"),
            (Trap::StackOverflow, "call stack"),
            (Trap::MemoryOutOfBounds, "beyond the end of its own"),
            (Trap::IndirectCallToNull, "points to nothing"),
            (Trap::IntegerDivisionByZero, "by zero"),
            (Trap::AsyncDeadlock, "no longer happen"),
        ] {
            assert!(words(trap).0.contains(words_in), "{trap:?}");
        }
    }

    #[test]
    fn eight_frames_of_bearable_length_without_machinery() {
        let names = |names: &[&str]| shown(names.iter().map(|name| (*name).to_owned()));
        assert_eq!(
            names(&["rust_panic", "std::panicking::begin", "core::panicking::panic", "app::work"]),
            ", in app::work"
        );
        assert_eq!(names(&["abort", "__rust_start_panic"]), "");
        let many: Vec<_> = (0..20).map(|n| format!("f{n}")).collect();
        assert_eq!(shown(many.into_iter()), ", in f0 < f1 < f2 < f3 < f4 < f5 < f6 < f7");
        let long = names(&[&"ü".repeat(1000)]);
        assert!(long.len() < NAME + 20 && long.ends_with('…'), "{long}");
        assert_eq!(names(&["two\nlines"]), ", in two lines");
        assert_eq!(names(&["deeper", "deeper", "deeper", "main"]), ", in deeper < main");
    }
}
