//! Answers with a body that has no end.

use test_guests::{IncomingRequest, ResponseOutparam, begin, write};

fn handle(_: IncomingRequest, outparam: ResponseOutparam) {
    let body = begin(outparam, 200, &[]);
    let stream = body.write().expect("taken once");
    while write(&stream, &[b'x'; 4096]) {}
}

test_guests::guest!(handle);
