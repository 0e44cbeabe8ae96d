//! The package for the Flex Consumption plan: built, packed and checked.

use crate::{cargo, execute, root, setup, without_package};
use anyhow::{Context as _, Result, ensure};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

/// What the plan runs on; linked statically, so that it does not matter which libraries are there.
pub const TARGET: &str = "x86_64-unknown-linux-musl";

/// Cargo's profile, and where the package is written, below the project's folder.
pub struct Form {
    pub profile: &'static str,
    pub package: &'static str,
}

/// What deploy.sh publishes.
pub const SHIPS: Form = Form { profile: "release", package: "dist/flexwasm.zip" };
/// What the tests take. It is not where deploy.sh looks.
pub const FOR_TESTS: Form = Form { profile: "package-test", package: "target/package-test/flexwasm.zip" };

/// What `flexwasm check --json` said about the package that was checked last.
const REPORT: &str = "target/package/check.json";

/// Bytes. An instance that starts has to fetch and unpack it.
const LARGEST: u64 = 25_000_000;

#[derive(clap::Args)]
pub struct Arguments {
    /// Build faster than what ships, into target/package-test/flexwasm.zip, which the tests take
    #[arg(long, conflicts_with = "check")]
    pub for_tests: bool,
    /// Build nothing but the host, and check this package with it
    #[arg(long, value_name = "ZIP")]
    pub check: Option<PathBuf>,
}

pub fn run(arguments: &Arguments) -> Result<()> {
    let form = if arguments.for_tests { FOR_TESTS } else { SHIPS };
    let host = build_host(form.profile)?;
    let package = match &arguments.check {
        Some(zip) => std::path::absolute(zip)?,
        None => {
            let package = root().join(form.package);
            setup::target(setup::TARGET)?;
            let mut pack = Command::new(&host);
            pack.arg("package").arg("--output").arg(&package).current_dir(root());
            without_package(&mut pack);
            execute(pack.env("CARGO_TARGET_DIR", root().join(setup::GUESTS)))?;
            let size = |path: &Path| Ok::<_, std::io::Error>(fs::metadata(path)?.len());
            let (packed, executable) = (size(&package)?, size(&host)?);
            let megabytes = |bytes: u64| bytes as f64 / 1e6;
            println!(
                "{}: {:.1} MB; the executable in it: {:.1} MB",
                form.package,
                megabytes(packed),
                megabytes(executable)
            );
            let fits = arguments.for_tests || packed < LARGEST;
            ensure!(fits, "{} has {packed} bytes, but must have fewer than {LARGEST}", form.package);
            package
        }
    };
    execute(Command::new(&host).args(["check", "--package"]).arg(&package))?;
    report(&host, &package)
}

/// Writes what the host says about the package for programs, where `deploy.sh` reads it.
fn report(host: &Path, package: &Path) -> Result<()> {
    let report = root().join(REPORT);
    fs::create_dir_all(report.parent().unwrap_or(&root()))?;
    let file = File::create(&report).with_context(|| format!("cannot write {}", report.display()))?;
    execute(Command::new(host).args(["check", "--json", "--package"]).arg(package).stdout(file))
}

/// Builds the host for the plan, and returns its file.
pub fn build_host(profile: &str) -> Result<PathBuf> {
    ensure!(std::env::consts::ARCH == "x86_64", "the plan runs on x86-64: make the package on such a machine");
    setup::tools(&["musl-gcc"])?;
    setup::target(TARGET)?;
    println!("building the host for Azure (the first time this takes many minutes)");
    let mut build = cargo(&["build", "--profile", profile, "--target", TARGET, "--package", "flexwasm"]);
    // The same bytes wherever the project and cargo's downloads lie.
    let home = std::env::var_os("HOME").map(PathBuf::from).unwrap_or_default();
    let downloads = std::env::var_os("CARGO_HOME").map_or_else(|| home.join(".cargo"), PathBuf::from);
    let renamed = [(root(), "flexwasm"), (downloads, "cargo")];
    let flags = renamed.map(|(path, name)| format!("--remap-path-prefix={}={name}", path.display()));
    build.env("CARGO_ENCODED_RUSTFLAGS", flags.join("\u{1f}"));
    // And whenever it is built: mimalloc contains the time of its compilation, which C compilers take from here.
    execute(build.env("SOURCE_DATE_EPOCH", "0"))?;
    Ok(root().join("target").join(TARGET).join(profile).join("flexwasm"))
}
