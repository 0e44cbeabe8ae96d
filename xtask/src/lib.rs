//! What the project's commands and its measurements share: where the project lies, and how its parts are built.

pub mod languages;
pub mod setup;

use anyhow::{Context as _, Result, bail};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The project's folder.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask is a folder of the project").to_owned()
}

/// A cargo command in the project's folder, with the toolchain that `toolchain::settle` has chosen.
pub fn cargo(arguments: &[&str]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(arguments).current_dir(root());
    without_package(&mut command);
    command
}

/// Keeps from a command that starts cargo what `cargo run` tells of this package. Build scripts of others would run again for it, and
/// with them half of the host.
pub fn without_package(command: &mut Command) {
    let told = std::env::vars_os().map(|(name, _)| name);
    let of_package = |name: &std::ffi::OsString| {
        let name = name.to_string_lossy();
        name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_")
    };
    for name in told.filter(of_package) {
        command.env_remove(name);
    }
}

/// Runs a command to its end, with its output in plain sight.
pub fn execute(command: &mut Command) -> Result<()> {
    let shown = format!("{command:?}");
    let status = command.status().with_context(|| format!("cannot start {shown}"))?;
    if !status.success() {
        bail!("{shown} failed ({status})");
    }
    Ok(())
}
