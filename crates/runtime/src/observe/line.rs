//! The closing line of an invocation, which Application Insights receives as a trace.
//!
//! | the invocation | level |
//! |---|---|
//! | was answered, slowly or not, or lost its client | INFO |
//! | was rejected, was refused, ran into its deadline, stalled, was cut off by the drain, or answered 500 and above by its guest | WARN |
//! | failed: trapped, ran into a limit, or had no response that could be sent | ERROR |

use super::log;
use super::rate::{Dropped, Rate};
use super::record::{Outcome, Ran, Record, Sink};
use super::text::Text;
use crate::config::Config;
use crate::config::settings::{Limits, LogRequests};
use crate::config::units::spell_size;
use http::StatusCode;
use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;
use tracing::Level;

/// What the log calls these lines.
pub const TARGET: &str = "invocation";
/// The function of an invocation that no function has to do with.
const NOBODY: &str = "-";

/// Writes the closing lines that the configuration asks for.
pub struct Lines {
    requests: LogRequests,
    slow: Option<Duration>,
    /// `limits.logRate` of each function, for the lines that tell of a problem, beside the one that its guest's output has.
    rates: HashMap<Arc<str>, Rate>,
    /// The same, for those of no function.
    nobody: Rate,
    /// Is told of every invocation whose line is written.
    follower: Option<Arc<dyn Sink>>,
}

impl Lines {
    /// As the configuration says; `follower` is told of every invocation whose line is written.
    pub fn new(config: &Config, follower: Option<Arc<dyn Sink>>) -> Self {
        let functions = config.functions.iter();
        Self {
            requests: config.log_requests,
            slow: config.log_slow,
            rates: functions.map(|it| (Arc::clone(&it.name), Rate::new(it.limits.log_rate))).collect(),
            nobody: Rate::new(Limits::default().log_rate),
            follower,
        }
    }

    fn is_wanted(&self, record: &Record, level: Level) -> bool {
        let is_slow = || self.slow.is_some_and(|slow| record.total > slow);
        match self.requests {
            LogRequests::All => true,
            LogRequests::Problems => record.outcome != Outcome::Answered || level < Level::INFO || is_slow(),
            LogRequests::None => false,
        }
    }

    /// Whether a line of this length about a problem of the function may be written now.
    fn admits(&self, function: Option<&Arc<str>>, length: usize) -> bool {
        let rate = function.and_then(|function| self.rates.get(function)).unwrap_or(&self.nobody);
        rate.admits(length, || {
            let (function, limit) = (function.map_or_else(|| NOBODY.into(), Arc::clone), spell_size(rate.limit()));
            move |Dropped { records, .. }| {
                tracing::warn!(target: TARGET, %function,
                    "{records} closing lines beyond limits.logRate ({limit} per second) were left out");
            }
        })
    }
}

impl Sink for Lines {
    fn take(&self, record: &Record) {
        let level = level(record);
        if self.is_wanted(record, level) && log::is_on(level) {
            let admits = |length| level == Level::INFO || self.admits(record.function.as_ref(), length);
            if log::write(level, TARGET, |line| write(record, line), admits)
                && let Some(follower) = &self.follower
            {
                follower.take(record);
            }
        }
    }
}

/// The level of an invocation's line.
pub fn level(record: &Record) -> Level {
    match record.outcome {
        Outcome::Answered if record.status.as_ref().is_some_and(StatusCode::is_server_error) => Level::WARN,
        Outcome::Answered | Outcome::ClientGone => Level::INFO,
        Outcome::Rejected(_) | Outcome::Deadline(_) | Outcome::Stalled(_) | Outcome::CutOff | Outcome::Refused(_) => {
            Level::WARN
        }
        Outcome::Faulted(_) => Level::ERROR,
    }
}

/// The line of an invocation, from what stands behind the target on.
pub fn text(record: &Record) -> String {
    let mut line = Text::new();
    write(record, &mut line);
    line.into()
}

