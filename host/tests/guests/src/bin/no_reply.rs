//! Returns without an answer, after `?ms=` in which it is clear that there will be none.

use std::time::Duration;
use test_guests::{IncomingRequest, ResponseOutparam, number};

fn handle(request: IncomingRequest, outparam: ResponseOutparam) {
    drop(outparam);
    std::thread::sleep(Duration::from_millis(number(&request, "ms").unwrap_or(0)));
}

test_guests::guest!(handle);
