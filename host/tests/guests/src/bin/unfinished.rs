//! Returns with its body neither finished nor dropped.

use test_guests::{IncomingRequest, ResponseOutparam, begin, write};

fn handle(_: IncomingRequest, outparam: ResponseOutparam) {
    let body = begin(outparam, 200, &[]);
    let stream = body.write().expect("taken once");
    write(&stream, b"half");
    std::mem::forget((stream, body));
}

test_guests::guest!(handle);
