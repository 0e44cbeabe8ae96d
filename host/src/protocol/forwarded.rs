//! A request that the Functions host passes on as the client sent it, by forwarding or by proxying, and the response to it.
//!
//! Requests that clients send themselves, stand-alone, have the same shape; only nobody is believed then.

use super::receipt::Receipt;
use crate::config::function_json::{AuthLevel, Trigger};
use crate::config::{Function, Role};
use crate::invocation::{Invocation, Origin, Tag, TraceContext};
use http::header::{HOST, HeaderMap, HeaderName, HeaderValue};
use http::request::Parts;
use http::uri::{Authority, PathAndQuery, Scheme, Uri};
use http::{Method, Version, response};
use percent_encoding::percent_decode_str;
use std::sync::Arc;
use uuid::Uuid;

/// The id of an invocation, set by the Functions host (azure-contract.md §2.2, §2.3).
const INVOCATION_ID: HeaderName = HeaderName::from_static("x-azure-functions-invocationid");
/// The same id under the name that only proxying sets.
const PROXIED_ID: HeaderName = HeaderName::from_static("x-ms-invocation-id");
/// The caller's function key. The Functions host has checked it and leaves it in; it is no business of a guest.
const FUNCTION_KEY: HeaderName = HeaderName::from_static("x-functions-key");
/// Headers in which the App Service front end repeats the whole target, a key in its query included.
const ORIGINAL_TARGETS: [HeaderName; 2] =
    [HeaderName::from_static("x-original-url"), HeaderName::from_static("x-waws-unencoded-url")];
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// What a head says of its request, whatever function it is for.
#[derive(Debug, Clone)]
pub struct Caller {
    /// The invocation's id.
    pub id: Arc<str>,
    /// Where the client sent it.
    pub origin: Origin,
    /// The trace that it belongs to: the client's, else one that begins here under the invocation's id.
    pub trace: TraceContext,
}

/// Why a request head is refused with 400.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadHead {
    /// RFC 9112 §3.2.
    #[error("an HTTP/1.1 request needs exactly one Host header")]
    HostCount,
    /// RFC 9112 §3.2.
    #[error("the Host header is not a host name with an optional port")]
    HostValue,
}

/// Whether this is the Functions host's readiness or liveness probe: it has no invocation id, every user request that
/// the Functions host passes on has one (S4).
pub fn is_ping(role: Role, head: &Parts) -> bool {
    role == Role::CustomHandler
        && head.uri.path() == "/"
        && matches!(head.method, Method::GET | Method::HEAD)
        && !head.headers.contains_key(INVOCATION_ID)
}

/// Reads id and origin. `own` is the address that is listened on.
///
/// Only the Functions host is believed what it says about the client. It proxies with its own view of us as `Host` and
/// the client's in `X-Forwarded-Host` (P1); forwarding keeps the client's `Host` (F2).
///
/// # Errors
/// [`BadHead`], as RFC 9112 asks.
pub fn caller(role: Role, head: &Parts, own: &Authority) -> Result<Caller, BadHead> {
    let host = sole_host(head)?;
    let trusted = role == Role::CustomHandler;
    let forwarded =
        |name| head.headers.get(name).filter(|_| trusted).and_then(|value: &HeaderValue| value.to_str().ok());

    // The request target wins over Host where it names an authority (RFC 9112 §3.2.2).
    let named = head.uri.authority().cloned().or(host).unwrap_or_else(|| own.clone());
    if has_user(&named) {
        return Err(BadHead::HostValue);
    }
    let client = || forwarded(FORWARDED_HOST)?.parse().ok().filter(|authority| !has_user(authority));
    let proxied = (named == *own).then(client).flatten();
    let scheme = match forwarded(FORWARDED_PROTO) {
        Some(proto) if proto.eq_ignore_ascii_case("https") => Scheme::HTTPS,
        _ => Scheme::HTTP,
    };
    let id = if trusted { invocation_id(&head.headers) } else { None };
    let id = id.unwrap_or_else(Uuid::new_v4);
    let trace = TraceContext::received(&head.headers).unwrap_or_else(|| TraceContext::begin(id.as_u128()));
    let id = id.hyphenated().encode_lower(&mut Uuid::encode_buffer()).into();
    Ok(Caller { id, origin: Origin { scheme, authority: proxied.unwrap_or(named) }, trace })
}

