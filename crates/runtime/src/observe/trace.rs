//! Which trace an invocation belongs to, and what of it is exported (W3C Trace Context, level 1).
//!
//! A context costs what it holds: two numbers, and for a trace that begins here one of them is made up. Only an invocation whose
//! trace is exported has a [`Story`], and allocates anything for it.

use super::transcript::Lines;
use crate::config::digest::Digits;
use crate::config::hosts::Target;
use crate::config::telemetry::Sampler;
use http::header::{Entry, HeaderMap, HeaderName, HeaderValue};
use http::{Method, StatusCode};
use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// Bytes of a `traceparent` of version 00.
const LENGTH: usize = 55;
/// Members of a `tracestate` (section 3.3.1.1).
const MEMBERS: usize = 32;
/// Bytes of a member's key, and of its value.
const MEMBER: usize = 256;
/// Somebody records this trace.
const SAMPLED: u8 = 1;
/// The flags that have a meaning: beside the first that of level 2, which says that the id is random.
const FLAGS: u8 = 3;
/// Requests of one invocation that are exported.
const CALLS: usize = 128;

/// What every line about an invocation carries, and where its guest's lines go.
#[derive(Debug, Clone)]
pub struct Tag {
    /// The invocation's id.
    pub id: Arc<str>,
    /// Its trace.
    pub trace: TraceContext,
    /// Its answer takes these along; none where the log gets them.
    pub lines: Option<Arc<Lines>>,
}

impl Tag {
    /// Of an invocation whose lines go to the log.
    pub fn new(id: impl Into<Arc<str>>, trace: TraceContext) -> Self {
        Self { id: id.into(), trace, lines: None }
    }
}

/// The place of an invocation in a trace. It is always valid.
///
/// While traces are not exported there are no spans of ours: an invocation stands in its caller's span, and what the caller sent is
/// passed on, as OpenTelemetry's API does without an SDK. Where they are exported, each invocation has a span of its own.
#[derive(Debug, Clone)]
pub struct TraceContext {
    trace: u128,
    /// What the invocation does stands in this span.
    span: u64,
    /// The caller's span, where `span` is ours.
    parent: Option<u64>,
    /// There is a caller with a span.
    received: bool,
    flags: u8,
    /// What other systems along the way say of the trace; it means nothing to us.
    state: Option<HeaderValue>,
    /// What is to be exported. None for a trace that is not.
    story: Option<Arc<Story>>,
}

impl TraceContext {
    /// The context that a request carries. What is no valid `traceparent`, several of them say, counts as none, and then its
    /// `tracestate` does too; a wrong `tracestate` alone is left out (sections 3.2, 3.3 and 4).
    pub fn received(headers: &HeaderMap) -> Option<Self> {
        let mut parents = headers.get_all(TRACEPARENT).iter();
        let (Some(parent), None) = (parents.next(), parents.next()) else { return None };
        let (trace, span, flags) = parse(parent.as_bytes())?;
        let state = state(headers);
        Some(Self { trace, span, parent: None, received: true, flags: flags & FLAGS, state, story: None })
    }

    /// A trace that begins here. `id` is to be its id, such as that of the invocation, which is as unique.
    pub fn begin(id: u128) -> Self {
        let trace = if id == 0 { fastrand::u128(1..) } else { id };
        Self { trace, span: new_span(), parent: None, received: false, flags: 0, state: None, story: None }
    }

    /// The same trace with the invocation's own span in it, where traces are exported.
    #[must_use]
    pub fn entered(mut self, sampler: Option<Sampler>) -> Self {
        let Some(sampler) = sampler else { return self };
        if self.received {
            self.parent = Some(std::mem::replace(&mut self.span, new_span()));
        }
        let parent = self.received.then_some(self.flags & SAMPLED != 0);
        let sampled = sampler.samples(self.trace, parent);
        self.flags = (self.flags & !SAMPLED) | u8::from(sampled);
        self.story = sampled.then(Arc::default);
        self
    }

    /// The trace's number.
    pub fn trace(&self) -> u128 {
        self.trace
    }

    /// The number of the span that the invocation stands in.
    pub fn span(&self) -> u64 {
        self.span
    }

    /// The number of the caller's span, where the invocation has one of its own.
    pub fn parent(&self) -> Option<u64> {
        self.parent
    }

    /// What the caller's `tracestate` says.
    pub fn state(&self) -> Option<&HeaderValue> {
        self.state.as_ref()
    }

    /// What is to be exported, if anything is.
    pub fn story(&self) -> Option<&Story> {
        self.story.as_deref()
    }

    /// The trace's id as it is written.
    pub fn trace_id(&self) -> Digits<32> {
        Digits::of(self.trace)
    }

