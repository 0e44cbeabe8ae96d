//! Bodies: the request's, held to its limit; the answer's, which carries the guest, while it runs, to the last byte.

use super::closing::{Closing, Outcome};
use super::exchange::Exchange;
use super::received::Received;
use crate::run::{Fault, ReplyBody};
use crate::sandbox::hit::Hit;
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};
use tokio_util::task::TaskTracker;

/// A request body that breaks off at the limit and says so.
pub struct RequestBody {
    incoming: Received,
    limit: u64,
    left: u64,
    beyond: Option<oneshot::Sender<()>>,
}

impl RequestBody {
    /// The answer's second half resolves when a byte beyond `limit` arrives, and fails when that cannot happen any more.
    /// None where there is no body.
    pub fn new(incoming: Received, limit: u64) -> (Self, Option<oneshot::Receiver<()>>) {
        incoming.hold_to(limit);
        let (beyond, receiver) = if incoming.is_end_stream() { None } else { Some(oneshot::channel()) }.unzip();
        (Self { incoming, limit, left: limit, beyond }, receiver)
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = wasmtime_wasi_http::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let frame = match ready!(Pin::new(&mut self.incoming).poll_frame(cx)) {
            Some(Ok(frame)) => frame,
            // WASI's own variant for it would write a line to the log.
            Some(Err(_)) => return Poll::Ready(Some(Err(wasmtime_wasi_http::Error::ConnectionTerminated))),
            None => return Poll::Ready(None),
        };
        let length = frame.data_ref().map_or(0, |data| data.len() as u64);
        match self.left.checked_sub(length) {
            Some(left) => {
                self.left = left;
                Poll::Ready(Some(Ok(frame)))
            }
            None => {
                self.left = 0;
                if let Some(beyond) = self.beyond.take() {
                    // Nobody listens any more once the answer's head is out.
                    let _ = beyond.send(());
                }
                Poll::Ready(Some(Err(wasmtime_wasi_http::Error::HttpRequestBodySize(Some(self.limit)))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}

/// The body of every answer.
pub enum ResponseBody {
    /// The host's own words.
    Own(Option<Bytes>),
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
        // hyper does not ask for a body that is empty or that the answer does not have.
        if self.bodiless || self.bytes.as_ref().is_none_or(Bytes::is_empty) {
            self.exchange.end();
            self.closing.outcome = Outcome::Answered;
        }
    }
}

/// Drives a guest while its answer is sent. Dropped before the end, it ends the guest; dropped after the last byte, it
/// lets the guest finish what it does after its answer, within the deadline.
pub struct GuestBody {
    reply: Option<ReplyBody>,
    exchange: Arc<Exchange>,
    deadline: Instant,
    tasks: TaskTracker,
    closing: Option<Closing>,
    /// `limits.responseBody`.
    limit: Option<u64>,
    /// Bytes that the announced `Content-Length` still expects.
    expected: Option<u64>,
    complete: bool,
    /// Why the answer breaks off, until what was written before has left.
    breaking: Option<Fault>,
    claims: bool,
}

/// What a [`GuestBody`] needs to know beside the reply.
pub struct Sending {
    /// The connection's side of it.
    pub exchange: Arc<Exchange>,
    /// When everything has to be over.
    pub deadline: Instant,
    /// Owner of guests that outlive their answer.
    pub tasks: TaskTracker,
    /// To be written at the end.
    pub closing: Closing,
    /// `limits.responseBody`.
    pub limit: Option<u64>,
    /// The announced length, if any.
    pub length: Option<u64>,
    /// The answer has no body on the wire (HEAD, 204, 304), whatever the guest writes.
    pub bodiless: bool,
}

impl Sending {
    /// Whether the answer tells the length of a body that it does not have. hyper would leave that out of one whose body it
    /// knows to be empty.
    fn claims(&self) -> bool {
        self.bodiless && self.length.is_some()
    }
}

impl ResponseBody {
    /// The body of a guest that has returned.
    pub fn whole(bytes: Bytes, sending: Sending) -> Self {
        let (bodiless, claims) = (sending.bodiless, sending.claims());
        let Sending { exchange, closing, .. } = sending;
        Self::Whole(Box::new(WholeBody { bytes: Some(bytes), bodiless, claims, exchange, closing }))
    }

    /// The body of a guest's reply.
    pub fn guest(reply: ReplyBody, sending: Sending) -> Self {
        Self::Guest(Box::new(GuestBody {
            claims: sending.claims(),
            reply: Some(reply),
            exchange: sending.exchange,
            deadline: sending.deadline,
            tasks: sending.tasks,
            closing: Some(sending.closing),
            limit: sending.limit,
            expected: sending.length,
            complete: sending.bodiless || sending.length == Some(0),
            breaking: None,
        }))
    }
}

impl GuestBody {
    /// Breaks off a poll late: with an error hyper drops what it holds, the head perhaps, and while nothing is ready it sends
    /// that.
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        if let Some(fault) = self.breaking.take() {
            return Poll::Ready(Some(Err(fault)));
        }
        match ready!(self.poll_reply(cx)) {
            Some(Err(fault)) => {
                self.breaking = Some(fault);
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            frame => Poll::Ready(frame),
        }
    }

    fn poll_reply(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        let Some(reply) = &mut self.reply else { return Poll::Ready(None) };
        let result = ready!(Pin::new(&mut *reply).poll_frame(cx));
        match &result {
            Some(Ok(frame)) => {
                let length = frame.data_ref().map_or(0, |data| data.len() as u64);
                let sent = self.closing.as_ref().expect("until dropped").sent + length;
                if let Some(limit) = self.limit.filter(|limit| sent > *limit) {
                    return Poll::Ready(Some(Err(self.fail(Hit::ResponseBody(limit).into()))));
                }
                match self.expected.map(|expected| expected.checked_sub(length)) {
                    Some(None) => return Poll::Ready(Some(Err(self.fail(Fault::TOO_LONG)))),
                    left => self.expected = left.flatten(),
                }
                // hyper drops a body that has sent what it announced, or says that nothing follows.
                self.complete = self.expected == Some(0) || reply.is_end_stream();
                self.closing.as_mut().expect("until dropped").sent = sent;
            }
            Some(Err(fault)) => drop(self.fail(fault.clone())),
            None if self.expected.is_some_and(|expected| expected > 0) => {
                return Poll::Ready(Some(Err(self.fail(Fault::Unfinished))));
            }
            None => self.complete = true,
        }
        Poll::Ready(result)
    }

    fn fail(&mut self, fault: Fault) -> Fault {
        self.reply = None;
        self.closing.as_mut().expect("until dropped").outcome = Outcome::Faulted(fault.to_string());
        fault
    }
}

impl Drop for GuestBody {
    fn drop(&mut self) {
        let mut closing = self.closing.take().expect("taken only here");
        let Some(mut reply) = self.reply.take() else { return };
        // hyper does not ask for a body that is known to be empty.
        if !self.complete && !reply.is_end_stream() {
            if let Some(why) = self.exchange.stalled() {
                closing.outcome = Outcome::Stalled(why);
            } else if Instant::now() >= self.deadline {
                closing.outcome = Outcome::Deadline;
            }
            return;
        }
        self.exchange.end();
        let deadline = self.deadline;
        let finish = async move {
            let end = timeout_at(deadline, poll_fn(|cx| reply.poll_to_end(cx)));
            let outcome = match closing.cut_off.run_until_cancelled(end).await {
                Some(Ok(Ok(()))) => Outcome::Answered,
                Some(Ok(Err(fault))) => Outcome::Faulted(fault.to_string()),
                Some(Err(_)) => Outcome::Deadline,
                None => Outcome::CutOff,
            };
            closing.outcome = outcome;
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

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = Fault;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        match &mut *self {
            Self::Own(words) => Poll::Ready(words.take().map(|words| Ok(Frame::data(words)))),
            Self::Whole(body) => Poll::Ready(body.bytes.take().map(|bytes| {
                body.closing.sent = bytes.len() as u64;
                Ok(Frame::data(bytes))
            })),
            Self::Guest(body) => body.poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Own(words) => words.is_none(),
            Self::Whole(body) => !body.claims && body.bytes.as_ref().is_none_or(Bytes::is_empty),
            // A guest's body is polled at least once, so that a fault after the head is seen.
            Self::Guest(body) => {
                !body.claims && body.breaking.is_none() && body.reply.as_ref().is_none_or(ReplyBody::is_end_stream)
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Own(words) => SizeHint::with_exact(words.as_ref().map_or(0, |words| words.len() as u64)),
            Self::Whole(body) if !body.claims => {
                SizeHint::with_exact(body.bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
            }
            Self::Whole(_) | Self::Guest(_) => SizeHint::default(),
        }
    }
}
