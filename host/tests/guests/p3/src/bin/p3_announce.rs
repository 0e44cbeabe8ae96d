//! Answers `?status=` with the content-length `?length=`, if there is one, and an empty body. Then it works on for `?ms=` and
//! says so on standard output.

use p3_test_guests::{ErrorCode, Request, Response, fields, number, sleep, spawn_local, wit_future};

async fn handle(request: Request) -> Result<Response, ErrorCode> {
    let status = u16::try_from(number(&request, "status").unwrap_or(200)).expect("a status");
    let length = number(&request, "length").map(|length| length.to_string());
    let headers = length.iter().map(|length| ("content-length", length.as_str())).collect::<Vec<_>>();
    let (end, trailers) = wit_future::new(|| Ok(None));
    drop(end);
    let (response, _) = Response::new(fields(&headers), None, trailers);
    response.set_status_code(status).expect("a valid status");
    spawn_local(async move {
        sleep(&request).await;
        println!("late work done");
    });
    Ok(response)
}

p3_test_guests::guest!(handle);
