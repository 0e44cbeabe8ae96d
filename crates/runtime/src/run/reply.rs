//! The body of a reply, which carries the guest for as long as that runs.
//!
//! ```text
//!      the head is there, and the guest
//!      │ runs on              │ has returned
//!      ▼                      ▼
//! ┌─────────┐ returns  ┌──────────┐
//! │ Writing ├─────────►│ Returned │─► the end, once its frames are handed out
//! └────┬────┘          └──────────┘
//!      │ ends its body    ▲     ▲
//!      ▼                  │     │ a fault, in any state:
//! ┌───────────┐ returns   │     │ reported once, and no frame is left
//! │ Finishing ├───────────┘     ┴
//! └───────────┘
//! ```
//!
//! | state | the guest | the body | the slot |
//! |---|---|---|---|
//! | `Writing` | runs, driven by what polls the body | more of it may come | taken |
//! | `Finishing` | works on after its answer | known to its end | taken |
//! | `Returned` | is gone | known to its end | free |
//!
//! In each poll the guest comes before its body, so that a trap is an error and not the end of a body. One frame is held back until
//! the next one is there, so that the last is known to be the last. When the guest returns, the rest of its body is taken while its
//! store lives: with the store an unfinished body would end cleanly. After each frame, and after the last, the guest is driven
//! again before anything is pending: a guest of WASI 0.3 may wait for its answer having been read (`super::p3`), and is not woken.

use super::call::Run;
use super::fault::Fault;
use super::instance::Instance;
use super::turn::Turn;
use super::unbudgeted;
use crate::engine::TICK;
use crate::pool::Phase;
use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame};
use http_body_util::BodyExt as _;
use std::collections::VecDeque;
use std::mem;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::Instant;
use wasmtime_wasi_http::WasiBody;

/// Frames that are taken before the head is sent; each is at most 64 KiB long.
const AHEAD: usize = 8;

/// The body of a reply. Polling it drives the guest; it ends cleanly only when the guest finished its body.
pub struct ReplyBody(State);

/// Those with a guest are large, and most guests have returned when their head is there.
enum State {
    Writing(Box<Writing>),
    Finishing(Box<Running>, Frames),
    Returned(Frames),
}

/// Frames that are known and not yet handed out.
type Frames = VecDeque<Frame<Bytes>>;

/// A guest that runs. Its run is dropped first: the store with it, before the slot is free.
struct Running {
    run: Run,
    turn: Turn,
}

/// A guest that runs and has not ended its body.
struct Writing {
    guest: Running,
    written: WasiBody,
    ahead: Frames,
    /// Since when it has been handing out frames without a pause.
    busy_since: Option<Instant>,
}

impl Running {
    /// The guest has returned, and its body is whole.
    fn settle(self, instance: Instance) {
        let Self { run, turn } = self;
        drop(run);
        turn.settle(instance);
    }
}

impl Writing {
    /// The guest has returned: takes the rest of its body, and gives the slot back.
    ///
    /// # Errors
    /// [`Fault`]: the guest did not finish its body.
    fn end(self, instance: Instance) -> Result<Frames, Fault> {
        let Self { guest, mut written, mut ahead, .. } = self;
        loop {
            match unbudgeted::poll_last(&mut written.frame()) {
                Poll::Ready(Some(Ok(frame))) => ahead.push_back(frame),
                Poll::Ready(None) => break,
                Poll::Ready(Some(Err(_))) | Poll::Pending => {
                    let fault = instance.without(Fault::Unfinished);
                    guest.turn.failed(&fault);
                    // Before the slot is free.
                    drop(instance);
                    return Err(fault);
                }
            }
        }
        guest.settle(instance);
        Ok(ahead)
    }
}

impl ReplyBody {
    /// The body of a guest that runs on, or of one that has ended, with its instance.
    ///
    /// # Errors
    /// [`Fault`]: the guest has ended and did not finish its body.
    pub(super) fn new(written: WasiBody, run: Run, turn: Turn, ended: Option<Instance>) -> Result<Self, Fault> {
        let writing = Writing { guest: Running { run, turn }, written, ahead: Frames::new(), busy_since: None };
        match ended {
            Some(instance) => writing.end(instance).map(|frames| Self(State::Returned(frames))),
            None => {
                writing.guest.turn.enter(Phase::Body);
                Ok(Self(State::Writing(Box::new(writing))))
            }
        }
    }

    /// How long the body is, if all of it is known.
    pub fn known_size(&self) -> Option<u64> {
        let (State::Finishing(_, frames) | State::Returned(frames)) = &self.0 else { return None };
        Some(frames.iter().map(|frame| frame.data_ref().map_or(0, |data| data.len() as u64)).sum())
    }

    /// Takes the body as one piece, if the guest has returned and there are no trailers.
    pub fn take_whole(&mut self) -> Option<Bytes> {
        let State::Returned(frames) = &mut self.0 else { return None };
        if !frames.iter().all(Frame::is_data) {
            return None;
        }
        let mut pieces = frames.drain(..).filter_map(|frame| frame.into_data().ok());
        let Some(first) = pieces.next() else { return Some(Bytes::new()) };
        let Some(second) = pieces.next() else { return Some(first) };
        let mut all = BytesMut::from(first);
        all.extend_from_slice(&second);
        pieces.for_each(|piece| all.extend_from_slice(&piece));
        Some(all.freeze())
    }

