//! One finished invocation, as everything that counts, traces or tells of invocations receives it.

use super::trace::TraceContext;
use crate::config::digest::Digest;
use http::request::Parts;
use http::uri::Uri;
use http::{Method, StatusCode};
use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

/// Characters of a method that are told.
const METHOD: usize = 20;
/// Characters of a path that are told.
const PATH: usize = 200;

/// Takes every finished invocation, whether a guest responded or the host itself.
pub trait Sink: Send + Sync {
    /// Called once for each of them, on the thread that ends it, so it must neither wait nor fail.
    fn take(&self, record: &Record);
}

/// Whom every finished invocation is told.
pub type Sinks = Arc<[Arc<dyn Sink>]>;

/// What is known of an invocation when it has ended.
pub struct Record {
    method: Method,
    uri: Uri,
    /// The invocation's id, where one could be read or made.
    pub id: Option<Arc<str>>,
    /// The trace that it belongs to, where the request could be read.
    pub trace: Option<TraceContext>,
    /// The name of the function that was asked; none where no function has the path.
    pub function: Option<Arc<str>>,
    /// The template of the function's route, with the prefix: one of few, whatever clients ask for.
    pub route: Option<Arc<str>>,
    /// How it ended.
    pub outcome: Outcome,
    /// One word of this program for why it was refused, or for how its guest failed.
    pub kind: Option<&'static str>,
    /// The status that the client was sent, if any.
    pub status: Option<StatusCode>,
    /// Bytes of the request's body that the client was made to send: read by the guest, or ahead of it.
    pub received: u64,
    /// Bytes of the response's body that were handed to the connection; those of the host's own responses do not count.
    pub sent: u64,
    /// How long it waited for a slot.
    pub queued: Duration,
    /// From the arrival of the head until now.
    pub total: Duration,
    /// What ran it, if a guest has responded.
    pub ran: Option<Ran>,
    /// One word for why its instance was not parked, where it might have been.
    pub not_parked: Option<&'static str>,
}

/// The instance that ran an invocation, and how long its parts took.
#[derive(Debug, Clone, Copy)]
pub struct Ran {
    /// Counts instantiations over the life of the process.
    pub instance: u64,
    /// The slot.
    pub slot: u32,
    /// Requests that the instance has been given, with this one.
    pub served: u64,
    /// Counts the guests of the function.
    pub generation: u64,
    /// Of the component.
    pub digest: Digest,
    /// Making the store and the instance.
    pub instantiate: Duration,
    /// From the call until the head was there.
    pub head: Duration,
}

/// How an invocation ended. The words are the operator's, unless they say otherwise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The whole response was handed over.
    Answered,
    /// The guest has rejected the event: nobody will send it again.
    Rejected(String),
    /// The guest failed.
    Faulted(String),
    /// It took longer than it may.
    Deadline(String),
    /// Guest and client waited for each other, and no more of the request could be read ahead.
    Stalled(String),
    /// The client left.
    ClientGone,
    /// It still ran when the drain was over.
    CutOff,
    /// The host refused it; the words may be the client's too.
    Refused(String),
}

impl Outcome {
    /// One word for programs.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Answered => "answered",
            Self::Rejected(_) => "rejected",
            Self::Faulted(_) => "faulted",
            Self::Deadline(_) => "deadline",
            Self::Stalled(_) => "stalled",
            Self::ClientGone => "client-gone",
            Self::CutOff => "cut-off",
            Self::Refused(_) => "refused",
        }
    }

    /// Why, where the word alone does not say it.
    pub fn reason(&self) -> Option<&str> {
        match self {
            Self::Rejected(why)
            | Self::Faulted(why)
            | Self::Deadline(why)
            | Self::Stalled(why)
            | Self::Refused(why) => Some(why),
            Self::Answered | Self::ClientGone | Self::CutOff => None,
        }
    }
}

impl Record {
    /// Of a request that has just arrived: unless somebody gives it another outcome, its client has left.
    pub fn new(head: &Parts) -> Self {
        Self {
            method: head.method.clone(),
            uri: head.uri.clone(),
            id: None,
            trace: None,
            function: None,
            route: None,
            outcome: Outcome::ClientGone,
            kind: None,
            status: None,
            received: 0,
            sent: 0,
            queued: Duration::ZERO,
            total: Duration::ZERO,
            ran: None,
            not_parked: None,
        }
    }

    /// The method, to be compared with known ones.
    pub fn known_method(&self) -> &Method {
        &self.method
    }

    /// Whether it was the first invocation of this process.
    pub fn is_cold(&self) -> bool {
        self.ran.is_some_and(|ran| (ran.instance, ran.served) == (1, 1))
    }

    /// The method, bounded and escaped: clients may make up their own.
    pub fn method(&self) -> Cow<'_, str> {
        bounded(self.method.as_str(), METHOD)
    }

    /// The path, bounded and escaped. The query stays out, which may hold a key.
    pub fn path(&self) -> Cow<'_, str> {
        bounded(self.uri.path(), PATH)
    }
}

/// As much of a text from outside as a record can bear, escaped so that it can stand between double quotes.
fn bounded(text: &str, most: usize) -> Cow<'_, str> {
    let is_plain = |byte: u8| matches!(byte, b' '..=b'~') && !matches!(byte, b'"' | b'\\');
    if text.len() <= most && text.bytes().all(is_plain) {
        return Cow::Borrowed(text);
    }
    let (mut told, mut characters) = (String::new(), text.chars());
    for character in characters.by_ref().take(most) {
        match u8::try_from(character) {
            Ok(byte) if is_plain(byte) => told.push(character),
            _ => told.extend(character.escape_debug()),
        }
    }
    if characters.next().is_some() {
        told.push('…');
    }
    Cow::Owned(told)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn method_and_path_are_bounded_and_escaped() {
        let told = |method: &str, target: &str| {
            let request = http::Request::builder().method(method).uri(target).body(()).expect("a request");
            let record = Record::new(&request.into_parts().0);
            [record.method(), record.path()].map(Cow::into_owned)
        };
        assert_eq!(told("GET", "/a%20b?code=key"), ["GET", "/a%20b"]);
        assert_eq!(told("GET", "/say\"hi\""), ["GET", "/say\\\"hi\\\""]);
        let (long, exact) = (format!("/{}", "x".repeat(PATH)), format!("/{}", "x".repeat(PATH - 1)));
        assert_eq!(told(&"M".repeat(METHOD + 1), &long), [format!("{}…", "M".repeat(METHOD)), format!("{exact}…")]);
        assert_eq!(told(&"M".repeat(METHOD), &exact), ["M".repeat(METHOD), exact]);
        assert_eq!(bounded("a\u{1b}[0m\né", 9), "a\\u{1b}[0m\\né");
    }
}
