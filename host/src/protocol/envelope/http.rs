//! An HTTP trigger with more bindings than `http`: the Functions host wraps the client's request (azure-contract.md §3.1), and makes
//! the response of the output `res`.

use super::decode::Asked;
use super::json::{self, Members};
use super::{Bad, shown};
use crate::config::event::Event;
use crate::invocation::Origin;
use crate::protocol::media_type;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{
    CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, EXPECT, HOST, HeaderMap, HeaderName, HeaderValue, SET_COOKIE, TE,
    TRAILER, TRANSFER_ENCODING, UPGRADE,
};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{Method, Request, StatusCode, Uri};
use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};
use serde_json::value::RawValue;

/// What an URL cannot have as it is.
const IN_TARGET: &AsciiSet =
    &CONTROLS.add(b' ').add(b'"').add(b'<').add(b'>').add(b'\\').add(b'^').add(b'`').add(b'{').add(b'|').add(b'}');
/// Headers of one connection.
const OF_CONNECTION: [HeaderName; 7] = [CONNECTION, CONTENT_LENGTH, EXPECT, TE, TRAILER, TRANSFER_ENCODING, UPGRADE];
/// What a function has to be for an answer that `res` cannot carry.
const REMEDY: &str = "give the function one httpTrigger and one http output and nothing else, and set \
                      customHandler.enableProxyingHttpRequest in host.json";

/// Whether a parameter of a query is a function key.
pub fn is_key(name: &str) -> bool {
    percent_decode_str(name).decode_utf8_lossy().eq_ignore_ascii_case("code")
}

/// Whether a header holds a function key, or repeats a URL that may have one.
pub fn is_secret(name: &str, keyed: bool) -> bool {
    let repeats = ["x-original-url", "x-waws-unencoded-url"];
    name.eq_ignore_ascii_case("x-functions-key")
        || keyed && repeats.iter().any(|known| name.eq_ignore_ascii_case(known))
}

/// A URL without `code=`.
pub fn without_code(url: &str) -> String {
    let Some((path, query)) = url.split_once('?') else { return url.to_owned() };
    let is_kept = |pair: &&str| !is_key(pair.split('=').next().unwrap_or_default());
    let rest: Vec<&str> = query.split('&').filter(is_kept).collect();
    if rest.is_empty() { path.to_owned() } else { format!("{path}?{}", rest.join("&")) }
}

/// Unwraps the request of a client.
pub fn decode(event: &Event, origin: Origin, value: &RawValue, invocation: &str) -> Result<Asked, Bad> {
    let wrong = |what: &str, value: &str| {
        Bad(format!("{what} of the request {:?} is none: {}", event.trigger.name, shown(value)))
    };
    let request = Members::of(value).ok_or_else(|| wrong("the object", value.get()))?;
    let text = |name| request.get(name).and_then(|value| json::string(value.get())).unwrap_or_default();
    let (url, method) = (text("Url"), text("Method"));
    let target = if event.keyed { without_code(&url) } else { url.clone().into_owned() };
    let uri: Uri = utf8_percent_encode(&target, IN_TARGET).to_string().parse().map_err(|_| wrong("Url", &target))?;
    let mut head = Request::new(()).into_parts().0;
    head.method = Method::from_bytes(method.as_bytes()).map_err(|_| wrong("Method", &method))?;
    let https = uri.scheme() == Some(&Scheme::HTTPS);
    let authority: Authority = uri.authority().cloned().unwrap_or(origin.authority);
    head.uri = uri.into_parts().path_and_query.unwrap_or_else(|| PathAndQuery::from_static("/")).into();

    let headers = request.get("Headers").and_then(Members::of).map_or_else(Vec::new, |headers| headers.0);
    for (name, values) in headers {
        let Ok(name) = HeaderName::try_from(&*name) else { continue };
        if OF_CONNECTION.contains(&name) || is_secret(name.as_str(), event.keyed) {
            continue;
        }
        let one = || serde_json::from_str::<String>(values.get()).map(|value| vec![value]);
        for value in serde_json::from_str::<Vec<String>>(values.get()).or_else(|_| one()).unwrap_or_default() {
            if let Ok(value) = HeaderValue::from_bytes(value.as_bytes()) {
                head.headers.append(&name, value);
            }
        }
    }
    head.headers.insert(HOST, HeaderValue::try_from(authority.as_str()).expect("an authority is a header value"));
    let body = match request.get("Body").filter(|body| !json::is_null(body)) {
        None => Bytes::new(),
        Some(body) => match json::string(body.get()) {
            None => body.get().to_owned().into(),
            Some(text) if is_binary(&head.headers) => {
                STANDARD.decode(text.as_bytes()).map_err(|_| wrong("base64 in Body", &text))?.into()
            }
            Some(text) => text.into_owned().into(),
        },
    };
    if !body.is_empty() {
        head.headers.insert(CONTENT_LENGTH, body.len().into());
    }
    let scheme = if https { Scheme::HTTPS } else { Scheme::HTTP };
    Ok(Asked { head, origin: Origin { scheme, authority }, body, message: invocation.to_owned(), beside: None })
}

