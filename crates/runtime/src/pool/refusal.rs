//! Why an invocation is not admitted.

use std::time::Duration;

/// A refusal; the guest has not run. Its text is for the client: sizes of the pool and times, nothing of the app.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// As many wait as may wait.
    #[error("all {slots} instances are busy and {queue_length} requests are waiting")]
    QueueFull {
        /// Pool size.
        slots: u32,
        /// Queue length.
        queue_length: u32,
    },
    /// As many of its function wait as may wait.
    #[error(
        "all {share} instances that this function may have at once (pool.share) are busy and {waiting} of its requests are waiting"
    )]
    ShareFull {
        /// The function's share of the slots.
        share: u32,
        /// How many of it wait.
        waiting: usize,
    },
    /// It has waited as long as it may.
    #[error("no instance became free within {} ms", waited.as_millis())]
    WaitedTooLong {
        /// How long it waited.
        waited: Duration,
    },
    /// It has waited as long as it may for its function's share.
    #[error(
        "none of the {share} instances that this function may have at once (pool.share) became free within {} ms",
        waited.as_millis()
    )]
    WaitedForShare {
        /// The function's share of the slots.
        share: u32,
        /// How long it waited.
        waited: Duration,
    },
    /// The host is shutting down.
    #[error("the host is shutting down")]
    Closed,
}
