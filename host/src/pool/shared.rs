//! Instances that several requests share at the same time (`pool.concurrentPerInstance`).
//!
//! A task of its own drives such an instance, because no request may: it would stop with the first that leaves. Each
//! request has a [`Seat`] in it and holds a slot like any other, so the pool's size stays the bound; the instance keeps
//! the first of these leases, in whose slot it runs. When the last request has left and nothing goes on, the instance is
//! parked or ends, as one that was not shared.
//!
//! A trap ends all requests in the instance. wasmtime cannot end one task of several, so a request that leaves early
//! leaves its work behind: the instance takes no more requests then, and ends with the last that it has.

use super::concurrent::{Answered, Asked};
use super::fault::Fault;
use super::run::{Call, Instance, Prepared, Reply, ReplyBody, Timings};
use super::{Lease, Shared};
use crate::engine::Ticking;
use crate::guest::Guest;
use crate::sandbox::cpu::metered;
use crate::sandbox::{Identity, Sandbox};
use bytes::Bytes;
use http_body::Body;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Instant;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::sleep_until;
use wasmtime::component::Accessor;
use wasmtime_wasi_http::p3::bindings::exports::wasi::http::handler;

/// Instances that may take another request, of all guests; the one to be filled next is the last of its guest.
#[derive(Default)]
pub struct Open(Mutex<Vec<Arc<SharedInstance>>>);

/// See the module's documentation.
struct SharedInstance {
    guest: Arc<Guest>,
    pool: Arc<Shared<Guest, Instance>>,
    identity: Identity,
    jobs: mpsc::Sender<Job>,
    state: Mutex<State>,
    /// Whether a request is in it: what its driver waits for.
    occupied: watch::Sender<bool>,
    /// How it ended, if not in peace; set before anything of it is dropped.
    fault: OnceLock<Fault>,
}

struct State {
    /// Requests that it is answering.
    seats: u32,
    /// Requests that it has been given.
    served: u64,
    /// It takes no more requests.
    closed: bool,
    /// A request has left before it was answered.
    abandoned: bool,
    /// When the last of its requests has to be over, with all that it began.
    until: Instant,
    /// One for each seat, and the first as long as the instance exists.
    leases: Vec<Lease>,
}

/// A request to a shared instance.
struct Job {
    asked: Asked,
    /// Its number among those of the instance.
    served: u64,
    answer: oneshot::Sender<Answered>,
}

/// The place of one request in a shared instance.
pub struct Seat {
    instance: Arc<SharedInstance>,
    /// The request's number among those of the instance.
    served: u64,
    answered: bool,
}

/// Calls an instance of the lease's guest that has a seat left, or a new one, and waits for the head of its answer.
///
/// # Errors
/// [`Fault`], of this request or of a neighbour.
pub async fn invoke<B>(lease: Lease, call: Call<B>) -> Result<Reply, Fault>
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<wasmtime_wasi_http::Error>,
{
    let begun = Instant::now();
    let pool = Arc::clone(&lease.shared);
    let seat = pool.open.seat(lease);
    let joined = Instant::now();
    let (answer, receiver) = oneshot::channel();
    let job = Job { asked: Asked::new(call.request, call.scheme, call.authority), served: seat.served, answer };
    // There is room for every seat. If the instance has just failed, the answer fails as well.
    let _ = seat.instance.jobs.try_send(job);
    let (head, written) = match receiver.await {
        Ok(answered) => answered?.into_parts(),
        Err(_) => return Err(seat.fault().unwrap_or(Fault::NoReply)),
    };
    let timings = Timings { instantiate: joined - begun, head: joined.elapsed() };
    let identity = Identity { served: seat.served, ..seat.instance.identity.clone() };
    Ok(Reply { head, body: ReplyBody::shared(written, seat).await?, identity, timings })
}

