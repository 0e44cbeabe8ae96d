//! The log: one line per record on stdout, as `time LEVEL target: message key=value`.
//!
//! The Functions host turns every stdout line into a trace and every stderr line into an error (azure-contract.md §1.5),
//! so normal operation writes to stdout only. Every record starts with its time: no text of a guest can begin a line,
//! and so none can imitate the two prefixes that the Functions host treats specially (S13). Text from outside is written
//! with `?` (quoted and escaped), so it cannot break a line either.
//!
//! A thread writes, so a full pipe delays nobody; records that a full queue (128,000) cannot take are lost.

use tracing_appender::non_blocking::{NonBlocking, WorkerGuard};

/// Starts the log; records are flushed when the answer is dropped.
pub fn start() -> WorkerGuard {
    let (writer, guard) = NonBlocking::new(std::io::stdout());
    tracing_subscriber::fmt().with_writer(writer).with_ansi(false).with_max_level(tracing::Level::INFO).init();
    guard
}