/// Decodes a request to `function`: its guest sees the client's `Host` and no function key.
pub fn decode<B>(role: Role, function: &Function, caller: Caller, mut head: Parts, body: B) -> Invocation<B> {
    let Caller { id, origin, trace } = caller;
    if let Trigger::Http { auth, .. } = function.trigger {
        remove_key(role, auth != AuthLevel::Anonymous, &mut head);
    }
    let authority = origin.authority.as_str();
    if head.headers.get(HOST).is_none_or(|host| host != authority) {
        head.headers.insert(HOST, HeaderValue::try_from(authority).expect("an authority is a header value"));
    }
    let (function, tag) = (Arc::clone(&function.name), Tag::new(id, trace));
    Invocation { function, tag, origin, head, body, bindings: None }
}

/// Encodes the head of a response: it leaves as the guest wrote it, but for what only the host may say.
pub fn encode(head: &mut response::Parts, receipt: &Receipt<'_>) {
    receipt.write(&mut head.headers);
}

/// Removes what a guest must not see: the function key, as header and, where the function demands one, as `code=`.
fn remove_key(role: Role, keyed: bool, head: &mut Parts) {
    if role != Role::CustomHandler {
        return;
    }
    head.headers.remove(FUNCTION_KEY);
    if !keyed {
        return;
    }
    for name in ORIGINAL_TARGETS {
        head.headers.remove(name);
    }
    let Some(query) = head.uri.query() else { return };
    let is_key = |pair: &&str| {
        let name = percent_decode_str(pair.split('=').next().unwrap_or_default()).decode_utf8_lossy();
        name.eq_ignore_ascii_case("code")
    };
    if !query.split('&').any(|pair| is_key(&pair)) {
        return;
    }
    let rest: Vec<&str> = query.split('&').filter(|pair| !is_key(pair)).collect();
    let path = head.uri.path();
    let target = if rest.is_empty() { path.to_owned() } else { format!("{path}?{}", rest.join("&")) };
    let mut parts = std::mem::take(&mut head.uri).into_parts();
    parts.path_and_query = Some(PathAndQuery::try_from(target).expect("parts of a valid target are valid"));
    head.uri = Uri::from_parts(parts).expect("only the query got shorter");
}

/// The last id wins: a client that sends the header too gets its own in front (F2).
fn invocation_id(headers: &HeaderMap) -> Option<Uuid> {
    let last = |name| {
        let value: &HeaderValue = headers.get_all(name).iter().next_back()?;
        Uuid::try_parse(value.to_str().ok()?.rsplit(',').next()?.trim()).ok()
    };
    last(INVOCATION_ID).or_else(|| last(PROXIED_ID))
}

fn sole_host(head: &Parts) -> Result<Option<Authority>, BadHead> {
    let mut hosts = head.headers.get_all(HOST).iter();
    match (hosts.next(), hosts.next()) {
        (_, Some(_)) => Err(BadHead::HostCount),
        (None, None) if head.version >= Version::HTTP_11 => Err(BadHead::HostCount),
        (None, None) => Ok(None),
        // Legal where the target has no authority (RFC 9112 §3.2).
        (Some(host), None) if host.is_empty() => Ok(None),
        (Some(host), None) => Authority::try_from(host.as_bytes()).map(Some).map_err(|_| BadHead::HostValue),
    }
}

