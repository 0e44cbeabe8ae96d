//! Counts its requests in its own memory: 1, 1, 1 where every request gets a fresh instance.

use std::sync::atomic::{AtomicU32, Ordering};
use test_guests::{IncomingRequest, ResponseOutparam, respond};

static REQUESTS: AtomicU32 = AtomicU32::new(0);

fn handle(_: IncomingRequest, outparam: ResponseOutparam) {
    let served = REQUESTS.fetch_add(1, Ordering::Relaxed) + 1;
    respond(outparam, 200, &[], served.to_string().as_bytes());
}

test_guests::guest!(handle);
