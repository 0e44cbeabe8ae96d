//! What was to be sent and was not: counted all, told of once a minute.

use crate::observe::metrics::Metrics;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How often the log has a line about one signal.
const PERIOD: Duration = Duration::from_secs(60);

/// Counts what is lost of one signal.
pub struct Losses {
    /// `traces`, `metrics`, `logs` or `applicationInsights`.
    signal: &'static str,
    /// Whom it was meant for, without secrets.
    to: String,
    metrics: Arc<Metrics>,
    untold: Mutex<Untold>,
}

#[derive(Default)]
struct Untold {
    items: u64,
    why: String,
    told: Option<Instant>,
}

impl Losses {
    /// Nothing is lost yet of what goes to this address.
    pub fn new(signal: &'static str, to: String, metrics: Arc<Metrics>) -> Self {
        Self { signal, to, metrics, untold: Mutex::default() }
    }

    /// So many items are lost; `why` begins with a verb whose subject is the address.
    pub fn add(&self, items: u64, why: &str) {
        self.metrics.lost(self.signal, items);
        let mut untold = self.untold();
        untold.items += items;
        if untold.told.is_none_or(|told| told.elapsed() >= PERIOD) {
            why.clone_into(&mut untold.why);
            self.tell(untold);
        } else if untold.why != why {
            why.clone_into(&mut untold.why);
        }
    }

    /// Tells of what the log has no line about yet.
    pub fn finish(&self) {
        let untold = self.untold();
        if untold.items > 0 {
            self.tell(untold);
        }
    }

    fn tell(&self, mut untold: MutexGuard<'_, Untold>) {
        let (items, why) = (std::mem::take(&mut untold.items), std::mem::take(&mut untold.why));
        untold.told = Some(Instant::now());
        drop(untold);
        tracing::warn!(target: "telemetry", signal = self.signal, dropped = items, "{} {why}", self.to);
    }

    fn untold(&self) -> MutexGuard<'_, Untold> {
        self.untold.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
