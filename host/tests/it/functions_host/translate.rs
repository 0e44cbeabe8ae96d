//! What the Functions host makes of a client's request. The tables are in docs/azure.md.

use super::{Body, Request, Telemetry};
use flexwasm::send::request::query;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use uuid::Uuid;

/// The version of the Functions host that is played.
pub const VERSION: &str = "4.1037.0.0";
const USER_AGENT: &str = "Azure-Functions-Host/4.1037.0.0";

/// .NET takes these for headers of a body, and forwarding loses them.
const OF_THE_BODY: [&str; 9] = [
    "allow",
    "content-disposition",
    "content-encoding",
    "content-language",
    "content-location",
    "content-md5",
    "content-range",
    "expires",
    "last-modified",
];

/// These belong to a connection; proxying drops them.
const OF_THE_CONNECTION: [&str; 13] = [
    "alpn",
    "alt-svc",
    "connection",
    "http2-settings",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authentication-info",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "transfer-encoding",
    "upgrade",
    "upgrade-insecure-requests",
];

const UNRESERVED: AsciiSet = NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
const IN_A_PATH: AsciiSet = UNRESERVED
    .remove(b'/')
    .remove(b':')
    .remove(b'@')
    .remove(b'!')
    .remove(b'$')
    .remove(b'&')
    .remove(b'\'')
    .remove(b'(')
    .remove(b')')
    .remove(b'*')
    .remove(b'+')
    .remove(b',')
    .remove(b';')
    .remove(b'=');

/// Forwarding encodes nothing twice.
const IN_AN_ENCODED_PATH: AsciiSet = IN_A_PATH.remove(b'%');
const IN_A_QUERY: AsciiSet = UNRESERVED.remove(b',');

/// The request as forwarding sends it; none where the Functions host answers 500 by itself.
pub fn forwarded(telemetry: Telemetry, client: Request, id: Uuid) -> Option<Request> {
    if matches!(client.body, Body::Chunked(_)) {
        return None;
    }
    let mut request = joined(client);
    request.target = target(&request, |path| utf8_percent_encode(path, &IN_AN_ENCODED_PATH).to_string(), merged);
    request.headers.retain(|(name, _)| !OF_THE_BODY.contains(&&*name.to_ascii_lowercase()));
    append(&mut request, "User-Agent", " ", USER_AGENT);
    append(&mut request, "X-Azure-Functions-InvocationId", ", ", &id.to_string());
    request.set("X-Azure-Functions-HostVersion", VERSION);
    trace(telemetry, &mut request);
    framed(request).into()
}

/// The request as proxying sends it to the handler on `port`.
pub fn proxied(telemetry: Telemetry, client: Request, id: Uuid, port: u16) -> Request {
    let mut request = joined(client);
    // What the client encoded as %2F or as %252F was decoded to the text %2F, and is encoded again.
    request.target = target(&request, |path| utf8_percent_encode(path, &IN_A_PATH).to_string(), str::to_owned);
    request.headers.retain(|(name, _)| !OF_THE_CONNECTION.contains(&&*name.to_ascii_lowercase()));
    let host = request.header("host").unwrap_or_default().to_owned();
    request.set("Host", &format!("127.0.0.1:{port}"));
    request.set("X-Forwarded-For", "127.0.0.1");
    request.set("X-Forwarded-Host", &host);
    request.set("X-Forwarded-Proto", "http");
    for name in ["X-Azure-Functions-InvocationId", "x-ms-invocation-id"] {
        request.set(name, &id.to_string());
    }
    request.set("X-Azure-Functions-HostVersion", VERSION);
    trace(telemetry, &mut request);
    framed(request)
}

