//! Computes for `?compute=` ms, then sleeps for `?sleep=` ms; `?rounds=` times, else without end.

use std::time::{Duration, Instant};
use test_guests::{IncomingRequest, ResponseOutparam, number, respond};

fn handle(request: IncomingRequest, outparam: ResponseOutparam) {
    let [compute, sleep] = ["compute", "sleep"].map(|name| Duration::from_millis(number(&request, name).unwrap_or(0)));
    for _ in 0..number(&request, "rounds").unwrap_or(u64::MAX) {
        let begun = Instant::now();
        while begun.elapsed() < compute {}
        std::thread::sleep(sleep);
    }
    respond(outparam, 200, &[], b"computed");
}

test_guests::guest!(handle);
