//! Computes for `?compute=` ms, then waits for `?ms=`.

use p3_test_guests::{ErrorCode, Request, Response, number, respond, sleep};
use std::time::{Duration, Instant};

async fn handle(request: Request) -> Result<Response, ErrorCode> {
    let (begun, time) = (Instant::now(), Duration::from_millis(number(&request, "compute").unwrap_or(0)));
    while begun.elapsed() < time {}
    sleep(&request).await;
    Ok(respond("computed"))
}

p3_test_guests::guest!(handle);
