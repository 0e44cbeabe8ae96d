//! Answers at once and works on for `?ms=`, then says so on standard output.

use p3_test_guests::{ErrorCode, Request, Response, respond, sleep, spawn_local};

async fn handle(request: Request) -> Result<Response, ErrorCode> {
    spawn_local(async move {
        sleep(&request).await;
        println!("late work done");
    });
    Ok(respond("done"))
}

p3_test_guests::guest!(handle);
