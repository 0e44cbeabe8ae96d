//! Returns without an answer.

use test_guests::{IncomingRequest, ResponseOutparam};

fn handle(_: IncomingRequest, _: ResponseOutparam) {}

test_guests::guest!(handle);
