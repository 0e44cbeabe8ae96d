//! The project's own commands. `cargo xtask run` starts the demonstration, `cargo xtask test` runs every check; both do
//! all set-up that they need.

mod app;
mod bench;
mod burst;
mod caller;
mod client;
mod gallery;
mod javascript;
mod kernel;
mod languages;
mod machine;
mod package;
mod process;
mod server;
mod setup;
mod stats;
mod swaps;
mod table;
mod test;
mod toolchain;
mod watch;

use anyhow::{Context as _, Result, bail};
use clap::{Parser, Subcommand};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

/// The project's own commands
#[derive(Parser)]
#[command(name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Build guest and host, place ./flexwasm, and start it on this folder
    Run {
        /// Build the guest again whenever its sources change; the running host swaps it in
        #[arg(long)]
        watch: bool,
        /// Passed on to flexwasm, such as --listen 127.0.0.1:8080
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Check formatting, lints, tests, documentation and shell scripts: everything that CI runs
    Test(test::Arguments),
    /// Build and check dist/flexwasm.zip, which deploy.sh publishes
    Package(package::Arguments),
    /// Do what test_concurrency.sh does, from one process, for any number of requests
    Burst(burst::Arguments),
    /// Build the demonstration guest in another language
    Guest {
        /// Which one
        language: languages::Language,
    },
    /// Measure how long a 12 MB JavaScript guest takes to be ready: compiled, and from the cache
    Javascript,
    /// Run hostile guests, each against a host that others use at the same time, and write docs/gallery.md
    Gallery(gallery::Arguments),
    /// Replace guests under full load, and write docs/swaps.md
    Swaps(swaps::Arguments),
    /// Measure speed and memory beside raw hyper and wasmtime serve, and write docs/benchmarks.md
    Bench(bench::Arguments),
    /// What `run --watch` starts beside the host
    #[command(name = watch::SUBCOMMAND, hide = true)]
    BuildOnChange,
}

fn main() -> ExitCode {
    match perform(&Arguments::parse().task) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn perform(task: &Task) -> Result<()> {
    toolchain::settle()?;
    match task {
        Task::Run { watch, arguments } => run(*watch, arguments),
        Task::Test(arguments) => test::run(arguments),
        Task::Package(arguments) => package::run(arguments),
        Task::Burst(arguments) => burst::run(arguments),
        Task::Guest { language } => languages::run(*language),
        Task::Javascript => javascript::run(),
        Task::Gallery(arguments) => gallery::run(arguments),
        Task::Swaps(arguments) => swaps::run(arguments),
        Task::BuildOnChange => watch::run(),
        Task::Bench(arguments) => bench::run(arguments),
    }
}

fn run(watch: bool, arguments: &[String]) -> Result<()> {
    let root = root();
    build_guest()?;
    println!("building the host (the first time this takes some minutes: it compiles wasmtime)");
    execute(&mut cargo(&["build", "--package", "flexwasm"]))?;
    let host = root.join("flexwasm");
    place(&root.join("target/debug/flexwasm"), &host)?;
    if watch {
        watch::start()?;
    }
    // The host takes this process's place, so that Ctrl-C and signals reach it directly.
    let error = Command::new(&host).args(arguments).current_dir(&root).exec();
    Err(error).with_context(|| format!("cannot start {}", host.display()))
}

/// Builds the demonstration guest and puts it where the host expects it.
fn build_guest() -> Result<()> {
    setup::build_guests(&["flexwasm-guest"])?;
    let built = root().join(setup::GUESTS).join(setup::TARGET).join("guest/flexwasm_guest.wasm");
    place(&built, &root().join("http_trigger/guest.wasm"))
}

/// Copies by rename, so that a running host keeps the file that it has open.
fn place(from: &Path, to: &Path) -> Result<()> {
    let staged = to.with_extension("new");
    std::fs::copy(from, &staged)
        .and_then(|_| std::fs::rename(&staged, to))
        .with_context(|| format!("cannot write {}", to.display()))
}

/// The project's folder.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask is a folder of the project").to_owned()
}

/// A cargo command in the project's folder, with the toolchain that `toolchain::settle` has chosen.
fn cargo(arguments: &[&str]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(arguments).current_dir(root());
    // What `cargo run` tells of this package. Build scripts of others would run again for it, and with them half of the host.
    let told = std::env::vars_os().map(|(name, _)| name);
    let of_package = |name: &std::ffi::OsString| {
        let name = name.to_string_lossy();
        name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_")
    };
    for name in told.filter(of_package) {
        command.env_remove(name);
    }
    command
}

/// Runs a command to its end, with its output in plain sight.
fn execute(command: &mut Command) -> Result<()> {
    let shown = format!("{command:?}");
    let status = command.status().with_context(|| format!("cannot start {shown}"))?;
    if !status.success() {
        bail!("{shown} failed ({status})");
    }
    Ok(())
}
