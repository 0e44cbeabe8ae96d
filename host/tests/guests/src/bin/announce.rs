//! Answers `?status=` with the content-length `?length=`, if there is one, and an empty body that it finishes. Then it works on
//! for `?ms=` and says so on standard output.

use std::time::Duration;
use test_guests::{IncomingRequest, OutgoingBody, ResponseOutparam, begin, number};

fn handle(request: IncomingRequest, outparam: ResponseOutparam) {
    let status = u16::try_from(number(&request, "status").unwrap_or(200)).expect("a status");
    let length = number(&request, "length").map(|length| length.to_string());
    let headers = length.iter().map(|length| ("content-length", length.as_str())).collect::<Vec<_>>();
    let body = begin(outparam, status, &headers);
    OutgoingBody::finish(body, None).expect("an answer without a body may tell its length");
    std::thread::sleep(Duration::from_millis(number(&request, "ms").unwrap_or(0)));
    println!("late work done");
}

test_guests::guest!(handle);
