//! Trying a guest out before it is published: in the slot that each engine has beside those of the pool, under the guest's
//! own limits, and one guest at a time.

use super::fault::Fault;
use super::turn::Turn;
use super::{Lease, Pool};
use crate::config::source::Smoke;
use crate::guest::{Guest, LoadError};
use crate::invocation::{BodyError, Invocation, Origin, Tag, TraceContext};
use crate::sandbox::hit::Hit;
use crate::sandbox::limits::Budget;
use bytes::Bytes;
use http::uri::{Authority, Scheme};
use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, Empty};
use std::sync::Arc;
use std::time::Instant;
use tokio::time::timeout;

/// What log lines of a guest that is tried out carry in place of an invocation's id.
const TRIAL: &str = "trial";

impl Pool {
    /// Makes an instance of `guest`, so that what its start functions do wrong is known before the first request, and lets it
    /// answer `smoke`, if there is one.
    ///
    /// # Errors
    /// [`LoadError::Trial`], [`LoadError::Smoke`]. A guest that does not end is ended by `limits.cpu` or `limits.timeout`.
    pub async fn try_out(&self, guest: &Arc<Guest>, smoke: Option<&Smoke>) -> Result<(), LoadError> {
        let reservation = Budget::new(guest.policy.limits.memory).reserve(guest.initial_memory);
        let reservation = reservation.expect("loading refuses a guest with more memory than its limit");
        let lease = self.spare(guest, reservation).await;
        let most = guest.policy.limits.timeout;
        let Some(smoke) = smoke else {
            return match timeout(most, instantiate(lease)).await {
                Ok(Ok(())) => Ok(()),
                Ok(Err(Fault::Instantiate(words))) => Err(LoadError::Trial(words)),
                Ok(Err(fault)) => Err(LoadError::Trial(fault.to_string())),
                Err(_) => {
                    let hit = Hit::Timeout(most).explained();
                    Err(LoadError::Trial(format!("its start functions did not end, {hit}")))
                }
            };
        };
        let why = match timeout(most, ask(lease, smoke)).await {
            Ok(Ok(status)) if status == smoke.status => return Ok(()),
            Ok(Ok(status)) => format!("it answered with status {}", status.as_u16()),
            Ok(Err(Fault::Instantiate(words))) => return Err(LoadError::Trial(words)),
            Ok(Err(fault)) => format!("it {fault}"),
            Err(_) => format!("it did not answer, {}", Hit::Timeout(most).explained()),
        };
        Err(LoadError::Smoke { path: smoke.path.to_string(), why, expected: smoke.status.as_u16() })
    }
}

fn tag() -> Tag {
    Tag::new(TRIAL, TraceContext::default())
}

async fn instantiate(lease: Lease) -> Result<(), Fault> {
    let _ticking = lease.guest().engine.ticking();
    let (turn, prepared) = Turn::begin(lease, tag(), Instant::now());
    prepared.instance(turn.guest()).await.map(drop)
}

/// Asks the guest, and reads its answer to the end.
async fn ask(lease: Lease, smoke: &Smoke) -> Result<StatusCode, Fault> {
    let authority = Authority::from_static("localhost");
    let request = Request::get(smoke.path.as_str()).header(http::header::HOST, authority.as_str());
    let (head, ()) = request.body(()).expect("the configuration has checked the path").into_parts();
    let invocation = Invocation {
        function: Arc::clone(&lease.guest().policy.function),
        tag: tag(),
        origin: Origin { scheme: Scheme::HTTP, authority },
        head,
        body: Empty::<Bytes>::new().map_err(|never| -> BodyError { match never {} }),
        bindings: None,
    };
    let mut reply = lease.invoke(invocation).await?;
    std::future::poll_fn(|cx| reply.body.poll_to_end(cx)).await?;
    Ok(reply.head.status)
}
