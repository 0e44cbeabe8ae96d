//! What the Functions host puts on the wire, and what it means. Pure: no sockets, no WebAssembly.
//!
//! The request mode is never guessed from a request, because a client can imitate each of them: it follows from the
//! configuration (azure-contract.md, introduction).

pub mod forwarded;
pub mod routes;
