//! What the examples share: the world of a component that stands in front of others, and an answer of one's own.

#[expect(missing_docs, reason = "generated")]
pub mod bindings {
    wit_bindgen::generate!({
        path: ["../../wit", "../../wit/p3"],
        inline: "
            package flexwasm:generated;
            world in-front {
                include wasi:http/middleware@0.3.0;
                import wasi:keyvalue/store@0.2.0-draft2;
            }
        ",
        world: "flexwasm:generated/in-front",
        generate_all,
        pub_export_macro: true,
        default_bindings_module: "middleware_examples::bindings",
    });
}

pub use bindings::exports::wasi::http0_3_0::handler::Guest;
pub use bindings::wasi::http0_3_0::handler as next;
pub use bindings::wasi::http0_3_0::types::{ErrorCode, Fields, Method, Request, Response};
pub use bindings::wasi::keyvalue0_2_0_draft2::store;
pub use bindings::{wit_future, wit_stream};
pub use wit_bindgen::{StreamReader, StreamResult, StreamWriter, spawn_local};

/// Makes an asynchronous function the handler of a component.
#[macro_export]
macro_rules! in_front {
    ($handle:path) => {
        struct InFront;
        impl $crate::Guest for InFront {
            async fn handle(request: $crate::Request) -> Result<$crate::Response, $crate::ErrorCode> {
                $handle(request).await
            }
        }
        $crate::bindings::export!(InFront with_types_in $crate::bindings);
        fn main() {}
    };
}

/// The one value of a header. None if it is not there, or there more than once.
pub fn header(headers: &Fields, name: &str) -> Option<String> {
    let mut values = headers.get(name).into_iter();
    let value = values.next().filter(|_| values.next().is_none())?;
    String::from_utf8(value).ok()
}

/// An answer that needs no other component. Its body leaves after the handler has returned.
///
/// # Panics
/// When a header or the status is none.
pub fn answer(status: u16, headers: &[(&str, &str)], body: Vec<u8>) -> Response {
    let headers: Vec<_> = headers.iter().map(|(name, value)| ((*name).to_owned(), value.as_bytes().to_vec())).collect();
    let headers = Fields::from_list(&headers).expect("valid headers");
    let (mut writer, contents) = wit_stream::new();
    let (_, trailers) = wit_future::new(|| Ok(None));
    let (response, _) = Response::new(headers, Some(contents), trailers);
    response.set_status_code(status).expect("a valid status");
    spawn_local(async move {
        // What is left over means that nobody reads it any more.
        writer.write_all(body).await;
    });
    response
}