/// The request that carries an envelope to the handler on `port`: chunked in production, with a length under Core Tools.
pub fn enveloped(
    telemetry: Telemetry,
    core_tools: bool,
    function: &str,
    envelope: Vec<u8>,
    id: Uuid,
    port: u16,
) -> Request {
    let body = if core_tools { Body::Sized(envelope) } else { Body::Chunked(vec![envelope]) };
    let mut request = Request { method: "POST".to_owned(), target: format!("/{function}"), headers: Vec::new(), body };
    request.set("Host", &format!("127.0.0.1:{port}"));
    request.set("X-Azure-Functions-HostVersion", VERSION);
    request.set("X-Azure-Functions-InvocationId", &id.to_string());
    request.set("User-Agent", USER_AGENT);
    request.set("Content-Type", "application/json; charset=utf-8");
    trace(telemetry, &mut request);
    framed(request)
}

/// A query as forwarding writes it anew: one pair for each name.
fn merged(query_text: &str) -> String {
    let encode = |text: &str| utf8_percent_encode(text, &IN_A_QUERY).to_string();
    let pair = |(name, values): (String, Vec<String>)| format!("{}={}", encode(&name), encode(&values.join(",")));
    query(&format!("?{query_text}")).into_iter().map(pair).collect::<Vec<_>>().join("&")
}

fn target(request: &Request, path: impl Fn(&str) -> String, query: impl Fn(&str) -> String) -> String {
    let (before, after) = request.target.split_once('?').map_or((&*request.target, None), |(path, q)| (path, Some(q)));
    let path = path(&decoded(before));
    after.map_or_else(|| path.clone(), |text| format!("{path}?{}", query(text)))
}

/// A path as Kestrel hands it on: decoded once, but for %2F.
fn decoded(path: &str) -> String {
    let upper = path.replace("%2f", "%2F");
    let parts = upper.split("%2F").map(|part| percent_decode_str(part).decode_utf8().unwrap());
    let decoded = parts.collect::<Vec<_>>().join("%2F");
    assert!(!decoded.contains(['?', '#']), "what becomes of %3F and %23 in a path was not seen");
    decoded
}

/// .NET writes the values of one name in one line.
fn joined(client: Request) -> Request {
    let mut request = Request { headers: Vec::new(), ..client };
    for (name, value) in client.headers {
        let between = if name.eq_ignore_ascii_case("cookie") { "; " } else { ", " };
        append(&mut request, &name, between, &value);
    }
    request
}

fn append(request: &mut Request, name: &str, between: &str, value: &str) {
    match request.headers.iter_mut().find(|(known, _)| known.eq_ignore_ascii_case(name)) {
        Some((_, text)) => *text = format!("{text}{between}{value}"),
        None => request.set(name, value),
    }
}

fn framed(mut request: Request) -> Request {
    request.headers.retain(|(name, _)| {
        !name.eq_ignore_ascii_case("content-length") && !name.eq_ignore_ascii_case("transfer-encoding")
    });
    match &request.body {
        Body::Chunked(_) => request.set("Transfer-Encoding", "chunked"),
        Body::Sized(bytes) if bytes.is_empty() && matches!(&*request.method, "GET" | "HEAD" | "DELETE" | "OPTIONS") => {
        }
        Body::Sized(bytes) => {
            let length = bytes.len().to_string();
            request.set("Content-Length", &length);
        }
    }
    request
}

fn trace(telemetry: Telemetry, request: &mut Request) {
    let random = |digits: usize| Uuid::new_v4().simple().to_string()[..digits].to_owned();
    let client = request.header("traceparent").map(str::to_owned);
    let value = match (telemetry, client) {
        (Telemetry::None, _) | (Telemetry::ApplicationInsights, Some(_)) => return,
        (Telemetry::ApplicationInsights, None) => format!("00-{}-{}-00", random(32), random(16)),
        (Telemetry::Otlp, None) => format!("00-{}-{}-01", random(32), random(16)),
        (Telemetry::Otlp, Some(client)) => {
            let parts: Vec<&str> = client.split('-').collect();
            format!("{}-{}-{}-{}", parts[0], parts[1], random(16), parts[3])
        }
    };
    request.set("traceparent", &value);
}
