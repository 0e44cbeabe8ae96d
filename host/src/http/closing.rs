//! What is being learnt about an invocation, until its end makes a record of it.

use super::flow::Flow;
use crate::observe::record::{Outcome, Ran, Record, Sinks};
use crate::run::{Fault, Timings};
use crate::sandbox::Identity;
use crate::sandbox::leftovers::NotParked;
use http::request::Parts;
use std::sync::{Arc, OnceLock};
use std::time::Instant;
use tokio_util::sync::CancellationToken;

/// Gathers the facts of one invocation and hands them to the sinks once, when it is dropped.
pub struct Closing {
    /// What is known so far.
    pub record: Record,
    sinks: Sinks,
    arrived: Instant,
    /// The request's body, if it has one.
    body: Option<Arc<Flow>>,
    not_parked: Option<Arc<OnceLock<NotParked>>>,
    /// An invocation that nobody gave an outcome has lost its client, or was cut off at the end of the drain: this tells which.
    pub cut_off: CancellationToken,
    /// The outcome once the whole response is handed over.
    pub success: Outcome,
}

impl Closing {
    /// Begins with the arrival of the head.
    pub fn new(
        sinks: &Sinks,
        head: &Parts,
        body: Option<Arc<Flow>>,
        arrived: Instant,
        cut_off: CancellationToken,
    ) -> Self {
        let (sinks, record) = (Arc::clone(sinks), Record::new(head));
        Self { record, sinks, arrived, body, not_parked: None, cut_off, success: Outcome::Answered }
    }

    /// The whole response is handed over.
    pub fn answered(&mut self) {
        self.record.outcome = std::mem::replace(&mut self.success, Outcome::Answered);
    }

    /// The guest has failed.
    pub fn faulted(&mut self, fault: &Fault) {
        (self.record.outcome, self.record.kind) = (Outcome::Faulted(fault.to_string()), Some(fault.kind()));
    }

    /// A guest has responded. Whether its instance is parked shows later.
    pub fn ran(&mut self, identity: &Identity, timings: Timings, not_parked: Option<Arc<OnceLock<NotParked>>>) {
        let Identity { instance, slot, pool_size: _, served, generation, digest } = *identity;
        let Timings { instantiate, head } = timings;
        self.record.ran = Some(Ran { instance, slot, served, generation, digest, instantiate, head });
        self.not_parked = not_parked;
    }
}

impl Drop for Closing {
    fn drop(&mut self) {
        let record = &mut self.record;
        record.total = self.arrived.elapsed();
        record.received = self.body.as_ref().map_or(0, |body| body.taken());
        record.not_parked = self.not_parked.as_ref().and_then(|why| why.get()).map(|why| why.word());
        if record.outcome == Outcome::ClientGone && self.cut_off.is_cancelled() {
            record.outcome = Outcome::CutOff;
        }
        for sink in self.sinks.iter() {
            sink.take(record);
        }
    }
}
