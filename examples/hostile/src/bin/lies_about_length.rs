//! Announces one length and sends another, in a different way for each `?n=`. Believed, some of them would make the caller take
//! the rest of one answer for the beginning of the next.

use test_guests::{IncomingRequest, ResponseOutparam, number, respond};

const LIES: [&[&str]; 6] = [&["1000"], &["3"], &["-1"], &["0x17"], &["23, 23"], &["23", "3"]];

fn handle(request: IncomingRequest, outparam: ResponseOutparam) {
    let lie = number(&request, "n").unwrap_or(0) as usize % LIES.len();
    let headers: Vec<_> = LIES[lie].iter().map(|length| ("content-length", *length)).collect();
    respond(outparam, 200, &headers, b"ab\nHTTP/1.1 200 Forged\n");
}

test_guests::guest!(handle);
