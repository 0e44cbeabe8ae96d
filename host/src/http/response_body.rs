//! The body of a response. A guest's carries the guest, while it runs, and the closing of its invocation, to the last byte.

use super::closing::Closing;
use super::exchange::Exchange;
use crate::live::Stream;
use crate::observe::record::Outcome;
use crate::run::{Fault, ReplyBody};
use crate::sandbox::hit::Hit;
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::time::{Instant, timeout_at};
use tokio_util::task::TaskTracker;

/// The body of every response.
pub enum ResponseBody {
    /// The host's own words.
    Host(Option<Bytes>),
    /// The host's own reports, for as long as somebody looks on.
    Live(Box<Stream>),
    /// A guest's that is known as a whole.
    Whole(Box<WholeBody>),
    /// A guest's, with the guest.
    Guest(Box<GuestBody>),
}

/// What a guest left when it returned: one frame of known length.
pub struct WholeBody {
    /// None once it is handed over.
    bytes: Option<Bytes>,
    bodiless: bool,
    claims: bool,
    exchange: Arc<Exchange>,
    closing: Closing,
}

impl Drop for WholeBody {
    fn drop(&mut self) {
        // hyper does not ask for a body that is empty or that the response does not have.
        if self.bodiless || self.bytes.as_ref().is_none_or(Bytes::is_empty) {
            self.exchange.end();
            self.closing.answered();
        }
    }
}

/// Drives a guest while its response is sent. Dropped before the end, it ends the guest; dropped after the last byte, it
/// lets the guest finish what it does after its response, within the deadline.
pub struct GuestBody {
    /// None once it has failed.
    running: Option<Running>,
    exchange: Arc<Exchange>,
    timeout: Timeout,
    tasks: TaskTracker,
    /// `limits.responseBody`.
    limit: Option<u64>,
    /// Bytes that the announced `Content-Length` still expects.
    expected: Option<u64>,
    complete: bool,
    /// Why the response breaks off, until what was written before has left.
    breaking: Option<Fault>,
    claims: bool,
}

/// A guest that is still to be driven, and what its end has to be told.
struct Running {
    reply: ReplyBody,
    closing: Closing,
}

/// `limits.timeout` of an invocation.
#[derive(Debug, Clone, Copy)]
pub struct Timeout {
    /// When everything has to be over.
    pub deadline: Instant,
    /// How long that is after the arrival of the head.
    pub limit: Duration,
}

impl Timeout {
    /// What is to be said of an invocation that it ends.
    pub fn outcome(self) -> Outcome {
        Outcome::Deadline(Hit::Timeout(self.limit).explained())
    }
}

/// What the body of a guest's response needs to know beside the reply.
pub struct Sending {
    /// The connection's side of it.
    pub exchange: Arc<Exchange>,
    /// The clock that stands over it.
    pub timeout: Timeout,
    /// Owner of guests that outlive their response.
    pub tasks: TaskTracker,
    /// To be dropped at the end.
    pub closing: Closing,
    /// `limits.responseBody`.
    pub limit: Option<u64>,
    /// The announced length, if any.
    pub length: Option<u64>,
    /// The response has no body on the wire (HEAD, 204, 304), whatever the guest writes.
    pub bodiless: bool,
}

impl Sending {
    /// Whether the response tells the length of a body that it does not have. hyper would leave that out of one whose body it
    /// knows to be empty.
    fn claims(&self) -> bool {
        self.bodiless && self.length.is_some()
    }
}

impl ResponseBody {
    /// The body of a guest that has returned.
    pub fn whole(bytes: Bytes, sending: Sending) -> Self {
        let claims = sending.claims();
        let Sending { exchange, closing, bodiless, .. } = sending;
        Self::Whole(Box::new(WholeBody { bytes: Some(bytes), bodiless, claims, exchange, closing }))
    }

    /// The body of a guest's reply.
    pub fn guest(reply: ReplyBody, sending: Sending) -> Self {
        let claims = sending.claims();
        let Sending { exchange, timeout, tasks, closing, limit, length, bodiless } = sending;
        Self::Guest(Box::new(GuestBody {
            running: Some(Running { reply, closing }),
            exchange,
            timeout,
            tasks,
            limit,
            expected: length,
            complete: bodiless || length == Some(0),
            breaking: None,
            claims,
        }))
    }
}

