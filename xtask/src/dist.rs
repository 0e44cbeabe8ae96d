//! The release: an archive with the executable that also goes into packages, what it is made of, and the sums of both.

use crate::package::build_host;
use crate::{cargo, execute, root, setup};
use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use std::process::{Command, Output};

/// Where the release is written, below the project's folder.
const FOLDER: &str = "dist/release";

/// Shells that get completions, and the names of their files.
const SHELLS: [(&str, &str); 3] = [("bash", "flexwasm.bash"), ("zsh", "_flexwasm"), ("fish", "flexwasm.fish")];

pub fn run() -> Result<()> {
    let sums = release(&build_host()?, &root().join(FOLDER))?;
    print!("{FOLDER}:\n{sums}");
    Ok(())
}

/// Writes the release of this host into a folder, in place of what is there: the same bytes for the same sources. Returns the sums.
pub fn release(host: &Path, release: &Path) -> Result<String> {
    setup::tools(&["tar", "gzip", "sha256sum"])?;
    // Whatever another version has left there.
    let _ = fs::remove_dir_all(release);
    let name = format!("flexwasm-{}-x86_64-linux", env!("CARGO_PKG_VERSION"));
    let folder = release.join(&name);
    fill(host, &folder)?;
    let archive = format!("{name}.tar.gz");
    pack(release, &name, &archive)?;
    fs::remove_dir_all(&folder)?;
    let materials = format!("{name}.cdx.json");
    fs::write(release.join(&materials), format!("{:#}\n", bill_of_materials(&dependencies()?)))?;
    let mut install = fs::read_to_string(root().join("install.sh"))?;
    // Where it is released; without that the script asks for it.
    if let Ok(repository) = std::env::var("FLEXWASM_REPOSITORY") {
        install = install.replacen("@REPOSITORY@", &repository, 1);
    }
    fs::write(release.join("install.sh"), install)?;
    let sums = said(Command::new("sha256sum").args([&archive, &materials, "install.sh"]).current_dir(release))?;
    fs::write(release.join("SHA256SUMS"), &sums)?;
    Ok(sums)
}

/// The files of the archive.
fn fill(host: &Path, folder: &Path) -> Result<()> {
    let completions = folder.join("completions");
    fs::create_dir_all(&completions).with_context(|| format!("cannot make {}", completions.display()))?;
    fs::copy(host, folder.join("flexwasm"))?;
    for file in ["LICENSE", "README.md", "CHANGELOG.md"] {
        fs::copy(root().join(file), folder.join(file))?;
    }
    for (shell, file) in SHELLS {
        fs::write(completions.join(file), said(Command::new(host).args(["completions", shell]))?)?;
    }
    execute(Command::new(host).arg("manual").arg(folder.join("man")))
}

/// Packs the folder `name` of `parent`: the same bytes for the same files.
fn pack(parent: &Path, name: &str, archive: &str) -> Result<()> {
    let mut tar = Command::new("tar");
    tar.args(["--create", "--sort=name", "--mtime=@0", "--owner=0", "--group=0", "--numeric-owner", "--format=gnu"]);
    // gzip itself notes no time when it reads from a pipe.
    tar.args(["--mode=u=rwX,go=rX", "--use-compress-program=gzip -n", "--file", archive, name]);
    execute(tar.current_dir(parent))
}

/// What is linked into the executable: a line `name version|licence` for each crate.
fn dependencies() -> Result<String> {
    let tree = ["tree", "--package", "flexwasm", "--target", crate::package::TARGET, "--edges", "normal"];
    said(cargo(&tree).args(["--prefix", "none", "--no-dedupe", "--format", "{p}|{l}"]))
}

/// A bill of materials as CycloneDX 1.5 wants it; without a time or a serial number, so that it is the same for the same sources.
fn bill_of_materials(dependencies: &str) -> Value {
    let mut lines: Vec<&str> = dependencies.lines().collect();
    lines.sort_unstable();
    lines.dedup();
    let component = |line: &&str| {
        let (package, licence) = line.split_once('|')?;
        let mut words = package.split(' ');
        let (name, version) = (words.next()?, words.next()?.trim_start_matches('v'));
        // A path follows the version of what is ours.
        if words.any(|word| word.starts_with("(/")) {
            return None;
        }
        Some(json!({
            "type": "library",
            "name": name,
            "version": version,
            "purl": format!("pkg:cargo/{name}@{version}"),
            // Old crates write a slash for "or".
            "licenses": [{ "expression": licence.replace('/', " OR ") }],
        }))
    };
    let version = env!("CARGO_PKG_VERSION");
    json!({
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": { "component": { "type": "application", "name": "flexwasm", "version": version } },
        "components": lines.iter().filter_map(component).collect::<Vec<_>>(),
    })
}

