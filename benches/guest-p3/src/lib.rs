//! The benchmark guest for WASI 0.3: `GET /` answers 200 with 460 bytes of JSON.

#![expect(unsafe_code, reason = "the generated exports of the component")]

mod bindings {
    wit_bindgen::generate!({ path: "../../wit/p3", world: "plain-guest", generate_all });
}

use bindings::exports::wasi::http::handler::Guest;
use bindings::wasi::http::types::{ErrorCode, Fields, Request, Response};
use bindings::{wit_future, wit_stream};

const BODY: &[u8; 460] = include_bytes!("../../body.json");

struct Benchmark;

impl Guest for Benchmark {
    async fn handle(_: Request) -> Result<Response, ErrorCode> {
        let headers = [("content-type", "application/json"), ("content-length", "460")];
        let headers = Fields::from_list(&headers.map(|(name, value)| (name.to_owned(), value.into())))
            .expect("both header names and values are valid");
        let (mut body, contents) = wit_stream::new();
        let (trailers, no_trailers) = wit_future::new(|| Ok(None));
        // The status is 200 unless another one is set.
        let (response, _sent) = Response::new(headers, Some(contents), no_trailers);
        // The body flows only once the host has the response.
        wit_bindgen::spawn_local(async move {
            // What is left over means that the caller has gone, so there is nothing left to report.
            let _ = body.write_all(BODY.to_vec()).await;
            drop(body);
            // Dropped without a word of its own, it resolves to what was given above: none.
            drop(trailers);
        });
        Ok(response)
    }
}

bindings::export!(Benchmark with_types_in bindings);
