//! What every slot does at one moment, in JSON, at a cost that is bounded whatever the size of the pool.

use super::millis;
use crate::pool::{Occupant, Slot};
use crate::run::Pool;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// How long what was read is good for, at the least.
pub const PERIOD: Duration = Duration::from_millis(100);

/// How many times as long as it took: one hundredth of a processor.
const SHARE: u32 = 100;

/// The most slots that are told one by one: as many as a screen has lines.
const ROWS: usize = 1000;

/// A pool at one moment.
#[derive(Debug)]
pub struct Frame {
    /// When, in milliseconds since the process began.
    pub at: f64,
    /// Members of an object in JSON: the same while nothing changes.
    pub text: String,
    good_until: Instant,
}

/// The last one.
#[derive(Default)]
pub struct Frames(Mutex<Option<Arc<Frame>>>);

impl Frames {
    /// Reads the pool, unless that was done just now. Times count from `made`.
    pub fn look(&self, pool: &Pool, made: Instant) -> Arc<Frame> {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let begun = Instant::now();
        if let Some(frame) = last.as_ref().filter(|frame| begun < frame.good_until) {
            return Arc::clone(frame);
        }
        let snapshot = pool.snapshot();
        let since = |age: Duration| millis((snapshot.at - age).saturating_duration_since(made));
        let (mut running, mut parked, mut rows, mut slots) = (0, 0, 0, String::new());
        for (number, slot) in snapshot.slots.iter().enumerate() {
            let (state, Occupant { function, generation }, instance, age) = match slot {
                Slot::Free => continue,
                Slot::Parked { guest, instance, age } => ("parked", guest, *instance, *age),
                Slot::Admitted { guest } => ("admitted", guest, 0, Duration::ZERO),
                Slot::Running { guest, instance, phase, age } => (phase.word(), guest, *instance, *age),
            };
            match slot {
                Slot::Parked { .. } => parked += 1,
                _ => running += 1,
            }
            if rows < ROWS {
                let comma = if rows == 0 { "" } else { "," };
                // One that has just been admitted has no time of its own, and would differ in every frame.
                let since = if age.is_zero() { "null".to_owned() } else { format!("{:.1}", since(age)) };
                write!(slots, "{comma}[{number},\"{state}\",\"{function}\",{generation},{instance},{since}]")
                    .expect("a text takes everything");
                rows += 1;
            }
        }
        let waiting = snapshot.waiting;
        let text = format!("\"running\":{running},\"parked\":{parked},\"waiting\":{waiting},\"slots\":[{slots}]");
        let at = millis(snapshot.at.saturating_duration_since(made));
        drop(snapshot);
        let good_until = begun + PERIOD.max(begun.elapsed() * SHARE);
        let frame = Arc::new(Frame { at, text, good_until });
        *last = Some(Arc::clone(&frame));
        frame
    }
}
