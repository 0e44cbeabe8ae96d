//! Ends the process that it believes to be its own.

use test_guests::{IncomingRequest, ResponseOutparam};

fn handle(_: IncomingRequest, _: ResponseOutparam) {
    std::process::exit(0);
}

test_guests::guest!(handle);
