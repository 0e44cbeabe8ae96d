//! Announces ten bytes, waits for `?ms=`, and sends none.

use std::time::Duration;
use test_guests::{Fields, IncomingRequest, OutgoingResponse, ResponseOutparam, number};

fn handle(request: IncomingRequest, outparam: ResponseOutparam) {
    let headers = Fields::from_list(&[("content-length".to_owned(), b"10".to_vec())]).expect("valid headers");
    ResponseOutparam::set(outparam, Ok(OutgoingResponse::new(headers)));
    std::thread::sleep(Duration::from_millis(number(&request, "ms").unwrap_or(0)));
}

test_guests::guest!(handle);
