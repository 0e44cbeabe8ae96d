//! Calling a guest of WASI 0.2, which is called once with a place for its response and may go on after it has set that.

use super::call::{AwaitedHead, Head, Run};
use super::fault::Fault;
use super::instance::Instance;
use crate::engine::Ticking;
use crate::guest::chain;
use crate::invocation::Origin;
use crate::sandbox::cpu::metered;
use bytes::Bytes;
use http_body::Body;
use std::pin::pin;
use std::sync::Arc;
use tokio::sync::oneshot;
use wasmtime_wasi_http::WasiHttpView as _;
use wasmtime_wasi_http::p2::bindings::exports::wasi::http::incoming_handler;
use wasmtime_wasi_http::p2::bindings::http::types;

/// Prepares the call. It begins when the run is polled.
///
/// # Errors
/// [`Fault::Instantiate`]: the sandbox has no room for the request.
pub fn call<B>(
    mut instance: Instance,
    handler: incoming_handler::Guest,
    request: http::Request<B>,
    Origin { scheme, .. }: Origin,
    ticking: Ticking,
) -> Result<(Run, AwaitedHead), Fault>
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<wasmtime_wasi_http::Error>,
{
    let (sender, head) = oneshot::channel();
    instance.store.data_mut().asked(request.method());
    let mut http = instance.store.data_mut().http();
    let request_fault = |error: wasmtime::Error| Fault::Instantiate(chain(&error));
    let scheme = if scheme == http::uri::Scheme::HTTPS { types::Scheme::Https } else { types::Scheme::Http };
    let request = http.new_incoming_request(scheme, request).map_err(request_fault)?;
    let set = move |set: Result<_, types::ErrorCode>| {
        let head: Head = set.map_err(|code| Fault::error_code(&code));
        // From here on the body has a reader (`sandbox::bodies`).
        let _ = head.as_ref().is_ok_and(|response| response.body().is_end_stream());
        // The receiver may be gone.
        let _ = sender.send(head);
    };
    let outparam = http.new_response_outparam_from_callback(set).map_err(request_fault)?;
    let run = Box::pin(async move {
        let meter = Arc::clone(&instance.store.data().cpu);
        let result = metered(meter, pin!(handler.call_handle(&mut instance.store, request, outparam))).await;
        drop(ticking);
        instance.called(result)
    });
    Ok((run, head))
}
