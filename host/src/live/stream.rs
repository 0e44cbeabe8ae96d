//! Reports as server-sent events (WHATWG HTML, "Server-sent events").

use super::frame::{Frame, PERIOD};
use super::{Cursor, Live, Report};
use bytes::Bytes;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// How long one stream lasts. A page asks again, and goes on where it was.
pub const LIFETIME: Duration = Duration::from_secs(10 * 60);

/// A report whenever something has changed, ten in a second at the most. Who reads slowly gets fewer, with the same in them.
pub struct Stream {
    live: Arc<Live>,
    cursor: Cursor,
    seen: Option<Arc<Frame>>,
    tick: Interval,
    end: Instant,
    stop: Pin<Box<WaitForCancellationFutureOwned>>,
    _seat: OwnedSemaphorePermit,
}

impl Stream {
    /// Begins after what `cursor` says was seen, and ends when `stop` says so.
    pub(super) fn new(live: Arc<Live>, cursor: Cursor, stop: CancellationToken, seat: OwnedSemaphorePermit) -> Self {
        let mut tick = interval(PERIOD);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (end, stop) = (Instant::now() + LIFETIME, Box::pin(stop.cancelled_owned()));
        Self { live, cursor, seen: None, tick, end, stop, _seat: seat }
    }

    /// The next event; none at the end.
    pub fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        loop {
            if self.stop.as_mut().poll(cx).is_ready() || Instant::now() >= self.end {
                return Poll::Ready(None);
            }
            ready!(self.tick.poll_tick(cx));
            let Report { text, cursor, frame } = self.live.report(self.cursor);
            let same = self.seen.as_ref().is_some_and(|seen| seen.text == frame.text);
            if same && cursor == self.cursor {
                continue;
            }
            (self.cursor, self.seen) = (cursor, Some(frame));
            return Poll::Ready(Some(format!("data: {text}\n\n").into()));
        }
    }
}

impl std::fmt::Debug for Stream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stream").field("cursor", &self.cursor).finish_non_exhaustive()
    }
}
