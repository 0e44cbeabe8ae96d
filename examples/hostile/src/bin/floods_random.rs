//! Wants as many random bytes as it gets in one call, for ever.

use test_guests::bindings::wasi::random::random::get_random_bytes;
use test_guests::{IncomingRequest, ResponseOutparam};

fn handle(_: IncomingRequest, _: ResponseOutparam) {
    loop {
        std::hint::black_box(get_random_bytes(64 << 10));
    }
}

test_guests::guest!(handle);
