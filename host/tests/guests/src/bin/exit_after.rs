//! Answers, or with `?half=1` begins to, and exits with success.

use test_guests::{IncomingRequest, OutgoingBody, ResponseOutparam, begin, number, write};

fn handle(request: IncomingRequest, outparam: ResponseOutparam) {
    let body = begin(outparam, 200, &[]);
    let stream = body.write().expect("taken once");
    write(&stream, b"answered");
    drop(stream);
    if number(&request, "half").is_none() {
        let _ = OutgoingBody::finish(body, None);
    }
    std::process::exit(0);
}

test_guests::guest!(handle);
