//! The package for the Flex Consumption plan: built, packed and checked.

use crate::{cargo, dist, execute, root, setup, without_package};
use anyhow::{Context as _, Result, ensure};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

/// What the plan runs on; linked statically, so that it does not matter which libraries are there.
pub const TARGET: &str = "x86_64-unknown-linux-musl";

/// What deploy.sh publishes, below the project's folder.
const SHIPS: &str = "dist/flexwasm.zip";
/// What the tests take. It is not where deploy.sh looks.
pub const FOR_TESTS: &str = "target/package-test/flexwasm.zip";
/// A release of the same build, for tests as well.
const RELEASE_FOR_TESTS: &str = "target/package-test/release";

/// What `flexwasm check --json` said about the package that was checked last.
const REPORT: &str = "target/package/check.json";

/// Bytes. An instance that starts has to fetch and unpack it.
const LARGEST: u64 = 25_000_000;

#[derive(clap::Args)]
pub struct Arguments {
    /// Pack the development build, which the tests of the host use too, into target/package-test/flexwasm.zip, and make a release of it
    #[arg(long, conflicts_with = "check")]
    pub for_tests: bool,
    /// Build nothing but the host, and check this package with it
    #[arg(long, value_name = "ZIP")]
    pub check: Option<PathBuf>,
    /// Pack this app in place of the repository's own, into its dist/flexwasm.zip
    #[arg(long, value_name = "FOLDER", conflicts_with_all = ["check", "for_tests"])]
    pub app: Option<PathBuf>,
}

pub fn run(arguments: &Arguments) -> Result<()> {
    let (host, form) = if arguments.for_tests { (build_tests()?, FOR_TESTS) } else { (build_host()?, SHIPS) };
    let package = match &arguments.check {
        Some(zip) => std::path::absolute(zip)?,
        None => {
            let app = arguments.app.as_ref().map_or_else(|| Ok(root()), std::path::absolute)?;
            let package = app.join(form);
            setup::target(setup::TARGET)?;
            let mut pack = Command::new(&host);
            pack.arg("package").arg("--output").arg(&package).current_dir(app);
            without_package(&mut pack);
            execute(pack.env("CARGO_TARGET_DIR", root().join(setup::GUESTS)))?;
            let size = |path: &Path| Ok::<_, std::io::Error>(fs::metadata(path)?.len());
            let (packed, executable) = (size(&package)?, size(&host)?);
            let megabytes = |bytes: u64| bytes as f64 / 1e6;
            println!(
                "{}: {:.1} MB; the executable in it: {:.1} MB",
                package.display(),
                megabytes(packed),
                megabytes(executable)
            );
            let fits = arguments.for_tests || packed < LARGEST;
            ensure!(fits, "{} has {packed} bytes, but must have fewer than {LARGEST}", package.display());
            package
        }
    };
    execute(Command::new(&host).args(["check", "--package"]).arg(&package))?;
    if arguments.for_tests {
        dist::release(&host, &root().join(RELEASE_FOR_TESTS))?;
    }
    report(&host, &package)
}

/// Writes what the host says about the package for programs, where `deploy.sh` reads it.
fn report(host: &Path, package: &Path) -> Result<()> {
    let report = root().join(REPORT);
    fs::create_dir_all(report.parent().unwrap_or(&root()))?;
    let file = File::create(&report).with_context(|| format!("cannot write {}", report.display()))?;
    execute(Command::new(host).args(["check", "--json", "--package"]).arg(package).stdout(file))
}

/// Builds the host that ships, and returns its file.
pub fn build_host() -> Result<PathBuf> {
    prepare()?;
    println!("building the host for Azure (the first time this takes many minutes)");
    let mut build = cargo(&["build", "--release", "--target", TARGET, "--package", "flexwasm"]);
    // The same bytes wherever the project and cargo's downloads lie.
    let home = std::env::var_os("HOME").map(PathBuf::from).unwrap_or_default();
    let downloads = std::env::var_os("CARGO_HOME").map_or_else(|| home.join(".cargo"), PathBuf::from);
    let renamed = [(root(), "flexwasm"), (downloads, "cargo")];
    let flags = renamed.map(|(path, name)| format!("--remap-path-prefix={}={name}", path.display()));
    build.env("CARGO_ENCODED_RUSTFLAGS", flags.join("\u{1f}"));
    // And whenever it is built: mimalloc contains the time of its compilation, which C compilers take from here.
    execute(build.env("SOURCE_DATE_EPOCH", "0"))?;
    Ok(built("release"))
}

/// Builds the tests of the host and, for them and their package, the host as the plan can run it; returns its file.
fn build_tests() -> Result<PathBuf> {
    println!("building the host and its tests (the first time this takes some minutes: it compiles wasmtime)");
    execute(as_for_the_plan(setup::host_tests().arg("--no-run"))?)?;
    Ok(built("debug"))
}

/// Runs the tests of the host, those too that take long or need the package.
pub fn test() -> Result<()> {
    execute(as_for_the_plan(setup::host_tests().args(["--", "--include-ignored"]))?)
}

/// Lets a command that starts cargo build for the plan's target, which is added to the toolchain if it is missing, and without symbols:
/// the package for the tests holds what they are run with, so that nothing is built twice.
pub fn as_for_the_plan(command: &mut Command) -> Result<&mut Command> {
    prepare()?;
    Ok(command.env("CARGO_BUILD_TARGET", TARGET).env("CARGO_PROFILE_DEV_STRIP", "symbols"))
}

fn prepare() -> Result<()> {
    ensure!(std::env::consts::ARCH == "x86_64", "the plan runs on x86-64: make the package on such a machine");
    setup::tools(&["musl-gcc"])?;
    setup::target(TARGET)
}

fn built(profile: &str) -> PathBuf {
    root().join("target").join(TARGET).join(profile).join("flexwasm")
}
