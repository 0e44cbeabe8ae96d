//! Answers, and traps once the answer has left.

use std::time::Duration;
use test_guests::{IncomingRequest, ResponseOutparam, respond};

fn handle(_: IncomingRequest, outparam: ResponseOutparam) {
    respond(outparam, 200, &[("content-length", "8")], b"answered");
    std::thread::sleep(Duration::from_millis(2));
    panic!("after the answer");
}

test_guests::guest!(handle);
