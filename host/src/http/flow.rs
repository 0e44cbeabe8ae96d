//! The body of a request on its way from the connection to its guest, where it may be read ahead of the guest.
//!
//! Many clients, the Functions host among them, send their whole request before they read a byte of the response. A guest that
//! responds while it reads would then wait for ever for the client to read, and the client for the guest. So the connection
//! reads the body ahead into a [`Spool`] while the response's way out is blocked, and the guest reads from there. A client that
//! reads while it sends pays nothing: a body is only read ahead when the client has taken no byte for [`BLOCKED`]. Then its
//! back-pressure ends as well, within the bounds of `limits.requestBody` and `limits.spool`, also for a client that is only
//! slow: the host cannot tell the two apart.

use super::spool::{Full, Room, Spool};
use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use hyper::body::Incoming;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

/// For how long a client has taken no byte of the response when its request is read ahead. One that reads slowly is not far from
/// taking the next; where it is, no more is read ahead than the bounds allow.
const BLOCKED: Duration = Duration::from_millis(100);
/// For how long it has taken none when it is given up, because no more can be read ahead. One that takes 250 kB a second is not:
/// the kernel tells of room as soon as less than [`UNSENT`](super::socket::UNSENT) bytes wait.
const HOPELESS: Duration = Duration::from_millis(500);

/// The body broke off, or cannot be read back.
#[derive(Debug, thiserror::Error)]
#[error("the request's body broke off")]
pub struct Broken;

/// A frame, how the body broke off, or its end.
pub type Next = Option<Result<Frame<Bytes>, Broken>>;

/// A body on its way from the connection to its guest. Both poll it, and each wakes the other: the guest may have a task of its
/// own by then.
pub struct Flow(Mutex<State>);

#[derive(Default)]
struct State {
    /// None once all of it has been taken, or nobody reads it any more.
    incoming: Option<Incoming>,
    /// What was read ahead of the guest, in this order.
    ahead: Option<Spool>,
    held: Option<Bytes>,
    last: Next,
    /// Why what was taken could not be kept.
    failed: Option<Full>,
    /// Bytes that were taken of the incoming body, and how many may be.
    taken: u64,
    limit: Option<u64>,
    guest: Option<Waker>,
    connection: Option<Waker>,
}

impl Flow {
    /// Nothing of it has been read.
    pub fn new(incoming: Incoming) -> Self {
        Self(Mutex::new(State { incoming: Some(incoming), ..State::default() }))
    }

    /// Not much more than `limit` bytes of it are read ahead.
    pub fn hold_to(&self, limit: u64) {
        self.state().limit = Some(limit);
    }

    /// Whether nothing follows, as far as is known.
    pub fn is_at_its_end(&self) -> bool {
        self.state().is_at_its_end()
    }

    /// How much follows.
    pub fn size_hint(&self) -> SizeHint {
        self.state().size_hint()
    }

    /// What comes next for the guest.
    pub fn poll_next(&self, cx: &mut Context<'_>) -> Poll<Next> {
        let mut state = self.state();
        let next = state.poll_next(cx);
        if next.is_pending() {
            register(&mut state.guest, cx);
        } else if let Some(connection) = state.connection.take() {
            connection.wake();
        }
        next
    }

    /// The guest reads no more of it: what is left, if any of it is still to come.
    pub fn leave(&self) -> Option<Incoming> {
        let mut state = self.state();
        let ended = State { taken: state.taken, ..State::default() };
        std::mem::replace(&mut *state, ended).incoming
    }

    /// Bytes that were taken of it, by the guest or ahead of it.
    pub fn taken(&self) -> u64 {
        self.state().taken
    }

    /// Reads ahead of the guest, on behalf of a connection on which the response's way out has been blocked for so long; none
    /// where it is not.
    ///
    /// # Errors
    /// [`Full`]: both sides wait for each other, and nothing more can be read ahead.
    pub fn poll_ahead(&self, cx: &mut Context<'_>, blocked: Option<Duration>, room: &Arc<Room>) -> Result<(), Full> {
        let mut state = self.state();
        let blocked = blocked.filter(|blocked| *blocked >= BLOCKED && room.is_open());
        if state.ahead.is_none() && (blocked.is_none() || state.incoming.is_none()) {
            state.hand_over();
            return Ok(());
        }
        let read = state.read_ahead(cx, blocked.is_some(), room);
        register(&mut state.connection, cx);
        match read {
            Err(full) if blocked.is_some_and(|blocked| blocked >= HOPELESS) => Err(full),
            _ => Ok(()),
        }
    }

