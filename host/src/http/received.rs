//! What a client sends as the body of its request, and the rest of it that nobody reads.
//!
//! A connection serves the next request only when this one's body has been read. hyper closes it when a body is dropped
//! before that, after a response that did not say so: clients that keep their connections, the Functions host among them,
//! then lose the next request. So a body that is dropped early leaves its rest to the connection, which reads on and
//! forgets what comes. Whether the response says `Connection: close` is decided when its head leaves:
//!
//! | the body then | the connection |
//! |---|---|
//! | is with a guest that runs on | stays; what the guest leaves is read for as long as the exchange may take |
//! | has at most [`REST`] bytes to come, by its length | stays |
//! | is chunked, and ends within [`REST`] bytes and [`WAIT`] | stays |
//! | any other | closes; the rest is read until the response is complete |
//! | is waited for with `100 Continue`, which nobody has caused | closes: the client may leave the body out now |

use super::exchange::Exchange;
use super::flow::{Broken, Flow, Next};
use bytes::Bytes;
use http_body::{Body, SizeHint};
use hyper::body::Incoming;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;
use tokio::time::timeout;

/// Bytes that are worth less than a new connection.
const REST: u64 = 256 << 10;
/// For how long a response waits to see the end of a chunked body: the client has sent it, or is about to.
const WAIT: Duration = Duration::from_millis(50);

/// The body of a request, as a guest reads it.
pub struct Received {
    /// None once it has ended.
    open: Option<(Arc<Flow>, Arc<Exchange>)>,
}

impl Received {
    /// A body that the connection of `exchange` may read ahead, and whose rest belongs to it.
    pub fn new(incoming: Incoming, exchange: &Arc<Exchange>) -> Self {
        let open = (!incoming.is_end_stream()).then(|| {
            let flow = Arc::new(Flow::new(incoming));
            exchange.flows(&flow);
            (flow, Arc::clone(exchange))
        });
        Self { open }
    }

    /// Its way from the connection; none where there is no body.
    pub fn flow(&self) -> Option<Arc<Flow>> {
        self.open.as_ref().map(|(flow, _)| Arc::clone(flow))
    }

    /// No more than `limit` bytes of it are read ahead.
    pub fn hold_to(&self, limit: u64) {
        if let Some((flow, _)) = &self.open {
            flow.hold_to(limit);
        }
    }

    /// Leaves what is still to come to the connection.
    fn end(&mut self) {
        let Some((flow, exchange)) = self.open.take() else { return };
        if let Some(incoming) = flow.leave().filter(|incoming| !incoming.is_end_stream()) {
            exchange.rest.leave(incoming);
        }
    }
}

impl Body for Received {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Next> {
        let Some((flow, exchange)) = &self.open else { return Poll::Ready(None) };
        exchange.rest.asked.store(true, Ordering::Relaxed);
        let frame = ready!(flow.poll_next(cx));
        if !matches!(frame, Some(Ok(_))) {
            self.end();
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.open.as_ref().is_none_or(|(flow, _)| flow.is_at_its_end())
    }

    fn size_hint(&self) -> SizeHint {
        self.open.as_ref().map_or(SizeHint::with_exact(0), |(flow, _)| flow.size_hint())
    }
}

impl Drop for Received {
    fn drop(&mut self) {
        self.end();
    }
}

/// The rest of a body that nobody reads.
#[derive(Default)]
pub struct Rest {
    state: Mutex<State>,
    /// Somebody has asked for the body.
    asked: AtomicBool,
}

#[derive(Default)]
struct State {
    left: Option<Incoming>,
    /// Of the connection's task: a guest that works on after its response drops its body in a task of its own.
    connection: Option<Waker>,
}

impl Rest {
    /// Another request has come.
    pub fn begin(&self) {
        self.asked.store(false, Ordering::Relaxed);
    }

    /// Nobody is going to read it.
    fn leave(&self, incoming: Incoming) {
        let mut state = self.state();
        state.left = Some(incoming);
        if let Some(connection) = state.connection.take() {
            connection.wake();
        }
    }

    /// No more is read of it, which closes the connection.
    pub fn forget(&self) {
        self.state().left = None;
    }

    /// Whether the connection may stay open, as far as can be told when the head of the response leaves; `expects` tells that
    /// the client waits for `100 Continue`.
    pub async fn is_short(&self, expects: bool) -> bool {
        if expects && !self.asked.load(Ordering::Relaxed) {
            self.forget();
            return false;
        }
        let Some(mut left) = self.state().left.take() else { return true };
        let short = match left.size_hint().exact() {
            Some(length) => length <= REST,
            None => timeout(WAIT, discard(&mut left)).await.unwrap_or(false),
        };
        self.state().left = Some(left);
        short
    }

    /// Forgets what has come.
    pub fn poll_discard(&self, cx: &mut Context<'_>) {
        let mut state = self.state();
        if let Some(left) = &mut state.left {
            while let Poll::Ready(frame) = Pin::new(&mut *left).poll_frame(cx) {
                if !matches!(frame, Some(Ok(_))) {
                    state.left = None;
                    return;
                }
            }
        } else if !state.connection.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            state.connection = Some(cx.waker().clone());
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Every change under the lock is complete before anything can panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether it ends within [`REST`] bytes.
async fn discard(left: &mut Incoming) -> bool {
    let mut read = 0;
    while read <= REST {
        match poll_fn(|cx| Pin::new(&mut *left).poll_frame(cx)).await {
            Some(Ok(frame)) => read += frame.data_ref().map_or(0, Bytes::len) as u64,
            // After an error hyper closes by itself.
            end => return end.is_none(),
        }
    }
    false
}
