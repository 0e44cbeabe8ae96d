//! Waits for `?ms=` and returns with its body neither finished nor dropped.

use std::time::Duration;
use test_guests::{IncomingRequest, ResponseOutparam, begin, number, write};

fn handle(request: IncomingRequest, outparam: ResponseOutparam) {
    let body = begin(outparam, 200, &[]);
    let stream = body.write().expect("taken once");
    write(&stream, b"half");
    std::thread::sleep(Duration::from_millis(number(&request, "ms").unwrap_or(0)));
    std::mem::forget((stream, body));
}

test_guests::guest!(handle);
