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
    /// Puts all of them in, or loses all of them; of more than there is ever room for, the first. Never waits.
    pub fn put(&self, mut items: Vec<T>) {
        let most = self.sender.max_capacity();
        if items.len() > most {
            self.losses.add(
                (items.len() - most) as u64,
                "is sent from a queue that is shorter than what one invocation tells",
            );
            items.truncate(most);
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::settings::HostPatch;
    use crate::config::{AppSettings, Circumstances, Grants, serve};
    use crate::observe::metrics::Metrics;
    use std::time::Duration;

    #[tokio::test]
    async fn what_belongs_together_stays_together_unless_there_is_never_room_for_it() {
        let given = Circumstances {
            machine_memory: 1 << 30,
            listen: None,
            cache_folders: Vec::new(),
            control_sockets: Vec::new(),
        };
        let config = serve("x.wasm".into(), &HostPatch::default(), Grants::default(), &AppSettings::new(), &given);
        let losses = Arc::new(Losses::new("traces", "x".to_owned(), Arc::new(Metrics::new(&config))));
        let batches = Batches { queue: 3, size: 3, delay: Duration::ZERO };
        let (outbox, mut inbox) = new(batches, &losses);
        let mut sent = Vec::new();
        outbox.put((0..5).collect());
        inbox.receiver.recv_many(&mut sent, 9).await;
        outbox.put(vec![5, 6]);
        outbox.put(vec![7, 8]);
        inbox.receiver.recv_many(&mut sent, 9).await;
        assert_eq!(sent, [0, 1, 2, 5, 6]);
    }
}
