//! Tells what it sees of the request head, a line each.

use test_guests::{IncomingRequest, ResponseOutparam, respond};

fn handle(request: IncomingRequest, outparam: ResponseOutparam) {
    let mut text = format!(
        "method: {:?}\nscheme: {:?}\nauthority: {}\npath: {}\n",
        request.method(),
        request.scheme(),
        request.authority().unwrap_or_default(),
        request.path_with_query().unwrap_or_default(),
    );
    for (name, value) in request.headers().entries() {
        text += &format!("header: {name}={}\n", String::from_utf8_lossy(&value));
    }
    respond(outparam, 200, &[("content-type", "text/plain")], text.as_bytes());
}

test_guests::guest!(handle);
