//! Running one invocation in a leased slot: instance, call, reply, and the body that follows it.
//!
//! The guest is not a task of its own: whoever waits for the [`Reply`] or polls its [`ReplyBody`] drives it. Measured,
//! a task per request costs 15 to 40 % of throughput (performance.md), and a caller that goes away takes the guest with
//! it by dropping the future.

use super::Lease;
use crate::engine::TICK;
use crate::guest::{Guest, chain};
use crate::sandbox::{Identity, Sandbox};
use bytes::Bytes;
use http::uri::Scheme;
use http_body::{Body, Frame};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;
use wasmtime::Store;
use wasmtime_wasi::I32Exit;
use wasmtime_wasi_http::WasiHttpView;
use wasmtime_wasi_http::p2::bindings::http::types;
use wasmtime_wasi_http::p2::body::HyperOutgoingBody;

/// What a guest is asked.
pub struct Call<B> {
    /// The request; its target or `Host` header names the authority.
    pub request: http::Request<B>,
    /// The scheme that the client used.
    pub scheme: Scheme,
    /// The invocation's id.
    pub id: Arc<str>,
}

/// What a guest answered: a head, and a body that has to be polled to the end.
pub struct Reply {
    /// Status and headers.
    pub head: http::response::Parts,
    /// Drives the guest on.
    pub body: ReplyBody,
    /// Which instance answered.
    pub identity: Identity,
    /// How long it took until here.
    pub timings: Timings,
}

/// How long the parts of an invocation took.
#[derive(Debug, Clone, Copy)]
pub struct Timings {
    /// Making the store and the instance.
    pub instantiate: Duration,
    /// From the call until the head was there.
    pub head: Duration,
}

/// How a guest failed. The text is for the operator; a client must not see it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// No instance could be made.
    #[error("could not be instantiated: {0}")]
    Instantiate(String),
    /// It trapped.
    #[error("trapped: {0}")]
    Trap(String),
    /// It called exit.
    #[error("called exit with status {0}")]
    Exit(i32),
    /// It returned without an answer.
    #[error("returned without setting a response")]
    NoReply,
    /// It set an error in place of a response.
    #[error("answered with the error {0}")]
    ErrorCode(String),
    /// It returned before its body was finished, or dropped the body unfinished.
    #[error("did not finish its response body")]
    Unfinished,
    /// Its body is longer than `limits.responseBody`.
    #[error("wrote more than limits.responseBody allows")]
    ResponseTooLong,
    /// Its head cannot be sent: an informational status, say, or a wrong length.
    #[error("set a response that cannot be sent: {0}")]
    BadHead(&'static str),
}

type Run = Pin<Box<dyn Future<Output = Result<Store<Sandbox>, Fault>> + Send>>;

impl Lease {
    /// Instantiates `guest` in this slot, calls it, and waits for the head of its answer.
    ///
    /// Dropping the future, or later the reply's body, ends the guest and frees the slot.
    ///
    /// # Errors
    /// [`Fault`]: the guest failed before its head was there; nothing of it reaches the client.
    pub async fn invoke<B>(mut self, guest: &Guest, call: Call<B>) -> Result<Reply, Fault>
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<wasmtime_wasi_http::Error>,
    {
        let begun = Instant::now();
        let identity = Identity {
            instance: self.next_instance(),
            slot: self.slot,
            pool_size: self.shared.size.slots,
            served: 1,
            generation: guest.generation,
            digest: Arc::clone(&guest.digest),
        };
        let reservation = self.reservation.take().expect("a lease is used once");
        let sandbox = Sandbox::new(Arc::clone(&guest.policy), identity.clone(), call.id, reservation);
        let ticking = guest.engine.ticking();
        let mut store = guest.store(sandbox);
        let proxy = match guest.pre.instantiate_async(&mut store).await {
            Ok(proxy) => proxy,
            Err(error) => return Err(explain(&store, &error, Fault::Instantiate)),
        };
        let instantiated = Instant::now();

        let (answer, mut head) = oneshot::channel();
        let request_fault = |error: wasmtime::Error| Fault::Instantiate(chain(&error));
        let scheme = if call.scheme == Scheme::HTTPS { types::Scheme::Https } else { types::Scheme::Http };
        let request = store.data_mut().http().new_incoming_request(scheme, call.request).map_err(request_fault)?;
        let outparam = store.data_mut().http().new_response_outparam(answer).map_err(request_fault)?;
        let mut run: Run = Box::pin(async move {
            let result = proxy.wasi_http_incoming_handler().call_handle(&mut store, request, outparam).await;
            drop(ticking);
            match result {
                Ok(()) => Ok(store),
                Err(error) => Err(explain(&store, &error, Fault::Trap)),
            }
        });

        // The guest first: when it traps right after its head, the client still gets an honest 500.
        let mut ended = None;
        let head = std::future::poll_fn(|cx| {
            if ended.is_none()
                && let Poll::Ready(result) = run.as_mut().poll(cx)
            {
                ended = Some(result?);
            }
            match Pin::new(&mut head).poll(cx) {
                Poll::Ready(Ok(head)) => {
                    Poll::Ready(head.map_err(|code: types::ErrorCode| Fault::ErrorCode(format!("{code:?}"))))
                }
                // Dropped unset, or never set: only once the guest has returned is it clear that no trap explains it.
                _ if ended.is_some() => Poll::Ready(Err(Fault::NoReply)),
                _ => Poll::Pending,
            }
        });
        let (head, written) = head.await?.into_parts();
        let guest = match ended {
            Some(store) => State::Returned(store),
            None => State::Running(run),
        };
        let timings = Timings { instantiate: instantiated - begun, head: instantiated.elapsed() };
        let body = ReplyBody { guest, written, ahead: None, finished: false, busy_since: None, _lease: self };
        Ok(Reply { head, body, identity, timings })
    }
}

