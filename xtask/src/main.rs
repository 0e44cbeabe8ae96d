//! The project's own commands. `cargo xtask run` starts the demonstration, `cargo xtask test` runs every check; both do
//! all set-up that they need.

mod dist;
mod kernel;
mod package;
mod test;
mod toolchain;

use anyhow::{Context as _, Result};
use clap::{Parser, Subcommand};
use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use xtask::{cargo, execute, languages, root, setup, without_package};

/// The project's own commands
#[derive(Parser)]
#[command(name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Build guest and host, place ./flexwasm, and start it on an app of this repository
    Run {
        /// The app's folder
        #[arg(long, value_name = "FOLDER", default_value = ".")]
        app: PathBuf,
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
    /// Build the release below dist/release: the archive, its bill of materials, and their sums
    Dist,
    /// Send many requests at once, as `flexwasm burst` does, and show what they take of the host's memory
    Burst(Passed),
    /// Build the demonstration guest in another language
    Guest {
        /// Which one
        language: languages::Language,
    },
    /// Measure how long a 12 MB JavaScript guest takes to be ready: compiled, and from the cache
    Javascript(Passed),
    /// Run hostile guests, each against a host that others use at the same time, and write docs/gallery.md
    Gallery(Passed),
    /// Replace guests under full load, and write docs/swaps.md
    Swaps(Passed),
    /// Measure speed and memory beside raw hyper and wasmtime serve, and write docs/benchmarks.md
    Bench(Passed),
    /// One step of `test`, without what it needs before
    #[command(name = test::SUBCOMMAND, hide = true)]
    Step { step: test::Step },
}

/// What a measurement is started with. Only `measure` knows what it may be, and answers --help.
#[derive(clap::Args)]
#[command(disable_help_flag = true)]
struct Passed {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<OsString>,
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
        Task::Run { app, watch, arguments } => run(app, *watch, arguments),
        Task::Test(arguments) => test::run(arguments),
        Task::Step { step } => step.run(),
        Task::Package(arguments) => package::run(arguments),
        Task::Dist => dist::run(),
        Task::Burst(passed) => measure("burst", passed),
        Task::Guest { language } => languages::run(*language),
        Task::Javascript(passed) => measure("javascript", passed),
        Task::Gallery(passed) => measure("gallery", passed),
        Task::Swaps(passed) => measure("swaps", passed),
        Task::Bench(passed) => measure("bench", passed),
    }
}

fn run(app: &Path, watch: bool, arguments: &[String]) -> Result<()> {
    let (root, app) = (root(), std::path::absolute(app)?);
    setup::target(setup::TARGET)?;
    println!("building the host (the first time this takes some minutes: it compiles wasmtime)");
    execute(&mut cargo(&["build", "--package", "flexwasm"]))?;
    let host = root.join("flexwasm");
    place(&root.join("target/debug/flexwasm"), &host)?;
    let mut run = Command::new(&host);
    run.arg("run").args(watch.then_some("--watch")).args(arguments).current_dir(app);
    without_package(&mut run);
    // The host takes this process's place, so that Ctrl-C and signals reach it directly.
    let error = run.env("CARGO_TARGET_DIR", root.join(setup::GUESTS)).exec();
    Err(error).with_context(|| format!("cannot start {}", host.display()))
}

/// Builds the measurements and starts one of them, which takes this process's place.
fn measure(name: &str, passed: &Passed) -> Result<()> {
    let mut measure = cargo(&["run", "--quiet", "--package", "measure", "--", name]);
    // In the folder of the person who types it, because paths among the arguments are relative to that.
    measure.args(&passed.arguments).current_dir(std::env::current_dir()?);
    Err(measure.exec()).context("cannot start cargo")
}

/// Copies by rename, so that a running host keeps the file that it has open.
fn place(from: &Path, to: &Path) -> Result<()> {
    let staged = to.with_extension("new");
    std::fs::copy(from, &staged)
        .and_then(|_| std::fs::rename(&staged, to))
        .with_context(|| format!("cannot write {}", to.display()))
}
