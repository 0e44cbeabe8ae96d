//! Running one invocation in a leased slot: instance, call, reply, and the body that follows it.
//!
//! A guest that returns without having waited for anything leaves its whole body at once, and its slot is free before
//! the first byte of it is sent.
//!
//! The guest is not a task of its own: whoever waits for the [`Reply`] or polls its [`ReplyBody`] drives it. Measured,
//! a task per request costs 15 to 40 % of throughput (performance.md), and a caller that goes away takes the guest with
//! it by dropping the future.

use super::fault::Fault;
use super::p3::{self, Answer, Answered, Asked};
use super::{Lease, Pool, Tenant as _};
use crate::engine::{FIRST_YIELD, Stay, TICK, Ticking};
use crate::guest::{Guest, Handler, chain};
use crate::invocation::{Invocation, Origin};
use crate::outgoing::Cut;
use crate::sandbox::cpu::metered;
use crate::sandbox::leftovers::{Leftovers, NotParked};
use crate::sandbox::{Identity, Sandbox};
use bytes::{Bytes, BytesMut};
use http::uri::Scheme;
use http_body::{Body, Frame};
use std::collections::VecDeque;
use std::pin::{Pin, pin};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, Waker, ready};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;
use tokio::task::coop::unconstrained;
use wasmtime::Store;
use wasmtime_wasi_http::p2::bindings::exports::wasi::http::incoming_handler;
use wasmtime_wasi_http::p2::bindings::http::types;
use wasmtime_wasi_http::{WasiBody, WasiHttpView};

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
    /// Why the instance is not parked, once the guest has returned; empty where that is as the configuration wants it.
    pub not_parked: Option<Arc<OnceLock<NotParked>>>,
}

/// How long the parts of an invocation took.
#[derive(Debug, Clone, Copy)]
pub struct Timings {
    /// Making the store and the instance.
    pub instantiate: Duration,
    /// From the call until the head was there.
    pub head: Duration,
}

/// A store with an instance of a guest in it.
pub struct Instance {
    /// Dropped before the store.
    _cut: Cut,
    pub(super) store: Store<Sandbox>,
    handler: Handler,
    /// What the guest held after its first request.
    held: Option<usize>,
    /// The guest has called exit(0), and cannot be called any more.
    pub(super) exited: bool,
    /// Dropped after the store.
    stay: Stay,
}

impl Drop for Instance {
    fn drop(&mut self) {
        self.stay.leave(self.store.data().limiter.memory());
    }
}

impl Instance {
    /// What came of the call. A guest that exits with success has ended well if its answer is whole; whoever has the answer
    /// knows.
    pub(super) fn called(mut self, result: wasmtime::Result<()>) -> Result<Self, Fault> {
        let fault = result.map_err(|error| Fault::of_call(&self.store, &error));
        match fault {
            Ok(()) => Ok(self),
            Err(Fault::Exit(0)) => {
                self.exited = true;
                Ok(self)
            }
            Err(fault) => Err(fault),
        }
    }

    /// Why there is no whole answer, though the guest has ended.
    fn without(&self, missing: Fault) -> Fault {
        if self.exited { Fault::Exit(0) } else { missing }
    }

    /// Makes it ready for another request.
    ///
    /// # Errors
    /// Why it may not be given one.
    fn clear(&mut self, guest: &Guest) -> Result<(), NotParked> {
        if self.exited {
            return Err(NotParked::Exited);
        }
        let streams = self.store.concurrent_resource_table().map_or(0, |table| table.iter_mut().count());
        let sandbox = self.store.data_mut();
        let Leftovers { kept, retired } = sandbox.clear(guest.engine.wasi)?;
        // One that leaks would sooner or later fail in the middle of a request.
        if sandbox.limiter.memory() > guest.initial_memory.max(guest.policy.limits.memory / 2) {
            return Err(NotParked::Memory);
        }
        let held = kept + streams;
        if held > *self.held.get_or_insert(held) || retired > guest.policy.handles() / 2 {
            return Err(NotParked::Handles);
        }
        Ok(())
    }
}

/// Frames that are taken before the head is sent; each is at most 64 KiB long.
const AHEAD: usize = 8;

/// What a lease runs in.
pub enum Prepared {
    /// An instance that has served before.
    Parked(Instance),
    /// A store without an instance.
    New(Store<Sandbox>),
}

