//! Sends every chunk of the request body back as soon as it arrives, and its trailers after it.

use p3_test_guests::{ErrorCode, Request, Response, begin, consume, copy, spawn_local};

async fn handle(request: Request) -> Result<Response, ErrorCode> {
    let (response, mut body, end) = begin(&[("trailer", "x-sum")]);
    let (from, trailers) = consume(request);
    spawn_local(async move {
        copy(from, &mut body).await;
        drop(body);
        let _ = end.write(trailers.await).await;
    });
    Ok(response)
}

p3_test_guests::guest!(handle);
