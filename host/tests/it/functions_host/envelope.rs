//! A client's request to a function that is called with an envelope.

use super::{Body, Request};
use flexwasm::send::envelope::{Envelope, Function};
use flexwasm::send::request;

/// The envelope of the request; `params` are those of the route, none for one left out.
pub fn http(function: &Function, client: &Request, params: &[(&str, Option<&str>)]) -> Envelope {
    // The Functions host does not see a chunked body.
    let body = match &client.body {
        Body::Sized(bytes) if !bytes.is_empty() => Some(&bytes[..]),
        _ => None,
    };
    let url = format!("http://{}{}", client.header("host").unwrap(), client.target);
    let (method, headers) = (&*client.method, &client.headers[..]);
    Envelope::http(function, &request::Request { method, url: &url, headers, params, body })
}
