//! What has to be there before anything can be built or tested.

use anyhow::{Context as _, Result, bail};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Where guests run.
pub const TARGET: &str = "wasm32-wasip2";

/// Where guests are built, below the project's folder; the tests use the same one.
pub const GUESTS: &str = "target/guests";

/// Adds a target to the toolchain if it is missing.
pub fn target(name: &str) -> Result<()> {
    let sysroot = Command::new("rustc").args(["--print", "sysroot"]).current_dir(crate::root()).output();
    let sysroot = sysroot.context("cannot start rustc: install Rust with rustup, from https://rustup.rs")?;
    let sysroot = String::from_utf8_lossy(&sysroot.stdout).trim().to_owned();
    if Path::new(&sysroot).join("lib/rustlib").join(name).exists() {
        return Ok(());
    }
    println!("adding the target {name} to the toolchain");
    let mut rustup = Command::new("rustup");
    rustup.args(["target", "add", name]).current_dir(crate::root());
    crate::execute(&mut rustup).with_context(|| {
        format!("the standard library for {name} is missing in {sysroot}; add it with `rustup target add {name}`")
    })
}

/// Adds a component, which cargo has as this subcommand, to the toolchain if it is missing.
pub fn component(name: &str, subcommand: &str) -> Result<()> {
    let found = crate::cargo(&[subcommand, "--version"]).output().context("cannot start cargo")?;
    if found.status.success() {
        return Ok(());
    }
    println!("adding {name} to the toolchain");
    let mut rustup = Command::new("rustup");
    rustup.args(["component", "add", name]).current_dir(crate::root());
    crate::execute(&mut rustup).with_context(|| format!("{name} is missing; add it with `rustup component add {name}`"))
}

/// Builds the guests of these packages.
pub fn build_guests(packages: &[&str]) -> Result<()> {
    target(TARGET)?;
    println!("building the guests");
    let mut build = crate::cargo(&["build", "--profile", "guest", "--target", TARGET, "--target-dir", GUESTS]);
    crate::execute(build.args(packages.iter().flat_map(|package| ["--package", package])))
}

/// A cargo command for the tests of the host, and for the host that they run. Other packages beside these, or fewer of them, would give
/// the dependencies other features: wasmtime would be built again.
pub fn host_tests() -> Command {
    crate::cargo(&["test", "--package", "flexwasm-config", "--package", "flexwasm-runtime", "--package", "flexwasm"])
}

/// Builds the host, and what it is compared with: what the tests run, else what ships.
pub fn build_servers(development: bool) -> Result<()> {
    if development {
        crate::execute(host_tests().arg("--no-run"))?;
        return crate::execute(&mut crate::cargo(&["build", "--package", "bench-raw"]));
    }
    println!("building the servers for release (the first time this takes many minutes)");
    crate::execute(&mut crate::cargo(&["build", "--release", "--package", "flexwasm", "--package", "bench-raw"]))
}

/// Installs what the package-lock.json beside the package.json in `sources` names into `folder`.
pub fn node(sources: &Path, folder: &Path) -> Result<()> {
    tools(&["node", "npm"])?;
    fs::create_dir_all(folder)?;
    install_for(&sources.join("package-lock.json"), folder, |locked| {
        fs::copy(sources.join("package.json"), folder.join("package.json"))?;
        fs::write(folder.join("package-lock.json"), locked)?;
        let mut npm = Command::new("npm");
        crate::execute(npm.args(["ci", "--no-audit", "--no-fund"]).current_dir(folder))
    })
}

/// Installs what the requirements file names into an environment of Python's in `folder`, and returns that folder.
pub fn python(requirements: &Path, folder: &Path) -> Result<PathBuf> {
    tools(&["python3"])?;
    fs::create_dir_all(folder)?;
    let environment = folder.join("environment");
    install_for(requirements, folder, |_| {
        let mut venv = Command::new("python3");
        crate::execute(venv.args(["-m", "venv", "--clear"]).arg(&environment))
            .context("Python's venv is missing: install it with `apt-get install python3-venv`")?;
        let mut pip = Command::new(environment.join("bin/pip"));
        // Python compiles what is used when it is first used; of azure-cli that is a tenth.
        pip.args(["install", "--quiet", "--disable-pip-version-check", "--no-compile", "-r"]);
        crate::execute(pip.arg(requirements))
    })?;
    Ok(environment)
}

/// Does `install` with what `file` says, unless that has been done; then `folder` has the same text in `installed`.
fn install_for(file: &Path, folder: &Path, install: impl FnOnce(&[u8]) -> Result<()>) -> Result<()> {
    let wanted = fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
    let done = folder.join("installed");
    if fs::read(&done).is_ok_and(|found| found == wanted) {
        return Ok(());
    }
    println!("installing what {} names", file.display());
    install(&wanted)?;
    Ok(fs::write(done, wanted)?)
}

/// Fails with the line that installs what is missing.
pub fn tools(tools: &[&str]) -> Result<()> {
    let missing: Vec<&str> = tools.iter().copied().filter(|tool| !is_on_path(tool)).collect();
    if !missing.is_empty() {
        let packages: Vec<&str> = missing.iter().map(|tool| package(tool)).collect();
        bail!("missing: {}; install with `apt-get install {}`", missing.join(" "), packages.join(" "));
    }
    Ok(())
}

/// The Debian package of a tool.
fn package(tool: &str) -> &str {
    match tool {
        "awk" => "mawk",
        "musl-gcc" => "musl-tools",
        "node" => "nodejs",
        "promtool" => "prometheus",
        "unshare" => "util-linux",
        same => same,
    }
}

/// Whether a tool can be started by its name.
pub fn is_on_path(tool: &str) -> bool {
    std::env::var_os("PATH").is_some_and(|path| std::env::split_paths(&path).any(|folder| folder.join(tool).is_file()))
}