/// User information has no place in a request (RFC 9110 §4.2.4).
fn has_user(authority: &Authority) -> bool {
    authority.as_str().contains('@')
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Request;

    const ID: &str = "0a1b2c3d-0000-4000-8000-0123456789ab";
    const SPOOFED: &str = "ffffffff-0000-4000-8000-0123456789ab";

    fn head(target: &str, headers: &[(&str, &str)]) -> Parts {
        let request = headers.iter().fold(Request::get(target), |request, (name, value)| request.header(*name, *value));
        request.body(()).expect("a valid request").into_parts().0
    }

    fn read(role: Role, headers: &[(&str, &str)]) -> Result<Caller, BadHead> {
        caller(role, &head("/x", headers), &Authority::from_static("127.0.0.1:9000"))
    }

    #[test]
    fn s4_only_a_bare_root_is_the_ping() {
        let ping = |role, target, headers| is_ping(role, &head(target, headers));
        assert!(ping(Role::CustomHandler, "/", &[("host", "127.0.0.1:9000")]));
        assert!(!ping(Role::CustomHandler, "/", &[("x-azure-functions-invocationid", ID)]));
        assert!(!ping(Role::CustomHandler, "/api", &[]));
        assert!(!ping(Role::StandAlone, "/", &[]));
        assert!(!ping(Role::Serve, "/", &[]));
    }

    #[test]
    fn f2_forwarding_keeps_host_and_the_last_id_wins() {
        let both = format!("{SPOOFED}, {ID}");
        let caller = read(
            Role::CustomHandler,
            &[
                ("host", "app.example:8080"),
                ("x-forwarded-host", "evil.example"),
                ("x-azure-functions-invocationid", &both),
            ],
        );
        let Caller { id, origin, trace } = caller.expect("a good head");
        assert_eq!((origin.authority.as_str(), &*id), ("app.example:8080", ID));
        assert_eq!(
            trace.trace_id().to_string(),
            ID.replace('-', ""),
            "a trace that begins here has the invocation's id"
        );
        let caller = read(
            Role::CustomHandler,
            &[("host", "a"), ("x-azure-functions-invocationid", SPOOFED), ("x-azure-functions-invocationid", ID)],
        );
        assert_eq!(&*caller.expect("a good head").id, ID);
    }

    #[test]
    fn p1_proxying_names_the_client_in_forwarded_headers() {
        let caller = read(
            Role::CustomHandler,
            &[
                ("host", "127.0.0.1:9000"),
                ("x-forwarded-host", "app.example"),
                ("x-forwarded-proto", "https"),
                ("x-ms-invocation-id", ID),
            ],
        );
        let Caller { id, origin, .. } = caller.expect("a good head");
        let client = Origin { scheme: Scheme::HTTPS, authority: Authority::from_static("app.example") };
        assert_eq!((&*id, origin), (ID, client));
    }

    #[test]
    fn nobody_else_is_believed() {
        let caller = read(
            Role::StandAlone,
            &[
                ("host", "127.0.0.1:9000"),
                ("x-forwarded-host", "evil.example"),
                ("x-forwarded-proto", "https"),
                ("x-azure-functions-invocationid", ID),
            ],
        );
        let Caller { id, origin, .. } = caller.expect("a good head");
        assert_eq!((origin.authority.as_str(), origin.scheme), ("127.0.0.1:9000", Scheme::HTTP));
        assert_ne!(&*id, ID);
    }

    #[test]
    fn rfc_9112_exactly_one_host() {
        let refused = |caller: Result<Caller, BadHead>| caller.expect_err("a bad head");
        assert_eq!(refused(read(Role::StandAlone, &[])), BadHead::HostCount);
        assert_eq!(refused(read(Role::StandAlone, &[("host", "a"), ("host", "b")])), BadHead::HostCount);
        assert_eq!(refused(read(Role::StandAlone, &[("host", "a b")])), BadHead::HostValue);
        assert_eq!(refused(read(Role::StandAlone, &[("host", "user@a")])), BadHead::HostValue);
        let own = Authority::from_static("127.0.0.1:9000");
        let absolute = head("http://user:pw@b/x", &[("host", "b")]);
        assert_eq!(refused(caller(Role::StandAlone, &absolute, &own)), BadHead::HostValue);
        let named = |caller: Result<Caller, BadHead>| caller.expect("a good head").origin.authority;
        assert_eq!(named(read(Role::StandAlone, &[("host", "")])), own);
        let mut old = head("/x", &[]);
        old.version = Version::HTTP_10;
        assert_eq!(named(caller(Role::StandAlone, &old, &own)), own);
    }

    #[test]
    fn the_function_key_is_removed() {
        let target = |keyed, target| {
            let repeated = format!("http://a{target}");
            let mut head = head(target, &[("x-functions-key", "secret"), ("x-original-url", &repeated)]);
            remove_key(Role::CustomHandler, keyed, &mut head);
            assert!(!head.headers.contains_key(FUNCTION_KEY));
            assert_eq!(head.headers.contains_key("x-original-url"), !keyed);
            head.uri.to_string()
        };
        assert_eq!(target(true, "/x?a=1%2C2&code=secret&k="), "/x?a=1%2C2&k=");
        assert_eq!(target(true, "/x?code=secret"), "/x");
        assert_eq!(target(true, "/x?c%6Fde=secret"), "/x");
        assert_eq!(target(true, "/x?CODE=secret&decode=1"), "/x?decode=1");
        // Without a key of its own the parameter is the application's, say of an OAuth reply.
        assert_eq!(target(false, "/x?code=kept"), "/x?code=kept");
    }
}
