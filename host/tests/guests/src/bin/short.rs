//! Announces ten bytes and sends none.

use test_guests::{Fields, IncomingRequest, OutgoingResponse, ResponseOutparam};

fn handle(_: IncomingRequest, outparam: ResponseOutparam) {
    let headers = Fields::from_list(&[("content-length".to_owned(), b"10".to_vec())]).expect("valid headers");
    ResponseOutparam::set(outparam, Ok(OutgoingResponse::new(headers)));
}

test_guests::guest!(handle);
