//! Can answer only once in the life of an instance, like a guest whose framework was made for one request.

use std::sync::atomic::{AtomicBool, Ordering};
use test_guests::{IncomingRequest, ResponseOutparam, respond};

static ANSWERED: AtomicBool = AtomicBool::new(false);

fn handle(_request: IncomingRequest, outparam: ResponseOutparam) {
    assert!(!ANSWERED.swap(true, Ordering::Relaxed), "respondWith can't be called twice");
    respond(outparam, 200, &[], b"once");
}

test_guests::guest!(handle);
