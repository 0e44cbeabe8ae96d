//! Requests that are over: which slot ran each of them, and when, as data, as a page and as a trace.
//!
//! A burst is seen by its client, which gets a receipt from the demonstration with each answer, so it works against any deployed app.
//! [`log`] reads the same from the closing lines of any app.
//!
//! Machines' clocks differ from the client's. The times of one machine are all moved by the same offset: the least by which the
//! client got an answer later than the machine finished it. So bars of one machine keep their order and their overlap, no bar
//! begins before its request was sent, and none ends after its answer was there.

pub mod log;
mod page;
mod receipt;
mod trace;

pub use page::page;
pub use receipt::Receipt;
pub use trace::trace;

use serde_json::{Value, json};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

/// Reasons that are told of requests that failed.
const REASONS: usize = 3;

/// One request, as its client saw it.
pub struct Request {
    /// Milliseconds from the begin of the burst until it was sent.
    pub sent: f64,
    /// Milliseconds from the begin of the burst until its answer was there, or it was given up.
    pub answered: f64,
    /// What the answer told, or why there is none; the words are for a person and hold no key.
    pub receipt: Result<Receipt, String>,
    /// Why the answer broke off, if it did.
    pub fault: Option<String>,
}

/// Where requests are known from.
#[derive(Debug, Clone, PartialEq)]
pub enum Source {
    /// A burst.
    Burst {
        /// What was asked, without a query, which may hold a key.
        url: String,
        /// Seconds that each request was to sleep.
        delay: f64,
    },
    /// Closing lines.
    Log {
        /// Requests before these.
        left_out: usize,
    },
}

/// Requests that are over.
pub struct Timeline {
    /// Where they are known from.
    pub source: Source,
    /// Seconds until the last answer was there.
    pub total: f64,
    /// In the order in which they were sent.
    pub requests: Vec<Request>,
}

/// What they came to, in numbers. Slots, threads and instances are counted for each process by itself.
#[derive(Debug, PartialEq, Eq)]
pub struct Facts {
    /// Requests that were sent.
    pub requests: usize,
    /// Those without a receipt, or whose answer broke off.
    pub failed: usize,
    /// The most that ran at the same time.
    pub peak: usize,
    /// Slots of all processes that were met.
    pub capacity: u64,
    /// Instances that ran them.
    pub instances: usize,
    /// Slots that they ran in.
    pub slots: usize,
    /// Threads that began or ended one, where that is told.
    pub threads: usize,
    /// Processes that answered.
    pub processes: usize,
    /// Machines that answered.
    pub machines: usize,
}

/// When a request ran, in milliseconds of the client's clock since the begin of the burst.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Span {
    /// The guest began.
    pub start: f64,
    /// The guest was done.
    pub end: f64,
}

impl Timeline {
    /// When each request ran; `None` for those without a receipt.
    pub fn spans(&self) -> Vec<Option<Span>> {
        let mut offsets = BTreeMap::<&str, f64>::new();
        for (request, receipt) in self.answered() {
            let later = request.answered - receipt.end;
            offsets.entry(&receipt.machine).and_modify(|least| *least = least.min(later)).or_insert(later);
        }
        let span = |request: &Request| {
            let receipt = request.receipt.as_ref().ok()?;
            let offset = offsets.get(&*receipt.machine)?;
            let start = receipt.start + offset;
            // A machine may tell anything.
            Some(Span { start, end: (receipt.end + offset).max(start) })
        };
        self.requests.iter().map(span).collect()
    }

    /// What it came to.
    pub fn facts(&self) -> Facts {
        let (mut machines, mut processes) = (BTreeSet::new(), BTreeMap::new());
        let (mut threads, mut instances, mut slots) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        for (_, receipt) in self.answered() {
            let process = (&receipt.machine, receipt.process);
            machines.insert(&receipt.machine);
            processes.insert(process, receipt.pool);
            threads.extend(receipt.threads.into_iter().flatten().map(|thread| (process, thread)));
            instances.insert((process, receipt.instance));
            slots.insert((process, receipt.slot));
        }
        Facts {
            requests: self.requests.len(),
            failed: self.requests.iter().filter(|request| request.receipt.is_err() || request.fault.is_some()).count(),
            peak: peak(self.spans().into_iter().flatten()),
            capacity: processes.values().sum(),
            instances: instances.len(),
            slots: slots.len(),
            threads: threads.len(),
            processes: processes.len(),
            machines: machines.len(),
        }
    }

