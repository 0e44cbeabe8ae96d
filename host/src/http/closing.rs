//! The closing line of an invocation, which Application Insights receives as a trace.
//!
//! | the invocation | level |
//! |---|---|
//! | was answered, slowly or not, or lost its client | INFO |
//! | was refused, ran into its deadline, stalled, was cut off by the drain, or answered 500 and above by its guest | WARN |
//! | failed: trapped, ran into a limit, or had no answer that could be sent | ERROR |

use crate::config::settings::{Limits, LogRequests};
use crate::config::units::spell_size;
use crate::config::{Config, Function};
use crate::observe::log;
use crate::observe::rate::{Dropped, Rate};
use crate::observe::text::Text;
use crate::pool::Timings;
use crate::sandbox::Identity;
use crate::sandbox::hit::Hit;
use crate::sandbox::leftovers::NotParked;
use http::request::Parts;
use http::uri::Uri;
use http::{Method, StatusCode};
use std::borrow::Cow;
use std::fmt::Write as _;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;
use tracing::Level;

/// What the log calls these lines.
const TARGET: &str = "invocation";
/// Characters of a method that are told.
const METHOD: usize = 20;
/// Characters of a path that are told.
const PATH: usize = 200;

/// Which closing lines are written, and how many of those that tell of a problem.
pub struct Journal {
    requests: LogRequests,
    slow: Option<Duration>,
    /// One for each of `config.functions`.
    functions: Vec<Subject>,
    /// Of requests that no function answers.
    nobody: Subject,
}

/// Whom a line is about.
struct Subject {
    name: Arc<str>,
    /// `limits.timeout`.
    timeout: Duration,
    /// `limits.logRate`, beside the one that the guest's own output has.
    rate: Rate,
}

impl Journal {
    /// As the configuration says.
    pub fn new(config: &Config) -> Self {
        let subject = |name: &Arc<str>, limits: &Limits| Subject {
            name: Arc::clone(name),
            timeout: limits.timeout,
            rate: Rate::new(limits.log_rate),
        };
        let function = |function: &Function| subject(&function.name, &function.limits);
        Self {
            requests: config.log_requests,
            slow: config.log_slow,
            functions: config.functions.iter().map(function).collect(),
            nobody: subject(&"-".into(), &Limits::default()),
        }
    }
}

/// How an invocation ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The whole answer was handed over.
    Answered,
    /// The guest failed; the words are the operator's.
    Faulted(String),
    /// It took longer than it may.
    Deadline,
    /// Guest and client waited for each other, and no more of the request could be read ahead; the words begin what is to be
    /// done about it.
    Stalled(String),
    /// The client left.
    ClientGone,
    /// It still ran when the drain was over.
    CutOff,
    /// The host refused it; the words are the client's too.
    Refused(String),
}

/// Gathers the facts of one request and writes them once, when it is dropped.
pub struct Closing {
    journal: Arc<Journal>,
    method: Method,
    uri: Uri,
    arrived: Instant,
    /// Which of the functions answers; none where no function does.
    pub function: Option<usize>,
    /// The invocation's id, where one could be read or made.
    pub id: Option<Arc<str>>,
    /// The status that the client was sent, if any.
    pub status: Option<StatusCode>,
    /// How long it waited for a slot.
    pub queued: Duration,
    /// Which instance ran it, and how long its parts took.
    pub ran: Option<(Identity, Timings)>,
    /// Why its instance is not parked, where it might have been.
    pub not_parked: Option<Arc<OnceLock<NotParked>>>,
    /// Bytes of the answer's body.
    pub sent: u64,
    /// How it ended; a line that nobody gave an outcome tells of a client that left, or of the end of the drain.
    pub outcome: Outcome,
    /// Tells which.
    pub cut_off: CancellationToken,
}

impl Closing {
    /// Begins with the arrival of the head.
    pub fn new(journal: &Arc<Journal>, head: &Parts, arrived: Instant, cut_off: CancellationToken) -> Self {
        Self {
            journal: Arc::clone(journal),
            method: head.method.clone(),
            uri: head.uri.clone(),
            arrived,
            function: None,
            id: None,
            status: None,
            queued: Duration::ZERO,
            ran: None,
            not_parked: None,
            sent: 0,
            outcome: Outcome::ClientGone,
            cut_off,
        }
    }

