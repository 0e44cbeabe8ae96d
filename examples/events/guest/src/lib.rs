//! Three functions of one guest: every event is a request, and the path says whose it is.
//!
//! | function | what arrives | what the answer becomes |
//! |---|---|---|
//! | `nightly` | the timer's tick | nothing |
//! | `orders` | a queue message | a blob, the receipt |
//! | `intake` | a client's request | a queue message, and the client's answer |

#![expect(unsafe_code, reason = "the generated exports of the component")]

mod bindings {
    wit_bindgen::generate!({ path: "../../../wit", world: "plain-guest", generate_all });
}

use bindings::exports::wasi::http::incoming_handler::Guest;
use bindings::wasi::http::types::{Fields, IncomingRequest, OutgoingBody, OutgoingResponse, ResponseOutparam};
use bindings::wasi::io::streams::StreamError;
use serde_json::json;

struct Events;

impl Guest for Events {
    fn handle(request: IncomingRequest, outparam: ResponseOutparam) {
        let path = request.path_with_query().unwrap_or_default();
        let answer = match (path.as_str(), read(&request)) {
            (_, None) => Answer { status: 400, kind: "text/plain", body: b"the body broke off".to_vec() },
            ("/nightly", Some(_)) => nightly(),
            ("/orders", Some(order)) => orders(&request, &order),
            (_, Some(order)) => intake(&order),
        };
        respond(outparam, &answer);
    }
}

bindings::export!(Events with_types_in bindings);

/// What a function says.
struct Answer {
    status: u16,
    kind: &'static str,
    body: Vec<u8>,
}

/// An empty body is no output.
fn nightly() -> Answer {
    println!("it is night");
    Answer { status: 204, kind: "text/plain", body: Vec::new() }
}

/// The body is the value of the only output binding. A status that is no success makes Azure try again.
fn orders(request: &IncomingRequest, order: &[u8]) -> Answer {
    let header =
        |name: &str| request.headers().get(name).first().map(|value| String::from_utf8_lossy(value).into_owned());
    if order.is_empty() {
        return Answer { status: 500, kind: "text/plain", body: b"an order has at least one letter".to_vec() };
    }
    let id = header("ce-id").unwrap_or_default();
    println!("order {id} is taken");
    let receipt = format!("receipt of order {id}\n{}\n", String::from_utf8_lossy(order));
    Answer { status: 200, kind: "text/plain", body: receipt.into_bytes() }
}

/// Several outputs are an object by the names of the bindings.
fn intake(order: &[u8]) -> Answer {
    let outputs = json!({
        "order": String::from_utf8_lossy(order),
        "res": { "statusCode": 202, "body": "your order is in the queue\n" },
    });
    Answer { status: 200, kind: "application/vnd.flexwasm.outputs+json", body: outputs.to_string().into_bytes() }
}

/// The whole body; none if it broke off.
fn read(request: &IncomingRequest) -> Option<Vec<u8>> {
    let body = request.consume().ok()?;
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

fn respond(outparam: ResponseOutparam, answer: &Answer) {
    let headers = [("content-type".to_owned(), answer.kind.into())];
    let response = OutgoingResponse::new(Fields::from_list(&headers).expect("a name and a value"));
    response.set_status_code(answer.status).expect("a status");
    let outgoing = response.body().expect("the body is taken once");
    ResponseOutparam::set(outparam, Ok(response));
    let stream = outgoing.write().expect("the stream is taken once");
    for piece in answer.body.chunks(4096) {
        // A failed write means that nobody waits any more.
        let _ = stream.blocking_write_and_flush(piece);
    }
    drop(stream);
    let _ = OutgoingBody::finish(outgoing, None);
}
