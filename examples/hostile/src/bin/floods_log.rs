//! Prints a megabyte for each request.

use test_guests::{IncomingRequest, ResponseOutparam, respond};

fn handle(_: IncomingRequest, outparam: ResponseOutparam) {
    for _ in 0..1 << 10 {
        println!("{}", "\x07".repeat(1 << 10));
    }
    respond(outparam, 200, &[], b"printed");
}

test_guests::guest!(handle);
