//! Two functions of one guest, which holds no secret: the path says whose request it is.
//!
//! | function | what it does | what it is granted |
//! |---|---|---|
//! | `counter` | counts, for all callers at once | the store `counters`, wherever the owner keeps it |
//! | `report` | reads a blob | the URL of the blob, and requests to its server, to which the host adds a token |

#![expect(unsafe_code, reason = "the generated exports of the component")]

mod bindings {
    wit_bindgen::generate!({ path: "../../../wit", world: "state-guest", generate_all });
}

use bindings::exports::wasi::http::incoming_handler::Guest;
use bindings::wasi::config::store as config;
use bindings::wasi::http::outgoing_handler;
use bindings::wasi::http::types::{
    Fields, IncomingRequest, IncomingResponse, OutgoingBody, OutgoingRequest, OutgoingResponse, ResponseOutparam,
    Scheme,
};
use bindings::wasi::io::streams::StreamError;
use bindings::wasi::keyvalue0_2_0_draft2::{atomics, store};

struct Grants;

impl Guest for Grants {
    fn handle(request: IncomingRequest, outparam: ResponseOutparam) {
        let path = request.path_with_query().unwrap_or_default();
        let path = path.split('?').next().unwrap_or_default();
        let answer = match path.rsplit_once("/counter/") {
            Some((_, name)) => count(name).map(|number| format!("{number}\n").into_bytes()),
            None => report(),
        };
        match answer {
            Ok(body) => respond(outparam, 200, &body),
            Err(why) => respond(outparam, 502, format!("{why}\n").as_bytes()),
        }
    }
}

bindings::export!(Grants with_types_in bindings);

/// No increment is lost, however many instances count at the same time.
fn count(name: &str) -> Result<i64, String> {
    let counters = store::open("counters").map_err(|error| format!("{error:?}"))?;
    atomics::increment(&counters, name, 1).map_err(|error| format!("{error:?}"))
}

/// Asks for the blob as anybody would. The host adds the token; this code never has it.
fn report() -> Result<Vec<u8>, String> {
    let url = config::get("REPORT_URL").map_err(|error| format!("{error:?}"))?.ok_or("REPORT_URL is not granted")?;
    let (scheme, rest) = url.split_once("://").ok_or("REPORT_URL is no URL")?;
    let (authority, path) = rest.split_at(rest.find('/').ok_or("REPORT_URL names no blob")?);
    let scheme = if scheme == "https" { Scheme::Https } else { Scheme::Http };
    let request = OutgoingRequest::new(Fields::new());
    let set = request.set_scheme(Some(&scheme)).is_ok()
        && request.set_authority(Some(authority)).is_ok()
        && request.set_path_with_query(Some(path)).is_ok();
    if !set {
        return Err("REPORT_URL is no URL".to_owned());
    }
    let sent = outgoing_handler::handle(request, None).map_err(|code| format!("{code:?}"))?;
    sent.subscribe().block();
    let answer = sent.get().expect("it is ready").expect("it is taken once").map_err(|code| format!("{code:?}"))?;
    match answer.status() {
        200 => read(&answer).ok_or_else(|| "the blob broke off".to_owned()),
        status => Err(format!("the storage account answered {status}")),
    }
}

/// The whole body; none if it broke off.
fn read(answer: &IncomingResponse) -> Option<Vec<u8>> {
    let body = answer.consume().ok()?;
    let stream = body.stream().ok()?;
    let mut bytes = Vec::new();
    loop {
        match stream.blocking_read(64 * 1024) {
            Ok(chunk) => bytes.extend(chunk),
            Err(StreamError::Closed) => return Some(bytes),
            Err(StreamError::LastOperationFailed(_)) => return None,
        }
    }
}

fn respond(outparam: ResponseOutparam, status: u16, text: &[u8]) {
    let headers = [("content-type".to_owned(), b"text/plain".to_vec())];
    let response = OutgoingResponse::new(Fields::from_list(&headers).expect("a name and a value"));
    response.set_status_code(status).expect("a status");
    let outgoing = response.body().expect("the body is taken once");
    ResponseOutparam::set(outparam, Ok(response));
    let stream = outgoing.write().expect("the stream is taken once");
    for piece in text.chunks(4096) {
        // A failed write means that nobody waits any more.
        let _ = stream.blocking_write_and_flush(piece);
    }
    drop(stream);
    let _ = OutgoingBody::finish(outgoing, None);
}
