//! Answers `?code=` with two cookies, a location and a body.

use test_guests::{IncomingRequest, ResponseOutparam, number, respond};

fn handle(request: IncomingRequest, outparam: ResponseOutparam) {
    let code = u16::try_from(number(&request, "code").unwrap_or(200)).expect("a status");
    let headers = [("set-cookie", "a=1"), ("set-cookie", "b=2"), ("location", "/elsewhere")];
    respond(outparam, code, &headers, b"the body");
}

test_guests::guest!(handle);
