//! Traps in the middle of its body; announces a length with `?length=`.

use test_guests::{IncomingRequest, ResponseOutparam, begin, number, write};

fn handle(request: IncomingRequest, outparam: ResponseOutparam) {
    let length = number(&request, "length").map(|length| length.to_string());
    let headers: Vec<_> = length.iter().map(|length| ("content-length", length.as_str())).collect();
    let body = begin(outparam, 200, &headers);
    let stream = body.write().expect("taken once");
    // More than the host buffers, so that the head is on its way.
    for _ in 0..64 {
        write(&stream, &[b'x'; 4096]);
    }
    panic!("after the head");
}

test_guests::guest!(handle);
