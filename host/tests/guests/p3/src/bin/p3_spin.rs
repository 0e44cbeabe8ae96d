//! Computes without end: before its answer or, with `?after=1`, in the middle of it.

use p3_test_guests::{ErrorCode, Request, Response, begin, number, spawn_local};

async fn handle(request: Request) -> Result<Response, ErrorCode> {
    if number(&request, "after").is_none() {
        spin();
    }
    let (response, mut body, _end) = begin(&[]);
    spawn_local(async move {
        body.write_all(b"the beginning".to_vec()).await;
        spin();
    });
    Ok(response)
}

fn spin() -> ! {
    loop {
        std::hint::spin_loop();
    }
}

p3_test_guests::guest!(handle);
