//! The log: one line per record, as `time LEVEL target: message key=value`, the time only with `log.timestamps`.
//!
//! The Functions host turns every line on stdout into a trace of level Information, and one on stderr into a Warning if it
//! contains "warn", else into an Error (azure-contract.md §1.5). So under it WARN and ERROR go to stderr, where alerts find
//! them, and normal operation writes to stdout only; without it everything goes to stdout. Every record starts with its time
//! or its level: no text of a guest can begin a line, and so none can imitate the two prefixes that the Functions host treats
//! specially (S13). Text from outside is written with `?` (quoted and escaped), so it cannot break a line either.
//!
//! A thread for each stream writes, so a full pipe delays nobody; what does not fit into [`ROOM`] is lost, and the log says
//! how much. At the end of the process it has [`LAST_WORDS`] to write what is left.
//! Records that come in quick succession leave together: waking a thread for each of them would cost more than the
//! rest of the log.

use super::text::Text;
use std::cell::RefCell;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tracing::level_filters::LevelFilter;
use tracing::subscriber::Interest;
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_core::callsite::rebuild_interest_cache;
use tracing_subscriber::Layer;
use tracing_subscriber::fmt::{self, MakeWriter};
use tracing_subscriber::layer::{Context, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;

/// Bytes that may wait to be written.
const ROOM: usize = 16 << 20;
/// For how long records are gathered after some have been written. A first record leaves at once.
const GATHER: Duration = Duration::from_millis(5);

/// How long the end of the process waits for a reader of the log.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// The log is as global as the streams.
static STDOUT: Queue = Queue::new();
/// Used with [`Shape::split`] only.
static STDERR: Queue = Queue::new();
static SPLIT: AtomicBool = AtomicBool::new(false);
static TIMESTAMPS: AtomicBool = AtomicBool::new(true);
static LEVEL: Mutex<Level> = Mutex::new(Level::INFO);
static FOLLOWER: OnceLock<Box<Follower>> = OnceLock::new();

/// Is told of records on the thread that makes them, so it must neither wait nor fail.
type Follower = dyn Fn(&Event<'_>) + Send + Sync;

/// What the log looks like.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    /// Records of this level and above.
    pub level: Level,
    /// Each record begins with its time.
    pub timestamps: bool,
    /// WARN and ERROR go to stderr.
    pub split: bool,
}

/// Starts the log; what is waiting is written when the returned value is dropped.
pub fn start(shape: Shape) -> Log {
    SPLIT.store(shape.split, Ordering::Relaxed);
    TIMESTAMPS.store(shape.timestamps, Ordering::Relaxed);
    STDOUT.start("log", || STDOUT.write_to(&mut io::stdout()));
    if shape.split {
        STDERR.start("log-errors", || STDERR.write_to(&mut io::stderr()));
    }
    *level_now() = shape.level;
    let records = fmt::layer().with_writer(Streams).with_ansi(false);
    if shape.timestamps {
        tracing_subscriber::registry().with(records).with(Following).with(Threshold).init();
    } else {
        tracing_subscriber::registry().with(records.without_time()).with(Following).with(Threshold).init();
    }
    Log(())
}

/// Lets somebody be told of every record from now on, beside the streams. There can be one. The closing lines of invocations, which are
/// no records of tracing, are told by `line`.
pub fn follow(follower: impl Fn(&Event<'_>) + Send + Sync + 'static) {
    let _ = FOLLOWER.set(Box::new(follower));
}

struct Following;

impl<S: Subscriber> Layer<S> for Following {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        if let Some(follower) = FOLLOWER.get() {
            follower(event);
        }
    }
}

/// Which records are written: those of this level and above.
pub fn level() -> Level {
    *level_now()
}

/// Lets other records be written from now on.
pub fn set_level(level: Level) {
    *level_now() = level;
    // Each place that makes records asks anew.
    rebuild_interest_cache();
}

fn level_now() -> MutexGuard<'static, Level> {
    LEVEL.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Tells each place that makes records whether they are written, once, so that records themselves do not ask for the level.
struct Threshold;

impl<S: Subscriber> Layer<S> for Threshold {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        if *metadata.level() <= level() { Interest::always() } else { Interest::never() }
    }

    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, S>) -> bool {
        *metadata.level() <= level()
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(level().into())
    }
}

/// Whether records of this level are written.
pub fn is_on(level: Level) -> bool {
    LevelFilter::current() >= level
}

/// Writes a record as tracing would, for the one that every request writes: tracing visits each field, which showed in the
/// profile of a request. `fields` adds what stands behind the target, without an end of line; then `admits`, which is told
/// how long the record is, may refuse it. Returns whether it has not.
pub fn write(level: Level, target: &str, fields: impl FnOnce(&mut Text), admits: impl FnOnce(usize) -> bool) -> bool {
    thread_local! {
        static SCRATCH: RefCell<Scratch> = const { RefCell::new(Scratch { second: 0, date: String::new(), record: Text::new() }) };
    }
    SCRATCH.with_borrow_mut(|Scratch { second, date, record }| {
        record.clear();
        if TIMESTAMPS.load(Ordering::Relaxed) {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            if now.as_secs() != *second {
                *second = now.as_secs();
                *date = humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_secs(*second)).to_string();
            }
            record.add(date.trim_end_matches('Z')).add(".").padded::<6>(now.subsec_micros()).add("Z ");
        }
        record.add(if level == Level::ERROR { "" } else { " " }).add(level.as_str()).add(" ").add(target).add(": ");
        fields(record);
        record.add("\n");
        let is_admitted = admits(record.as_bytes().len());
        if is_admitted {
            queue(level).add(record.as_bytes());
        }
        is_admitted
    })
}

