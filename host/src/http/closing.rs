//! The closing line of an invocation, which Application Insights receives as a trace.

use crate::config::Function;
use crate::observe::log;
use crate::pool::Timings;
use crate::sandbox::Identity;
use crate::sandbox::hit::Hit;
use http::StatusCode;
use std::borrow::Cow;
use std::fmt::Write as _;
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
    /// `limits.timeout`.
    timeout: Duration,
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
    pub fn new(function: &Function, id: Arc<str>, arrived: Instant, cut_off: CancellationToken) -> Self {
        Self {
            function: Arc::clone(&function.name),
            id,
            arrived,
            timeout: function.limits.timeout,
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
            Outcome::Faulted(reason) => ("faulted", Some(Cow::from(reason))),
            Outcome::Deadline => ("deadline", Some(Hit::Timeout(self.timeout).explained().into())),
            Outcome::CutOff => ("cut-off", None),
            Outcome::ClientGone if self.cut_off.is_cancelled() => ("cut-off", None),
            Outcome::ClientGone => ("client-gone", None),
            Outcome::Refused(reason) => ("refused", Some(Cow::from(reason))),
        };
        if !tracing::enabled!(target: TARGET, tracing::Level::INFO) {
            return;
        }
        log::info(TARGET, |line| {
            line.add("function=").add(&self.function).add(" id=").add(&self.id);
            line.add(" outcome=\"").add(outcome).add("\"");
            if let Some(reason) = reason {
                write!(line, " reason={reason:?}").expect("a text takes everything");
            }
            if let Some(status) = self.status {
                line.add(" status=").add(status.as_str());
            }
            if let Some((identity, timings)) = &self.ran {
                let Identity { instance, slot, served, generation, digest, .. } = identity;
                line.add(" instance=").number(*instance).add(" slot=").number(*slot);
                line.add(" served=").number(*served).add(" generation=").number(*generation);
                line.add(" digest=").add(&digest[..12]);
                line.add(" instantiate_ms=").millis(timings.instantiate).add(" head_ms=").millis(timings.head);
            }
            line.add(" queue_ms=").millis(self.queued).add(" total_ms=").millis(self.arrived.elapsed());
            line.add(" sent_bytes=").number(self.sent);
        });
    }
}
