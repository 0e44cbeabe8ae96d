//! Answers with an error in place of a response.

use test_guests::bindings::wasi::http::types::ErrorCode;
use test_guests::{IncomingRequest, ResponseOutparam};

fn handle(_: IncomingRequest, outparam: ResponseOutparam) {
    ResponseOutparam::set(outparam, Err(ErrorCode::InternalError(Some("the secret inside".to_owned()))));
}

test_guests::guest!(handle);
