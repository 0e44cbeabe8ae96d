//! The events of the Functions host without the Functions host: made by hand, and what it would do with the answers.
//!
//! [`event`] takes a payload to the [`envelope`] that the Functions host would send for a function's trigger, as it was recorded
//! (`host/tests/captures`); [`request`] does so for a client's request. [`verdict`] reads an answer and makes of each value what the
//! Functions host makes of it, and [`fate`] says what becomes of the event. [`post`] is the way there and back. `flexwasm send` and `/admin/functions` use them, and so
//! does the Functions host that the tests play.
//!
//! What is not in the captures was only read (docs/azure-contract.md §3), and [`event`] says which triggers these are.

pub mod dates;
pub mod envelope;
pub mod event;
pub mod fate;
pub mod json;
pub mod post;
pub mod request;
#[cfg(test)]
mod tests;
pub mod verdict;
