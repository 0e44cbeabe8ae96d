//! Traps before it answers.

use test_guests::{IncomingRequest, ResponseOutparam};

fn handle(_: IncomingRequest, _: ResponseOutparam) {
    panic!("the secret inside");
}

test_guests::guest!(handle);
