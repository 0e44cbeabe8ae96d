//! Traps in the middle of its answer.

use test_guests::{IncomingRequest, ResponseOutparam, begin, write};

fn handle(_: IncomingRequest, outparam: ResponseOutparam) {
    let body = begin(outparam, 200, &[]);
    let stream = body.write().expect("taken once");
    // More than the host keeps, so that the caller has the beginning.
    for _ in 0..64 {
        write(&stream, &[b'x'; 4096]);
    }
    panic!("during the answer");
}

test_guests::guest!(handle);
