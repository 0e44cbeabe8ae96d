//! What waits to be sent, gathered into batches (OpenTelemetry's batch processors).

use super::courier::Courier;
use super::losses::Losses;
use crate::config::telemetry::Batches;
use std::sync::Arc;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::time::{Instant, timeout_at};

/// Takes items, as long as there is room.
pub struct Outbox<T> {
    sender: Sender<T>,
    losses: Arc<Losses>,
}

/// Hands them out in batches.
pub struct Inbox<T> {
    receiver: Receiver<T>,
    batches: Batches,
}

/// Both ends.
pub fn new<T>(batches: Batches, losses: &Arc<Losses>) -> (Outbox<T>, Inbox<T>) {
    let (sender, receiver) = channel(batches.queue);
    (Outbox { sender, losses: Arc::clone(losses) }, Inbox { receiver, batches })
}

impl<T> Outbox<T> {
    /// Puts all of them in, or loses all of them. Never waits.
    pub fn put(&self, items: Vec<T>) {
        match self.sender.try_reserve_many(items.len()) {
            Ok(room) => room.zip(items).for_each(|(place, item)| place.send(item)),
            Err(error) => self.lose(items.len(), &error),
        }
    }

    /// Puts one in, which is made if there is room. Never waits.
    pub fn put_one(&self, make: impl FnOnce() -> T) {
        match self.sender.try_reserve() {
            Ok(place) => place.send(make()),
            Err(error) => self.lose(1, &error),
        }
    }

    fn lose(&self, items: usize, error: &TrySendError<()>) {
        // Once it is closed, the process ends: what it says until then is for its own log.
        if let TrySendError::Full(()) = error {
            self.losses.add(items as u64, "takes telemetry more slowly than it is made: the queue is full");
        }
    }
}

impl<T> Inbox<T> {
    /// Sends batches until it is told to stop and everything is sent.
    pub async fn send(mut self, mut courier: Courier, encode: impl Fn(Vec<T>) -> Vec<u8>) {
        let stop = courier.stop.clone();
        let Batches { delay, size, .. } = self.batches;
        loop {
            let mut batch = Vec::new();
            tokio::select! {
                biased;
                received = self.receiver.recv_many(&mut batch, size) => if received == 0 { break },
                () = stop.cancelled() => self.receiver.close(),
            }
            let end = Instant::now() + delay;
            while batch.len() < size {
                let left = size - batch.len();
                let received = tokio::select! {
                    biased;
                    received = timeout_at(end, self.receiver.recv_many(&mut batch, left)) => received.unwrap_or(0),
                    () = stop.cancelled() => {
                        self.receiver.close();
                        self.receiver.recv_many(&mut batch, left).await
                    }
                };
                if received == 0 {
                    break;
                }
            }
            if !batch.is_empty() {
                let items = batch.len() as u64;
                courier.deliver(encode(batch), items).await;
            }
        }
        courier.finish();
    }
}
