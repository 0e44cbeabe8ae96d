//! Writes without end and without a pause.

use p3_test_guests::{ErrorCode, Request, Response, begin, spawn_local};

async fn handle(_: Request) -> Result<Response, ErrorCode> {
    let (response, mut body, _end) = begin(&[]);
    spawn_local(async move { while body.write_all(vec![b'x'; 64 << 10]).await.is_empty() {} });
    Ok(response)
}

p3_test_guests::guest!(handle);
