//! Calls itself until its stack ends.

use test_guests::{IncomingRequest, ResponseOutparam};

#[expect(unconditional_recursion, reason = "the attack")]
fn deeper(depth: u64) -> u64 {
    std::hint::black_box(depth) + deeper(depth + 1)
}

fn handle(_: IncomingRequest, _: ResponseOutparam) {
    deeper(0);
}

test_guests::guest!(handle);
