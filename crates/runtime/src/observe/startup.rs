//! How long the phases of the start took: one line each, at debug level.

use std::fmt::Display;
use std::time::{Duration, Instant};

/// Logs the phase that began at `begun` and is over now. Returns when the next one begins.
pub fn phase(name: impl Display, begun: Instant) -> Instant {
    let now = Instant::now();
    measured(name, now - begun);
    now
}

/// Logs a phase that was over before the log could be started.
pub fn measured(name: impl Display, took: Duration) {
    tracing::debug!(target: "startup", phase = ?name.to_string(), ms = %format_args!("{:.3}", took.as_secs_f64() * 1e3));
}