    /// Lets the guest go on for as long as it waits for nothing but its frames being taken, up to [`AHEAD`] of them. An
    /// answer that is short is then known as a whole, and one that fails right away has no head yet.
    ///
    /// # Errors
    /// [`Fault`], once.
    pub(super) fn run_ahead(&mut self, cx: &mut Context<'_>) -> Result<(), Fault> {
        while let State::Writing(writing) = &mut self.0
            && writing.ahead.len() < AHEAD
        {
            match Pin::new(&mut writing.written).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => writing.ahead.push_back(frame),
                Poll::Ready(Some(Err(_))) => return Err(self.fail(Fault::Unfinished)),
                Poll::Ready(None) => self.body_ended(),
                Poll::Pending => break,
            }
            self.drive(cx)?;
        }
        Ok(())
    }

    /// Waits until the guest returns, and drops what it still writes.
    ///
    /// # Errors
    /// [`Fault`], as the body would.
    pub fn poll_to_end(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        while let State::Writing(_) = self.0 {
            if let Some(Err(fault)) = ready!(Pin::new(&mut *self).poll_frame(cx)) {
                return Poll::Ready(Err(fault));
            }
        }
        self.drive(cx)?;
        if let State::Returned(_) = self.0 { Poll::Ready(Ok(())) } else { Poll::Pending }
    }

    /// Runs the guest on.
    ///
    /// # Errors
    /// [`Fault`], once.
    fn drive(&mut self, cx: &mut Context<'_>) -> Result<(), Fault> {
        let guest = match &mut self.0 {
            State::Writing(writing) => &mut writing.guest,
            State::Finishing(guest, _) => guest,
            State::Returned(_) => return Ok(()),
        };
        match guest.run.as_mut().poll(cx) {
            Poll::Ready(Ok(instance)) => self.returned(instance),
            Poll::Ready(Err(fault)) => Err(self.fail(fault)),
            Poll::Pending => Ok(()),
        }
    }

    fn returned(&mut self, instance: Instance) -> Result<(), Fault> {
        let frames = match self.take() {
            State::Writing(writing) => writing.end(instance)?,
            State::Finishing(guest, frames) => {
                guest.settle(instance);
                frames
            }
            State::Returned(frames) => frames,
        };
        self.0 = State::Returned(frames);
        Ok(())
    }

    /// The guest has ended its body, and may work on.
    fn body_ended(&mut self) {
        self.0 = match self.take() {
            State::Writing(writing) => {
                let Writing { guest, ahead, .. } = *writing;
                guest.turn.enter(Phase::After);
                State::Finishing(Box::new(guest), ahead)
            }
            ended => ended,
        };
    }

    /// Ends the guest, and the body with it.
    fn fail(&mut self, fault: Fault) -> Fault {
        match self.take() {
            State::Writing(writing) => writing.guest.turn.failed(&fault),
            State::Finishing(guest, _) => guest.turn.failed(&fault),
            State::Returned(_) => {}
        }
        fault
    }

    /// What it was; from now on it is at its end.
    fn take(&mut self) -> State {
        mem::replace(&mut self.0, State::Returned(Frames::new()))
    }

    /// The next frame that is known, or the end.
    fn hand_out(&mut self) -> Option<Frame<Bytes>> {
        let frames = match &mut self.0 {
            State::Writing(writing) => &mut writing.ahead,
            State::Finishing(_, frames) | State::Returned(frames) => frames,
        };
        frames.pop_front()
    }
}

impl Body for ReplyBody {
    type Data = Bytes;
    type Error = Fault;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        let this = &mut *self;
        if let State::Writing(writing) = &mut this.0 {
            // A guest that yields at a tick while a frame of it is waiting would be driven on at once, for as long as the
            // client takes its frames: pause as often as it ticks.
            if writing.busy_since.get_or_insert_with(Instant::now).elapsed() > TICK {
                writing.busy_since = None;
                // Behind what else is ready, as a guest that computes.
                let _ = pin!(tokio::task::yield_now()).poll(cx);
                return Poll::Pending;
            }
            loop {
                this.drive(cx)?;
                let State::Writing(writing) = &mut this.0 else { break };
                let Writing { written, ahead, busy_since, .. } = &mut **writing;
                match Pin::new(written).poll_frame(cx) {
                    Poll::Ready(Some(Ok(frame))) => {
                        ahead.push_back(frame);
                        if ahead.len() > 1 {
                            break;
                        }
                    }
                    Poll::Ready(Some(Err(_))) => return Poll::Ready(Some(Err(this.fail(Fault::Unfinished)))),
                    Poll::Ready(None) => this.body_ended(),
                    Poll::Pending if ahead.is_empty() => {
                        *busy_since = None;
                        return Poll::Pending;
                    }
                    Poll::Pending => break,
                }
            }
        }
        Poll::Ready(this.hand_out().map(Ok))
    }

    fn is_end_stream(&self) -> bool {
        matches!(&self.0, State::Finishing(_, frames) | State::Returned(frames) if frames.is_empty())
    }
}
