//! What the pool does now and did in the last minutes, for people who look on: a page in a browser, a terminal, a function on Azure.
//!
//! [`Live`] is told of every finished invocation, and looks at the pool's numbers once a second. [`Live::report`] has what is new
//! since a [`Cursor`], so that a stream of events and repeated questions are one thing. The keys of a report stand in
//! docs/observe.md. Of requests it knows function, slot, times and outcome, and what the log says of those that failed.
//!
//! What every slot does is read for a report ([`frame`]); whoever asks sooner gets the same again, so that looking on takes less than
//! a hundredth of one processor, however large the pool is and however many look on.

mod counters;
mod ended;
mod frame;
mod history;
mod news;
mod page;
mod stream;

pub use frame::Frame;
pub use news::Kind;
pub use page::{Feed, Row, page};
pub use stream::{LIFETIME, Stream};

use crate::config::{Config, Role};
use crate::guest::published::Published;
use crate::observe::machine::Machine;
use crate::observe::record::{Outcome, Record, Sink};
use crate::run::Pool;
use counters::Counters;
use ended::{Bar, Ended};
use frame::Frames;
use history::History;
use news::News;
use serde_json::{Value, json};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::Semaphore;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

/// How often the pool's numbers are noted.
const SECOND: Duration = Duration::from_secs(1);

/// Streams of events at the same time: people, not load.
const STREAMS: usize = 16;

/// What people who look on can see of this process.
pub struct Live {
    /// What all times count from.
    made: Instant,
    /// Tells this process from others, those before it included.
    token: String,
    /// What does not change.
    about: Value,
    /// Whether anything is noted. A host without a page of its own begins when somebody looks on for the first time.
    is_on: AtomicBool,
    functions: Vec<(Arc<str>, Arc<Published>)>,
    pool: Pool,
    counters: Counters,
    history: History,
    ended: Ended,
    news: News,
    frames: Frames,
    streams: Arc<Semaphore>,
}

/// What a reader of reports has seen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Cursor {
    /// Seconds.
    seconds: u64,
    /// Invocations that have ended.
    ended: u64,
}

/// What is new.
pub struct Report {
    /// JSON.
    pub text: String,
    /// What its reader has seen with it.
    pub cursor: Cursor,
    /// What the slots were doing.
    pub frame: Arc<Frame>,
}

impl Live {
    /// Sees the functions of this configuration, whose guests are found in `guests`, in the same order.
    pub fn new(config: &Config, machine: &Machine, pool: Pool, guests: &[Arc<Published>]) -> Self {
        let started = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let name = machine.platform_instance.as_ref().unwrap_or(&machine.host_name);
        let about = json!({
            "machine": name, "process": machine.process_id, "startedMs": millis(started), "version": env!("CARGO_PKG_VERSION"),
            "slots": config.pool_size, "queueLength": config.queue_length, "totalMemory": config.total_memory,
            "processors": machine.cpu_count,
        });
        Self {
            made: Instant::now(),
            token: format!("{:x}.{:x}", machine.process_id, started.as_millis()),
            about,
            is_on: AtomicBool::new(config.role == Role::StandAlone),
            functions: config
                .functions
                .iter()
                .zip(guests)
                .filter(|(function, _)| function.builtin.is_none())
                .map(|(function, place)| (Arc::clone(&function.name), Arc::clone(place)))
                .collect(),
            pool,
            counters: Counters::default(),
            history: History::default(),
            ended: Ended::default(),
            news: News::default(),
            frames: Frames::default(),
            streams: Arc::new(Semaphore::new(STREAMS)),
        }
    }

    /// Notes the pool's numbers, for as long as it is polled.
    pub async fn keep(&self) {
        let mut second = interval(SECOND);
        second.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            second.tick().await;
            if self.is_on.load(Relaxed) {
                self.history.note(self.now(), self.pool.levels(), self.counters.take());
            }
        }
    }

    /// A guest has taken another one's place, or was refused; `text` is for a person.
    pub fn swapped(&self, kind: Kind, function: &Arc<str>, text: String) {
        self.news.add(kind, function, text, self.now());
    }

    /// What a reader has seen, by what it says: the last `next` of each host that it has met, with `_` between them, which no URL escapes.
    pub fn cursor(&self, said: &str) -> Cursor {
        let own = said.split('_').find_map(|one| one.strip_prefix(&*self.token)?.strip_prefix('-')?.split_once('-'));
        let read = |(seconds, ended): (&str, &str)| {
            Some(Cursor { seconds: seconds.parse().ok()?, ended: ended.parse().ok()? })
        };
        own.and_then(read).unwrap_or_default()
    }

    /// What is new since `since`.
    pub fn report(&self, since: Cursor) -> Report {
        self.is_on.store(true, Relaxed);
        let frame = self.frames.look(&self.pool, self.made);
        let (ended, left, last) = self.ended.since(since.ended);
        let (seconds, second) = self.history.since(since.seconds);
        let cursor = Cursor { seconds: second, ended: last };
        let Frame { at, text: slots, .. } = &*frame;
        let mut text = format!(
            "{{\"host\":\"{0}\",\"next\":\"{0}-{second}-{last}\",\"atMs\":{at:.1},{slots},\"left\":{left},\"ended\":[{ended}]",
            self.token
        );
        if cursor.seconds != since.seconds || since == Cursor::default() {
            let rest = json!({
                "about": self.about, "seconds": seconds, "functions": self.functions(), "news": self.news.json(),
            });
            text.push(',');
            text.push_str(rest.to_string().trim_start_matches('{'));
        } else {
            text.push('}');
        }
        Report { text, cursor, frame }
    }

    /// A stream of reports, unless too many people look on.
    pub fn stream(self: &Arc<Self>, since: Cursor, stop: CancellationToken) -> Option<Stream> {
        let seat = Arc::clone(&self.streams).try_acquire_owned().ok()?;
        Some(Stream::new(Arc::clone(self), since, stop, seat))
    }

    fn functions(&self) -> Vec<Value> {
        let function = |(name, place): &(Arc<str>, Arc<Published>)| {
            let guest = place.guest();
            json!({
                "name": &**name, "generation": guest.as_ref().map(|guest| guest.generation),
                "digest": guest.as_ref().map(|guest| guest.digest.short().to_string()),
                "problem": place.problem().filter(|_| guest.is_none()),
            })
        };
        self.functions.iter().map(function).collect()
    }

    fn now(&self) -> Duration {
        self.made.elapsed()
    }
}

impl Sink for Live {
    fn take(&self, record: &Record) {
        if !self.is_on.load(Relaxed) {
            return;
        }
        let Some(function) = &record.function else { return };
        if record.ran.is_none() && record.outcome == Outcome::Answered {
            // By the host itself: somebody looks on.
            return;
        }
        self.counters.add(record);
        let now = self.now();
        if let Some(ran) = record.ran {
            self.ended.add(now, || Bar::new(record, function, &ran, now));
        }
        if let Outcome::Faulted(why) | Outcome::Deadline(why) | Outcome::Stalled(why) = &record.outcome {
            self.news.add(Kind::Failed(record.outcome.word()), function, why.clone(), now);
        }
    }
}

impl fmt::Debug for Live {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Live").field("token", &self.token).finish_non_exhaustive()
    }
}

/// Milliseconds, with what is left of them.
fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

#[cfg(test)]
mod tests;