    /// The id of the span that the invocation stands in, as it is written.
    pub fn span_id(&self) -> Digits<16> {
        Digits::of(self.span.into())
    }

    /// Writes both headers into the request for the guest, in the place of what they are there.
    pub fn write(&self, headers: &mut HeaderMap) {
        let parent = self.traceparent(self.span);
        match headers.entry(TRACEPARENT) {
            // As it arrived, where nobody exports anything.
            Entry::Occupied(there) if there.iter().eq([&parent[..]]) => {}
            Entry::Occupied(mut there) => drop(there.insert(header(parent))),
            Entry::Vacant(place) => drop(place.insert(header(parent))),
        }
        let mut there = headers.get_all(TRACESTATE).iter();
        if there.next() != self.state.as_ref() || there.next().is_some() {
            headers.remove(TRACESTATE);
            headers.extend(self.state.clone().map(|state| (TRACESTATE, state)));
        }
    }

    /// A request of the guest begins: it gets both headers, unless the guest has set a `traceparent` itself. What is returned
    /// lives as long as the request; there is none where the trace is not exported.
    pub fn call(&self, method: &Method, target: &Target, headers: &mut HeaderMap) -> Option<Calling> {
        let span = if self.story.is_some() { new_span() } else { self.span };
        if !headers.contains_key(TRACEPARENT) {
            headers.insert(TRACEPARENT, header(self.traceparent(span)));
            headers.remove(TRACESTATE);
            headers.extend(self.state.clone().map(|state| (TRACESTATE, state)));
        }
        let story = Arc::clone(self.story.as_ref()?);
        let (method, target, came) = (method.clone(), target.clone(), Came::Nothing);
        let call = Call { span, method, target, begun: SystemTime::now(), took: Duration::ZERO, came };
        Some(Calling { story, call: Some(call), begun: Instant::now() })
    }

    fn traceparent(&self, span: u64) -> [u8; LENGTH] {
        let mut text = *b"00-00000000000000000000000000000000-0000000000000000-00";
        text[3..35].copy_from_slice(self.trace_id().as_ref());
        text[36..52].copy_from_slice(Digits::<16>::of(span.into()).as_ref());
        text[53..].copy_from_slice(Digits::<2>::of(self.flags.into()).as_ref());
        text
    }
}

/// For what no caller has sent: a trace of its own, under an id of its own.
impl Default for TraceContext {
    fn default() -> Self {
        Self::begin(0)
    }
}

fn new_span() -> u64 {
    fastrand::u64(1..)
}

fn header(text: [u8; LENGTH]) -> HeaderValue {
    HeaderValue::from_bytes(&text).expect("digits and dashes")
}

/// Trace, span and flags of a `traceparent`. One of a later version is read as far as this one goes.
fn parse(text: &[u8]) -> Option<(u128, u64, u8)> {
    let (fields, rest) = text.split_at_checked(LENGTH)?;
    let number = |range: Range<usize>| number(&fields[range]);
    let (version, trace, span, flags) = (number(0..2)?, number(3..35)?, number(36..52)?, number(53..55)?);
    let fits = match version {
        0 => rest.is_empty(),
        0xff => false,
        _ => rest.first().is_none_or(|next| *next == b'-'),
    };
    let fits = fits && [2, 35, 52].iter().all(|dash| fields[*dash] == b'-') && trace != 0 && span != 0;
    fits.then_some((trace, u64::try_from(span).ok()?, u8::try_from(flags).ok()?))
}

/// Hexadecimal digits, lower case only.
fn number(digits: &[u8]) -> Option<u128> {
    digits.iter().try_fold(0, |number, digit| match digit {
        b'0'..=b'9' => Some((number << 4) | u128::from(digit - b'0')),
        b'a'..=b'f' => Some((number << 4) | u128::from(digit - b'a' + 10)),
        _ => None,
    })
}

/// Several lines are one list.
fn state(headers: &HeaderMap) -> Option<HeaderValue> {
    let mut lines = headers.get_all(TRACESTATE).iter();
    let first = lines.next().cloned();
    let list = lines
        .fold(first, |list, line| HeaderValue::from_bytes(&[list?.as_bytes(), b",", line.as_bytes()].concat()).ok())?;
    let members = || list.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii).filter(|it| !it.is_empty());
    let fits = (1..=MEMBERS).contains(&members().count()) && members().all(is_member);
    fits.then_some(list)
}

fn is_member(member: &[u8]) -> bool {
    let Some(equals) = member.iter().position(|byte| *byte == b'=') else { return false };
    let (key, value) = (&member[..equals], &member[equals + 1..]);
    let in_key = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-*/@".contains(byte);
    let in_value = |byte: &u8| matches!(byte, b' '..=b'~') && *byte != b'=';
    let fits = |part: &[u8]| (1..=MEMBER).contains(&part.len());
    fits(key) && fits(value) && key.iter().all(in_key) && value.iter().all(in_value)
}

