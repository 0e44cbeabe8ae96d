//! Writes `?chunks=` chunks of a body before anything can read it: of its response, or with `?request=1` of a request that it
//! has yet to send. With `?wait=poll`, `block` or `beside` it asks for room and waits for it; the last one waits ten milliseconds at the most.

use test_guests::bindings::wasi::clocks::monotonic_clock::subscribe_duration;
use test_guests::bindings::wasi::http::types::OutgoingRequest;
use test_guests::bindings::wasi::io::poll::poll;
use test_guests::bindings::wasi::io::streams::OutputStream;
use test_guests::{
    Fields, IncomingRequest, OutgoingBody, OutgoingResponse, ResponseOutparam, number, parameter, respond,
};

fn handle(request: IncomingRequest, outparam: ResponseOutparam) {
    let chunks = number(&request, "chunks").expect("a number");
    let wait = parameter(&request, "wait");
    if number(&request, "request").is_some() {
        write(&OutgoingRequest::new(Fields::new()).body().expect("taken once"), chunks, wait.as_deref());
        return respond(outparam, 200, &[], b"written");
    }
    let response = OutgoingResponse::new(Fields::new());
    let body = response.body().expect("taken once");
    write(&body, chunks, wait.as_deref());
    ResponseOutparam::set(outparam, Ok(response));
    let _ = OutgoingBody::finish(body, None);
}

fn write(body: &OutgoingBody, chunks: u64, wait: Option<&str>) {
    let stream = body.write().expect("taken once");
    for _ in 0..chunks {
        let Some(wait) = wait else {
            stream.blocking_write_and_flush(&[b'x'; 4096]).expect("somebody reads");
            continue;
        };
        while stream.check_write().expect("somebody reads") < 4096 {
            if !has_room(&stream, wait) {
                return;
            }
        }
        stream.write(&[b'x'; 4096]).expect("there is room");
        stream.flush().expect("somebody reads");
    }
}

fn has_room(stream: &OutputStream, wait: &str) -> bool {
    match wait {
        "block" => stream.subscribe().block(),
        "poll" => drop(poll(&[&stream.subscribe(), &stream.subscribe()])),
        _ => return poll(&[&subscribe_duration(10_000_000), &stream.subscribe()]) == [1],
    }
    true
}

test_guests::guest!(handle);
