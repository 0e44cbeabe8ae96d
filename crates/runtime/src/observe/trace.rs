//! Which trace an invocation belongs to (W3C Trace Context, level 1).
//!
//! The host has no spans of its own: an invocation stands in its caller's span, and what the caller sent is passed on, as
//! OpenTelemetry's API does without an SDK. A context allocates nothing; a header that has to be written does.

use super::transcript::Lines;
use crate::config::digest::Digits;
use http::header::{HeaderMap, HeaderName, HeaderValue};
use std::ops::Range;
use std::sync::Arc;

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// Bytes of a `traceparent` of version 00.
const LENGTH: usize = 55;
/// Members of a `tracestate` (section 3.3.1.1).
const MEMBERS: usize = 32;
/// Bytes of a member's key, and of its value.
const MEMBER: usize = 256;
/// The flags that have a meaning: that somebody records the trace, and that its id is random (level 2).
const FLAGS: u8 = 3;

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
#[derive(Debug, Clone)]
pub struct TraceContext {
    trace: u128,
    /// What the invocation does stands in this span.
    span: u64,
    flags: u8,
    /// What other systems along the way say of the trace; it means nothing to us.
    state: Option<HeaderValue>,
}

impl TraceContext {
    /// The context that a request carries. What is no valid `traceparent`, several of them say, counts as none, and then its
    /// `tracestate` does too; a wrong `tracestate` alone is left out (sections 3.2, 3.3 and 4).
    pub fn received(headers: &HeaderMap) -> Option<Self> {
        let mut parents = headers.get_all(TRACEPARENT).iter();
        let (Some(parent), None) = (parents.next(), parents.next()) else { return None };
        let (trace, span, flags) = parse(parent.as_bytes())?;
        let state = state(headers);
        Some(Self { trace, span, flags: flags & FLAGS, state })
    }

    /// A trace that begins here, which nobody records. `id` is to be its id, such as that of the invocation, which is as unique.
    pub fn begin(id: u128) -> Self {
        let trace = if id == 0 { fastrand::u128(1..) } else { id };
        Self { trace, span: fastrand::u64(1..), flags: 0, state: None }
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
        let parent = self.traceparent();
        let mut there = headers.get_all(TRACEPARENT).iter();
        // Most are there as they are.
        if !there.next().is_some_and(|there| there == &parent[..]) || there.next().is_some() {
            headers.insert(TRACEPARENT, header(parent));
        }
        let mut there = headers.get_all(TRACESTATE).iter();
        if there.next() != self.state.as_ref() || there.next().is_some() {
            headers.remove(TRACESTATE);
            headers.extend(self.state.clone().map(|state| (TRACESTATE, state)));
        }
    }

    /// Writes both headers into a request that the guest sends, unless the guest has set a `traceparent` itself.
    pub fn pass_on(&self, headers: &mut HeaderMap) {
        if !headers.contains_key(TRACEPARENT) {
            self.write(headers);
        }
    }

    fn traceparent(&self) -> [u8; LENGTH] {
        let mut text = *b"00-00000000000000000000000000000000-0000000000000000-00";
        text[3..35].copy_from_slice(self.trace_id().as_ref().as_bytes());
        text[36..52].copy_from_slice(self.span_id().as_ref().as_bytes());
        text[53..].copy_from_slice(Digits::<2>::of(self.flags.into()).as_ref().as_bytes());
        text
    }
}

/// For what no caller has sent: a trace of its own, under an id of its own.
impl Default for TraceContext {
    fn default() -> Self {
        Self::begin(0)
    }
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

#[cfg(test)]
mod tests {
    use super::*;

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
            trace.state.map(|state| state.to_str().expect("text").to_owned())
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
    fn what_is_valid_passes_and_what_is_not_is_replaced() {
        let mut given = headers(&[("traceparent", PARENT), ("tracestate", "a=1")]);
        let trace = TraceContext::received(&given).expect("a parent");
        trace.write(&mut given);
        assert_eq!(texts(&given), [("traceparent", PARENT), ("tracestate", "a=1")]);
        assert_eq!((trace.trace_id().as_ref(), trace.span_id().as_ref()), (TRACE, "b7ad6b7169203331"));

        let mut given = headers(&[("traceparent", "garbage"), ("traceparent", PARENT), ("tracestate", "a=1")]);
        let trace = TraceContext::received(&given).unwrap_or_else(|| TraceContext::begin(7));
        trace.write(&mut given);
        let expected = format!("00-{:032x}-{}-00", 7, trace.span_id());
        assert_eq!(texts(&given), [("traceparent", expected.as_str())]);
        assert!(TraceContext::begin(0).trace != 0);
    }

    #[test]
    fn a_request_of_the_guest_belongs_to_the_trace_unless_the_guest_says_so_itself() {
        let given = headers(&[("traceparent", PARENT), ("tracestate", "a=1")]);
        let trace = TraceContext::received(&given).expect("a parent");
        let mut sent = headers(&[("tracestate", "b=2")]);
        trace.pass_on(&mut sent);
        assert_eq!(sent, given);
        let own = headers(&[("traceparent", "00-own")]);
        let mut sent = own.clone();
        trace.pass_on(&mut sent);
        assert_eq!(sent, own);
    }
}
