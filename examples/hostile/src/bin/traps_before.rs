//! Traps before it answers.

use test_guests::{IncomingRequest, ResponseOutparam};

fn handle(_: IncomingRequest, _: ResponseOutparam) {
    panic!("before the answer");
}

test_guests::guest!(handle);