    /// The connection reads no more of it ahead.
    pub fn hand_over(&self) {
        self.state().hand_over();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Every change under the lock is complete before anything can panic.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Next> {
        if let Some(ahead) = &mut self.ahead {
            match ready!(ahead.poll_pop(cx)) {
                Some(Ok(bytes)) => return Poll::Ready(Some(Ok(Frame::data(bytes)))),
                Some(Err(error)) => {
                    tracing::warn!(%error, "what was read ahead of a guest is lost: its request breaks off");
                    return Poll::Ready(Some(Err(Broken)));
                }
                None => self.ahead = None,
            }
        }
        if let Some(held) = self.held.take() {
            return Poll::Ready(Some(Ok(Frame::data(held))));
        }
        let Some(incoming) = &mut self.incoming else { return Poll::Ready(self.last.take()) };
        let frame = ready!(Pin::new(incoming).poll_frame(cx));
        self.taken += frame.as_ref().map_or(0, length);
        if !matches!(frame, Some(Ok(_))) {
            self.incoming = None;
        }
        Poll::Ready(frame.map(|frame| frame.map_err(|_| Broken)))
    }

    /// Takes what has come, if more is wanted; else only sees that what was taken is written.
    fn read_ahead(&mut self, cx: &mut Context<'_>, more: bool, room: &Arc<Room>) -> Result<(), Full> {
        loop {
            if let Some(ahead) = &mut self.ahead {
                let Poll::Ready(written) = ahead.poll_ready(cx) else { return Ok(()) };
                if let Err(full) = written {
                    // The guest must not take what follows for what is lost.
                    (self.incoming, self.held, self.last) = (None, None, Some(Err(Broken)));
                    self.failed = Some(full);
                }
                self.wake_guest();
                if let Some(full) = &self.failed {
                    return Err(full.clone());
                }
            }
            if !more {
                return Ok(());
            }
            if let Some(held) = self.held.take() {
                if let Err(full) = self.ahead.get_or_insert_with(|| Spool::new(room)).push(&held) {
                    self.held = Some(held);
                    return Err(full);
                }
                continue;
            }
            if self.limit.is_some_and(|limit| self.taken > limit) {
                return Err("limits.requestBody reached: raise it, or".to_owned());
            }
            let Some(incoming) = &mut self.incoming else { return Ok(()) };
            let Poll::Ready(frame) = Pin::new(incoming).poll_frame(cx) else { return Ok(()) };
            self.taken += frame.as_ref().map_or(0, length);
            match frame.map(|frame| frame.map(Frame::into_data)) {
                Some(Ok(Ok(bytes))) => self.held = Some(bytes),
                // Nothing follows trailers.
                Some(Ok(Err(trailers))) => (self.incoming, self.last) = (None, Some(Ok(trailers))),
                Some(Err(_)) => (self.incoming, self.last) = (None, Some(Err(Broken))),
                None => self.incoming = None,
            }
            self.wake_guest();
        }
    }

    /// What comes now wakes the connection, which asked for it last: lets the guest ask anew.
    fn hand_over(&mut self) {
        if self.connection.take().is_some() {
            self.wake_guest();
        }
    }

    fn wake_guest(&mut self) {
        if let Some(guest) = self.guest.take() {
            guest.wake();
        }
    }

    fn is_at_its_end(&self) -> bool {
        let ahead = self.ahead.is_some() || self.held.is_some() || self.last.is_some();
        !ahead && self.incoming.as_ref().is_none_or(Incoming::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        let mut hint = self.incoming.as_ref().map_or(SizeHint::with_exact(0), Incoming::size_hint);
        let ahead = self.ahead.as_ref().map_or(0, Spool::len) + self.held.as_ref().map_or(0, |held| held.len() as u64);
        if let Some(upper) = hint.upper() {
            hint.set_upper(upper + ahead);
        }
        hint.set_lower(hint.lower() + ahead);
        hint
    }
}

fn length(frame: &Result<Frame<Bytes>, hyper::Error>) -> u64 {
    frame.as_ref().ok().and_then(Frame::data_ref).map_or(0, Bytes::len) as u64
}

fn register(waker: &mut Option<Waker>, cx: &Context<'_>) {
    if !waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
        *waker = Some(cx.waker().clone());
    }
}
