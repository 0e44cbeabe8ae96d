//! Computes for ever.

use test_guests::{IncomingRequest, ResponseOutparam};

fn handle(_: IncomingRequest, _: ResponseOutparam) {
    loop {
        std::hint::black_box(0);
    }
}

test_guests::guest!(handle);
