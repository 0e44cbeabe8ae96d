//! Counts its requests in its own memory, then waits for `?ms=`.

use p3_test_guests::{ErrorCode, Request, Response, respond, sleep};
use std::sync::atomic::{AtomicU32, Ordering};

static REQUESTS: AtomicU32 = AtomicU32::new(0);

async fn handle(request: Request) -> Result<Response, ErrorCode> {
    let served = REQUESTS.fetch_add(1, Ordering::Relaxed) + 1;
    sleep(&request).await;
    Ok(respond(served.to_string()))
}

p3_test_guests::guest!(handle);
