//! The `flexwasm` command.

use clap::Parser as _;
use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    flexwasm::cli::run(flexwasm::cli::Arguments::parse())
}
