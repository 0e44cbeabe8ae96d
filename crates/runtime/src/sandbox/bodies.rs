//! The bodies that a guest of WASI 0.2 writes, where wasmtime's own keep a promise of ours too little:
//!
//! - An answer without a body, to HEAD or with status 304, may tell the length that it would have (RFC 9110 §8.6). wasmtime
//!   misses the bytes when the guest finishes it.
//! - A guest that writes before anything can read, before `response-outparam.set` or `outgoing-handler.handle`, waits for a
//!   reader that only its next step would bring, once two chunks are full. It is ended at once, unless it waits for something else too.

use super::Sandbox;
use bytes::Bytes;
use http::{Method, StatusCode};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt as _;
use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use wasmtime::component::Resource;
use wasmtime_wasi::p2::{DynOutputStream, DynPollable, OutputStream, Pollable, StreamError, StreamResult};
use wasmtime_wasi_http::p2::bindings::http::types;
use wasmtime_wasi_http::p2::body::{HostOutgoingBody, HyperOutgoingBody, StreamContext};
use wasmtime_wasi_http::p2::types::{HostOutgoingRequest, HostOutgoingResponse};
use wasmtime_wasi_http::{Error, WasiHttpHooks as _, WasiHttpView as _};

/// What is known of the bodies that a guest is about to write.
#[derive(Default)]
pub struct Bodies {
    /// The request is HEAD.
    to_head: bool,
    /// By the body's number in the table: what its stream will need to know.
    unwritten: HashMap<u32, Reader>,
    /// Streams of bodies that may have no reader yet.
    unread: Vec<Unread>,
}

/// A stream, by its number in the table and that of its body. Both may be gone, and the numbers be those of something else.
struct Unread {
    body: u32,
    stream: u32,
    reader: Reader,
}

/// Whether a body has a reader, and what brings one.
#[derive(Clone)]
struct Reader {
    reached: Arc<AtomicBool>,
    by: &'static str,
}

impl Reader {
    fn is_missing(&self) -> bool {
        !self.reached.load(Ordering::Relaxed)
    }

    /// Why a guest that waits for it is ended.
    fn error(&self) -> wasmtime::Error {
        let by = self.by;
        wasmtime::format_err!(
            "wrote more of a body than fits before anything can read it, and waits for that: call {by} first"
        )
    }
}

impl Bodies {
    /// Another request has come.
    pub fn begin(&mut self, method: &Method) {
        self.to_head = method == Method::HEAD;
        self.unwritten.clear();
        self.unread.clear();
    }
}

type Made = wasmtime::Result<Result<Resource<HostOutgoingBody>, ()>>;

impl Sandbox {
    /// `[method]outgoing-response.body`.
    pub(crate) fn response_body(&mut self, id: Resource<HostOutgoingResponse>) -> Made {
        let place = Resource::<HostOutgoingResponse>::new_borrow(id.rep());
        let response = self.table.get(&place)?;
        let bodiless = self.bodies.to_head || response.status == StatusCode::NOT_MODIFIED;
        let (made, body) = if bodiless && response.body.is_none() {
            let (chunks, bytes) =
                (self.sender.p2_outgoing_body_buffer_chunks(), self.sender.p2_outgoing_body_chunk_size());
            let (made, body) = HostOutgoingBody::new(StreamContext::Response, None, chunks, bytes);
            (self.table.push(made)?, body)
        } else {
            let Ok(made) = types::HostOutgoingResponse::body(&mut self.http(), id)? else { return Ok(Err(())) };
            (made, self.table.get_mut(&place)?.body.take().expect("made just now"))
        };
        let body = self.watch(&made, body, "response-outparam.set");
        self.table.get_mut(&place)?.body = Some(body);
        Ok(Ok(made))
    }

    /// `[method]outgoing-request.body`.
    pub(crate) fn request_body(&mut self, id: Resource<HostOutgoingRequest>) -> Made {
        let place = Resource::<HostOutgoingRequest>::new_borrow(id.rep());
        let Ok(made) = types::HostOutgoingRequest::body(&mut self.http(), id)? else { return Ok(Err(())) };
        let body = self.table.get_mut(&place)?.body.take().expect("made just now");
        let body = self.watch(&made, body, "outgoing-handler.handle");
        self.table.get_mut(&place)?.body = Some(body);
        Ok(Ok(made))
    }

