//! The guest. Each request calls [`App::handle`] in an instance of its own.

mod bindings {
    wit_bindgen::generate!({ path: "wit", world: "guest", generate_all });
}

use bindings::exports::wasi::http::incoming_handler::Guest;
use bindings::wasi::http::types::{Fields, IncomingRequest, OutgoingBody, OutgoingResponse, ResponseOutparam};

struct App;

impl Guest for App {
    fn handle(request: IncomingRequest, outparam: ResponseOutparam) {
        let path = request.path_with_query().unwrap_or_default();
        let query = path.split_once('?').map_or("", |(_, query)| query);
        let name = form_urlencoded::parse(query.as_bytes()).find(|(key, _)| key == "name");
        let name = name.map_or("World".into(), |(_, name)| name);
        respond(outparam, 200, &format!("Hello, {name}!\n"));
    }
}

bindings::export!(App with_types_in bindings);

/// Sends a whole answer.
fn respond(outparam: ResponseOutparam, status: u16, text: &str) {
    let headers = [("content-type", "text/plain; charset=utf-8".to_owned()), ("content-length", text.len().to_string())];
    let headers = Fields::from_list(&headers.map(|(name, value)| (name.to_owned(), value.into_bytes())))
        .expect("names and values of headers are valid");
    let response = OutgoingResponse::new(headers);
    response.set_status_code(status).expect("it is a status");
    let body = response.body().expect("the body is taken once");
    ResponseOutparam::set(outparam, Ok(response));

    // A write that fails means that the caller has gone. It takes 4096 bytes at the most.
    let stream = body.write().expect("the stream is taken once");
    for piece in text.as_bytes().chunks(4096) {
        if stream.blocking_write_and_flush(piece).is_err() {
            return;
        }
    }
    drop(stream);
    let _ = OutgoingBody::finish(body, None);
}
