//! Starts timers and never lets go of one.

use test_guests::bindings::wasi::clocks::monotonic_clock::subscribe_duration;
use test_guests::{IncomingRequest, ResponseOutparam};

fn handle(_: IncomingRequest, _: ResponseOutparam) {
    for nanoseconds in 0..=u64::MAX {
        std::mem::forget(subscribe_duration(nanoseconds));
    }
}

test_guests::guest!(handle);
