//! Begins a body, and leaves it open when it ends.

use p3_test_guests::{ErrorCode, Request, Response, begin, spawn_local};

async fn handle(_: Request) -> Result<Response, ErrorCode> {
    let (response, mut body, end) = begin(&[]);
    spawn_local(async move {
        body.write_all(b"the beginning".to_vec()).await;
        std::mem::forget((body, end));
    });
    Ok(response)
}

p3_test_guests::guest!(handle);
