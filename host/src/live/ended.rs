//! The invocations that ended last, with the slot that each of them ran in.

use crate::observe::record::{Ran, Record};
use crate::observe::text::Text;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// How many are kept. Where more of them end between two reports, the report says how many are left out.
const KEPT: usize = 1000;

/// The last of them.
#[derive(Default)]
pub struct Ended(Mutex<State>);

#[derive(Default)]
struct State {
    /// All that were noted.
    count: u64,
    bars: VecDeque<Bar>,
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
    /// Notes one more, unless somebody reads or notes at this very moment: the end of an invocation waits for nobody.
    pub fn add(&self, bar: impl FnOnce() -> Bar) {
        if let Ok(mut state) = self.0.try_lock() {
            state.count += 1;
            if state.bars.len() == KEPT {
                state.bars.pop_front();
            }
            state.bars.push_back(bar());
        }
    }

    /// Those after the first `seen`, as the items of a list in JSON; how many are left out; and how many there were in all.
    pub fn since(&self, seen: u64) -> (String, u64, u64) {
        let state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let new = state.count.saturating_sub(seen);
        let kept = usize::try_from(new).unwrap_or(usize::MAX).min(state.bars.len());
        let mut text = Text::with_capacity(kept * 96);
        for bar in state.bars.range(state.bars.len() - kept..) {
            if !text.as_bytes().is_empty() {
                text.add(",");
            }
            bar.write(&mut text);
        }
        (text.into(), new - kept as u64, state.count)
    }
}
