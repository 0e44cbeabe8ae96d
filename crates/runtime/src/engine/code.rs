//! What compiled code depends on: the settings that the engine which compiles and the engine which runs must share.

use super::Wasi;
use wasmtime::{Config, Engine};

/// Which processors compiled code is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Processors {
    /// This one and those that have all its features.
    ThisKind,
    /// Every one of this architecture: its baseline, without the features that came later.
    EveryKind,
}

/// The settings that end up in the code of guests of this version. The engine that runs guests adds those that do not.
pub fn settings(wasi: Wasi) -> Config {
    let mut config = Config::new();
    // A guest that computes yields at every tick, so that it cannot keep a thread to itself.
    config.epoch_interruption(true);
    // What is in memories from the start is not wasmtime's concern: `memory`.
    config.memory_init_cow(false);
    config.concurrency_support(wasi == Wasi::P3);
    config
}

/// An engine that compiles guests of this version and never runs anything.
///
/// # Errors
/// When wasmtime cannot compile for this architecture.
pub fn compiler(wasi: Wasi, processors: Processors) -> wasmtime::Result<Engine> {
    let mut config = settings(wasi);
    if processors == Processors::EveryKind {
        // A target, even our own, keeps wasmtime from using what this machine happens to have.
        config.target(&format!("{}-unknown-linux-gnu", std::env::consts::ARCH))?;
    }
    Engine::new(&config)
}
