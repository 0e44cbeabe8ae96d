//! The package on an older kernel, as Azure has them: Debian's 6.1, on a machine that qemu emulates.

mod debian;
mod initramfs;

use crate::{package, root, setup};
use anyhow::{Context as _, Result, bail, ensure};
use initramfs::Initramfs;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// What the machine is made of, below the project's folder.
const FOLDER: &str = "target/kernel";

const QEMU: &str = "qemu-system-x86_64";

/// Seconds for the whole run, with a factor of ten to what it takes where nothing else computes.
const LIMIT: &str = "120";

/// The machine's first process, which shows the results of what it does on the console.
const INIT: &[u8] = include_bytes!("init.sh");

/// The line that follows the first answer.
const ANSWERED: &str = "==> answer: 0";

/// Boots the kernel with the package that `cargo xtask package --for-tests` made, and judges what the console shows. Where qemu or an
/// archive of Debian is missing, one line says so instead.
pub fn run() -> Result<()> {
    if !setup::is_on_path(QEMU) {
        println!("left out, because {QEMU} is missing: install it with `apt-get install qemu-system-x86`");
        return Ok(());
    }
    let folder = root().join(FOLDER);
    fs::create_dir_all(&folder)?;
    let Some(parts) = debian::parts(&folder)? else {
        println!("left out, because apt knows no archive of Debian, where the kernel comes from: run it on Debian");
        return Ok(());
    };
    let files = folder.join("initramfs");
    fs::write(&files, initramfs(&parts.busybox, &root().join(package::FOR_TESTS))?)?;
    let (console, first_answer) = boot(&parts.kernel, &files)?;
    if let Some(words) = missing(&console, &wanted(&parts.release)) {
        bail!("{console}\nLinux {}: its console, above, does not show `{words}` where it should", parts.release);
    }
    let seconds = first_answer.context("no line of the console tells of the first answer")?.as_secs_f64();
    println!("Linux {}: the first answer came {seconds:.1} s after the machine's start", parts.release);
    Ok(())
}

fn initramfs(busybox: &Path, package: &Path) -> Result<Vec<u8>> {
    let mut files = Initramfs::default();
    for folder in ["dev", "proc", "sys", "tmp"] {
        files.folder(folder);
    }
    files.executable("init", INIT);
    files.executable("bin/busybox", &fs::read(busybox).with_context(|| format!("cannot read {}", busybox.display()))?);
    files.unzip(package, "app").context("no package to test: make it with `cargo xtask package --for-tests`")?;
    Ok(files.finish())
}

/// Runs the machine until it has switched itself off. Returns what its console showed, and after how long the first answer was there.
fn boot(kernel: &Path, initramfs: &Path) -> Result<(String, Option<Duration>)> {
    // Every processor can emulate this one, which has what guests compiled for Azure need.
    let machine = ["-accel", "tcg", "-cpu", "max", "-smp", "2", "-m", "2G"];
    let mut command = Command::new("timeout");
    command.args(["--foreground", LIMIT, QEMU]).args(machine);
    command.args(["-nodefaults", "-no-reboot", "-display", "none", "-serial", "stdio"]);
    command.arg("-kernel").arg(kernel).arg("-initrd").arg(initramfs);
    // A kernel that panics starts anew, which is the end here.
    command.args(["-append", "console=ttyS0 quiet panic=-1"]).stdin(Stdio::null()).stdout(Stdio::piped());
    let started = Instant::now();
    let mut child = command.spawn().with_context(|| format!("cannot start {command:?}"))?;
    let (mut console, mut first_answer) = (String::new(), None);
    for line in BufReader::new(child.stdout.take().expect("it is piped")).split(b'\n') {
        let line = line?;
        let line = String::from_utf8_lossy(&line);
        console.push_str(line.trim_end());
        console.push('\n');
        if line.starts_with(ANSWERED) {
            first_answer = Some(started.elapsed());
        }
    }
    let status = child.wait()?;
    ensure!(
        status.success(),
        "{console}\n{QEMU} failed, or took longer than {LIMIT} s ({status}); its console stands above"
    );
    Ok((console, first_answer))
}

/// What the console has to show, in this order, from a kernel of this release.
fn wanted(release: &str) -> Vec<String> {
    let receipt = format!("kernel=\"{release}\"");
    let words =
        ["==> check: 0", receipt.as_str(), "Hello, Ada!", ANSWERED, "Hello, Grace!", "==> again: 0", "==> stop: 0"];
    words.map(str::to_owned).into()
}

/// The first of these words that the console does not show behind those before.
fn missing<'a>(mut console: &str, wanted: &'a [String]) -> Option<&'a String> {
    wanted.iter().find(|words| match console.split_once(words.as_str()) {
        Some((_, behind)) => {
            console = behind;
            false
        }
        None => true,
    })
}

#[cfg(test)]
mod tests {
    use super::{missing, wanted};

    #[test]
    fn every_result_has_to_be_on_the_console_in_its_place() {
        let wanted = wanted("6.1.0-50-cloud-amd64");
        assert_eq!(missing(&wanted.join(" and more\n"), &wanted), None);
        for left_out in 0..wanted.len() {
            let mut shown = wanted.clone();
            shown.remove(left_out);
            assert!(missing(&shown.join("\n"), &wanted).is_some(), "{}", wanted[left_out]);
            shown.push(wanted[left_out].clone());
            let is_last = left_out + 1 == wanted.len();
            assert_eq!(missing(&shown.join("\n"), &wanted).is_none(), is_last, "{}", wanted[left_out]);
        }
        let failed = wanted.join("\n").replace("==> stop: 0", "==> stop: 1");
        assert_eq!(missing(&failed, &wanted), wanted.last());
    }
}
