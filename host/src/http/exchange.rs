//! What one request and its response tell the connection that carries them.

use super::flow::Flow;
use super::received::Rest;
use super::spool::Full;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// The exchange that is under way on a connection. But for the rest, only the connection's own task touches it.
pub struct Exchange {
    /// What the client sends and nobody reads.
    pub rest: Rest,
    /// The request's body, while it may be read ahead of the guest.
    flow: Mutex<Option<Arc<Flow>>>,
    /// Why no more of it can be read ahead, though guest and client wait for each other.
    stalled: Mutex<Option<Full>>,
    /// When the response has to be over.
    deadline: Mutex<Option<Instant>>,
    /// How long the last bytes may take to leave, once all are known.
    patience: Duration,
    has_request_body: AtomicBool,
    ends_with_connection: AtomicBool,
    /// The response says that the connection ends after it.
    closes: AtomicBool,
}

impl Exchange {
    /// No exchange yet; the last bytes of a response get `patience` to leave.
    pub fn new(patience: Duration) -> Self {
        Self {
            rest: Rest::default(),
            flow: Mutex::default(),
            stalled: Mutex::default(),
            deadline: Mutex::new(None),
            patience,
            has_request_body: AtomicBool::new(false),
            ends_with_connection: AtomicBool::new(false),
            closes: AtomicBool::new(false),
        }
    }

    /// A request head has arrived.
    pub fn begin(&self, has_request_body: bool) {
        self.set_deadline(None);
        self.has_request_body.store(has_request_body, Ordering::Relaxed);
        self.ends_with_connection.store(false, Ordering::Relaxed);
        self.closes.store(false, Ordering::Relaxed);
        self.rest.begin();
        *lock(&self.flow) = None;
    }

    /// The request has a body, which may be read ahead of the guest.
    pub fn flows(&self, flow: &Arc<Flow>) {
        *lock(&self.flow) = Some(Arc::clone(flow));
    }

    /// The request's body, if it has one.
    pub fn flow(&self) -> Option<Arc<Flow>> {
        lock(&self.flow).clone()
    }

    /// Guest and client wait for each other, and nothing can be done about it.
    pub fn stall(&self, why: Full) {
        *lock(&self.stalled) = Some(why);
    }

    /// Why guest and client wait for each other for ever, if they do.
    pub fn stalled(&self) -> Option<Full> {
        lock(&self.stalled).take()
    }

    /// The head of the response leaves; its body has until `deadline`.
    pub fn respond(&self, deadline: Instant, ends_with_connection: bool) {
        self.set_deadline(Some(deadline));
        self.ends_with_connection.store(ends_with_connection, Ordering::Relaxed);
    }

    /// The response says that the connection ends after it.
    pub fn close(&self) {
        self.closes.store(true, Ordering::Relaxed);
    }

    /// The response is complete, but for the bytes that the client has not taken yet.
    pub fn end(&self) {
        if self.closes.load(Ordering::Relaxed) {
            self.rest.forget();
        }
        self.set_deadline(self.deadline().max(Some(Instant::now() + self.patience)));
        self.has_request_body.store(false, Ordering::Relaxed);
        if let Some(flow) = lock(&self.flow).take() {
            // A guest may read on behind its response.
            flow.hand_over();
        }
    }

    /// When the response has to be over. Also set while the connection is idle, where hyper's own time-out is as long or
    /// shorter. None while a guest works on its head, which has a clock of its own.
    pub fn deadline(&self) -> Option<Instant> {
        *lock(&self.deadline)
    }

    /// Whether the request has a body, behind which hyper does not see the client leave.
    pub fn has_request_body(&self) -> bool {
        self.has_request_body.load(Ordering::Relaxed)
    }

    /// Whether only the end of the connection ends the response: an HTTP/1.0 client got no length.
    pub fn ends_with_connection(&self) -> bool {
        self.ends_with_connection.load(Ordering::Relaxed)
    }

    fn set_deadline(&self, deadline: Option<Instant>) {
        *lock(&self.deadline) = deadline;
    }
}

fn lock<T>(value: &Mutex<T>) -> MutexGuard<'_, T> {
    // Every change under a lock is complete before anything can panic.
    value.lock().unwrap_or_else(PoisonError::into_inner)
}