/// Whether the Functions host writes the body of such a request in base64.
fn is_binary(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default().to_ascii_lowercase();
    kind.starts_with("application/octet-stream") || kind.starts_with("multipart/")
}

/// Refuses an answer that says of itself that it comes piece by piece.
///
/// # Errors
/// [`Bad`]: it is one.
pub fn no_stream(output: &str, headers: &HeaderMap) -> Result<(), Bad> {
    if media_type(headers).eq_ignore_ascii_case("text/event-stream") {
        return Bad::new(format!("output {output:?} cannot carry a stream of events: {REMEDY}"));
    }
    Ok(())
}

/// The value of the `http` output for an answer.
///
/// # Errors
/// [`Bad`]: it cannot be carried there.
pub fn response(output: &str, status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Result<String, Bad> {
    let Ok(body) = std::str::from_utf8(body) else {
        return Bad::new(format!("output {output:?} cannot carry a body of bytes that are no text: {REMEDY}"));
    };
    let mut fields: Vec<(String, String)> = Vec::new();
    for name in headers.keys().filter(|name| !OF_CONNECTION.contains(name) && *name != CONTENT_TYPE) {
        let values = headers.get_all(name).iter().map(|value| std::str::from_utf8(value.as_bytes()));
        let Ok(values) = values.collect::<Result<Vec<_>, _>>() else {
            return Bad::new(format!(
                "output {output:?} cannot carry the header {name}, whose value is no text: {REMEDY}"
            ));
        };
        if *name == SET_COOKIE && values.len() > 1 {
            return Bad::new(format!("output {output:?} cannot carry two Set-Cookie headers: {REMEDY}"));
        }
        fields.push((name.as_str().to_owned(), json::written(&values.join(", "))));
    }
    let kind = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or("text/plain; charset=utf-8");
    fields.push(("content-type".to_owned(), json::written(kind)));
    Ok(whole(status.as_u16(), fields, json::written(&body)))
}

/// The value of the `http` output that a guest has written itself, as the Functions host has to be told it.
///
/// # Errors
/// [`Bad`]: the Functions host would break on it.
pub fn written(output: &str, value: &RawValue) -> Result<String, Bad> {
    let wrong = |what: &str| Bad(format!("output {output:?} {what}: {}", shown(value.get())));
    let members = Members::of(value).ok_or_else(|| wrong("has to be an object with statusCode, headers and body"))?;
    let status = members.get_in_any_case("statusCode").or_else(|| members.get_in_any_case("status"));
    let status = match status {
        None => Some(200),
        Some(status) => json::text(status).parse::<u16>().ok().filter(|status| (200..=999).contains(status)),
    };
    let status = status.ok_or_else(|| wrong("has a statusCode that is none"))?;
    let headers = members.get_in_any_case("headers").filter(|headers| !json::is_null(headers));
    let headers = headers.map(|headers| Members::of(headers).ok_or_else(|| wrong("has headers that are no object")));
    let mut fields: Vec<(String, String)> = Vec::new();
    for (name, value) in headers.transpose()?.map_or_else(Vec::new, |headers| headers.0) {
        let text = Some(value.get()).filter(|text| !text.starts_with(['{', '[', 'n']));
        let text = text.map(|text| json::string(text).unwrap_or(text.into()));
        let text = text.filter(|text| HeaderValue::from_str(text).is_ok());
        let (Ok(known), Some(text)) = (HeaderName::try_from(&*name), text) else {
            return Err(wrong(&format!("has a header {name:?} that is no name with one text")));
        };
        if !OF_CONNECTION.contains(&known) {
            fields.push((known.as_str().to_owned(), json::written(&*text)));
        }
    }
    let (body, kind) = match members.get_in_any_case("body").filter(|body| !json::is_null(body)) {
        None => (json::written(""), "text/plain; charset=utf-8"),
        Some(body) => match json::string(body.get()) {
            Some(text) => (json::written(&*text), "text/plain; charset=utf-8"),
            // As text: the Functions host would write an object anew.
            None => (json::written(body.get()), "application/json"),
        },
    };
    if !fields.iter().any(|(name, _)| name == "content-type") {
        fields.push(("content-type".to_owned(), json::written(kind)));
    }
    Ok(whole(status, fields, body))
}

fn whole(status: u16, headers: Vec<(String, String)>, body: String) -> String {
    json::object([("statusCode", status.to_string()), ("headers", json::object(headers)), ("body", body)])
}