impl GuestBody {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        if let Some(fault) = self.breaking.take() {
            return Poll::Ready(Some(Err(fault)));
        }
        let Some(Running { reply, closing }) = &mut self.running else { return Poll::Ready(None) };
        let fault = match ready!(Pin::new(&mut *reply).poll_frame(cx)) {
            Some(Ok(frame)) => {
                let length = frame.data_ref().map_or(0, |data| data.len() as u64);
                let sent = closing.record.sent + length;
                let left = self.expected.map(|expected| expected.checked_sub(length));
                match (self.limit.filter(|limit| sent > *limit), left) {
                    (Some(limit), _) => Hit::ResponseBody(limit).into(),
                    (None, Some(None)) => Fault::TOO_LONG,
                    (None, left) => {
                        closing.record.sent = sent;
                        self.expected = left.flatten();
                        // hyper drops a body that has sent what it announced, or says that nothing follows.
                        self.complete = self.expected == Some(0) || reply.is_end_stream();
                        return Poll::Ready(Some(Ok(frame)));
                    }
                }
            }
            Some(Err(fault)) => fault,
            None if self.expected.is_some_and(|expected| expected > 0) => Fault::Unfinished,
            None => {
                self.complete = true;
                return Poll::Ready(None);
            }
        };
        closing.faulted(&fault);
        self.running = None;
        // A poll late: with an error hyper drops what it holds, the head perhaps, and while nothing is ready it sends that.
        self.breaking = Some(fault);
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl Drop for GuestBody {
    fn drop(&mut self) {
        let Some(mut running) = self.running.take() else { return };
        let timeout = self.timeout;
        // hyper does not ask for a body that is known to be empty.
        if !self.complete && !running.reply.is_end_stream() {
            if let Some(why) = self.exchange.stalled() {
                running.closing.record.outcome = stalled(&why);
            } else if Instant::now() >= timeout.deadline {
                running.closing.record.outcome = timeout.outcome();
            }
            return;
        }
        self.exchange.end();
        let Running { mut reply, mut closing } = running;
        let finish = async move {
            let end = timeout_at(timeout.deadline, poll_fn(|cx| reply.poll_to_end(cx)));
            match closing.cut_off.run_until_cancelled(end).await {
                Some(Ok(Ok(()))) => closing.record.outcome = Outcome::Answered,
                Some(Ok(Err(fault))) => closing.faulted(&fault),
                Some(Err(_)) => closing.record.outcome = timeout.outcome(),
                None => closing.record.outcome = Outcome::CutOff,
            }
            drop(closing);
        };
        let mut finish = Box::pin(finish);
        // Most guests are done by now; only one that is not needs a task.
        let mut cx = Context::from_waker(std::task::Waker::noop());
        if finish.as_mut().poll(&mut cx).is_pending() {
            self.tasks.spawn(finish);
        }
    }
}

/// Guest and client waited for each other; `why` begins what is to be done about it.
fn stalled(why: &str) -> Outcome {
    const STALL: &str = "the client reads nothing before it has sent everything, and the guest answers before it has read \
                         everything";
    Outcome::Stalled(format!("{STALL}: {why} let the guest read the request before it answers"))
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = Fault;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        match &mut *self {
            Self::Host(words) => Poll::Ready(words.take().map(|words| Ok(Frame::data(words)))),
            Self::Live(stream) => stream.poll_event(cx).map(|event| event.map(|event| Ok(Frame::data(event)))),
            Self::Whole(body) => Poll::Ready(body.bytes.take().map(|bytes| {
                body.closing.record.sent = bytes.len() as u64;
                Ok(Frame::data(bytes))
            })),
            Self::Guest(body) => body.poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Host(words) => words.is_none(),
            Self::Live(_) => false,
            Self::Whole(body) => !body.claims && body.bytes.as_ref().is_none_or(Bytes::is_empty),
            // A guest's body is polled at least once, so that a fault after the head is seen.
            Self::Guest(body) => {
                let is_over = |running: &Running| running.reply.is_end_stream();
                !body.claims && body.breaking.is_none() && body.running.as_ref().is_none_or(is_over)
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Host(words) => SizeHint::with_exact(words.as_ref().map_or(0, |words| words.len() as u64)),
            Self::Whole(body) if !body.claims => {
                SizeHint::with_exact(body.bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
            }
            Self::Live(_) | Self::Whole(_) | Self::Guest(_) => SizeHint::default(),
        }
    }
}