/// What a command that has to succeed prints.
fn said(command: &mut Command) -> Result<String> {
    let shown = format!("{command:?}");
    let Output { status, stdout, stderr } = command.output().with_context(|| format!("cannot start {shown}"))?;
    ensure!(status.success(), "{shown} failed ({status}): {}", String::from_utf8_lossy(&stderr).trim());
    Ok(String::from_utf8(stdout)?)
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File, FileTimes, Permissions};
    use std::os::unix::fs::PermissionsExt as _;
    use std::time::{Duration, SystemTime};

    #[test]
    fn the_same_files_make_the_same_archive() {
        let parent = tempfile::tempdir().expect("a folder");
        let archive = |name: &str, umask: u32, age: u64| {
            let folder = parent.path().join(name);
            fs::create_dir(&folder).expect("made");
            let parent = folder.join("release");
            fs::create_dir(&parent).expect("made");
            for (name, mode) in [("flexwasm", 0o777), ("LICENSE", 0o666)] {
                fs::write(parent.join(name), name).expect("written");
                fs::set_permissions(parent.join(name), Permissions::from_mode(mode & !umask)).expect("ours");
                let file = File::options().write(true).open(parent.join(name)).expect("opened");
                let then = SystemTime::UNIX_EPOCH + Duration::from_secs(age);
                file.set_times(FileTimes::new().set_modified(then)).expect("ours");
            }
            super::pack(&folder, "release", "release.tar.gz").expect("packed");
            fs::read(folder.join("release.tar.gz")).expect("there")
        };
        assert!(archive("one", 0o022, 1_000_000_000) == archive("two", 0o077, 1_700_000_000));
    }

    #[test]
    fn the_same_sources_make_the_same_release() {
        let folder = tempfile::tempdir().expect("a folder");
        let host = folder.path().join("host");
        // Stands in for the host, as far as a release asks it something.
        let script =
            "#!/bin/sh\ncase $1 in manual) mkdir -p \"$2\" && echo .TH >\"$2/flexwasm.1\" ;; *) echo \"$@\" ;; esac\n";
        fs::write(&host, script).expect("written");
        fs::set_permissions(&host, Permissions::from_mode(0o755)).expect("ours");
        let [one, two] = ["one", "two"].map(|name| {
            let release = folder.path().join(name);
            let sums = super::release(&host, &release).unwrap_or_else(|error| panic!("{error:#}"));
            assert_eq!(sums, fs::read_to_string(release.join("SHA256SUMS")).expect("there"));
            (sums, release)
        });
        assert_eq!(one.0, two.0);
        let names: Vec<_> = one.0.lines().filter_map(|line| line.split("  ").nth(1)).collect();
        let [archive, materials, install] = names[..] else { panic!("{}", one.0) };
        assert!(
            archive.ends_with("-x86_64-linux.tar.gz") && materials.ends_with(".cdx.json") && install == "install.sh"
        );
        for name in names {
            assert!(fs::read(one.1.join(name)).expect("there") == fs::read(two.1.join(name)).expect("there"), "{name}");
        }
        assert_eq!(fs::read_dir(one.1).expect("there").count(), 4);
    }

    #[test]
    fn every_foreign_crate_is_named_once() {
        let tree = "flexwasm v0.1.0 (/home/me/flexwasm/host)|Apache-2.0 WITH LLVM-exception\n\
            clap v4.6.9|MIT OR Apache-2.0\nclap_derive v4.6.9 (proc-macro)|MIT OR Apache-2.0\n\
            rustix v1.1.6|MIT/Apache-2.0\nclap v4.6.9|MIT OR Apache-2.0\n";
        let bill = super::bill_of_materials(tree);
        let components = bill["components"].as_array().expect("a list");
        let packages: Vec<_> = components.iter().filter_map(|component| component["purl"].as_str()).collect();
        assert_eq!(packages, ["pkg:cargo/clap@4.6.9", "pkg:cargo/clap_derive@4.6.9", "pkg:cargo/rustix@1.1.6"]);
        assert_eq!(components[2]["licenses"][0]["expression"], "MIT OR Apache-2.0");
    }
}
