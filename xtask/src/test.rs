//! Everything that has to hold before a change lands.

use crate::languages::{self, Language};
use crate::{cargo, execute, root, setup};
use anyhow::Result;
use std::process::Command;
use std::time::Instant;

/// Shell scripts of the project.
const SCRIPTS: [&str; 3] = ["test_concurrency.sh", "deploy.sh", ".ci/run"];

pub fn run() -> Result<()> {
    let tools = ["shellcheck", "curl", "awk", "docker-registry", "musl-gcc", "node", "npm", "python3", "unshare"];
    setup::tools(&tools)?;
    setup::target(setup::TARGET)?;
    setup::storage_emulator()?;
    languages::build(Language::Js)?;
    languages::build(Language::Python)?;
    println!("installing the Azure CLI (once)");
    let azure = setup::python(&root().join("infra/tests/requirements.txt"), &root().join("target/azure"))?;
    let mut docs = cargo(&["doc", "--workspace", "--no-deps", "--document-private-items"]);
    let mut shellcheck = Command::new("shellcheck");
    let mut deployment = Command::new(azure.join("bin/python"));
    deployment.args(["-B", "-m", "pytest", "-q", "-p", "no:cacheprovider", "infra/tests"]).current_dir(root());
    let steps: [(&str, &mut Command); 11] = [
        ("formatting", &mut cargo(&["fmt", "--all", "--check"])),
        ("shell scripts", shellcheck.args(SCRIPTS).current_dir(root())),
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
