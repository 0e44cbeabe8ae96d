//! What one request and its answer tell the connection that carries them.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use tokio::time::Instant;

/// The exchange that is under way on a connection. Only the connection's own task touches it.
#[derive(Default)]
pub struct Exchange {
    /// When the answer's body has to be over.
    deadline: Mutex<Option<Instant>>,
    /// The request has a body, behind which hyper does not see the client leave.
    has_request_body: AtomicBool,
    /// Only the end of the connection ends the answer: an HTTP/1.0 client got no length.
    ends_with_connection: AtomicBool,
}

impl Exchange {
    /// A request head has arrived.
    pub fn begin(&self, has_request_body: bool) {
        self.has_request_body.store(has_request_body, Ordering::Relaxed);
    }

    /// The head of the answer leaves; its body has until `deadline`.
    pub fn answer(&self, deadline: Instant, ends_with_connection: bool) {
        *self.deadline.lock().unwrap_or_else(PoisonError::into_inner) = Some(deadline);
        self.ends_with_connection.store(ends_with_connection, Ordering::Relaxed);
    }

    /// The answer is complete.
    pub fn end(&self) {
        *self.deadline.lock().unwrap_or_else(PoisonError::into_inner) = None;
        self.has_request_body.store(false, Ordering::Relaxed);
        self.ends_with_connection.store(false, Ordering::Relaxed);
    }

    /// When the answer's body has to be over, while one is under way.
    pub fn deadline(&self) -> Option<Instant> {
        *self.deadline.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the request has a body, behind which hyper does not see the client leave.
    pub fn has_request_body(&self) -> bool {
        self.has_request_body.load(Ordering::Relaxed)
    }

    /// Whether only the end of the connection ends the answer.
    pub fn ends_with_connection(&self) -> bool {
        self.ends_with_connection.load(Ordering::Relaxed)
    }
}
