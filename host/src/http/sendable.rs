//! What of a guest's reply can be sent: a head within the limits that hyper does not trip over, and a body that is as long as the
//! head says.

use crate::config::settings::Limits;
use crate::run::{Fault, Reply};
use crate::sandbox::hit::Hit;
use bytes::Bytes;
use http::header::{CONTENT_LENGTH, HeaderMap};
use http::{Method, StatusCode};

/// A reply that can be sent.
pub struct Sendable {
    /// What the guest has replied.
    pub reply: Reply,
    /// The announced length, if any.
    pub length: Option<u64>,
    /// The body, if the guest left all of it at once.
    pub whole: Option<Bytes>,
    /// The response has no body on the wire, whatever the guest writes and announces.
    pub bodiless: bool,
}

impl Sendable {
    /// Checks the reply to a request with this method.
    ///
    /// # Errors
    /// Why it cannot be sent, or may not be.
    pub fn new(mut reply: Reply, method: &Method, limits: &Limits) -> Result<Self, Fault> {
        within(&reply.head.headers, limits)?;
        let length = check_head(&mut reply).map_err(Fault::BadHead)?;
        let bodiless =
            method == Method::HEAD || matches!(reply.head.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        if let Some(size) = reply.body.known_size() {
            if let Some(most) = limits.response_body.filter(|most| size > *most) {
                return Err(Hit::ResponseBody(most).into());
            }
            match length.filter(|_| !bodiless) {
                Some(length) if size < length => return Err(Fault::Unfinished),
                Some(length) if size > length => return Err(Fault::TOO_LONG),
                _ => {}
            }
        }
        let whole = reply.body.take_whole();
        Ok(Self { reply, length, whole, bodiless })
    }
}

/// Holds the head to its limits; each line counts with its colon, space and end.
fn within(headers: &HeaderMap, limits: &Limits) -> Result<(), Hit> {
    if headers.len() > limits.response_headers as usize {
        return Err(Hit::ResponseHeaders(limits.response_headers));
    }
    let bytes: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
    if bytes as u64 > limits.response_head {
        return Err(Hit::ResponseHead(limits.response_head));
    }
    Ok(())
}

/// Checks what hyper would trip over: the status, and the length if one is announced.
fn check_head(reply: &mut Reply) -> Result<Option<u64>, &'static str> {
    let head = &mut reply.head;
    if head.status.is_informational() {
        return Err("an informational status cannot end an exchange");
    }
    if head.status == StatusCode::NO_CONTENT {
        head.headers.remove(CONTENT_LENGTH);
    }
    let mut lengths = head.headers.get_all(CONTENT_LENGTH).iter();
    let length = match (lengths.next(), lengths.next()) {
        (None, _) => return Ok(None),
        (Some(length), None) => length.to_str().ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit())),
        (Some(_), Some(_)) => None,
    };
    length.and_then(|text| text.parse().ok()).map(Some).ok_or("its content-length is not one number")
}
