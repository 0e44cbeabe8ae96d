//! Makes the request's body its own without touching it.

use p3_test_guests::{ErrorCode, Request, Response, consume, fields};

async fn handle(request: Request) -> Result<Response, ErrorCode> {
    let (contents, trailers) = consume(request);
    Ok(Response::new(fields(&[("trailer", "x-sum")]), Some(contents), trailers).0)
}

p3_test_guests::guest!(handle);
