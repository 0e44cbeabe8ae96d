//! What `cargo xtask burst`, `javascript`, `gallery`, `swaps` and `bench` start: measurements of the host, and of what it is compared
//! with.
//!
//! They are a crate apart from `xtask` because of what they need: an HTTP client with TLS, a runtime, an assembler for guests. A
//! newcomer who starts the demonstration compiles none of it.

mod app;
mod bench;
mod burst;
mod caller;
mod client;
mod gallery;
mod javascript;
mod machine;
mod process;
mod server;
mod stats;
mod swaps;
mod table;

use anyhow::Result;
use clap::{Parser, Subcommand};
use std::process::ExitCode;
use xtask::{cargo, execute, languages, root, setup};

/// Measurements of the host
#[derive(Parser)]
#[command(bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    measurement: Measurement,
}

#[derive(Subcommand)]
enum Measurement {
    /// Send many requests at once, as `flexwasm burst` does, and show what they take of the host's memory
    Burst(burst::Arguments),
    /// Measure how long a 12 MB JavaScript guest takes to be ready: compiled, and from the cache
    Javascript,
    /// Run hostile guests, each against a host that others use at the same time, and write docs/gallery.md
    Gallery(gallery::Arguments),
    /// Replace guests under full load, and write docs/swaps.md
    Swaps(swaps::Arguments),
    /// Measure speed and memory beside raw hyper and wasmtime serve, and write docs/benchmarks.md
    Bench(bench::Arguments),
}

fn main() -> ExitCode {
    match perform(&Arguments::parse().measurement) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn perform(measurement: &Measurement) -> Result<()> {
    match measurement {
        Measurement::Burst(arguments) => burst::run(arguments),
        Measurement::Javascript => javascript::run(),
        Measurement::Gallery(arguments) => gallery::run(arguments),
        Measurement::Swaps(arguments) => swaps::run(arguments),
        Measurement::Bench(arguments) => bench::run(arguments),
    }
}
