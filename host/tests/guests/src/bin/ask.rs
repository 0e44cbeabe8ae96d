//! Hands `?bytes=` to the host in one call, and asks it for `?random=` bytes in another.

use test_guests::bindings::wasi::random::random::get_random_bytes;
use test_guests::{Fields, IncomingRequest, ResponseOutparam, number, respond};

fn handle(request: IncomingRequest, outparam: ResponseOutparam) {
    let asked = |name| number(&request, name).unwrap_or(0);
    let name = "x".repeat(usize::try_from(asked("bytes")).expect("it fits"));
    assert!(!Fields::new().has(&name), "there is no such field");
    let random = get_random_bytes(asked("random"));
    respond(outparam, 200, &[], random.len().to_string().as_bytes());
}

test_guests::guest!(handle);
