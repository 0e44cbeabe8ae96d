//! The closing line of an invocation, which Application Insights receives as a trace.

use crate::observe::log;
use crate::pool::Timings;
use crate::sandbox::Identity;
use http::StatusCode;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

/// What the log calls these lines.
const TARGET: &str = "invocation";

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

/// Milliseconds to the microsecond, without the detour over floating point.
pub struct Ms(pub Duration);

impl fmt::Display for Ms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Dividing 128 bits takes longer than the rest of it.
        let micros = u64::try_from(self.0.as_micros()).unwrap_or(u64::MAX);
        write!(f, "{}.{:03}", micros / 1000, micros % 1000)
    }
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
        let (outcome, reason) = match &self.outcome {
            Outcome::Answered => ("answered", None),
            Outcome::Faulted(reason) => ("faulted", Some(reason)),
            Outcome::Deadline => ("deadline", None),
            Outcome::CutOff => ("cut-off", None),
            Outcome::ClientGone if self.cut_off.is_cancelled() => ("cut-off", None),
            Outcome::ClientGone => ("client-gone", None),
            Outcome::Refused(reason) => ("refused", Some(reason)),
        };
        if !tracing::enabled!(target: TARGET, tracing::Level::INFO) {
            return;
        }
        let Self { function, id, sent, .. } = self;
        let (queued, total) = (Ms(self.queued), Ms(self.arrived.elapsed()));
        log::info(
            TARGET,
            format_args!(
                "function={function} id={id} outcome=\"{outcome}\"{reason}{status}{ran} queue_ms={queued} \
                 total_ms={total} sent_bytes={sent}",
                reason = Maybe(reason, |reason, f| write!(f, " reason={reason:?}")),
                status = Maybe(self.status, |status, f| write!(f, " status={}", status.as_u16())),
                ran = Maybe(self.ran.as_ref(), |(identity, timings), f| {
                    let Identity { instance, slot, served, generation, .. } = identity;
                    let (instantiate, head) = (Ms(timings.instantiate), Ms(timings.head));
                    write!(
                        f,
                        " instance={instance} slot={slot} served={served} generation={generation} \
                         instantiate_ms={instantiate} head_ms={head}"
                    )
                }),
            ),
        );
    }
}

/// Writes what is there, if it is there.
struct Maybe<T>(Option<T>, fn(&T, &mut fmt::Formatter<'_>) -> fmt::Result);

impl<T> fmt::Display for Maybe<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.as_ref().map_or(Ok(()), |value| self.1(value, f))
    }
}
