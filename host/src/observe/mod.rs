//! What operators and guests can learn about the host: the log, the machine, and how the start went.

pub mod log;
pub mod machine;
pub mod rate;
pub mod startup;
pub mod text;
