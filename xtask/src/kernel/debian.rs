//! What the machine is made of, from Debian 12: its newest kernel for clouds, and busybox. They are unpacked, never installed.

use crate::{execute, setup};
use anyhow::{Context as _, Result, bail, ensure};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Debian 12, and its kernels: 6.1.
const SUITE: &str = "bookworm";
/// The package that depends on the newest of them.
const NEWEST: &str = "linux-image-cloud-amd64";
const BUSYBOX: &str = "busybox-static";

/// Of the package debian-archive-keyring, without which Debian has no apt.
const KEYS: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

pub struct Parts {
    pub kernel: PathBuf,
    /// What that kernel calls itself, such as `6.1.0-50-cloud-amd64`.
    pub release: String,
    /// Linked statically.
    pub busybox: PathBuf,
}

/// The parts in this folder, fetched if they are not there yet; none where apt knows no archive of Debian.
pub fn parts(folder: &Path) -> Result<Option<Parts>> {
    if let Some(parts) = find(folder)? {
        return Ok(Some(parts));
    }
    if !setup::is_on_path("apt-get") {
        return Ok(None);
    }
    let format = "$(ORIGIN) $(LABEL) $(REPO_URI)";
    let targets = output(Command::new("apt-get").args(["indextargets", "--format", format]))?;
    ensure!(!targets.is_empty(), "apt has no lists of packages: fetch them with `apt-get update`");
    let Some(archive) = archive(&targets) else { return Ok(None) };
    fetch(archive, folder)?;
    find(folder)
}

/// The kernel came last: where it is, busybox is too.
fn find(folder: &Path) -> Result<Option<Parts>> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if let Some(release) = entry.file_name().to_string_lossy().strip_prefix("vmlinuz-") {
            let (kernel, release) = (entry.path(), release.to_owned());
            return Ok(Some(Parts { kernel, release, busybox: folder.join("busybox") }));
        }
    }
    Ok(None)
}

/// The archive from which this machine gets its own Debian, whichever that is: it has the one before and after too.
fn archive(targets: &str) -> Option<&str> {
    targets.lines().find_map(|target| target.strip_prefix("Debian Debian "))
}

/// Downloads the packages with an apt that knows nothing else, and unpacks them into the folder.
fn fetch(archive: &str, folder: &Path) -> Result<()> {
    println!("fetching {NEWEST} and {BUSYBOX} of Debian 12");
    let staging = &folder.join("staging");
    if staging.exists() {
        fs::remove_dir_all(staging)?;
    }
    fs::create_dir(staging)?;
    let sources = staging.join("sources");
    fs::write(&sources, format!("deb [arch=amd64 signed-by={KEYS}] {archive} {SUITE} main\n"))?;
    let apt = |program: &str| {
        let mut command = Command::new(program);
        for (option, path) in [("State", staging), ("Cache", staging), ("Etc::SourceList", &sources)] {
            command.arg("-o").arg(format!("Dir::{option}={}", path.display()));
        }
        // Otherwise root's apt downloads as a user that may not write here.
        command.args(["-o", "Dir::Etc::SourceParts=/dev/null", "-o", "APT::Sandbox::User=root", "-qq"]);
        command.env("LC_ALL", "C").current_dir(staging);
        command
    };
    execute(apt("apt-get").arg("update"))?;
    let depends = output(apt("apt-cache").args(["depends", NEWEST]))?;
    let kernel = depends.lines().find_map(|line| line.trim().strip_prefix("Depends: "));
    let Some((kernel, release)) = kernel.and_then(|name| Some((name, name.strip_prefix("linux-image-")?))) else {
        bail!("{NEWEST} of Debian 12 depends on no kernel: {depends}");
    };
    execute(apt("apt-get").args(["download", kernel, BUSYBOX]))?;
    let files = staging.join("files");
    for entry in fs::read_dir(staging)? {
        let package = entry?.path();
        if package.extension().is_some_and(|extension| extension == "deb") {
            execute(Command::new("dpkg-deb").arg("--extract").arg(package).arg(&files))?;
        }
    }
    let kernel = format!("vmlinuz-{release}");
    fs::rename(files.join("bin/busybox"), folder.join("busybox"))
        .and_then(|()| fs::rename(files.join("boot").join(&kernel), folder.join(&kernel)))
        .with_context(|| format!("{kernel} or busybox is not where it should be in its package"))?;
    Ok(fs::remove_dir_all(staging)?)
}

/// What a command writes to standard output.
fn output(command: &mut Command) -> Result<String> {
    let shown = format!("{command:?}");
    let output = command.stderr(Stdio::inherit()).output().with_context(|| format!("cannot start {shown}"))?;
    ensure!(output.status.success(), "{shown} failed ({})", output.status);
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::archive;

    #[test]
    fn the_archive_is_debians_own() {
        let security = "Debian Debian-Security http://a.example/debian-security/\n";
        assert_eq!(archive(security), None);
        assert_eq!(archive("Ubuntu Ubuntu http://a.example/ubuntu/\n"), None);
        let both = format!("{security}Debian Debian http://a.example/debian/\n");
        assert_eq!(archive(&both), Some("http://a.example/debian/"));
    }
}
