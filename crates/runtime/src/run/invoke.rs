//! One invocation in its slot: instance, call, and the head of the answer.
//!
//! A guest that returns without having waited for anything leaves its whole body at once, and its slot is free before
//! the first byte of it is sent.

use super::call::{AwaitedHead, Run};
use super::fault::Fault;
use super::instance::Instance;
use super::p3::Asked;
use super::reply::ReplyBody;
use super::turn::Turn;
use super::{Lease, p2, p3, unbudgeted};
use crate::engine::FIRST_YIELD;
use crate::guest::Handler;
use crate::invocation::Invocation;
use crate::pool::Phase;
use crate::sandbox::Identity;
use crate::sandbox::leftovers::NotParked;
use bytes::Bytes;
use http_body::Body;
use std::future::poll_fn;
use std::sync::{Arc, OnceLock};
use std::task::Poll;
use std::time::{Duration, Instant};
use wasmtime_wasi_http::WasiBody;

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

impl Lease {
    /// Calls the instance that was parked in this slot, or a new one, and waits for the head of its answer.
    ///
    /// Dropping the future, or later the reply's body, ends the guest and frees the slot.
    ///
    /// # Errors
    /// [`Fault`]: the guest failed before its head was there, or returned with its answer unfinished; nothing of it
    /// reaches the client.
    pub async fn invoke<B>(self, invocation: Invocation<B>) -> Result<Reply, Fault>
    where
        B: Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<wasmtime_wasi_http::Error>,
    {
        let begun = Instant::now();
        let ticking = self.guest().engine.ticking();
        let Invocation { tag, origin, mut head, body, bindings, .. } = invocation;
        tag.trace.write(&mut head.headers);
        let (turn, prepared) = Turn::begin(self, tag, begun);
        let mut instance = prepared.instance(turn.guest()).await?;
        let instantiated = Instant::now();
        turn.enter(Phase::Head);

        instance.store.data_mut().bindings = bindings;
        let identity = instance.store.data().identity().clone();
        // A parked instance's next tick is long past; the yield that it would cost has to be earned first.
        instance.store.set_epoch_deadline(FIRST_YIELD);
        let (mut run, awaited) = match instance.handler.clone() {
            Handler::P2(handler) => {
                p2::call(instance, handler, http::Request::from_parts(head, body), origin, ticking)?
            }
            Handler::P3(handler) => p3::call(instance, handler, Asked::new(head, body, origin), ticking),
        };
        let (head, ended) = until_head(&mut run, awaited).await.inspect_err(|fault| turn.failed(fault))?;
        let (head, written) = head.into_parts();
        let timings = Timings { instantiate: instantiated - begun, head: instantiated.elapsed() };
        let not_parked = turn.not_parked.clone();
        let mut body = ReplyBody::new(written, run, turn, ended)?;
        poll_fn(|cx| Poll::Ready(body.run_ahead(cx))).await?;
        Ok(Reply { head, body, identity, timings, not_parked })
    }
}

/// Runs the guest until the head of its answer is there, and says whether it has returned by then.
///
/// In each poll the guest comes first: when it traps right after its head, the client still gets an honest 500.
async fn until_head(
    run: &mut Run,
    mut awaited: AwaitedHead,
) -> Result<(http::Response<WasiBody>, Option<Instance>), Fault> {
    let mut ended: Option<Instance> = None;
    let head = poll_fn(|cx| {
        if ended.is_none()
            && let Poll::Ready(result) = run.as_mut().poll(cx)
        {
            ended = Some(result?);
        }
        let head = if awaited.is_terminated() { Poll::Pending } else { unbudgeted::poll(&mut awaited, cx) };
        match head {
            Poll::Ready(Ok(head)) => Poll::Ready(head),
            // Dropped unset, or never set: only once the guest has returned is it clear that no trap explains it.
            _ => match &ended {
                Some(instance) => Poll::Ready(Err(instance.without(Fault::NoReply))),
                None => Poll::Pending,
            },
        }
    });
    let head = head.await?;
    Ok((head, ended))
}
