//! The demonstration guest: `GET|POST /api/http_trigger?name=&delay=`.
//!
//! It sleeps for `delay` seconds, so that concurrent requests overlap, and answers with a JSON receipt: which process,
//! thread, instance and slot ran it, when, and on what machine. While it sleeps it holds one pooled instance and no
//! thread. This file is meant to be copied: everything that a guest needs stands here or in `receipt`.

#![expect(unsafe_code, reason = "the generated exports of the component")]

mod bindings {
    wit_bindgen::generate!({ path: "../wit", world: "guest", generate_all });
}
mod receipt;

use bindings::exports::wasi::http::incoming_handler::Guest;
use bindings::flexwasm::host::diagnostics;
use bindings::wasi::http::types::{Fields, IncomingRequest, Method, OutgoingBody, OutgoingResponse, ResponseOutparam};
use bindings::wasi::io::streams::StreamError;
use receipt::{BadRequest, Receipt};
use std::time::{Duration, Instant, SystemTime};

/// A JSON body that carries only a name is never longer; what follows is not read.
const BODY_LIMIT: u64 = 64 * 1024;

struct Demonstration;

impl Guest for Demonstration {
    fn handle(request: IncomingRequest, outparam: ResponseOutparam) {
        let (status, body) = match answer(&request) {
            Ok(receipt) => (200, receipt.to_json()),
            Err(problem) => (400, problem.to_json()),
        };
        respond(outparam, status, &body);
    }
}

bindings::export!(Demonstration with_types_in bindings);

fn answer(request: &IncomingRequest) -> Result<Receipt, BadRequest> {
    let started = (SystemTime::now(), Instant::now());
    let before = diagnostics::describe();
    let path = request.path_with_query().unwrap_or_default();
    let query = path.split_once('?').map_or("", |(_, query)| query);

    let delay = receipt::delay(query, Duration::from_millis(before.invocation.timeout_ms))?;
    let name = match receipt::name_in_query(query) {
        Some(name) => Some(name),
        None if matches!(request.method(), Method::Post) => receipt::name_in_body(&read(request)?)?,
        None => None,
    };
    // wasi:clocks under the hood: the host parks this instance and its thread serves others meanwhile.
    std::thread::sleep(delay);

    Ok(Receipt {
        name,
        delay,
        started: started.0,
        elapsed: started.1.elapsed(),
        before,
        thread_at_end: diagnostics::current_thread(),
    })
}

/// The request body, up to [`BODY_LIMIT`].
fn read(request: &IncomingRequest) -> Result<Vec<u8>, BadRequest> {
    let body = request.consume().map_err(|()| BadRequest::body("was read twice"))?;
    let stream = body.stream().map_err(|()| BadRequest::body("was read twice"))?;
    let mut bytes = Vec::new();
    loop {
        match stream.blocking_read(BODY_LIMIT) {
            Ok(chunk) => bytes.extend(chunk),
            Err(StreamError::Closed) => return Ok(bytes),
            Err(StreamError::LastOperationFailed(_)) => return Err(BadRequest::body("broke off")),
        }
        if bytes.len() as u64 > BODY_LIMIT {
            return Err(BadRequest::body("is longer than 64 KiB"));
        }
    }
}

/// Sends the whole answer with as few calls to the host as there can be: one list of headers, one write.
fn respond(outparam: ResponseOutparam, status: u16, body: &str) {
    let headers = [("content-type", "application/json".to_owned()), ("content-length", body.len().to_string())];
    let headers = Fields::from_list(&headers.map(|(name, value)| (name.to_owned(), value.into_bytes())))
        .expect("both header names and values are valid");
    let response = OutgoingResponse::new(headers);
    response.set_status_code(status).expect("the status is 200 or 400");
    let outgoing = response.body().expect("the body is taken once");
    ResponseOutparam::set(outparam, Ok(response));

    // A failed write means that the caller has gone, so there is nothing left to report.
    let stream = outgoing.write().expect("the stream is taken once");
    let _ = stream.blocking_write_and_flush(body.as_bytes());
    drop(stream);
    let _ = OutgoingBody::finish(outgoing, None);
}
