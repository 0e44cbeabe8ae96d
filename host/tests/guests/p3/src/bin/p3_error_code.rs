//! Answers with an error in place of a response.

use p3_test_guests::{ErrorCode, Request, Response};

async fn handle(_: Request) -> Result<Response, ErrorCode> {
    Err(ErrorCode::LoopDetected)
}

p3_test_guests::guest!(handle);
