//! Begins its body, waits for `?ms=`, and traps in the middle of it.

use p3_test_guests::{ErrorCode, Request, Response, begin, sleep, spawn_local};

async fn handle(request: Request) -> Result<Response, ErrorCode> {
    let (response, mut body, _end) = begin(&[]);
    spawn_local(async move {
        body.write_all(b"the beginning".to_vec()).await;
        sleep(&request).await;
        body.write_all(vec![b'x'; 1 << 20]).await;
        panic!("after the head");
    });
    Ok(response)
}

p3_test_guests::guest!(handle);
