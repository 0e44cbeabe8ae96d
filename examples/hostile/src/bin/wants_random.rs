//! Wants more random bytes than there is memory for.

use test_guests::bindings::wasi::random::random::get_random_bytes;
use test_guests::{IncomingRequest, ResponseOutparam};

fn handle(_: IncomingRequest, _: ResponseOutparam) {
    std::hint::black_box(get_random_bytes(u64::MAX));
}

test_guests::guest!(handle);
