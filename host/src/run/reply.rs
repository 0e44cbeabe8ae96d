//! The body of a reply, which carries the guest for as long as that runs.

use super::call::Run;
use super::fault::Fault;
use super::instance::Instance;
use super::turn::Turn;
use crate::engine::TICK;
use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame};
use std::collections::VecDeque;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker, ready};
use std::time::Instant;
use tokio::task::coop::unconstrained;
use wasmtime_wasi_http::WasiBody;

/// Frames that are taken before the head is sent; each is at most 64 KiB long.
const AHEAD: usize = 8;

/// The body of a reply. Polling it drives the guest; it ends cleanly only when the guest finished its body.
///
/// It looks one frame ahead, so that the last frame is known to be the last. Once the guest has returned, everything
/// that it wrote is held here and its slot is free.
pub struct ReplyBody {
    written: WasiBody,
    /// Frames that are known and not yet handed out.
    ahead: VecDeque<Frame<Bytes>>,
    /// No frame follows those.
    finished: bool,
    /// Since when it has been handing out frames without a pause.
    busy_since: Option<Instant>,
    /// The guest while it runs: what reads the body drives it.
    guest: Option<(Run, Turn)>,
}

impl ReplyBody {
    pub(super) fn new(written: WasiBody, run: Run, turn: Turn) -> Self {
        Self { written, ahead: VecDeque::new(), finished: false, busy_since: None, guest: Some((run, turn)) }
    }

    /// Whether the guest has nothing left to do.
    pub fn is_guest_done(&self) -> bool {
        self.guest.is_none()
    }

    /// How long the body is, if all of it is known.
    pub fn known_size(&self) -> Option<u64> {
        let size = |frame: &Frame<Bytes>| frame.data_ref().map_or(0, |data| data.len() as u64);
        self.finished.then(|| self.ahead.iter().map(size).sum())
    }

    /// Takes the body as one piece, if all of it is known and it has no trailers.
    pub fn take_whole(&mut self) -> Option<Bytes> {
        let whole = self.finished && self.is_guest_done() && self.ahead.iter().all(Frame::is_data);
        let mut frames = whole.then(|| self.ahead.drain(..).filter_map(|frame| frame.into_data().ok()))?;
        let Some(first) = frames.next() else { return Some(Bytes::new()) };
        let Some(second) = frames.next() else { return Some(first) };
        let mut all = BytesMut::from(first);
        all.extend_from_slice(&second);
        frames.for_each(|frame| all.extend_from_slice(&frame));
        Some(all.freeze())
    }

    /// Runs the guest on until it returns.
    ///
    /// # Errors
    /// [`Fault`], once.
    fn drive(&mut self, cx: &mut Context<'_>) -> Result<(), Fault> {
        let Some((run, _)) = &mut self.guest else { return Ok(()) };
        match run.as_mut().poll(cx) {
            Poll::Ready(Ok(instance)) => self.guest_returned(instance),
            Poll::Ready(Err(fault)) => Err(self.fail(fault)),
            Poll::Pending => Ok(()),
        }
    }

    /// Lets the guest go on for as long as it waits for nothing but its frames being taken, up to [`AHEAD`] of them. An
    /// answer that is short is then known as a whole, and one that fails right away has no head yet.
    pub(super) fn run_ahead(&mut self, cx: &mut Context<'_>) -> Result<(), Fault> {
        while !self.finished && self.ahead.len() < AHEAD {
            match Pin::new(&mut self.written).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => self.ahead.push_back(frame),
                Poll::Ready(None) => self.finished = true,
                Poll::Ready(Some(Err(_))) => return Err(self.fail(Fault::Unfinished)),
                Poll::Pending => break,
            }
            self.drive(cx)?;
        }
        Ok(())
    }

    /// Takes what the guest has written while its store lives: with the store an unfinished body would end cleanly.
    pub(super) fn guest_returned(&mut self, instance: Instance) -> Result<(), Fault> {
        let mut cx = Context::from_waker(Waker::noop());
        while !self.finished {
            // Outside of tokio's budget: with none left, a finished body would look unfinished.
            let mut frame = pin!(unconstrained(std::future::poll_fn(|cx| Pin::new(&mut self.written).poll_frame(cx))));
            match frame.as_mut().poll(&mut cx) {
                Poll::Ready(Some(Ok(frame))) => self.ahead.push_back(frame),
                Poll::Ready(None) => self.finished = true,
                // Nothing is left that could write more.
                Poll::Ready(Some(Err(_))) | Poll::Pending => return Err(self.fail(instance.without(Fault::Unfinished))),
            }
        }
        if let Some((run, turn)) = self.guest.take() {
            drop(run);
            turn.settle(instance);
        }
        Ok(())
    }

    /// Ends the guest, and the body with it.
    fn fail(&mut self, fault: Fault) -> Fault {
        if let Some((_, turn)) = &self.guest {
            turn.failed(&fault);
        }
        self.ahead.clear();
        self.finished = true;
        self.guest = None;
        fault
    }

    /// Waits until the guest returns, and drops what it still writes.
    ///
    /// # Errors
    /// [`Fault`], as the body would.
    pub fn poll_to_end(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        while !self.finished {
            match ready!(Pin::new(&mut *self).poll_frame(cx)) {
                Some(Ok(_)) => {}
                Some(Err(fault)) => return Poll::Ready(Err(fault)),
                None => break,
            }
        }
        self.drive(cx)?;
        if self.is_guest_done() { Poll::Ready(Ok(())) } else { Poll::Pending }
    }
}

impl Body for ReplyBody {
    type Data = Bytes;
    type Error = Fault;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        let this = &mut *self;
        if this.finished {
            return Poll::Ready(this.ahead.pop_front().map(Ok));
        }
        // A guest that yields at a tick while a frame of it is waiting would be driven on at once, for as long as the client
        // takes its frames: pause as often as it ticks.
        if this.busy_since.get_or_insert_with(Instant::now).elapsed() > TICK {
            this.busy_since = None;
            // Behind what else is ready, as a guest that computes.
            let _ = pin!(tokio::task::yield_now()).poll(cx);
            return Poll::Pending;
        }
        loop {
            if let Err(fault) = this.drive(cx) {
                return Poll::Ready(Some(Err(fault)));
            }
            if this.finished {
                return Poll::Ready(this.ahead.pop_front().map(Ok));
            }
            match Pin::new(&mut this.written).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => {
                    this.ahead.push_back(frame);
                    if this.ahead.len() > 1 {
                        return Poll::Ready(this.ahead.pop_front().map(Ok));
                    }
                }
                Poll::Ready(None) => this.finished = true,
                Poll::Ready(Some(Err(_))) => return Poll::Ready(Some(Err(this.fail(Fault::Unfinished)))),
                Poll::Pending => {
                    let Some(frame) = this.ahead.pop_front() else {
                        this.busy_since = None;
                        return Poll::Pending;
                    };
                    return Poll::Ready(Some(Ok(frame)));
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.finished && self.ahead.is_empty()
    }
}