    /// `[method]outgoing-body.write`.
    pub(crate) fn body_stream(
        &mut self,
        id: Resource<HostOutgoingBody>,
    ) -> wasmtime::Result<Result<Resource<DynOutputStream>, ()>> {
        let Some(inner) = self.table.get_mut(&id)?.take_output_stream() else { return Ok(Err(())) };
        let Some(reader) = self.bodies.unwritten.remove(&id.rep()) else {
            return Ok(Ok(self.table.push_child(inner, &id)?));
        };
        let stream: DynOutputStream = Box::new(Writing { inner, reader: reader.clone() });
        let stream = self.table.push_child(stream, &id)?;
        self.bodies.unread.push(Unread { body: id.rep(), stream: stream.rep(), reader });
        Ok(Ok(stream))
    }

    /// Ends a guest that waits for these and nothing else, if all of them stand for room in bodies that nothing can read yet.
    pub(crate) fn expect_reader(&mut self, pollables: &[Resource<DynPollable>]) -> wasmtime::Result<()> {
        self.bodies.unread.retain(|unread| unread.reader.is_missing());
        let mut missing = None;
        let mut never = Vec::new();
        for Unread { body, stream, reader } in &self.bodies.unread {
            let body = Resource::<HostOutgoingBody>::new_borrow(*body);
            let stream = Resource::<DynOutputStream>::new_borrow(*stream);
            let Ok(found) = self.table.get_mut(&stream) else { continue };
            let (is_full, found) = (matches!(found.check_write(), Ok(0)), address(found));
            let is_its = self.table.iter_children(&body).into_iter().flatten().any(|child| address(child) == found);
            if is_full && is_its {
                never.extend(self.table.iter_children(&stream)?.map(address));
                missing = Some(reader);
            }
        }
        let Some(reader) = missing else { return Ok(()) };
        for pollable in pollables {
            if !never.contains(&address(self.table.get(pollable)?)) {
                return Ok(());
            }
        }
        Err(reader.error())
    }

    /// Makes the body note when somebody takes it.
    fn watch(
        &mut self,
        made: &Resource<HostOutgoingBody>,
        body: HyperOutgoingBody,
        by: &'static str,
    ) -> HyperOutgoingBody {
        let reached = Arc::new(AtomicBool::new(false));
        self.bodies.unwritten.insert(made.rep(), Reader { reached: Arc::clone(&reached), by });
        Watched { inner: body, reached }.boxed_unsync()
    }
}

/// By which an entry of the table is told from others.
fn address<T: ?Sized>(entry: &T) -> *const () {
    std::ptr::from_ref(entry).cast()
}

/// A body that notes when somebody takes it. As long as the guest has it, nobody asks it for anything.
struct Watched {
    inner: HyperOutgoingBody,
    reached: Arc<AtomicBool>,
}

impl Body for Watched {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        Pin::new(&mut self.inner).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.reached.store(true, Ordering::Relaxed);
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// The stream that a body is written to.
struct Writing {
    inner: DynOutputStream,
    reader: Reader,
}

#[wasmtime_wasi::async_trait]
impl Pollable for Writing {
    async fn ready(&mut self) {
        self.inner.ready().await;
    }
}

#[wasmtime_wasi::async_trait]
impl OutputStream for Writing {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.inner.write(bytes)
    }

    fn flush(&mut self) -> StreamResult<()> {
        self.inner.flush()
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        self.inner.check_write()
    }

    /// What every call that blocks waits for.
    async fn write_ready(&mut self) -> StreamResult<usize> {
        if self.inner.check_write()? == 0 && self.reader.is_missing() {
            return Err(StreamError::Trap(self.reader.error()));
        }
        self.inner.write_ready().await
    }

    async fn cancel(&mut self) {
        self.inner.cancel().await;
    }
}