/// Where a record of this level goes.
fn queue(level: Level) -> &'static Queue {
    if level <= Level::WARN && SPLIT.load(Ordering::Relaxed) { &STDERR } else { &STDOUT }
}

/// What a thread keeps from one record to the next.
struct Scratch {
    second: u64,
    /// That second, as text.
    date: String,
    record: Text,
}

/// Keeps the log going.
pub struct Log(());

impl Drop for Log {
    fn drop(&mut self) {
        STDOUT.close();
        if SPLIT.load(Ordering::Relaxed) {
            STDERR.close();
        }
    }
}

struct Queue {
    state: Mutex<State>,
    /// Tells the writer that there is something to write.
    more: Condvar,
    /// Tells the end of the process that everything is written.
    ended: Condvar,
}

struct State {
    waiting: Vec<u8>,
    /// Records that found no room.
    lost: u64,
    /// The thread sleeps until it is told that there is something to write.
    idle: bool,
    closing: bool,
    /// Everything is written, and nothing will be any more.
    ended: bool,
}

impl State {
    const fn new() -> Self {
        Self { waiting: Vec::new(), lost: 0, idle: false, closing: false, ended: false }
    }
}

impl Queue {
    const fn new() -> Self {
        Self { state: Mutex::new(State::new()), more: Condvar::new(), ended: Condvar::new() }
    }

    /// Starts the thread that writes.
    fn start(&self, name: &str, write: impl FnOnce() + Send + 'static) {
        let thread = thread::Builder::new().name(name.to_owned()).spawn(write);
        // Without a thread nobody would say that everything is written.
        self.state().ended = thread.is_err();
    }

    /// Waits until everything is written, or [`LAST_WORDS`] if nobody reads.
    fn close(&self) {
        let mut state = self.state();
        state.closing = true;
        self.more.notify_one();
        drop(self.ended.wait_timeout_while(state, LAST_WORDS, |state| !state.ended));
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, record: &[u8]) {
        let mut state = self.state();
        if state.waiting.len() + record.len() > ROOM {
            state.lost += 1;
            return;
        }
        state.waiting.extend_from_slice(record);
        if std::mem::take(&mut state.idle) {
            drop(state);
            self.more.notify_one();
        }
    }

    /// Writes until the log is closed and everything is written.
    fn write_to(&self, out: &mut impl io::Write) {
        let mut batch = Vec::new();
        loop {
            let closing = {
                let mut state = self.state();
                while state.waiting.is_empty() && state.lost == 0 && !state.closing {
                    state.idle = true;
                    state = self.more.wait(state).unwrap_or_else(PoisonError::into_inner);
                }
                std::mem::swap(&mut batch, &mut state.waiting);
                if state.lost > 0 {
                    // As every record; the writer cannot log itself.
                    let lost = std::mem::take(&mut state.lost);
                    if TIMESTAMPS.load(Ordering::Relaxed) {
                        let now = humantime::format_rfc3339_micros(SystemTime::now());
                        batch.extend_from_slice(format!("{now} ").as_bytes());
                    }
                    batch.extend_from_slice(format!(" WARN log: {lost} records lost\n").as_bytes());
                }
                state.closing
            };
            // A reader that has gone is no reason to stop.
            let _ = out.write_all(&batch).and_then(|()| out.flush());
            batch.clear();
            if closing {
                self.state().ended = true;
                self.ended.notify_one();
                return;
            }
            thread::sleep(GATHER);
        }
    }
}

/// Hands tracing's records to the queue of their level.
struct Streams;

impl<'a> MakeWriter<'a> for Streams {
    type Writer = Queued;

    fn make_writer(&'a self) -> Queued {
        Queued(&STDOUT)
    }

    fn make_writer_for(&'a self, record: &Metadata<'_>) -> Queued {
        Queued(queue(*record.level()))
    }
}

/// Hands records to a queue.
struct Queued(&'static Queue);

impl io::Write for Queued {
    fn write(&mut self, record: &[u8]) -> io::Result<usize> {
        self.0.add(record);
        Ok(record.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_counted_and_the_rest_is_written() {
        let queue = Queue::new();
        let record = vec![b'x'; ROOM / 2];
        for _ in 0..4 {
            queue.add(&record);
        }
        queue.state().closing = true;
        let mut out = Vec::new();
        queue.write_to(&mut out);
        assert_eq!(out.iter().filter(|byte| **byte == b'x').count(), ROOM);
        assert!(out.ends_with(b"  WARN log: 2 records lost\n"));
    }
}
