//! Answers at once and works on for `?ms=`, then says so on standard output.

use std::time::Duration;
use test_guests::{IncomingRequest, ResponseOutparam, number, respond};

fn handle(request: IncomingRequest, outparam: ResponseOutparam) {
    respond(outparam, 200, &[("content-length", "4")], b"done");
    std::thread::sleep(Duration::from_millis(number(&request, "ms").unwrap_or(0)));
    println!("late work done");
}

test_guests::guest!(handle);
