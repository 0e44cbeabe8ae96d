//! What the Functions host puts on the wire, and what it means. Pure: no sockets, no WebAssembly.
//!
//! Each shape of a request has a file that decodes it into an [`Invocation`](crate::invocation::Invocation) and encodes what the
//! guest has replied. [`forwarded`] is the shape of plain HTTP functions; [`envelope`] is that of all others.
//!
//! The shape is never guessed from a request, because a client can imitate each of them: it follows from the
//! configuration (azure-contract.md, introduction), and [`routes`] tells it with the function.

pub mod envelope;
pub mod forwarded;
pub mod receipt;
pub mod routes;

use http::header::{CONTENT_TYPE, HeaderMap};

/// The media type of a body, without parameters; empty where none is named.
pub fn media_type(headers: &HeaderMap) -> &str {
    let kind = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    kind.split(';').next().unwrap_or_default().trim()
}
