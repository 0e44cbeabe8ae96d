//! The `flexwasm` command, and the life of the host.

use clap::Parser as _;
use flexwasm::app::App;
use flexwasm::cli::{self, Arguments, Ended, Next, Setup};
use flexwasm::observe::{log, startup};
use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // Where the kernel gives huge pages unasked, the heap of each thread and the small memory of each slot would cost 2 MiB.
    // mimalloc, which asks for them elsewhere, is built not to (`no_thp`): 14 MB of an idle host.
    let _ = rustix::thread::disable_transparent_huge_pages(true);
    let ended = match cli::run(Arguments::parse()) {
        Ok(Next::Serve(setup)) => live(*setup),
        Ok(Next::Exit(status)) => Ok(status),
        Err(ended) => Err(ended),
    };
    ended.unwrap_or_else(Ended::report)
}

/// The life of a host, once its configuration is read: log, runtime, build, then announce, serve until a signal, and drain.
fn live(setup: Setup) -> Result<ExitCode, Ended> {
    let log = log::start(setup.log());
    let Setup { config, machine, phases } = setup;
    for (name, took) in phases {
        startup::measured(name, took);
    }
    let runtime = cli::runtime()?;
    let status = runtime.block_on(async { App::build(config, machine).await?.run().await });
    drop(log);
    // Compilations that nobody waits for any more must not hold the process.
    runtime.shutdown_background();
    Ok(ExitCode::from(status?))
}
