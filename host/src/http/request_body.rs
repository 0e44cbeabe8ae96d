//! The body of a request, held to `limits.requestBody`.

use super::received::Received;
use crate::invocation::BodyError;
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::sync::oneshot;

/// A body that breaks off at its limit and says so.
pub struct RequestBody {
    received: Received,
    limit: u64,
    left: u64,
    beyond: Option<oneshot::Sender<()>>,
}

/// The body is longer than its function accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooLong {
    /// The most bytes that it may have.
    pub limit: u64,
}

/// Notices that a body goes on behind its limit.
pub struct Watch {
    limit: u64,
    /// Resolves when it does, and fails when that cannot happen any more. None where there is no body.
    beyond: Option<oneshot::Receiver<()>>,
}

impl RequestBody {
    /// Holds the body to `limit` bytes.
    ///
    /// # Errors
    /// Its announced length is beyond that already.
    pub fn new(received: Received, limit: u64) -> Result<(Self, Watch), TooLong> {
        if received.size_hint().lower() > limit {
            return Err(TooLong { limit });
        }
        received.hold_to(limit);
        let (beyond, receiver) = if received.is_end_stream() { None } else { Some(oneshot::channel()) }.unzip();
        Ok((Self { received, limit, left: limit, beyond }, Watch { limit, beyond: receiver }))
    }
}

impl Watch {
    /// Awaits `work`, which reads the body.
    ///
    /// # Errors
    /// The body went on behind its limit first.
    pub async fn until<T>(self, work: impl Future<Output = T>) -> Result<T, TooLong> {
        let Self { limit, mut beyond } = self;
        let too_long = async {
            match &mut beyond {
                Some(beyond) => beyond.await,
                None => std::future::pending().await,
            }
        };
        let done = tokio::select! {
            biased;
            Ok(()) = too_long => return Err(TooLong { limit }),
            done = work => done,
        };
        // The guest may have turned the broken body into a response of its own within the same poll.
        if beyond.is_some_and(|mut beyond| beyond.try_recv().is_ok()) {
            return Err(TooLong { limit });
        }
        Ok(done)
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let frame = match ready!(Pin::new(&mut self.received).poll_frame(cx)) {
            Some(Ok(frame)) => frame,
            Some(Err(_)) => return Poll::Ready(Some(Err(BodyError::BrokenOff))),
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
                    // Nobody watches any more once the response's head is out.
                    let _ = beyond.send(());
                }
                Poll::Ready(Some(Err(BodyError::TooLong(self.limit))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.received.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.received.size_hint()
    }
}
