//! What operators and guests can learn about the host: the log and the machine.

pub mod log;
pub mod machine;
