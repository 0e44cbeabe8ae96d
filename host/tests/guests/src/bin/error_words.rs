//! Reads the request's body, and says on standard output how that failed.

use test_guests::{IncomingRequest, ResponseOutparam, StreamError, respond};

fn handle(request: IncomingRequest, outparam: ResponseOutparam) {
    let body = request.consume().expect("taken once");
    let stream = body.stream().expect("taken once");
    let error = loop {
        match stream.blocking_read(64 * 1024) {
            Ok(_) => {}
            Err(StreamError::Closed) => break "none".to_owned(),
            Err(StreamError::LastOperationFailed(error)) => break error.to_debug_string(),
        }
    };
    println!("words of the error: {}", error.replace('\n', " "));
    respond(outparam, 200, &[], b"read");
}

test_guests::guest!(handle);
