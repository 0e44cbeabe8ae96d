//! What operators and guests can learn about the host: the log, the machine, how the start went, how each invocation ended, what is
//! counted, and which trace an invocation belongs to.
//!
//! A finished invocation is a [`record`]; what makes something of it is a [`record::Sink`], in a file of its own, and one line
//! in the `app` of the host.

pub mod line;
pub mod log;
pub mod machine;
pub mod metrics;
pub mod rate;
pub mod record;
pub mod startup;
pub mod text;
pub mod trace;
pub mod transcript;