    /// All of it, for programs and for the page. Its keys are documented in docs/observe.md, and stay.
    pub fn json(&self) -> Value {
        let facts = self.facts();
        let rows = self.requests.iter().zip(self.spans()).enumerate().map(|(index, (request, span))| {
            let mut row = json!({ "number": index + 1, "sentMs": request.sent, "answeredMs": request.answered });
            match (&request.receipt, span) {
                (Ok(receipt), Some(Span { start, end })) => {
                    row["startMs"] = json!(start);
                    row["endMs"] = json!(end);
                    row["receipt"] = receipt.json();
                }
                (receipt, _) => row["error"] = json!(receipt.as_ref().err()),
            }
            if let Some(fault) = &request.fault {
                row["error"] = json!(fault);
            }
            row
        });
        let (url, delay) = match &self.source {
            Source::Burst { url, delay } => (Some(url), Some(delay)),
            Source::Log { .. } => (None, None),
        };
        json!({
            "url": url,
            "delaySeconds": delay,
            "totalSeconds": self.total,
            "serialSeconds": self.serial(),
            "facts": {
                "requests": facts.requests, "failed": facts.failed, "peak": facts.peak, "capacity": facts.capacity,
                "instances": facts.instances, "slots": facts.slots, "threads": facts.threads,
                "processes": facts.processes, "machines": facts.machines,
            },
            "passed": delay.map(|_| facts.passed()),
            "verdict": self.verdict(),
            "requests": rows.collect::<Vec<_>>(),
        })
    }

    /// Seconds that they would have taken one after the other.
    pub fn serial(&self) -> f64 {
        match self.source {
            Source::Burst { delay, .. } => delay * self.requests.len() as f64,
            Source::Log { .. } => self.spans().iter().flatten().map(|span| span.end - span.start).sum::<f64>() / 1e3,
        }
    }

    /// Why requests failed: a line for each of the most frequent reasons, and one for all others.
    pub fn reasons(&self) -> String {
        let mut reasons = BTreeMap::<&str, usize>::new();
        for request in &self.requests {
            if let Some(why) = request.receipt.as_ref().err().or(request.fault.as_ref()) {
                *reasons.entry(why).or_default() += 1;
            }
        }
        let mut reasons: Vec<_> = reasons.into_iter().collect();
        reasons.sort_by_key(|(_, times)| Reverse(*times));
        let (told, others) = reasons.split_at(reasons.len().min(REASONS));
        let mut lines: String = told.iter().map(|(why, times)| format!("{times} failed: {why}\n")).collect();
        if !others.is_empty() {
            let times: usize = others.iter().map(|(_, times)| times).sum();
            lines += &format!("{times} failed for other reasons: {}\n", others.len());
        }
        lines
    }

    /// The last line of a report.
    pub fn verdict(&self) -> String {
        let facts = self.facts();
        let Facts { requests, failed, peak, .. } = &facts;
        match self.source {
            Source::Burst { .. } => facts.verdict(),
            Source::Log { left_out: 0 } => format!("{requests} requests, {failed} failed, {peak} at the same time"),
            Source::Log { left_out } => {
                format!(
                    "the last {requests} requests of {}, {failed} failed, {peak} at the same time",
                    requests + left_out
                )
            }
        }
    }

    fn answered(&self) -> impl Iterator<Item = (&Request, &Receipt)> {
        self.requests.iter().filter_map(|request| Some((request, request.receipt.as_ref().ok()?)))
    }
}

impl Facts {
    /// As many as there are requests, or slots to run them.
    fn wanted(&self) -> u64 {
        (self.requests as u64).min(self.capacity)
    }

    /// Whether no request failed and as many ran at the same time as the pools allow.
    pub fn passed(&self) -> bool {
        self.failed == 0 && self.peak as u64 >= self.wanted()
    }

    /// In the words of `test_concurrency.sh`.
    fn verdict(&self) -> String {
        let Self { requests, failed, peak, .. } = self;
        if *failed > 0 {
            return format!("❌ RESULT: {failed} of {requests} requests failed.");
        }
        if !self.passed() {
            let wanted = self.wanted();
            return format!("❌ RESULT: only {peak} requests ran at the same time, {wanted} should have.");
        }
        let own = if self.instances == *requests { ", each in an instance of its own" } else { "" };
        format!("✅ RESULT: Concurrency is working! {requests} requests processed, {peak} in parallel{own}.")
    }
}

/// The most spans that hold the same moment. One that ends where another begins is over.
fn peak(spans: impl Iterator<Item = Span>) -> usize {
    let (mut starts, mut ends): (Vec<f64>, Vec<f64>) = spans.map(|span| (span.start, span.end)).unzip();
    starts.sort_by(f64::total_cmp);
    ends.sort_by(f64::total_cmp);
    let (mut over, mut most) = (0, 0);
    for (begun, start) in starts.iter().enumerate() {
        while ends.get(over).is_some_and(|end| end <= start) {
            over += 1;
        }
        // Those that took no time are over before they are counted.
        most = most.max((begun + 1).saturating_sub(over));
    }
    most
}

#[cfg(test)]
mod tests;
