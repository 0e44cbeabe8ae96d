//! Answers with the trace headers that it was given, a line each.

use test_guests::{IncomingRequest, ResponseOutparam, respond};

fn handle(request: IncomingRequest, outparam: ResponseOutparam) {
    let headers = request.headers();
    let lines = ["traceparent", "tracestate"].into_iter().flat_map(|name| {
        let values = headers.get(name).into_iter();
        values.map(move |value| format!("{name}: {}\n", String::from_utf8_lossy(&value)))
    });
    let text: String = lines.collect();
    println!("traced");
    respond(outparam, 200, &[], text.as_bytes());
}

test_guests::guest!(handle);
