//! The package for the Flex Consumption plan: built, packed and checked.

use crate::{build_guest, cargo, execute, root, setup};
use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;
use std::fs::{self, File};
use std::io::{Seek, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, DateTime, ZipWriter};

/// What the plan runs on; linked statically, so that it does not matter which libraries are there.
const TARGET: &str = "x86_64-unknown-linux-musl";

/// Cargo's profile, and where the package is written, below the project's folder.
pub struct Form {
    profile: &'static str,
    pub package: &'static str,
}

/// What deploy.sh publishes.
const SHIPS: Form = Form { profile: "release", package: "dist/flexwasm.zip" };
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
            pack(&host, &package)?;
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
fn build_host(profile: &str) -> Result<PathBuf> {
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

/// Packs what the plan needs of this folder, and nothing else.
fn pack(host: &Path, package: &Path) -> Result<()> {
    build_guest(&root())?;
    let root = root();
    let settings = json(&root.join("host.json"))?;
    let executable = settings.pointer("/customHandler/description/defaultExecutablePath").and_then(Value::as_str);
    let executable = executable.context("host.json: customHandler.description.defaultExecutablePath is missing")?;
    let mut files = vec![("host.json".to_owned(), root.join("host.json")), (executable.to_owned(), host.to_owned())];
    let staging = root.join("target/package");
    for function in functions(&root)? {
        let folder = root.join(&function);
        let settings = folder.join("function.json");
        let guest = json(&settings)?["scriptFile"].as_str().unwrap_or_default().to_owned();
        let compiled = Path::new(&guest).with_extension("cwasm").display().to_string();
        fs::create_dir_all(&staging)?;
        let staged = staging.join(format!("{function}.cwasm"));
        let mut compile = Command::new(host);
        execute(compile.args(["compile", "--portable", "--output"]).arg(&staged).arg(folder.join(&guest)))?;
        files.push((format!("{function}/function.json"), settings));
        files.push((format!("{function}/{compiled}"), staged));
        files.push((format!("{function}/{guest}"), folder.join(guest)));
    }
    files.sort();
    fs::create_dir_all(package.parent().unwrap_or(&root))?;
    let unfinished = package.with_extension("new");
    zip(&files, executable, File::create(&unfinished)?)?;
    fs::rename(&unfinished, package).with_context(|| format!("cannot write {}", package.display()))
}

/// Names of the folders with a `function.json`.
fn functions(root: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(root)? {
        let entry = entry?;
        if entry.path().join("function.json").is_file() {
            names.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    if names.is_empty() {
        bail!("there is no function: add a folder with a function.json");
    }
    Ok(names)
}

fn json(path: &Path) -> Result<Value> {
    let text = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_json::from_slice(&text).with_context(|| format!("{} is not valid JSON", path.display()))
}

/// Writes these files, by name; the same bytes for the same content. Azure keeps the modes as they are here.
fn zip(files: &[(String, PathBuf)], executable: &str, into: impl Write + Seek) -> Result<()> {
    let mut archive = ZipWriter::new(into);
    for (name, path) in files {
        let mode = if name == executable { 0o755 } else { 0o644 };
        let options = SimpleFileOptions::default()
            .compression_method(CompressionMethod::Deflated)
            .compression_level(Some(9))
            .last_modified_time(DateTime::default())
            .unix_permissions(mode);
        archive.start_file(name, options)?;
        let content = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        archive.write_all(&content)?;
    }
    archive.finish()?.flush()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File, FileTimes};
    use std::io::Cursor;
    use std::time::{Duration, SystemTime};

    #[test]
    fn the_same_content_makes_the_same_bytes() {
        let folder = tempfile::tempdir().expect("a folder");
        let files: Vec<_> = ["a", "b"].map(|name| (name.to_owned(), folder.path().join(name))).into();
        let zipped = || {
            let mut bytes = Cursor::new(Vec::new());
            super::zip(&files, "b", &mut bytes).expect("zipped");
            bytes.into_inner()
        };
        for (name, path) in &files {
            fs::write(path, name).expect("written");
        }
        let first = zipped();
        for (_, path) in &files {
            let file = File::options().write(true).open(path).expect("opened");
            let long_ago = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
            file.set_times(FileTimes::new().set_modified(long_ago)).expect("set");
        }
        assert_eq!(first, zipped());
    }
}
