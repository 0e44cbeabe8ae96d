//! What the host starts to compile a guest.

use crate::guest::compiler::process;
use std::io::Write as _;
use std::process::ExitCode;

/// What the host starts to compile a guest, from stdin to stdout
#[derive(Debug, clap::Args)]
pub struct CompileForHost {
    /// Bytes of memory that it may use
    memory: u64,
    /// How long it may take
    seconds: u64,
}

impl CompileForHost {
    pub fn run(self) -> ExitCode {
        match process::compile_for_host(self.memory, self.seconds) {
            Ok(()) => ExitCode::SUCCESS,
            Err(why) => {
                // The host reads the bare reason. One that nobody waits for is not heard.
                let _ = writeln!(std::io::stderr().lock(), "{why}");
                ExitCode::from(1)
            }
        }
    }
}
