//! What the test guests of WASI 0.3 share: bindings, and the few steps of an answer.

#[expect(missing_docs, reason = "generated")]
pub mod bindings {
    wit_bindgen::generate!({
        path: ["../../../../wit", "../../../../wit/p3"],
        inline: "
            package flexwasm:generated;
            world p3-test-guest {
                include flexwasm:p3/plain-guest@0.1.0;
                import flexwasm:host/diagnostics@0.1.0;
                import wasi:http/handler@0.3.0;
            }
        ",
        world: "flexwasm:generated/p3-test-guest",
        generate_all,
        pub_export_macro: true,
        default_bindings_module: "p3_test_guests::bindings",
    });
}

use wit_bindgen::StreamResult;

pub use bindings::exports::wasi::http0_3_0::handler::Guest;
pub use bindings::flexwasm::host::diagnostics;
pub use bindings::wasi::clocks0_3_0::monotonic_clock::wait_for;
pub use bindings::wasi::http0_3_0::client;
pub use bindings::wasi::http0_3_0::handler as next;
pub use bindings::wasi::http0_3_0::types::{ErrorCode, Fields, Request, Response, Trailers};
pub use bindings::{wit_future, wit_stream};
pub use wit_bindgen::{FutureReader, FutureWriter, StreamReader, StreamWriter, spawn_local};

/// What a body ends with.
pub type End = Result<Option<Trailers>, ErrorCode>;

/// Makes an asynchronous function the guest's handler.
#[macro_export]
macro_rules! guest {
    ($handle:path) => {
        struct TestGuest;
        impl $crate::Guest for TestGuest {
            async fn handle(request: $crate::Request) -> Result<$crate::Response, $crate::ErrorCode> {
                $handle(request).await
            }
        }
        $crate::bindings::export!(TestGuest with_types_in $crate::bindings);
        fn main() {}
    };
}

/// Header fields.
pub fn fields(entries: &[(&str, &str)]) -> Fields {
    let entries: Vec<_> = entries.iter().map(|(name, value)| ((*name).to_owned(), value.as_bytes().to_vec())).collect();
    Fields::from_list(&entries).expect("valid headers")
}

/// A response whose body and end are written by the caller.
pub fn begin(headers: &[(&str, &str)]) -> (Response, StreamWriter<u8>, FutureWriter<End>) {
    let (body, contents) = wit_stream::new();
    let (end, trailers) = wit_future::new(|| Ok(None));
    let (response, _) = Response::new(fields(headers), Some(contents), trailers);
    (response, body, end)
}

/// A whole answer, which leaves after the handler has returned.
pub fn respond(text: impl Into<Vec<u8>>) -> Response {
    let (response, mut body, end) = begin(&[]);
    let text = text.into();
    spawn_local(async move {
        body.write_all(text).await;
        drop(body);
        let _ = end.write(Ok(None)).await;
    });
    response
}

/// A number in the query, such as `ms` in `?ms=500`.
pub fn number(request: &Request, name: &str) -> Option<u64> {
    let path = request.get_path_with_query().unwrap_or_default();
    let query = path.split_once('?')?.1.to_owned();
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    pairs.into_iter().find(|(key, _)| *key == name).and_then(|(_, value)| value.parse().ok())
}

/// Waits for `?ms=`.
pub async fn sleep(request: &Request) {
    wait_for(number(request, "ms").unwrap_or(0) * 1_000_000).await;
}

/// The request's body and what it ends with.
pub fn consume(request: Request) -> (StreamReader<u8>, FutureReader<End>) {
    let (_, read) = wit_future::new(|| Ok(()));
    Request::consume_body(request, read)
}

/// Writes what `from` says to `to` until either ends.
pub async fn copy(mut from: StreamReader<u8>, to: &mut StreamWriter<u8>) {
    loop {
        let (result, chunk) = from.read(Vec::with_capacity(64 << 10)).await;
        if !to.write_all(chunk).await.is_empty() || matches!(result, StreamResult::Dropped) {
            return;
        }
    }
}
