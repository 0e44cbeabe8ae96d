//! The bodies of requests on their way out.
//!
//! WASI's own body ends cleanly when its store is dropped, finished or not, and the server would take half an upload for a
//! whole one. So an instance has a [`Cut`] that is dropped before its store: from then on none of its bodies ends cleanly.

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use wasmtime_wasi_http::{Error, WasiBody};

/// Breaks off the uploads of an instance when it is dropped. None where nothing may be sent.
#[derive(Debug)]
pub struct Cut(pub Option<Arc<AtomicBool>>);

impl Drop for Cut {
    fn drop(&mut self) {
        if let Some(cut) = &self.0 {
            cut.store(true, Ordering::Release);
        }
    }
}

/// The body of one request.
pub struct Upload {
    /// What the guest writes.
    pub body: WasiBody,
    /// See [`Cut`].
    pub cut: Arc<AtomicBool>,
    /// Set whenever a piece of it leaves.
    pub moved: Arc<AtomicBool>,
}

impl Body for Upload {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        if frame.is_none() && self.cut.load(Ordering::Acquire) {
            return Poll::Ready(Some(Err(Error::ConnectionTerminated)));
        }
        self.moved.store(true, Ordering::Relaxed);
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::{BodyExt as _, Full};

    #[tokio::test]
    async fn a_body_ends_cleanly_only_while_its_instance_lives() {
        for dropped in [false, true] {
            let (cut, moved) = <(Arc<AtomicBool>, Arc<AtomicBool>)>::default();
            let body = Full::new(Bytes::from_static(b"half")).map_err(|never| match never {}).boxed_unsync();
            let mut upload = Upload { body, cut: Arc::clone(&cut), moved: Arc::clone(&moved) };
            assert!(upload.frame().await.is_some_and(|frame| frame.is_ok()));
            assert!(moved.load(Ordering::Relaxed));
            let instance = Cut(Some(cut));
            if dropped {
                drop(instance);
            }
            assert_eq!(upload.frame().await.is_some_and(|frame| frame.is_err()), dropped);
        }
    }
}
