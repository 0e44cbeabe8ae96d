//! Waits for `?ms=` and traps before it has answered.

use p3_test_guests::{ErrorCode, Request, Response, sleep};

async fn handle(request: Request) -> Result<Response, ErrorCode> {
    sleep(&request).await;
    panic!("the secret inside")
}

p3_test_guests::guest!(handle);
