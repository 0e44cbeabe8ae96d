//! Reads the whole request body and answers its length.

use test_guests::{IncomingRequest, ResponseOutparam, read, respond};

fn handle(request: IncomingRequest, outparam: ResponseOutparam) {
    let mut length = 0;
    read(&request, |chunk| {
        length += chunk.len();
        true
    });
    respond(outparam, 200, &[], length.to_string().as_bytes());
}

test_guests::guest!(handle);
