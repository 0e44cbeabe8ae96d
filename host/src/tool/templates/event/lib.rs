//! The guest. Each event calls [`App::handle`] in an instance of its own; the body is what was sent, and headers tell about it.

mod bindings {
    wit_bindgen::generate!({ path: "wit", world: "guest", generate_all });
}

use bindings::exports::wasi::http::incoming_handler::Guest;
use bindings::wasi::http::types::{Fields, IncomingRequest, OutgoingBody, OutgoingResponse, ResponseOutparam};
use bindings::wasi::io::streams::StreamError;

struct App;

impl Guest for App {
    fn handle(request: IncomingRequest, outparam: ResponseOutparam) {
        let header = |name: &str| String::from_utf8_lossy(&request.headers().get(name).concat()).into_owned();
        let status = match read(&request) {
            Some(payload) => {
                println!("took {} {}: {} bytes", header("ce-type"), header("ce-id"), payload.len());
                204
            }
            None => 500,
        };
        // 2xx: the event is done, and a body would be the value of an output binding. After anything else Azure tries again, if it can.
        let response = OutgoingResponse::new(Fields::new());
        response.set_status_code(status).expect("it is a status");
        let body = response.body().expect("the body is taken once");
        ResponseOutparam::set(outparam, Ok(response));
        let _ = OutgoingBody::finish(body, None);
    }
}

bindings::export!(App with_types_in bindings);

/// The whole body. None if it broke off.
fn read(request: &IncomingRequest) -> Option<Vec<u8>> {
    let body = request.consume().expect("the body is taken once");
    let stream = body.stream().expect("the stream is taken once");
    let mut bytes = Vec::new();
    loop {
        match stream.blocking_read(64 * 1024) {
            Ok(chunk) => bytes.extend(chunk),
            Err(StreamError::Closed) => return Some(bytes),
            Err(StreamError::LastOperationFailed(_)) => return None,
        }
    }
}
