//! The closing line of an invocation, which Application Insights receives as a trace.

use crate::pool::Timings;
use crate::sandbox::Identity;
use http::StatusCode;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

/// How an invocation ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The whole answer was handed over.
    Answered,
    /// The guest failed; the words are the operator's.
    Faulted(String),
    /// It took longer than it may.
    Deadline,
    /// The client left.
    ClientGone,
    /// It still ran when the drain was over.
    CutOff,
    /// The host refused it; the words are the client's too.
    Refused(String),
}

/// Gathers the facts of one invocation and writes them once, when it is dropped.
pub struct Closing {
    function: Arc<str>,
    id: Arc<str>,
    arrived: Instant,
    /// The status that the client was sent, if any.
    pub status: Option<StatusCode>,
    /// How long it waited for a slot.
    pub queued: Duration,
    /// Which instance ran it, and how long its parts took.
    pub ran: Option<(Identity, Timings)>,
    /// Bytes of the answer's body.
    pub sent: u64,
    /// How it ended; a line that nobody gave an outcome tells of a client that left, or of the end of the drain.
    pub outcome: Outcome,
    /// Tells which.
    pub cut_off: CancellationToken,
}

impl Closing {
    /// Begins with the arrival of the head.
    pub fn new(function: Arc<str>, id: Arc<str>, arrived: Instant, cut_off: CancellationToken) -> Self {
        Self {
            function,
            id,
            arrived,
            status: None,
            queued: Duration::ZERO,
            ran: None,
            sent: 0,
            outcome: Outcome::ClientGone,
            cut_off,
        }
    }
}

impl Drop for Closing {
    fn drop(&mut self) {
        let ms = |duration: Duration| (duration.as_secs_f64() * 1e6).round() / 1e3;
        let (outcome, reason) = match &self.outcome {
            Outcome::Answered => ("answered", None),
            Outcome::Faulted(reason) => ("faulted", Some(reason)),
            Outcome::Deadline => ("deadline", None),
            Outcome::CutOff => ("cut-off", None),
            Outcome::ClientGone if self.cut_off.is_cancelled() => ("cut-off", None),
            Outcome::ClientGone => ("client-gone", None),
            Outcome::Refused(reason) => ("refused", Some(reason)),
        };
        let (identity, timings) = self.ran.as_ref().map(|(identity, timings)| (identity, timings)).unzip();
        tracing::info!(
            target: "invocation",
            function = %self.function,
            id = %self.id,
            outcome,
            reason,
            status = self.status.map(|status| status.as_u16()),
            instance = identity.map(|identity| identity.instance),
            slot = identity.map(|identity| identity.slot),
            generation = identity.map(|identity| identity.generation),
            queue_ms = ms(self.queued),
            instantiate_ms = timings.map(|timings| ms(timings.instantiate)),
            head_ms = timings.map(|timings| ms(timings.head)),
            total_ms = ms(self.arrived.elapsed()),
            sent_bytes = self.sent,
        );
    }
}
