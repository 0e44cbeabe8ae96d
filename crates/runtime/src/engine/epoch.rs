//! The epoch thread: while any guest runs, it ticks every millisecond, and each tick makes a computing guest yield.
//!
//! It parks while no guest runs, so an idle host hardly wakes up, and ends when the engine is gone.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, Thread};
use std::time::Duration;

/// Measured: neighbours of spinning guests wait 0.6 to 1.8 ms with this tick, 600 ms with one of 10 ms
/// (docs/speed.md).
pub const TICK: Duration = Duration::from_millis(1);
/// Ticks until a guest yields for the first time in a call. The next tick can come at any moment: with 1, one in twenty answers of
/// 50 µs would be taken for one that waits, and leave in chunks. After that a guest that computes yields at every tick.
pub const FIRST_YIELD: u64 = 2;
/// How often a parked thread looks whether the engine still exists.
const LOOK: Duration = Duration::from_secs(1);

/// Starts and stops the ticking.
#[derive(Clone)]
pub struct Ticker {
    guests: Arc<AtomicUsize>,
    thread: Thread,
}

impl Ticker {
    /// Starts the thread.
    pub fn start(engine: &wasmtime::Engine) -> wasmtime::Result<Self> {
        let guests = Arc::new(AtomicUsize::new(0));
        let (engine, running) = (engine.weak(), Arc::clone(&guests));
        let run = move || {
            while let Some(engine) = engine.upgrade() {
                if running.load(Ordering::Acquire) == 0 {
                    drop(engine);
                    thread::park_timeout(LOOK);
                } else {
                    thread::sleep(TICK);
                    engine.increment_epoch();
                }
            }
        };
        let handle = thread::Builder::new().name("epoch".to_owned()).spawn(run)?;
        Ok(Self { guests, thread: handle.thread().clone() })
    }

    /// Ticks until the returned guard is dropped.
    pub fn ticking(&self) -> Ticking {
        if self.guests.fetch_add(1, Ordering::AcqRel) == 0 {
            self.thread.unpark();
        }
        Ticking(Arc::clone(&self.guests))
    }
}

/// Held by every running guest.
pub struct Ticking(Arc<AtomicUsize>);

impl Drop for Ticking {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}
