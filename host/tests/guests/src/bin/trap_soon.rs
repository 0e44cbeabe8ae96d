//! Traps `?us=` microseconds after its head.

use std::time::{Duration, Instant};
use test_guests::{IncomingRequest, ResponseOutparam, begin, number};

fn handle(request: IncomingRequest, outparam: ResponseOutparam) {
    let time = Duration::from_micros(number(&request, "us").unwrap_or(0));
    let begun = Instant::now();
    let _body = begin(outparam, 200, &[]);
    while begun.elapsed() < time {}
    panic!("after the head");
}

test_guests::guest!(handle);
