//! Server-sent events: one every `?ms=`, `?count=` of them, else without end.

use std::time::Duration;
use test_guests::{IncomingRequest, OutgoingBody, ResponseOutparam, begin, number, write};

fn handle(request: IncomingRequest, outparam: ResponseOutparam) {
    let pause = Duration::from_millis(number(&request, "ms").unwrap_or(0));
    let count = number(&request, "count").unwrap_or(u64::MAX);
    let body = begin(outparam, 200, &[("content-type", "text/event-stream")]);
    let stream = body.write().expect("taken once");
    for event in 1..=count {
        if !write(&stream, format!("data: {event}\n\n").as_bytes()) {
            return;
        }
        std::thread::sleep(pause);
    }
    drop(stream);
    let _ = OutgoingBody::finish(body, None);
}

test_guests::guest!(handle);
