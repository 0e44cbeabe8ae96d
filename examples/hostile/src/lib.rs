//! What the hostile guests share: a request to somewhere else.

use test_guests::Fields;
use test_guests::bindings::wasi::http::outgoing_handler;
use test_guests::bindings::wasi::http::types::{ErrorCode, FutureIncomingResponse, OutgoingRequest, Scheme};

/// Sends `GET http://{authority}{path}` and does not wait for the answer.
///
/// # Errors
/// The host's, where it refuses at once.
pub fn send(authority: &str, path: &str) -> Result<FutureIncomingResponse, ErrorCode> {
    let request = OutgoingRequest::new(Fields::new());
    let set = request.set_scheme(Some(&Scheme::Http)).is_ok()
        && request.set_authority(Some(authority)).is_ok()
        && request.set_path_with_query(Some(path)).is_ok();
    if !set {
        return Err(ErrorCode::HttpRequestUriInvalid);
    }
    outgoing_handler::handle(request, None)
}

/// Waits for the status of the answer; none when there is no answer.
pub fn status(pending: &FutureIncomingResponse) -> Option<u16> {
    pending.subscribe().block();
    Some(pending.get()?.ok()?.ok()?.status())
}
