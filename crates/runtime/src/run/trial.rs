//! Trying a guest out before it is published: in the slot that is there beside those of the pool, under the guest's
//! own limits, and one guest at a time.

use super::fault::Fault;
use super::turn::Turn;
use super::{Lease, Pool};
use crate::guest::{Guest, LoadError};
use crate::invocation::bindings::Bindings;
use crate::invocation::{BodyError, Invocation, Origin, Tag, TraceContext};
use crate::sandbox::hit::Hit;
use crate::sandbox::limits::Budget;
use bytes::Bytes;
use http::header::HOST;
use http::request::Parts;
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use std::sync::Arc;
use std::time::Instant;
use tokio::time::timeout;

/// What log lines of a guest that is tried out carry in place of an invocation's id.
const TRIAL: &str = "trial";

/// What a guest is asked before it is published.
pub struct Question {
    /// What it is, for people.
    pub shown: String,
    /// Method, target and headers.
    pub head: Parts,
    /// The body.
    pub body: Bytes,
    /// Where it was sent.
    pub origin: Origin,
    /// What it has beside.
    pub bindings: Option<Arc<dyn Bindings>>,
    /// The status that is expected; none for any of success.
    pub expected: Option<StatusCode>,
}

impl Question {
    /// A `GET` of this path, on this machine.
    pub fn get(path: &PathAndQuery, expected: StatusCode) -> Self {
        let origin = Self::here();
        let request = Request::get(path.as_str()).header(HOST, origin.authority.as_str());
        let (head, ()) = request.body(()).expect("the configuration has checked the path").into_parts();
        Self { shown: path.to_string(), head, body: Bytes::new(), origin, bindings: None, expected: Some(expected) }
    }

    /// Where it is sent.
    pub fn here() -> Origin {
        Origin { scheme: Scheme::HTTP, authority: Authority::from_static("localhost") }
    }
}

impl Pool {
    /// Makes an instance of `guest`, so that what its start functions do wrong is known before the first request, and lets it
    /// answer the question, if there is one.
    ///
    /// # Errors
    /// [`LoadError::Trial`], [`LoadError::Smoke`]. A guest that does not end is ended by `limits.cpu` or `limits.timeout`.
    pub async fn try_out(&self, guest: &Arc<Guest>, question: Option<Question>) -> Result<(), LoadError> {
        let reservation = Budget::new(guest.policy.limits.memory).reserve(guest.initial_memory);
        let reservation = reservation.expect("loading refuses a guest with more memory than its limit");
        let lease = self.spare(guest, reservation).await;
        let most = guest.policy.limits.timeout;
        let Some(question) = question else {
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
        let (shown, expected) = (question.shown.clone(), question.expected);
        let fits = |status: StatusCode| expected.map_or(status.is_success(), |expected| status == expected);
        let why = match timeout(most, ask(lease, question)).await {
            Ok(Ok(status)) if fits(status) => return Ok(()),
            Ok(Ok(status)) => format!("it answered with status {}", status.as_u16()),
            Ok(Err(Fault::Instantiate(words))) => return Err(LoadError::Trial(words)),
            Ok(Err(fault)) => format!("it {fault}"),
            Err(_) => format!("it did not answer, {}", Hit::Timeout(most).explained()),
        };
        let expected =
            expected.map_or("a status of success".to_owned(), |expected| format!("status {}", expected.as_u16()));
        Err(LoadError::Smoke { path: shown, why, expected })
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
async fn ask(lease: Lease, Question { head, body, origin, bindings, .. }: Question) -> Result<StatusCode, Fault> {
    let body = Full::new(body).map_err(|never| -> BodyError { match never {} });
    let function = Arc::clone(&lease.guest().policy.function);
    let invocation = Invocation { function, tag: tag(), origin, head, body, bindings };
    let mut reply = lease.invoke(invocation).await?;
    std::future::poll_fn(|cx| reply.body.poll_to_end(cx)).await?;
    Ok(reply.head.status)
}
