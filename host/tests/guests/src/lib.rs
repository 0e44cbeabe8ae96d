//! What the test guests share: bindings, and the few steps of an answer.

#[expect(missing_docs, reason = "generated")]
pub mod bindings {
    wit_bindgen::generate!({
        path: "../../../wit",
        inline: "
            package flexwasm:generated;
            world test-guest {
                include flexwasm:host/event-guest@0.1.0;
                import wasi:http/incoming-handler@0.2.12;
            }
        ",
        world: "flexwasm:generated/test-guest",
        generate_all,
        pub_export_macro: true,
        default_bindings_module: "test_guests::bindings",
    });
}

pub use bindings::exports::wasi::http::incoming_handler::Guest;
pub use bindings::flexwasm::host::bindings as function;
pub use bindings::wasi::http::incoming_handler as next;
pub use bindings::wasi::http::types::{
    Fields, IncomingBody, IncomingRequest, OutgoingBody, OutgoingResponse, ResponseOutparam,
};
pub use bindings::wasi::io::poll::Pollable;
pub use bindings::wasi::io::streams::{InputStream, OutputStream, StreamError};

/// Makes a function the guest's handler.
#[macro_export]
macro_rules! guest {
    ($handle:path) => {
        struct TestGuest;
        impl $crate::Guest for TestGuest {
            fn handle(request: $crate::IncomingRequest, outparam: $crate::ResponseOutparam) {
                $handle(request, outparam)
            }
        }
        $crate::bindings::export!(TestGuest with_types_in $crate::bindings);
        fn main() {}
    };
}

/// The head leaves; the body is written by the caller.
pub fn begin(outparam: ResponseOutparam, status: u16, headers: &[(&str, &str)]) -> OutgoingBody {
    let headers: Vec<_> = headers.iter().map(|(name, value)| ((*name).to_owned(), value.as_bytes().to_vec())).collect();
    let response = OutgoingResponse::new(Fields::from_list(&headers).expect("valid headers"));
    response.set_status_code(status).expect("a valid status");
    let body = response.body().expect("taken once");
    ResponseOutparam::set(outparam, Ok(response));
    body
}

/// Writes all of `bytes`; false when the caller has gone.
pub fn write(stream: &OutputStream, bytes: &[u8]) -> bool {
    bytes.chunks(4096).all(|chunk| stream.blocking_write_and_flush(chunk).is_ok())
}

/// A whole answer.
pub fn respond(outparam: ResponseOutparam, status: u16, headers: &[(&str, &str)], text: &[u8]) {
    let body = begin(outparam, status, headers);
    let stream = body.write().expect("taken once");
    write(&stream, text);
    drop(stream);
    let _ = OutgoingBody::finish(body, None);
}

/// A value in the query, as it stands there.
pub fn parameter(request: &IncomingRequest, name: &str) -> Option<String> {
    let path = request.path_with_query().unwrap_or_default();
    let mut pairs = path.split_once('?')?.1.split('&').filter_map(|pair| pair.split_once('='));
    pairs.find(|(key, _)| *key == name).map(|(_, value)| value.to_owned())
}

/// A number in the query, such as `ms` in `?ms=500`.
pub fn number(request: &IncomingRequest, name: &str) -> Option<u64> {
    parameter(request, name)?.parse().ok()
}

/// Hands every chunk of the request body to `take` until it answers false.
pub fn read(request: &IncomingRequest, mut take: impl FnMut(&[u8]) -> bool) {
    let body = request.consume().expect("taken once");
    let stream = body.stream().expect("taken once");
    while let Ok(chunk) = stream.blocking_read(64 * 1024) {
        if !take(&chunk) {
            return;
        }
    }
}