impl Prepared {
    /// The instance, made now if there is none.
    ///
    /// # Errors
    /// A start function failed.
    pub async fn instance(self, guest: &Guest) -> Result<Instance, Fault> {
        match self {
            Self::Parked(instance) => Ok(instance),
            // In a box, because the future is large and only a fresh instance needs it.
            Self::New(store) => Box::pin(instantiate(guest, store)).await,
        }
    }
}

async fn instantiate(guest: &Guest, store: Store<Sandbox>) -> Result<Instance, Fault> {
    // Before the store, so that it outlives a store that fails.
    let mut stay = guest.image.enter();
    let mut store = store;
    let (meter, cut) = (Arc::clone(&store.data().cpu), store.data().cut());
    let instantiated = metered(meter, pin!(guest.pre.instantiate(&mut store))).await;
    match instantiated {
        Ok(handler) => {
            stay.settle();
            Ok(Instance { _cut: cut, store, handler, held: None, exited: false, stay })
        }
        Err(error) => Err(Fault::of_start(&store, &error)),
    }
}

/// Drives a guest until it has nothing left to do.
pub type Run = Pin<Box<dyn Future<Output = Result<Instance, Fault>> + Send>>;

impl Lease {
    /// Calls the instance that was parked in this slot, or a new one, and waits for the head of its answer.
    ///
    /// Dropping the future, or later the reply's body, ends the guest and frees the slot.
    ///
    /// # Errors
    /// [`Fault`]: the guest failed before its head was there, or returned with its answer unfinished; nothing of it
    /// reaches the client.
    pub async fn invoke<B>(mut self, invocation: Invocation<B>) -> Result<Reply, Fault>
    where
        B: Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<wasmtime_wasi_http::Error>,
    {
        let begun = Instant::now();
        let ticking = self.guest.engine.ticking();
        let Invocation { id, origin, head, body, .. } = invocation;
        let mut instance = self.prepare(id).instance(&self.guest).await?;
        let instantiated = Instant::now();

        let identity = instance.store.data().identity().clone();
        // A parked instance's next tick is long past; the yield that it would cost has to be earned first.
        instance.store.set_epoch_deadline(FIRST_YIELD);
        let (mut run, mut head) = match instance.handler.clone() {
            Handler::P2(handler) => call_p2(instance, handler, http::Request::from_parts(head, body), origin, ticking)?,
            Handler::P3(handler) => p3::call(instance, handler, Asked::new(head, body, origin), ticking),
        };

        // The guest first: when it traps right after its head, the client still gets an honest 500.
        let mut ended = None;
        let head = std::future::poll_fn(|cx| {
            if ended.is_none()
                && let Poll::Ready(result) = run.as_mut().poll(cx)
            {
                ended = Some(result?);
            }
            // Outside of tokio's budget: a guest that has used it up would look as if it had not answered.
            let head = if head.is_terminated() { Poll::Pending } else { pin!(unconstrained(&mut head)).poll(cx) };
            match head {
                Poll::Ready(Ok(head)) => Poll::Ready(head),
                // Dropped unset, or never set: only once the guest has returned is it clear that no trap explains it.
                _ => match &ended {
                    Some(instance) => Poll::Ready(Err(instance.without(Fault::NoReply))),
                    None => Poll::Pending,
                },
            }
        });
        let (head, written) = head.await.inspect_err(|fault| self.failed(fault))?.into_parts();
        let timings = Timings { instantiate: instantiated - begun, head: instantiated.elapsed() };
        let not_parked = self.not_parked.clone();
        let mut body = ReplyBody::new(written, run, self);
        match ended {
            Some(instance) => body.guest_returned(instance)?,
            None => std::future::poll_fn(|cx| Poll::Ready(body.run_ahead(cx))).await?,
        }
        Ok(Reply { head, body, identity, timings, not_parked })
    }

    /// The instance that was parked in this slot, given its next request, or the store for a new one.
    pub(super) fn prepare(&mut self, invocation: Arc<str>) -> Prepared {
        if self.guest.policy.reuse.requests > 1 {
            self.not_parked = Some(Arc::default());
        }
        if let Some(mut parked) = self.instance.take() {
            parked.store.data_mut().begin(invocation);
            self.served = parked.store.data().identity().served;
            return Prepared::Parked(parked);
        }
        self.served = 1;
        let guest = &self.guest;
        let identity = Identity {
            instance: self.next_instance(),
            slot: self.slot,
            pool_size: self.shared.size.slots,
            served: 1,
            generation: guest.generation,
            digest: guest.digest,
        };
        let reservation = self.reservation.take().expect("a lease without an instance has memory for one");
        Prepared::New(guest.store(Sandbox::new(Arc::clone(&guest.policy), identity, invocation, reservation)))
    }

