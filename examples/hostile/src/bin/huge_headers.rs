//! Answers with 1 MiB of headers.

use test_guests::{IncomingRequest, ResponseOutparam, respond};

fn handle(_: IncomingRequest, outparam: ResponseOutparam) {
    let value = "x".repeat(1 << 10);
    respond(outparam, 200, &vec![("x-huge", value.as_str()); 1 << 10], b"");
}

test_guests::guest!(handle);
