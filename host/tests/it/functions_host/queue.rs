//! The listener of a queue, as the queue extension runs it: it takes a batch of 16 messages, and the next one as soon as no more than
//! 8 are still running, so 24 run at once at the most (host.json: `queues.batchSize` and `newBatchThreshold`).

use super::FunctionsHost;
use flexwasm::send::envelope::{Envelope, Function, Message};
use flexwasm::send::verdict::{Answer, Verdict};
use std::collections::VecDeque;
use std::sync::{Condvar, Mutex};
use std::thread;

const BATCH: usize = 16;
const THRESHOLD: usize = 8;

/// What became of a message.
#[derive(Debug)]
pub struct Processed {
    pub payload: Vec<u8>,
    /// How often it was given out.
    pub runs: u32,
    /// What the last run gave; none where the message is in the poison queue.
    pub answer: Option<Answer>,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<(Vec<u8>, u32)>,
    running: usize,
    processed: Vec<Processed>,
}

impl FunctionsHost<'_> {
    /// Lets the function process every message, each `tries` times at the most.
    pub fn process(
        &self,
        function: &Function,
        messages: impl IntoIterator<Item = Vec<u8>>,
        tries: u32,
    ) -> Vec<Processed> {
        let waiting = messages.into_iter().map(|message| (message, 0)).collect();
        let queue = (Mutex::new(State { waiting, ..State::default() }), Condvar::new());
        thread::scope(|scope| {
            let (state, changed) = &queue;
            loop {
                let full =
                    |state: &mut State| state.running > THRESHOLD || (state.waiting.is_empty() && state.running > 0);
                let mut held = changed.wait_while(state.lock().unwrap(), full).unwrap();
                if held.waiting.is_empty() {
                    break;
                }
                let batch = held.waiting.len().min(BATCH);
                let batch: Vec<_> = held.waiting.drain(..batch).collect();
                held.running += batch.len();
                drop(held);
                for (payload, before) in batch {
                    scope.spawn(move || {
                        let runs = before + 1;
                        let answer = self.run(function, &payload, runs);
                        let mut held = state.lock().unwrap();
                        held.running -= 1;
                        if answer.is_some() || runs == tries {
                            held.processed.push(Processed { payload, runs, answer });
                        } else {
                            held.waiting.push_back((payload, runs));
                        }
                        changed.notify_all();
                    });
                }
            }
        });
        queue.0.into_inner().unwrap().processed
    }

    /// One run of a message; none if it failed.
    fn run(&self, function: &Function, payload: &[u8], count: u32) -> Option<Answer> {
        let envelope = Envelope::queue(function, payload, &Message::fresh(count)).unwrap();
        match self.invoke(&envelope) {
            Verdict::Done(answer) => Some(answer),
            Verdict::Failed(_) | Verdict::Hangs => None,
        }
    }
}
