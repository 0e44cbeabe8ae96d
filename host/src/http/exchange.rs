//! What one request and its answer tell the connection that carries them.

use super::received::Rest;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// The exchange that is under way on a connection. But for the rest, only the connection's own task touches it.
pub struct Exchange {
    /// What the client sends and nobody reads.
    pub rest: Rest,
    /// When the answer has to be over.
    deadline: Mutex<Option<Instant>>,
    /// How long the last bytes may take to leave, once all are known.
    patience: Duration,
    has_request_body: AtomicBool,
    ends_with_connection: AtomicBool,
    /// The answer says that the connection ends after it.
    closes: AtomicBool,
}

impl Exchange {
    /// No exchange yet; the last bytes of an answer get `patience` to leave.
    pub fn new(patience: Duration) -> Self {
        Self {
            rest: Rest::default(),
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
    }

    /// The head of the answer leaves; its body has until `deadline`.
    pub fn answer(&self, deadline: Instant, ends_with_connection: bool) {
        self.set_deadline(Some(deadline));
        self.ends_with_connection.store(ends_with_connection, Ordering::Relaxed);
    }

    /// The answer says that the connection ends after it.
    pub fn close(&self) {
        self.closes.store(true, Ordering::Relaxed);
    }

    /// The answer is complete, but for the bytes that the client has not taken yet.
    pub fn end(&self) {
        if self.closes.load(Ordering::Relaxed) {
            self.rest.forget();
        }
        self.set_deadline(self.deadline().max(Some(Instant::now() + self.patience)));
        self.has_request_body.store(false, Ordering::Relaxed);
    }

    /// When the answer has to be over. Also set while the connection is idle, where hyper's own time-out is as long or
    /// shorter. None while a guest works on its head, which has a clock of its own.
    pub fn deadline(&self) -> Option<Instant> {
        *self.deadline.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the request has a body, behind which hyper does not see the client leave.
    pub fn has_request_body(&self) -> bool {
        self.has_request_body.load(Ordering::Relaxed)
    }

    /// Whether only the end of the connection ends the answer: an HTTP/1.0 client got no length.
    pub fn ends_with_connection(&self) -> bool {
        self.ends_with_connection.load(Ordering::Relaxed)
    }

    fn set_deadline(&self, deadline: Option<Instant>) {
        *self.deadline.lock().unwrap_or_else(PoisonError::into_inner) = deadline;
    }
}
