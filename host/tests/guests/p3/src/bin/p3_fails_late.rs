//! Ends its body with an error.

use p3_test_guests::{ErrorCode, Request, Response, begin, spawn_local};

async fn handle(_: Request) -> Result<Response, ErrorCode> {
    let (response, mut body, end) = begin(&[]);
    spawn_local(async move {
        body.write_all(b"the beginning".to_vec()).await;
        drop(body);
        let _ = end.write(Err(ErrorCode::InternalError(None))).await;
    });
    Ok(response)
}

p3_test_guests::guest!(handle);
