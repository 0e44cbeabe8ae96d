//! Answers `?status=` and announces ten bytes, waits for `?ms=`, and sends none.

use std::time::Duration;
use test_guests::{Fields, IncomingRequest, OutgoingResponse, ResponseOutparam, number};

fn handle(request: IncomingRequest, outparam: ResponseOutparam) {
    let headers = Fields::from_list(&[("content-length".to_owned(), b"10".to_vec())]).expect("valid headers");
    let response = OutgoingResponse::new(headers);
    let status = number(&request, "status").unwrap_or(200);
    response.set_status_code(u16::try_from(status).expect("a status")).expect("a valid status");
    ResponseOutparam::set(outparam, Ok(response));
    std::thread::sleep(Duration::from_millis(number(&request, "ms").unwrap_or(0)));
}

test_guests::guest!(handle);
