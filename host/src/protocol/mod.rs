//! What the Functions host puts on the wire, and what it means. Pure: no sockets, no WebAssembly.
//!
//! Each shape of a request has a file that decodes it into an [`Invocation`](crate::invocation::Invocation) and encodes what the
//! guest has replied. [`forwarded`] is the shape of HTTP triggers; the JSON envelope of all other triggers, `Data` and `Metadata`
//! in, `Outputs` and `Logs` out, belongs into one of its own beside it.
//!
//! The shape is never guessed from a request, because a client can imitate each of them: it follows from the
//! configuration (azure-contract.md, introduction), and [`routes`] tells it with the function.

pub mod forwarded;
pub mod receipt;
pub mod routes;
