//! Sleeps for `?ms=` and answers; does not read the request body.

use std::time::Duration;
use test_guests::{IncomingRequest, ResponseOutparam, number, respond};

fn handle(request: IncomingRequest, outparam: ResponseOutparam) {
    std::thread::sleep(Duration::from_millis(number(&request, "ms").unwrap_or(0)));
    respond(outparam, 200, &[], b"slept");
}

test_guests::guest!(handle);
