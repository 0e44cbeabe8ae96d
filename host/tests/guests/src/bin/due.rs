//! Waits for a moment, and `?times=` more for the same one, which has passed; then answers.

use test_guests::bindings::wasi::clocks::monotonic_clock::subscribe_duration;
use test_guests::{IncomingRequest, ResponseOutparam, number, respond};

fn handle(request: IncomingRequest, outparam: ResponseOutparam) {
    let moment = subscribe_duration(1);
    for _ in 0..=number(&request, "times").unwrap_or(0) {
        moment.block();
    }
    drop(moment);
    respond(outparam, 200, &[], b"waited");
}

test_guests::guest!(handle);