impl Open {
    /// A seat for the lease's request: in an instance of its guest that has one left, else in one that is opened for it.
    fn seat(&self, mut lease: Lease) -> Seat {
        let mut open = self.lock();
        while let Some(at) = open.iter().rposition(|instance| Arc::ptr_eq(&instance.guest, &lease.guest)) {
            let instance = Arc::clone(&open[at]);
            let mut state = instance.state();
            if !instance.has_room(&state) {
                open.swap_remove(at);
                continue;
            }
            return instance.take_seat(&mut state, lease);
        }
        let prepared = lease.prepare(None);
        let (instance, receiver) = SharedInstance::new(&lease, prepared.identity().clone());
        let seat = instance.take_seat(&mut instance.state(), lease);
        let ticking = instance.guest.engine.ticking();
        instance.pool.tasks.spawn(Arc::clone(&instance).drive(prepared, receiver, ticking));
        open.push(instance);
        seat
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Arc<SharedInstance>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl SharedInstance {
    /// An instance without a request, in the lease's slot.
    fn new(lease: &Lease, identity: Identity) -> (Arc<Self>, mpsc::Receiver<Job>) {
        let concurrent = lease.guest.policy.reuse.concurrent as usize;
        let (jobs, receiver) = mpsc::channel(concurrent);
        let state = State {
            seats: 0,
            served: identity.served - 1,
            closed: false,
            abandoned: false,
            until: Instant::now(),
            leases: Vec::new(),
        };
        let shared = Self {
            guest: Arc::clone(&lease.guest),
            pool: Arc::clone(&lease.shared),
            identity,
            jobs,
            state: Mutex::new(state),
            occupied: watch::Sender::new(true),
            fault: OnceLock::new(),
        };
        (Arc::new(shared), receiver)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Every change under the lock is complete before anything can panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether it may be given another request now.
    fn has_room(&self, state: &State) -> bool {
        let reuse = &self.guest.policy.reuse;
        let open = !state.closed && !self.guest.is_outdated();
        open && state.seats < reuse.concurrent && state.served < u64::from(reuse.requests)
    }

    /// Gives a seat to the lease's request.
    fn take_seat(self: &Arc<Self>, state: &mut State, mut lease: Lease) -> Seat {
        // It needs no memory of its own.
        lease.reservation = None;
        state.leases.push(lease);
        state.seats += 1;
        state.served += 1;
        state.until = Instant::now() + self.guest.policy.limits.timeout;
        if state.seats == 1 {
            self.occupied.send_replace(true);
        }
        Seat { instance: Arc::clone(self), served: state.served, answered: false }
    }

    /// Offers it to other requests again, if it may be given any.
    fn list(self: &Arc<Self>) {
        let mut open = self.pool.open.lock();
        if self.has_room(&self.state()) && !open.iter().any(|listed| Arc::ptr_eq(listed, self)) {
            open.push(Arc::clone(self));
        }
    }

    /// Closes it, if no request is in it.
    fn close_if_vacant(&self) -> bool {
        let mut state = self.state();
        state.closed |= state.seats == 0;
        state.closed && state.seats == 0
    }

    /// Runs the instance until it is parked or ends.
    async fn drive(self: Arc<Self>, prepared: Prepared, mut jobs: mpsc::Receiver<Job>, ticking: Ticking) {
        let ended = tokio::select! {
            biased;
            ended = self.run(prepared, &mut jobs) => ended,
            // Outside the event loop, which a guest that computes does not leave.
            () = self.left_behind() => None,
        };
        drop(ticking);
        let (leases, reusable) = {
            let mut state = self.state();
            state.closed = true;
            (std::mem::take(&mut state.leases), !state.abandoned)
        };
        self.pool.open.lock().retain(|listed| !Arc::ptr_eq(listed, &self));
        // The store has to be gone before its lease: whoever is admitted next finds a free slot in the engine.
        let ended = ended.filter(|_| reusable);
        let mut leases = leases.into_iter();
        if let (Some(instance), Some(first)) = (ended, leases.next()) {
            first.settle(instance);
        }
    }

    /// Makes the instance and answers requests until none is left. None when it failed, with the fault noted.
    async fn run(&self, prepared: Prepared, jobs: &mut mpsc::Receiver<Job>) -> Option<Instance> {
        let result = match prepared.instance(&self.guest).await {
            Ok(mut instance) => {
                let handler = instance.p3_handler();
                instance.store.set_epoch_deadline(1);
                let meter = Arc::clone(&instance.store.data().cpu);
                let serving =
                    instance.store.run_concurrent(async |accessor| self.serve(accessor, &handler, jobs).await);
                let served = metered(meter, pin!(serving)).await;
                match served.flatten() {
                    Ok(()) => return Some(instance),
                    // Noted while the store lives: a body whose store is gone looks finished.
                    Err(error) => self.fault.set(Fault::of_call(&instance.store, &error)),
                }
            }
            Err(fault) => self.fault.set(fault),
        };
        result.expect("set once");
        None
    }

    /// Answers requests until none is left, and nothing that one of them began.
    async fn serve(
        &self,
        accessor: &Accessor<Sandbox>,
        handler: &handler::Guest,
        jobs: &mut mpsc::Receiver<Job>,
    ) -> wasmtime::Result<()> {
        let mut occupied = self.occupied.subscribe();
        loop {
            let vacant = async {
                until(&mut occupied, false).await;
                poll_fn(|cx| accessor.poll_no_interesting_tasks(cx)).await;
            };
            tokio::select! {
                biased;
                Some(job) = jobs.recv() => {
                    let handler = handler.clone();
                    accessor.spawn(async move |accessor: &Accessor<Sandbox>| {
                        let Job { asked, served, answer } = job;
                        accessor.with(|mut access| access.get().joined(served));
                        // Whoever waited may have left.
                        let _ = answer.send(asked.answer(accessor, &handler).await?);
                        wasmtime::error::Ok(())
                    })?;
                }
                () = vacant => if self.close_if_vacant() {
                    return Ok(());
                }
            }
        }
    }

    /// Waits until nobody waits for the guest any more and it may not go on by itself: the last request has left without
    /// its answer, or its time is over.
    async fn left_behind(&self) {
        let mut occupied = self.occupied.subscribe();
        loop {
            until(&mut occupied, false).await;
            let rest = {
                let state = self.state();
                if state.abandoned { Instant::now() } else { state.until }
            };
            tokio::select! {
                biased;
                () = until(&mut occupied, true) => {}
                () = sleep_until(rest.into()) => if self.close_if_vacant() {
                    return;
                }
            }
        }
    }
}

/// Waits until an instance is occupied, or is not.
async fn until(occupied: &mut watch::Receiver<bool>, wanted: bool) {
    // The sender lives as long as whoever waits.
    let _ = occupied.wait_for(|occupied| *occupied == wanted).await;
}

impl Seat {
    /// How the instance ended, if it did.
    pub fn fault(&self) -> Option<Fault> {
        self.instance.fault.get().cloned()
    }

    /// Leaves with the whole answer.
    pub fn leave(mut self) {
        self.answered = true;
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let instance = &self.instance;
        let freed = {
            let mut state = instance.state();
            state.seats -= 1;
            if !self.answered {
                state.closed = true;
                state.abandoned = true;
            }
            if state.seats == 0 {
                instance.occupied.send_replace(false);
                None
            } else {
                state.leases.pop()
            }
        };
        drop(freed);
        instance.list();
    }
}
