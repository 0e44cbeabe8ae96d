//! The invocations that ended last, with the slot that each of them ran in.

use super::frame::PERIOD;
use crate::observe::record::{Ran, Record};
use crate::observe::text::Text;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// How many are kept. Where more of them end between two reports, the report says how many are left out.
const KEPT: u32 = 1000;

const PERIOD_MILLIS: u64 = PERIOD.as_millis() as u64;

/// The last of them.
#[derive(Default)]
pub struct Ended {
    /// All that there were.
    count: AtomicU64,
    /// The period of reports that is under way, and how many of it are noted. To note more than a report can tell took 1 % of a small
    /// invocation: a thousand of them are more than fits into a processor's nearest cache.
    period: AtomicU64,
    noted: AtomicU32,
    /// With the number of each.
    bars: Mutex<VecDeque<(u64, Bar)>>,
}

/// One of them. Times count from the begin of the process.
pub struct Bar {
    function: Arc<str>,
    outcome: &'static str,
    ran: Ran,
    arrived: Duration,
    began: Duration,
    ended: Duration,
}

impl Bar {
    /// Of an invocation that has just ended.
    pub fn new(record: &Record, function: &Arc<str>, ran: &Ran, now: Duration) -> Self {
        let arrived = now.saturating_sub(record.total);
        Self {
            function: Arc::clone(function),
            outcome: record.outcome.word(),
            ran: *ran,
            arrived,
            began: arrived + record.queued,
            ended: now,
        }
    }

    fn write(&self, text: &mut Text) {
        let Ran { slot, generation, instance, .. } = self.ran;
        text.add("[").number(slot).add(",\"").add(&*self.function).add("\",");
        text.number(generation).add(",").number(instance);
        for time in [self.arrived, self.began, self.ended] {
            text.add(",").millis(time);
        }
        text.add(",\"").add(self.outcome).add("\"]");
    }
}

impl Ended {
    /// Notes one more, unless this period has had enough, or somebody reads or notes at this very moment: the end of an invocation waits
    /// for nobody.
    pub fn add(&self, now: Duration, bar: impl FnOnce() -> Bar) {
        let number = self.count.fetch_add(1, Relaxed) + 1;
        let millis = now.as_secs() * 1000 + u64::from(now.subsec_millis());
        let period = millis / PERIOD_MILLIS;
        if self.period.load(Relaxed) != period {
            self.period.store(period, Relaxed);
            self.noted.store(0, Relaxed);
        }
        if self.noted.load(Relaxed) >= KEPT {
            return;
        }
        self.noted.fetch_add(1, Relaxed);
        if let Ok(mut bars) = self.bars.try_lock() {
            if bars.len() == KEPT as usize {
                bars.pop_front();
            }
            bars.push_back((number, bar()));
        }
    }

    /// Those after the first `seen`, as the items of a list in JSON; how many are left out; and how many there were in all.
    pub fn since(&self, seen: u64) -> (String, u64, u64) {
        let bars = self.bars.lock().unwrap_or_else(PoisonError::into_inner);
        let count = self.count.load(Relaxed);
        let new = bars.iter().rev().take_while(|(number, _)| *number > seen).count();
        let mut text = Text::with_capacity(new * 96);
        for (_, bar) in bars.range(bars.len() - new..) {
            if !text.as_bytes().is_empty() {
                text.add(",");
            }
            bar.write(&mut text);
        }
        (text.into(), count.saturating_sub(seen).saturating_sub(new as u64), count)
    }
}
