//! The `flexwasm` command.

use clap::Parser as _;
use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // Where the kernel gives huge pages unasked, the heap of each thread and the small memory of each slot would cost 2 MiB.
    // mimalloc, which asks for them elsewhere, is built not to (`no_thp`): 14 MB of an idle host.
    let _ = rustix::thread::disable_transparent_huge_pages(true);
    flexwasm::cli::run(flexwasm::cli::Arguments::parse())
}
