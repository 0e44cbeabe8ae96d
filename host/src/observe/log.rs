//! The log: one line per record on stdout, as `time LEVEL target: message key=value`.
//!
//! The Functions host turns every stdout line into a trace and every stderr line into an error (azure-contract.md §1.5),
//! so normal operation writes to stdout only. Every record starts with its time: no text of a guest can begin a line,
//! and so none can imitate the two prefixes that the Functions host treats specially (S13). Text from outside is written
//! with `?` (quoted and escaped), so it cannot break a line either.
//!
//! A thread writes, so a full pipe delays nobody; what does not fit into [`ROOM`] is lost, and the log says how much. At the
//! end of the process it has [`LAST_WORDS`] to write what is left.
//! Records that come in quick succession leave together: waking a thread for each of them would cost more than the
//! rest of the log.

use super::text::Text;
use std::cell::RefCell;
use std::io;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tracing::Level;

/// Bytes that may wait to be written.
const ROOM: usize = 16 << 20;
/// For how long records are gathered after some have been written. A first record leaves at once.
const GATHER: Duration = Duration::from_millis(5);

/// How long the end of the process waits for a reader of the log.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// The log is as global as stdout.
static QUEUE: Queue = Queue::new();

/// Starts the log with the records of `level` and above; what is waiting is written when the answer is dropped.
pub fn start(level: Level) -> Log {
    let thread = thread::Builder::new().name("log".to_owned()).spawn(|| QUEUE.write_to(&mut io::stdout()));
    // Without a thread nobody would say that everything is written.
    QUEUE.state().ended = thread.is_err();
    tracing_subscriber::fmt().with_writer(|| Queued).with_ansi(false).with_max_level(level).init();
    Log(())
}

/// Writes a record of level INFO as tracing would, for the one that every request writes: tracing visits each field, which
/// showed in the profile of a request. `fields` adds what stands behind the target, without an end of line.
pub fn info(target: &str, fields: impl FnOnce(&mut Text)) {
    thread_local! {
        static SCRATCH: RefCell<Scratch> = const { RefCell::new(Scratch { second: 0, date: String::new(), record: Text::new() }) };
    }
    SCRATCH.with_borrow_mut(|Scratch { second, date, record }| {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        if now.as_secs() != *second {
            *second = now.as_secs();
            *date = humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_secs(*second)).to_string();
        }
        record.clear();
        record.add(date.trim_end_matches('Z')).add(".").padded::<6>(now.subsec_micros());
        record.add("Z  INFO ").add(target).add(": ");
        fields(record);
        record.add("\n");
        QUEUE.add(record.as_bytes());
    });
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
        QUEUE.close();
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
                    let (now, lost) = (SystemTime::now(), std::mem::take(&mut state.lost));
                    let now = humantime::format_rfc3339_micros(now);
                    batch.extend_from_slice(format!("{now}  WARN log: {lost} records lost\n").as_bytes());
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

/// Hands records to the queue.
struct Queued;

impl io::Write for Queued {
    fn write(&mut self, record: &[u8]) -> io::Result<usize> {
        QUEUE.add(record);
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
