//! The Rust toolchain that everything but these commands is built with.
//!
//! These commands build with an older Rust than the host, because the user may have no newer one, and rustup installs
//! none by itself where that is switched off. A `rust-toolchain.toml` would not do: cargo itself fails where the toolchain that such
//! a file names is missing.

use crate::execute;
use anyhow::{Context as _, Result, bail};
use std::os::unix::process::CommandExt as _;
use std::process::Command;

/// Where both versions stand, once.
const MANIFEST: &str = include_str!("../../Cargo.toml");

/// Goes on with the active toolchain where it is new enough; else installs the pinned one, once, and starts this command again with
/// it, so that everything that is started from here uses it too.
///
/// # Errors
/// When there is no such toolchain and rustup is missing or cannot install it.
pub fn settle() -> Result<()> {
    let (oldest, pinned) = (version_in(MANIFEST, "rust-version"), version_in(MANIFEST, "toolchain"));
    let active = version(&mut Command::new("rustc"));
    if fits(&active, oldest) {
        return Ok(());
    }
    let active = if active.is_empty() { "no rustc that starts" } else { active.as_str() };
    let by_hand = format!(
        "the project needs Rust {oldest} or newer, and there is {active}: install it with rustup (https://rustup.rs), by \
         `rustup toolchain install {pinned} --profile minimal --component clippy --component rustfmt --target wasm32-wasip2`, \
         and set RUSTUP_TOOLCHAIN={pinned}"
    );
    if version(Command::new("rustup").args(["run", pinned, "rustc"])).is_empty() {
        println!("Rust {oldest} or newer is needed, and there is {active}: installing {pinned} beside it, once");
        let mut install = Command::new("rustup");
        install.args(["toolchain", "install", pinned, "--profile", "minimal", "--component", "clippy"]);
        // Whatever becomes of an update of rustup itself has nothing to do with it.
        install.args(["--component", "rustfmt", "--target", crate::setup::TARGET, "--no-self-update"]);
        execute(&mut install).with_context(|| by_hand.clone())?;
    }
    // Whether the rustc on PATH is one that rustup chooses.
    if !fits(&version(Command::new("rustc").env("RUSTUP_TOOLCHAIN", pinned)), oldest) {
        bail!("{by_hand}; the rustc on PATH is not rustup's: put rustup's folder, ~/.cargo/bin, first");
    }
    let mut again = Command::new(std::env::current_exe().context("cannot find this command's own file")?);
    again.args(std::env::args_os().skip(1)).env("RUSTUP_TOOLCHAIN", pinned);
    // cargo passes on the one that it finds here, to `cargo clippy` for example: it is the old toolchain's.
    Err(again.env_remove("CARGO").exec()).context("cannot start this command again")
}

/// A version that the workspace's manifest gives.
fn version_in<'a>(manifest: &'a str, key: &str) -> &'a str {
    let value = |line: &'a str| line.strip_prefix(key)?.trim_start().strip_prefix('=')?.trim().strip_prefix('"');
    let value = manifest.lines().find_map(value).and_then(|value| value.split('"').next());
    value.expect("the workspace's manifest has the key")
}

/// What a compiler says of its version; empty if it does not start.
fn version(rustc: &mut Command) -> String {
    let output = rustc.arg("--version").current_dir(crate::root()).output();
    let output = output.ok().filter(|output| output.status.success());
    output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default()
}

/// Whether a compiler that says `said` of its version is at least `oldest`.
fn fits(said: &str, oldest: &str) -> bool {
    let numbers = |version: &str| {
        let mut numbers = version.split(['.', '-']).map(str::parse::<u32>);
        Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
    };
    let said = said.strip_prefix("rustc ").and_then(|said| numbers(said.split_whitespace().next()?));
    said.is_some_and(|said| numbers(oldest).is_some_and(|oldest| said >= oldest))
}

#[cfg(test)]
mod tests {
    use super::{MANIFEST, fits, version_in};

    #[test]
    fn a_toolchain_is_used_if_it_is_new_enough() {
        for said in [
            "rustc 1.97.0 (0123abcde 2026-09-01)",
            "rustc 1.100.1",
            "rustc 1.98.0-nightly (0123 2026-08-01)",
            "rustc 2.0.0",
        ] {
            assert!(fits(said, "1.97"), "{said}");
        }
        for said in [
            "rustc 1.95.0 (59807616e 2026-04-14)",
            "rustc 1.85.1",
            "rustc 0.99.0",
            "",
            "rustc",
            "rustc new",
            "clang 20.1.0",
        ] {
            assert!(!fits(said, "1.97"), "{said}");
        }
    }

    #[test]
    fn the_manifest_gives_a_toolchain_that_is_new_enough() {
        let (oldest, pinned) = (version_in(MANIFEST, "rust-version"), version_in(MANIFEST, "toolchain"));
        assert!(fits(&format!("rustc {pinned}"), oldest), "{pinned} is older than {oldest}");
    }
}