    /// Parks the instance, or ends it, and frees the slot.
    fn settle(mut self, mut instance: Instance) {
        instance.store.data().end();
        let experience = &self.guest.experience;
        if self.served > 1 {
            experience.answered_again();
        }
        if self.served >= u64::from(self.guest.policy.reuse.requests) || self.spare.is_some() || !self.guest.may_park()
        {
            return;
        }
        match instance.clear(&self.guest) {
            Ok(()) => {
                experience.parked();
                self.instance = Some(instance);
            }
            Err(why) => {
                experience.not_parked(&self.guest.policy.function, why);
                if let Some(noted) = &self.not_parked {
                    let _ = noted.set(why);
                }
            }
        }
    }

    /// The guest has failed. If its first request in this instance went well, that may be why.
    fn failed(&self, fault: &Fault) {
        if self.served == 2 && self.guest.experience.failed_again(&self.guest.policy.function, fault) {
            Pool(Arc::clone(&self.shared)).retire(&self.guest);
        }
    }
}

/// Prepares the call of a guest of WASI 0.2. It begins when the run is polled.
fn call_p2<B>(
    mut instance: Instance,
    handler: incoming_handler::Guest,
    request: http::Request<B>,
    Origin { scheme, .. }: Origin,
    ticking: Ticking,
) -> Result<(Run, Answer), Fault>
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<wasmtime_wasi_http::Error>,
{
    let (sender, answer) = oneshot::channel();
    instance.store.data_mut().asked(request.method());
    let mut http = instance.store.data_mut().http();
    let request_fault = |error: wasmtime::Error| Fault::Instantiate(chain(&error));
    let scheme = if scheme == Scheme::HTTPS { types::Scheme::Https } else { types::Scheme::Http };
    let request = http.new_incoming_request(scheme, request).map_err(request_fault)?;
    let set = move |set: Result<_, types::ErrorCode>| {
        let answered: Answered = set.map_err(|code| Fault::error_code(&code));
        // From here on the body has a reader (`sandbox::bodies`).
        let _ = answered.as_ref().is_ok_and(|response| response.body().is_end_stream());
        // Whoever waited may have left.
        let _ = sender.send(answered);
    };
    let outparam = http.new_response_outparam_from_callback(set).map_err(request_fault)?;
    let run = Box::pin(async move {
        let meter = Arc::clone(&instance.store.data().cpu);
        let result = metered(meter, pin!(handler.call_handle(&mut instance.store, request, outparam))).await;
        drop(ticking);
        instance.called(result)
    });
    Ok((run, answer))
}

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
    /// The guest while it runs, in the lease's slot: whoever reads the body drives it.
    guest: Option<(Run, Lease)>,
}

impl ReplyBody {
    fn new(written: WasiBody, run: Run, lease: Lease) -> Self {
        Self { written, ahead: VecDeque::new(), finished: false, busy_since: None, guest: Some((run, lease)) }
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
    fn run_ahead(&mut self, cx: &mut Context<'_>) -> Result<(), Fault> {
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
    fn guest_returned(&mut self, instance: Instance) -> Result<(), Fault> {
        let mut cx = Context::from_waker(Waker::noop());
        while !self.finished {
            // Outside of tokio's budget: with none left, a finished body would look unfinished.
            let mut frame = pin!(unconstrained(std::future::poll_fn(|cx| Pin::new(&mut self.written).poll_frame(cx))));
            match frame.as_mut().poll(&mut cx) {
                Poll::Ready(Some(Ok(frame))) => self.ahead.push_back(frame),
                Poll::Ready(None) => self.finished = true,
                // Nobody is left to write more.
                Poll::Ready(Some(Err(_))) | Poll::Pending => return Err(self.fail(instance.without(Fault::Unfinished))),
            }
        }
        if let Some((run, lease)) = self.guest.take() {
            drop(run);
            lease.settle(instance);
        }
        Ok(())
    }

    /// Ends the guest, and the body with it.
    fn fail(&mut self, fault: Fault) -> Fault {
        if let Some((_, lease)) = &self.guest {
            lease.failed(&fault);
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
