//! The example of the wstd library, near enough.

use wstd::http::{Body, Error, Request, Response};

#[wstd::http_server]
async fn main(request: Request<Body>) -> Result<Response<Body>, Error> {
    wstd::task::sleep(wstd::time::Duration::from_millis(1)).await;
    Ok(Response::new(format!("stock: {}\n", request.uri().path()).into()))
}