/// What an invocation does whose trace is exported, beside what its record tells.
#[derive(Debug, Default)]
pub struct Story(Mutex<Calls>);

/// The requests that a guest has sent in one invocation.
#[derive(Debug, Default)]
pub struct Calls {
    /// The first of them that are over.
    pub calls: Vec<Call>,
    /// How many more there were.
    pub left_out: u32,
}

impl Story {
    /// Takes what has been told so far.
    pub fn take(&self) -> Calls {
        std::mem::take(&mut *self.calls())
    }

    fn calls(&self) -> MutexGuard<'_, Calls> {
        // Every change under the lock is complete before anything can panic.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request that a guest has sent.
#[derive(Debug)]
pub struct Call {
    /// The number of its span.
    pub span: u64,
    /// How it asked.
    pub method: Method,
    /// Whom it asked.
    pub target: Target,
    /// When it began.
    pub begun: SystemTime,
    /// Until the last byte of the answer, or until nobody read on.
    pub took: Duration,
    /// What came of it.
    pub came: Came,
}

/// What came of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Came {
    /// It was given up before its answer.
    Nothing,
    /// The head of an answer.
    Answer(StatusCode),
    /// An error, by its name.
    Error(String),
}

impl Came {
    /// This error. Only the name of the variant is kept: there are few of them, and the rest may be a guest's words.
    pub fn failed(error: &impl fmt::Debug) -> Self {
        let text = format!("{error:?}");
        Self::Error(text.split(|letter: char| !letter.is_ascii_alphanumeric()).next().unwrap_or_default().to_owned())
    }
}

/// A request under way; it is over when this is dropped.
#[derive(Debug)]
pub struct Calling {
    story: Arc<Story>,
    /// Taken at the end.
    call: Option<Call>,
    begun: Instant,
}

impl Calling {
    /// Notes what came of it.
    pub fn came(&mut self, came: Came) {
        self.call.iter_mut().for_each(|call| call.came = came.clone());
    }
}