/// Puts a failed call into words: an exit, else `other` with the trap, its frames, and the limit that was hit before it.
fn explain(store: &Store<Sandbox>, error: &wasmtime::Error, other: fn(String) -> Fault) -> Fault {
    if let Some(I32Exit(status)) = error.downcast_ref() {
        return Fault::Exit(*status);
    }
    let mut text = error.root_cause().to_string();
    if let Some(hit) = store.data().limiter.hit() {
        text = format!("{text}, after {hit}");
    }
    if let Some(trace) = error.downcast_ref::<wasmtime::WasmBacktrace>() {
        let name =
            |frame: &wasmtime::FrameInfo| frame.func_name().map(|name| format!("{:#}", rustc_demangle::demangle(name)));
        // The frames of a panic are the same in every Rust guest and tell nothing.
        let machinery = ["std::", "core::", "alloc::", "__rustc::", "abort"];
        let own = |name: &String| !machinery.iter().any(|prefix| name.starts_with(prefix));
        let names: Vec<String> = trace.frames().iter().filter_map(name).filter(own).take(8).collect();
        if !names.is_empty() {
            text = format!("{text}, in {}", names.join(" < "));
        }
    }
    other(text)
}

/// The body of a reply. Polling it drives the guest; it ends cleanly only when the guest finished its body.
///
/// It looks one frame ahead, so that the last frame is known to be the last.
pub struct ReplyBody {
    guest: State,
    written: HyperOutgoingBody,
    ahead: Option<Frame<Bytes>>,
    /// The guest has finished its body, though it may still run.
    finished: bool,
    /// Since when it has been handing out frames without a pause.
    busy_since: Option<Instant>,
    _lease: Lease,
}

enum State {
    Running(Run),
    /// The store stays alive until the body is read: with it the body would lose its end.
    Returned(#[expect(dead_code, reason = "held, not read")] Store<Sandbox>),
    Failed,
}

impl ReplyBody {
    /// Whether the guest has nothing left to do.
    pub fn is_guest_done(&self) -> bool {
        !matches!(self.guest, State::Running(_))
    }

    /// Runs the guest on until it returns.
    ///
    /// # Errors
    /// [`Fault`], once.
    fn drive(&mut self, cx: &mut Context<'_>) -> Result<(), Fault> {
        if let State::Running(run) = &mut self.guest
            && let Poll::Ready(result) = run.as_mut().poll(cx)
        {
            self.guest = State::Failed;
            self.guest = State::Returned(result?);
        }
        Ok(())
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
        if this.finished || matches!(this.guest, State::Failed) {
            return Poll::Ready(this.ahead.take().map(Ok));
        }
        // A guest that yields at a tick while a frame of it is waiting would be driven on at once, for as long as the client
        // takes its frames: pause as often as it ticks.
        if this.busy_since.get_or_insert_with(Instant::now).elapsed() > TICK {
            this.busy_since = None;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        loop {
            if let Err(fault) = this.drive(cx) {
                this.ahead = None;
                return Poll::Ready(Some(Err(fault)));
            }
            match Pin::new(&mut this.written).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => {
                    if let Some(previous) = this.ahead.replace(frame) {
                        return Poll::Ready(Some(Ok(previous)));
                    }
                }
                Poll::Ready(None) => {
                    this.finished = true;
                    return Poll::Ready(this.ahead.take().map(Ok));
                }
                Poll::Ready(Some(Err(_))) => break,
                Poll::Pending if this.is_guest_done() => break,
                Poll::Pending => {
                    let Some(frame) = this.ahead.take() else {
                        this.busy_since = None;
                        return Poll::Pending;
                    };
                    return Poll::Ready(Some(Ok(frame)));
                }
            }
        }
        // The store is dropped only now: a body that was not finished would end cleanly with it.
        this.ahead = None;
        this.guest = State::Failed;
        Poll::Ready(Some(Err(Fault::Unfinished)))
    }

    fn is_end_stream(&self) -> bool {
        self.ahead.is_none() && (self.finished || matches!(self.guest, State::Failed))
    }
}
