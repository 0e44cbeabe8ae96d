//! Sends the request body back, unless it begins with a number that ten divides: then it traps.

use test_guests::{IncomingRequest, ResponseOutparam, read, respond};

fn handle(request: IncomingRequest, outparam: ResponseOutparam) {
    let mut body = Vec::new();
    read(&request, |chunk| {
        body.extend(chunk);
        true
    });
    let digits = body.split(|byte| *byte == b' ').next().unwrap_or_default();
    let number = std::str::from_utf8(digits).ok().and_then(|digits| digits.parse::<u32>().ok());
    assert!(number.is_none_or(|number| number % 10 != 0), "ten divides it");
    respond(outparam, 200, &[], &body);
}

test_guests::guest!(handle);
