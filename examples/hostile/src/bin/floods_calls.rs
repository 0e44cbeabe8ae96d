//! Calls the host as often as it can.

use test_guests::bindings::wasi::clocks::monotonic_clock;
use test_guests::{IncomingRequest, ResponseOutparam};

fn handle(_: IncomingRequest, _: ResponseOutparam) {
    loop {
        std::hint::black_box(monotonic_clock::now());
    }
}

test_guests::guest!(handle);
