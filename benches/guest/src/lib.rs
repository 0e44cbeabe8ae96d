//! The benchmark guest: `GET /` answers 200 with 460 bytes of JSON, in as few calls to the host as WASI 0.2 allows.
//!
//! It imports nothing of ours, so that every host of `wasi:http/proxy` can run it.

#![expect(unsafe_code, reason = "the generated exports of the component")]

mod bindings {
    wit_bindgen::generate!({ path: "../../wit", world: "plain-guest", generate_all });
}

use bindings::exports::wasi::http::incoming_handler::Guest;
use bindings::wasi::http::types::{Fields, IncomingRequest, OutgoingBody, OutgoingResponse, ResponseOutparam};

const BODY: &[u8; 460] = include_bytes!("../../body.json");

struct Benchmark;

impl Guest for Benchmark {
    fn handle(request: IncomingRequest, outparam: ResponseOutparam) {
        drop(request);
        let headers = [("content-type", "application/json"), ("content-length", "460")];
        let headers = Fields::from_list(&headers.map(|(name, value)| (name.to_owned(), value.into())))
            .expect("both header names and values are valid");
        // The status is 200 unless another one is set.
        let response = OutgoingResponse::new(headers);
        let body = response.body().expect("the body is taken once");
        ResponseOutparam::set(outparam, Ok(response));

        let stream = body.write().expect("the stream is taken once");
        // A fresh stream takes far more than this at once, so nothing has to be waited for. The host asks for
        // `check-write` before a `write`.
        if stream.check_write().is_ok_and(|room| room >= BODY.len() as u64) {
            // A failed write means that the caller has gone, so there is nothing left to report.
            let _ = stream.write(BODY);
        }
        drop(stream);
        let _ = OutgoingBody::finish(body, None);
    }
}

bindings::export!(Benchmark with_types_in bindings);