impl Drop for Calling {
    fn drop(&mut self) {
        let Some(call) = self.call.take() else { return };
        let mut told = self.story.calls();
        if told.calls.len() < CALLS {
            told.calls.push(Call { took: self.begun.elapsed(), ..call });
        } else {
            told.left_out += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::hosts::Name;

    const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, HeaderValue::from_str(value).expect("a header value"));
        }
        headers
    }

    fn texts(headers: &HeaderMap) -> Vec<(&str, &str)> {
        headers.iter().map(|(name, value)| (name.as_str(), value.to_str().expect("text"))).collect()
    }

    #[test]
    fn only_a_valid_parent_is_one() {
        let sound = |value: &str| TraceContext::received(&headers(&[("traceparent", value)])).is_some();
        assert!(sound(PARENT));
        for (value, why) in [
            (PARENT.to_uppercase(), "upper case"),
            (PARENT.replacen("00", "ff", 1), "version ff"),
            (PARENT.replacen(TRACE, &"0".repeat(32), 1), "no trace"),
            (PARENT.replacen("b7ad6b7169203331", &"0".repeat(16), 1), "no span"),
            (format!("{PARENT}-x"), "more behind version 00"),
            (PARENT.replacen("00", "01", 1) + "x", "more behind the flags, without a dash"),
            (PARENT[..54].to_owned(), "too short"),
            (PARENT.replace('-', "_"), "no dashes"),
            (PARENT.replacen("00", "0", 1), "a short version"),
            (String::new(), "nothing"),
        ] {
            assert!(!sound(&value), "{why}: {value}");
        }
        assert!(TraceContext::received(&headers(&[("traceparent", PARENT), ("traceparent", PARENT)])).is_none());
        // A later version may say more, and leaves as this one.
        for later in [PARENT.replacen("00", "01", 1), PARENT.replacen("00", "cc", 1) + "-more"] {
            let mut written = headers(&[("traceparent", &later)]);
            TraceContext::received(&written).expect("a later version").write(&mut written);
            assert_eq!(texts(&written), [("traceparent", PARENT)]);
        }
    }

    #[test]
    fn a_state_is_one_list_and_falls_with_its_parent() {
        let kept = |lines: &[(&'static str, &str)]| {
            let trace = TraceContext::received(&headers(lines))?;
            trace.state().map(|state| state.to_str().expect("text").to_owned())
        };
        let parent = ("traceparent", PARENT);
        let lines = [("tracestate", "a=1"), parent, ("tracestate", "b@c=2, d=3"), ("tracestate", "")];
        assert_eq!(kept(&lines).as_deref(), Some("a=1,b@c=2, d=3,"));
        assert_eq!(kept(&[("tracestate", "a=1")]), None);
        assert_eq!(kept(&[parent, parent, ("tracestate", "a=1")]), None);
        let members = |count: usize| (0..count).map(|n| format!("k{n}=v")).collect::<Vec<_>>().join(",");
        assert!(kept(&[parent, ("tracestate", &members(32))]).is_some());
        let long = format!("k={}", "v".repeat(256));
        assert!(kept(&[parent, ("tracestate", &long)]).is_some());
        for wrong in [&members(33), &(long + "v"), "a", "=1", "a=", "A=1", "a=1=2", ","] {
            assert_eq!(kept(&[parent, ("tracestate", wrong)]), None, "{wrong}");
            assert!(TraceContext::received(&headers(&[parent, ("tracestate", wrong)])).is_some());
        }
    }

    #[test]
    fn where_nothing_is_exported_a_request_passes_as_it_is() {
        let mut given = headers(&[("traceparent", PARENT), ("tracestate", "a=1")]);
        let trace = TraceContext::received(&given).expect("a parent").entered(None);
        trace.write(&mut given);
        assert_eq!(texts(&given), [("traceparent", PARENT), ("tracestate", "a=1")]);
        assert_eq!([trace.trace_id().to_string(), trace.span_id().to_string()], [TRACE, "b7ad6b7169203331"]);
        assert!(trace.parent().is_none() && trace.story().is_none());

        // Where there is none, one is made, and what is wrong is gone.
        let mut given = headers(&[("traceparent", "garbage"), ("traceparent", PARENT), ("tracestate", "a=1")]);
        let trace = TraceContext::received(&given).unwrap_or_else(|| TraceContext::begin(7)).entered(None);
        trace.write(&mut given);
        let expected = format!("00-{:032x}-{}-00", 7, trace.span_id());
        assert_eq!(texts(&given), [("traceparent", expected.as_str())]);
        assert!(TraceContext::begin(0).trace() != 0);
    }

    #[test]
    fn where_traces_are_exported_an_invocation_is_a_span_of_its_own() {
        let mut given = headers(&[("traceparent", PARENT), ("tracestate", "a=1")]);
        let received = TraceContext::received(&given).expect("a parent");
        let trace = received.clone().entered(Some(Sampler::default()));
        assert_eq!(trace.parent(), Some(0xb7ad_6b71_6920_3331));
        assert!(trace.span() != received.span() && trace.story().is_some());
        trace.write(&mut given);
        let expected = format!("00-{TRACE}-{}-01", trace.span_id());
        assert_eq!(texts(&given), [("traceparent", expected.as_str()), ("tracestate", "a=1")]);

        let never = Sampler { follows_parent: false, ratio: 0.0 };
        let unsampled = received.entered(Some(never));
        assert!(unsampled.story().is_none() && unsampled.traceparent(1).ends_with(b"-00"));
        let root = TraceContext::begin(7).entered(Some(Sampler::default()));
        assert!(root.parent().is_none() && root.traceparent(1).ends_with(b"-01"));
    }

    #[test]
    fn a_request_of_the_guest_is_a_child_unless_the_guest_says_so_itself() {
        let target = Target { tls: false, name: Name::parse("a.example").expect("a name"), port: 80 };
        let trace = TraceContext::begin(7).entered(Some(Sampler::default()));
        let mut sent = HeaderMap::new();
        let mut calling = trace.call(&Method::PUT, &target, &mut sent).expect("exported");
        calling.came(Came::Answer(StatusCode::CREATED));
        let mut own = headers(&[("traceparent", PARENT)]);
        drop(trace.call(&Method::GET, &target, &mut own));
        assert_eq!(texts(&own), [("traceparent", PARENT)]);
        drop(calling);
        let calls = trace.story().expect("exported").take().calls;
        let [given_up, answered] = &calls[..] else { panic!("{calls:?}") };
        assert_eq!((&answered.came, &given_up.came), (&Came::Answer(StatusCode::CREATED), &Came::Nothing));
        let expected = format!("00-{:032x}-{:016x}-01", 7, answered.span);
        assert_eq!(texts(&sent), [("traceparent", expected.as_str())]);

        for _ in 0..CALLS + 3 {
            drop(trace.call(&Method::GET, &target, &mut HeaderMap::new()));
        }
        let told = trace.story().expect("exported").take();
        assert_eq!((told.calls.len(), told.left_out), (CALLS, 3));

        // Not exported: in the caller's span, without a story.
        let mut sent = HeaderMap::new();
        let plain = TraceContext::begin(7);
        assert!(plain.call(&Method::GET, &target, &mut sent).is_none());
        assert_eq!(texts(&sent), [("traceparent", format!("00-{:032x}-{}-00", 7, plain.span_id()).as_str())]);
    }
}
