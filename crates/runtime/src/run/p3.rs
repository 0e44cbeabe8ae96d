//! Calling a guest of WASI 0.3. It runs inside its store's event loop, which moves its streams as well, so the loop is
//! driven on until the guest has nothing left to do.

use super::call::{AwaitedHead, Head, Run};
use super::fault::Fault;
use super::instance::Instance;
use crate::engine::Ticking;
use crate::invocation::Origin;
use crate::outgoing::Nobody;
use crate::sandbox::Sandbox;
use crate::sandbox::cpu::metered;
use bytes::Bytes;
use http::header::{CONTENT_LENGTH, HeaderMap};
use http::request::Parts;
use http::{Method, StatusCode};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt as _;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use tokio::sync::oneshot;
use wasmtime::component::Accessor;
use wasmtime_wasi_http::p3::{Request, bindings::exports::wasi::http::handler};
use wasmtime_wasi_http::{FieldMap, WasiBody, WasiHttpView as _};

/// Prepares the call. It begins when the run is polled, which resolves once every task of the guest has ended.
///
/// The head is there in the middle of the run. A trap ends the run and leaves the head, or its body, without an end.
pub fn call(mut instance: Instance, handler: handler::Guest, asked: Asked, ticking: Ticking) -> (Run, AwaitedHead) {
    let (sender, head) = oneshot::channel();
    let run = async move {
        let meter = Arc::clone(&instance.store.data().cpu);
        let answering = instance.store.run_concurrent(async |accessor| {
            let bodies = Arc::clone(&asked.bodies);
            // The receiver may be gone.
            let _ = sender.send(asked.answer(accessor, &handler).await?);
            poll_fn(|cx| {
                ready!(accessor.poll_no_interesting_tasks(cx));
                // No waker has to be called: what reads the answer drives this after each frame (`super::reply`).
                let sends = || accessor.with(|mut access| access.get().awaits_answer());
                if bodies.is_answer_over() || !bodies.is_request_there() && !sends() {
                    Poll::Ready(())
                } else {
                    Poll::Pending
                }
            })
            .await;
            wasmtime::error::Ok(())
        });
        let result = metered(meter, pin!(answering)).await;
        drop(ticking);
        instance.called(result.flatten())
    };
    (Box::pin(run), head)
}

/// A request as a guest of WASI 0.3 sees it. What the guest says about reading the body is not asked for.
pub struct Asked {
    request: Request,
    bodies: Arc<Bodies>,
}

impl Asked {
    /// What the client asked, and where it sent it.
    pub fn new<B>(head: Parts, body: B, Origin { scheme, authority }: Origin) -> Self
    where
        B: Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<wasmtime_wasi_http::Error>,
    {
        let bodies = Arc::new(Bodies::default());
        let body = OfRequest { body, bodies: Arc::clone(&bodies) };
        let headers = FieldMap::new_immutable(&mut Nobody, head.headers);
        let path = head.uri.into_parts().path_and_query;
        let (scheme, authority) = (Some(scheme), Some(authority));
        Self { request: Request::new(head.method, scheme, authority, path, headers, None, body).0, bodies }
    }

    /// Calls the handler and waits for its answer.
    ///
    /// # Errors
    /// When the guest trapped.
    pub async fn answer(self, accessor: &Accessor<Sandbox>, handler: &handler::Guest) -> wasmtime::Result<Head> {
        let Self { request, bodies } = self;
        let to_head = request.method == Method::HEAD;
        let request = accessor.with(|mut access| access.get().http().table.push(request))?;
        let response = match handler.call_handle(accessor, request).await? {
            Ok(response) => response,
            Err(code) => return Ok(Err(Fault::error_code(&code))),
        };
        accessor.with(|mut access| {
            let mut response = access.get().http().table.delete(response)?;
            // An answer without a body may tell the length that it would have; WASI would miss the bytes.
            let bodiless = to_head || response.status == StatusCode::NOT_MODIFIED;
            let lengths: Vec<_> =
                response.headers.get_all(CONTENT_LENGTH).iter().filter(|_| bodiless).cloned().collect();
            if !lengths.is_empty() {
                let mut headers = HeaderMap::from(response.headers);
                headers.remove(CONTENT_LENGTH);
                response.headers = FieldMap::new_immutable(&mut Nobody, headers);
            }
            // The guest is told at once that its response has been sent: it is taken off its hands, and one that does not
            // arrive takes the guest with it.
            let response = response.into_http(access, async { Ok(()) });
            let noted = |body| OfAnswer { body, bodies }.boxed_unsync();
            let mut response = match response {
                Ok(response) => response.map(noted),
                Err(_) => return Ok(Err(Fault::BadHead("its content-length is not one number"))),
            };
            response.headers_mut().extend(lengths.into_iter().map(|length| (CONTENT_LENGTH, length)));
            Ok(Ok(response))
        })
    }
}

/// What becomes of the two bodies of an exchange. A guest may answer with the body of its request, or with that of an answer that it
/// has asked for, and end: then its store has to live until the answer is read.
#[derive(Default)]
struct Bodies {
    /// The request's body is gone.
    request_gone: AtomicBool,
    /// The answer's body is gone, or has been read to its end.
    answer_over: AtomicBool,
}

impl Bodies {
    /// Whether the request's body still exists, perhaps as the answer's.
    fn is_request_there(&self) -> bool {
        !self.request_gone.load(Ordering::Acquire)
    }

    /// Whether the answer's body needs nothing any more.
    fn is_answer_over(&self) -> bool {
        self.answer_over.load(Ordering::Acquire)
    }
}

/// The request's body.
struct OfRequest<B> {
    body: B,
    bodies: Arc<Bodies>,
}

impl<B> Drop for OfRequest<B> {
    fn drop(&mut self) {
        self.bodies.request_gone.store(true, Ordering::Release);
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for OfRequest<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The answer's body.
struct OfAnswer {
    body: WasiBody,
    bodies: Arc<Bodies>,
}

impl Drop for OfAnswer {
    fn drop(&mut self) {
        self.bodies.answer_over.store(true, Ordering::Release);
    }
}

impl Body for OfAnswer {
    type Data = Bytes;
    type Error = wasmtime_wasi_http::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        if frame.is_none() {
            self.bodies.answer_over.store(true, Ordering::Release);
        }
        Poll::Ready(frame)
    }
}
