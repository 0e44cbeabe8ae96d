//! One event: its envelope is read as a whole, a guest gets what is in it, and its whole answer becomes the answer to Azure.
//!
//! Only an event that has a slot is read, and large ones share the room that there is for all of them ([`super::event_room`]). While the
//! guest runs, its payload is held, and metadata and other inputs for a guest that can ask for them. The guest is waited for to its end:
//! an event whose guest fails after its answer has failed.

use super::event_room::{EventRoom, Room, SMALL, Taken};
use super::request_body::RequestBody;
use super::respond::HostResponse;
use super::sendable::Sendable;
use crate::capabilities::Transcript;
use crate::config::Function;
use crate::guest::Guest;
use crate::invocation::bindings::Bindings;
use crate::invocation::{BodyError, Invocation, Tag};
use crate::observe::record::Outcome;
use crate::protocol::envelope::encode::{DISPOSITION, REJECTED};
use crate::protocol::envelope::{self, encode};
use crate::protocol::forwarded::Caller;
use crate::run::{Fault, Lease, ReplyBody};
use crate::sandbox::hit::Hit;
use bytes::{Bytes, BytesMut};
use http::StatusCode;
use http::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt as _;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::task::block_in_place;

/// How often the bytes of an envelope are in memory while it is read and taken apart, and those of an answer while it is put together.
const COPIES: u64 = 4;
/// The most that a guest is handed of a payload at once, in bytes.
const PIECE: usize = 64 << 10;

/// What carries an event.
pub struct Event<'a> {
    /// Whose it is.
    pub function: &'a Function,
    /// The guest that the lease is for.
    pub guest: &'a Arc<Guest>,
    /// What all events share.
    pub room: &'a EventRoom,
    /// Of the request with the envelope.
    pub caller: Caller,
    /// The envelope.
    pub body: RequestBody,
}

impl Event<'_> {
    /// Lets the guest take it, and makes the answer for Azure; says how the invocation has ended once that is sent.
    ///
    /// # Errors
    /// What the host answers instead. It is no success, so that Azure tries again.
    pub async fn answer(self, lease: Lease) -> Result<(Sendable, Outcome), HostResponse> {
        let Self { function, guest, room, caller: Caller { id, origin, trace }, body } = self;
        let limits = &function.limits;
        let (envelope, taken) = whole(body, limits.request_body, &room.envelopes).await?;
        let most = limits.response_body.unwrap_or(limits.request_body);
        let outputs = guest.asks_for_bindings().then(|| usize::try_from(most).unwrap_or(usize::MAX));
        let decode = || envelope::decode::decode(function, &id, origin, &envelope, outputs);
        let asked = aside(taken.is_some(), decode).map_err(|bad| HostResponse::bad_envelope(&function.name, &bad))?;
        drop(envelope);
        let envelope::decode::Asked { head: request, origin, body: payload, message, beside } = asked;
        let payload = match taken {
            Some(_read) => room.payloads.take(payload.len() as u64).await.hold(payload),
            None => payload,
        };
        let method = request.method.clone();
        let mut tag = Tag::new(id, trace);
        let transcript = Transcript::begin(&guest.policy, &mut tag);
        let body = Pieces(payload.clone());
        let bindings = beside.clone().map(|beside| beside as Arc<dyn Bindings>);
        let invocation =
            Invocation { function: Arc::clone(&function.name), tag, origin, head: request, body, bindings };
        let replied = Sendable::new(lease.invoke(invocation).await?, &method, limits)?;
        let bad_answer = |bad| HostResponse::bad_answer(&function.name, &message, &bad);
        let Sendable { mut reply, length, whole, bodiless } = replied;
        encode::check_head(&function.event, &reply.head).map_err(bad_answer)?;
        let (answer, taken) = match whole {
            Some(bytes) => (bytes, None),
            None => collected(&mut reply.body, most, &room.answers).await?,
        };
        let answer = if bodiless { Bytes::new() } else { answer };
        if length.is_some_and(|length| !bodiless && length != answer.len() as u64) {
            return Err(Fault::Unfinished.into());
        }
        let answered = encode::Answered {
            head: &reply.head,
            body: &answer,
            lines: transcript.lines(),
            payload: &payload,
            beside: beside.as_deref(),
        };
        let answer = aside(taken.is_some(), || encode::encode(&function.event, answered)).map_err(bad_answer)?;
        transcript.done();
        reply.head.status = StatusCode::OK;
        reply.head.headers = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static("application/json"))]);
        let outcome = if answer.rejected {
            // For `flexwasm send`; Azure reads no header.
            reply.head.headers.insert(DISPOSITION, REJECTED);
            Outcome::Rejected(format!("the guest rejected the event {message:?}, which is not tried again"))
        } else {
            Outcome::Answered
        };
        let body = match taken {
            Some(taken) => taken.hold(answer.body),
            None => answer.body,
        };
        Ok((Sendable { reply, length: None, whole: Some(body), bodiless: false }, outcome))
    }
}

/// Does the work at once. The other requests of this thread go on elsewhere meanwhile if it is much.
fn aside<T>(much: bool, work: impl FnOnce() -> T) -> T {
    if much { block_in_place(work) } else { work() }
}

/// A body of at most `limit` bytes in one piece, with the room that it takes.
async fn whole(mut body: RequestBody, limit: u64, room: &Room) -> Result<(Bytes, Option<Taken>), HostResponse> {
    let announced = body.size_hint().exact();
    let mut taken = None;
    if let Some(size) = announced.filter(|size| *size > SMALL as u64) {
        taken = Some(room.take(COPIES.saturating_mul(size)).await);
    }
    let mut bytes = BytesMut::with_capacity(announced.and_then(|size| usize::try_from(size).ok()).unwrap_or_default());
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| HostResponse::unread(&error))?;
        bytes.extend_from_slice(frame.data_ref().map_or(&[][..], |data| &data[..]));
        if taken.is_none() && bytes.len() > SMALL {
            // As if it were the longest: an event that waits a second time for the same could wait for another that does.
            taken = Some(room.take(COPIES.saturating_mul(limit)).await);
        }
    }
    Ok((bytes.freeze(), taken))
}

/// What a guest answers, once it has returned.
async fn collected(reply: &mut ReplyBody, limit: u64, room: &Room) -> Result<(Bytes, Option<Taken>), HostResponse> {
    let (mut bytes, mut taken) = (BytesMut::new(), None);
    while let Some(frame) = reply.frame().await {
        let frame = frame?;
        bytes.extend_from_slice(frame.data_ref().map_or(&[][..], |data| &data[..]));
        if bytes.len() as u64 > limit {
            return Err(Fault::from(Hit::ResponseBody(limit)).into());
        }
        if taken.is_none() && bytes.len() > SMALL {
            taken = Some(room.take(COPIES.saturating_mul(limit)).await);
        }
    }
    poll_fn(|cx| reply.poll_to_end(cx)).await?;
    if let Some(taken) = &mut taken {
        taken.keep(bytes.len().saturating_mul(COPIES as usize));
    }
    Ok((bytes.freeze(), taken))
}

/// A payload as the body of a request.
struct Pieces(Bytes);

impl Body for Pieces {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let length = self.0.len().min(PIECE);
        Poll::Ready((length > 0).then(|| Ok(Frame::data(self.0.split_to(length)))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.0.len() as u64)
    }
}