    fn subject(&self) -> &Subject {
        self.function.map_or(&self.journal.nobody, |function| &self.journal.functions[function])
    }

    /// How it ended, and why, as the line says it.
    fn ending(&self) -> (&'static str, Option<Cow<'_, str>>, Level) {
        match &self.outcome {
            Outcome::Answered if self.status.is_some_and(|status| status.is_server_error()) => {
                ("answered", None, Level::WARN)
            }
            Outcome::Answered => ("answered", None, Level::INFO),
            Outcome::Faulted(reason) => ("faulted", Some(reason.into()), Level::ERROR),
            Outcome::Deadline => {
                ("deadline", Some(Hit::Timeout(self.subject().timeout).explained().into()), Level::WARN)
            }
            Outcome::Stalled(why) => {
                const STALL: &str = "the client reads nothing before it has sent everything, and the guest answers before it \
                    has read everything";
                let remedy = "let the guest read the request before it answers";
                ("stalled", Some(format!("{STALL}: {why} {remedy}").into()), Level::WARN)
            }
            Outcome::CutOff => ("cut-off", None, Level::WARN),
            Outcome::ClientGone if self.cut_off.is_cancelled() => ("cut-off", None, Level::WARN),
            Outcome::ClientGone => ("client-gone", None, Level::INFO),
            Outcome::Refused(reason) => ("refused", Some(reason.into()), Level::WARN),
        }
    }

    fn write(&self, line: &mut Text, outcome: &str, reason: Option<&str>, total: Duration) {
        line.add("function=").add(&self.subject().name).add(" id=").add(self.id.as_deref().unwrap_or("-"));
        line.add(" method=");
        cut(line, self.method.as_str(), METHOD);
        // Without the query, which may hold a key.
        line.add(" path=\"");
        cut(line, self.uri.path(), PATH);
        line.add("\" outcome=\"").add(outcome).add("\"");
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
            line.add(" digest=").add(digest.short().as_ref());
            line.add(" instantiate_ms=").millis(timings.instantiate).add(" head_ms=").millis(timings.head);
        }
        if let Some(why) = self.not_parked.as_ref().and_then(|why| why.get()) {
            line.add(" not_parked=").add(why.word());
        }
        line.add(" queue_ms=").millis(self.queued).add(" total_ms=").millis(total);
        line.add(" sent_bytes=").number(self.sent);
    }
}

impl Drop for Closing {
    fn drop(&mut self) {
        let (outcome, reason, level) = self.ending();
        let total = self.arrived.elapsed();
        let is_slow = self.journal.slow.is_some_and(|slow| total > slow);
        let wanted = match self.journal.requests {
            LogRequests::All => true,
            LogRequests::Problems => self.outcome != Outcome::Answered || level < Level::INFO || is_slow,
            LogRequests::None => false,
        };
        if !wanted || !log::is_on(level) {
            return;
        }
        let admits = |length| {
            let Subject { name, rate, .. } = self.subject();
            level == Level::INFO
                || rate.admits(length, || {
                    let (name, limit) = (Arc::clone(name), spell_size(rate.limit()));
                    move |Dropped { records, .. }| {
                        tracing::warn!(target: TARGET, function = %name,
                            "{records} closing lines beyond limits.logRate ({limit} per second) were left out");
                    }
                })
        };
        log::write(level, TARGET, |line| self.write(line, outcome, reason.as_deref(), total), admits);
    }
}

/// Adds as much of a text from outside as a line can bear, escaped.
fn cut(line: &mut Text, text: &str, most: usize) {
    let mut characters = text.chars();
    for character in characters.by_ref().take(most) {
        if matches!(character, ' '..='~') && !matches!(character, '"' | '\\') {
            line.add(character.encode_utf8(&mut [0; 4]));
        } else {
            write!(line, "{}", character.escape_debug()).expect("a text takes everything");
        }
    }
    if characters.next().is_some() {
        line.add("…");
    }
}
