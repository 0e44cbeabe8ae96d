//! Moves memory about in instructions that take as long as they can.

use test_guests::{IncomingRequest, ResponseOutparam};

fn handle(_: IncomingRequest, _: ResponseOutparam) {
    let mut memory = vec![1_u8; 12 << 20];
    loop {
        memory.copy_within(1.., 0);
        std::hint::black_box(&memory);
    }
}

test_guests::guest!(handle);