fn write(record: &Record, line: &mut Text) {
    line.add("function=").add(record.function.as_deref().unwrap_or(NOBODY));
    line.add(" id=").add(record.id.as_deref().unwrap_or("-"));
    if let Some(trace) = &record.trace {
        line.add(" trace_id=").add(trace.trace_id()).add(" span_id=").add(trace.span_id());
    }
    line.add(" method=").add(&*record.method()).add(" path=\"").add(&*record.path());
    line.add("\" outcome=\"").add(record.outcome.word()).add("\"");
    if let Some(reason) = record.outcome.reason() {
        write!(line, " reason={reason:?}").expect("a text takes everything");
    }
    if let Some(status) = record.status {
        line.add(" status=").add(status.as_str());
    }
    if let Some(Ran { instance, slot, served, generation, digest, instantiate, head }) = record.ran {
        line.add(" instance=").number(instance).add(" slot=").number(slot);
        line.add(" served=").number(served).add(" generation=").number(generation);
        line.add(" digest=").add(digest.short());
        line.add(" instantiate_ms=").millis(instantiate).add(" head_ms=").millis(head);
    }
    if let Some(why) = record.not_parked {
        line.add(" not_parked=").add(why);
    }
    line.add(" queue_ms=").millis(record.queued).add(" total_ms=").millis(record.total);
    line.add(" sent_bytes=").number(record.sent);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::digest::Digest;
    use crate::observe::trace::TraceContext;

    fn record() -> Record {
        let request = http::Request::get("/api/x?code=secret").body(()).expect("a request");
        Record::new(&request.into_parts().0)
    }

    #[test]
    fn a_line_tells_what_is_known_and_no_more() {
        let lost = "function=- id=- method=GET path=\"/api/x\" outcome=\"client-gone\" queue_ms=0.000 total_ms=0.000 sent_bytes=0";
        assert_eq!(text(&record()), lost);
        let millis = Duration::from_millis;
        let ran = Ran {
            instance: 7,
            slot: 1,
            served: 2,
            generation: 3,
            digest: Digest::of(b"abc"),
            instantiate: millis(4),
            head: millis(5),
        };
        let mut whole = record();
        let trace = TraceContext::begin(0xfe);
        let span = trace.span_id();
        whole.trace = Some(trace);
        (whole.id, whole.function) = (Some("the-id".into()), Some("x".into()));
        (whole.outcome, whole.status) = (Outcome::Faulted("said \"no\"".to_owned()), Some(StatusCode::OK));
        (whole.queued, whole.total, whole.sent) = (millis(6), millis(1500), 8);
        (whole.ran, whole.not_parked) = (Some(ran), Some("busy"));
        assert_eq!(
            text(&whole),
            format!(
                "function=x id=the-id trace_id={:032x} span_id={span} method=GET path=\"/api/x\" outcome=\"faulted\" \
                 reason=\"said \\\"no\\\"\" status=200 \
                 instance=7 slot=1 served=2 generation=3 digest=ba7816bf8f01 instantiate_ms=4.000 head_ms=5.000 \
                 not_parked=busy queue_ms=6.000 total_ms=1500.000 sent_bytes=8",
                0xfe
            )
        );
    }

    #[test]
    fn an_error_of_the_guest_is_a_warning_unless_it_failed() {
        let with = |outcome, status| {
            let mut record = record();
            (record.outcome, record.status) = (outcome, Some(status));
            level(&record)
        };
        assert_eq!(with(Outcome::Answered, StatusCode::NOT_FOUND), Level::INFO);
        assert_eq!(with(Outcome::Answered, StatusCode::BAD_GATEWAY), Level::WARN);
        assert_eq!(with(Outcome::Faulted(String::new()), StatusCode::OK), Level::ERROR);
        assert_eq!(with(Outcome::ClientGone, StatusCode::OK), Level::INFO);
    }
}
