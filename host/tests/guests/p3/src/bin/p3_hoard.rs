//! Makes the host keep as much for it as it can: streams and futures or, with `?calls=1`, calls that do not end.

use p3_test_guests::bindings::wit_stream;
use p3_test_guests::{End, ErrorCode, Request, Response, number, wait_for, wit_future};
use std::mem::forget;
use std::task::{Context, Waker};

async fn handle(request: Request) -> Result<Response, ErrorCode> {
    let calls = number(&request, "calls").is_some();
    loop {
        if calls {
            let mut call = Box::pin(wait_for(u64::MAX));
            let _ = call.as_mut().poll(&mut Context::from_waker(Waker::noop()));
            forget(call);
        } else {
            forget((wit_future::new::<End>(|| Ok(None)), wit_stream::new::<u8>()));
        }
    }
}

p3_test_guests::guest!(handle);
