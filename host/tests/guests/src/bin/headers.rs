//! Answers with `?count=` headers, each `?length=` bytes long with all that belongs to its line.

use test_guests::{IncomingRequest, ResponseOutparam, number, respond};

fn handle(request: IncomingRequest, outparam: ResponseOutparam) {
    let asked = |name| number(&request, name).unwrap_or(0);
    let names: Vec<_> = (0..asked("count")).map(|n| format!("x-{n:06}")).collect();
    // Colon, space and the two bytes at the end of the line.
    let value = "y".repeat(usize::try_from(asked("length")).expect("it fits") - "x-000000".len() - 4);
    let headers: Vec<_> = names.iter().map(|name| (name.as_str(), value.as_str())).collect();
    respond(outparam, 200, &headers, b"");
}

test_guests::guest!(handle);
