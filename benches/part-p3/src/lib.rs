//! Stands in front of the benchmark guest for WASI 0.3, and passes every request on as it is.

#![expect(unsafe_code, reason = "the generated exports of the component")]

mod bindings {
    wit_bindgen::generate!({
       path: "../../wit/p3",
       inline: "package flexwasm:generated; world part { include wasi:http/middleware@0.3.0; }",
       world: "flexwasm:generated/part",
       generate_all,
    });
}

use bindings::exports::wasi::http::handler::Guest;
use bindings::wasi::http::handler;
use bindings::wasi::http::types::{ErrorCode, Request, Response};

struct Part;

impl Guest for Part {
    async fn handle(request: Request) -> Result<Response, ErrorCode> {
        handler::handle(request).await
    }
}

bindings::export!(Part with_types_in bindings);
