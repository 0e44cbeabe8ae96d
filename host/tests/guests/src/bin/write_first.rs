//! Writes `?chunks=` chunks of a body before anything can read it: of its response, or with `?request=1` of a request that it
//! has yet to send.

use test_guests::bindings::wasi::http::types::OutgoingRequest;
use test_guests::{Fields, IncomingRequest, OutgoingBody, OutgoingResponse, ResponseOutparam, number, respond};

fn handle(request: IncomingRequest, outparam: ResponseOutparam) {
    let chunks = number(&request, "chunks").expect("a number");
    if number(&request, "request").is_some() {
        write(&OutgoingRequest::new(Fields::new()).body().expect("taken once"), chunks);
        return respond(outparam, 200, &[], b"written");
    }
    let response = OutgoingResponse::new(Fields::new());
    let body = response.body().expect("taken once");
    write(&body, chunks);
    ResponseOutparam::set(outparam, Ok(response));
    let _ = OutgoingBody::finish(body, None);
}

fn write(body: &OutgoingBody, chunks: u64) {
    let stream = body.write().expect("taken once");
    for _ in 0..chunks {
        stream.blocking_write_and_flush(&[b'x'; 4096]).expect("somebody reads");
    }
}

test_guests::guest!(handle);
