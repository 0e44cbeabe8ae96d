//! Takes memory until it gets no more.

use test_guests::{IncomingRequest, ResponseOutparam};

fn handle(_: IncomingRequest, _: ResponseOutparam) {
    let mut hoard = Vec::new();
    loop {
        hoard.push(vec![1u8; 1 << 20]);
        std::hint::black_box(&hoard);
    }
}

test_guests::guest!(handle);
