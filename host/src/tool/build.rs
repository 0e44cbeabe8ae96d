//! Guests, built from their sources with the tools of their language. A guest that cannot be built leaves the one before in its place.

use super::leash;
use super::sources::{Language, Source, State};
use super::wit::{self, World};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Instant;

/// Where guests in Rust run.
const TARGET: &str = "wasm32-wasip2";
/// Bundles a script and makes it a component.
const COMPONENTIZE: &str = include_str!("../../../examples/guest-js/build.mjs");
/// What the packages of a guest were installed for: in the folder that holds them.
const INSTALLED: &str = "installed";
/// Stands at the end of a guest in JavaScript or Python, before a digest of what it was made of: a custom section of the component, which
/// everybody else ignores. `build.mjs` writes the same.
const SECTION: &[u8; 19] = b"\0\x31\x10flexwasm:sources";
/// The Python of a guest's environment. It finds its packages where the environment is, even if that was moved, and their programs do not.
const PYTHON: &str = ".venv/bin/python";
/// Starts componentize-py.
const COMPONENTIZE_PY: &str = "import sys; from componentize_py import script; sys.exit(script())";
/// Lines of a package's own script that are shown where it fails.
const SCRIPT_LINES: usize = 3;
/// Ends most errors.
const AGAIN: &str = "then run the same command again";

/// Builds the guest of `source` and puts it where its function expects it, unless it was built from the very same there. What happens is
/// said to `say`; the tools write to standard error.
///
/// # Errors
/// For a person: what is missing, or who has said what is wrong.
pub fn build(source: &Source, say: &dyn Fn(String)) -> Result<(), String> {
    let Source { function, guest, .. } = source;
    let begun = Instant::now();
    let staged = guest.with_added_extension("new");
    // What a build that was ended has left there.
    let _ = fs::remove_file(&staged);
    let built = match source.language {
        Language::Rust => rust(source, &staged, say),
        Language::Javascript => javascript(source, &staged, say),
        Language::Python => python(source, &staged, say),
    };
    let placed = built.and_then(|()| {
        // A guest that is made of the same has not been made again.
        if !staged.exists() {
            return Ok(None);
        }
        let size = fs::metadata(&staged).and_then(|built| fs::rename(&staged, guest).map(|()| built.len()));
        size.map(Some).map_err(|error| format!("{} cannot be written ({error})", guest.display()))
    });
    match placed {
        Ok(None) => {
            say(format!("{function}: {} is up to date", guest.display()));
            Ok(())
        }
        Ok(Some(size)) => {
            let (took, size) = (begun.elapsed().as_secs_f64(), size as f64 / 1e6);
            say(format!("{function}: {} ({size:.1} MB) built in {took:.1} s", guest.display()));
            Ok(())
        }
        Err(why) => {
            let _ = fs::remove_file(staged);
            Err(format!("{function}: {why}"))
        }
    }
}

fn rust(source: &Source, staged: &Path, say: &dyn Fn(String)) -> Result<(), String> {
    let Source { function, folder, .. } = source;
    need(&["cargo", "rustc"], "Rust with rustup, from https://rustup.rs")?;
    let sysroot =
        run(leash::command("rustc").args(["--print", "sysroot"]).current_dir(folder).stderr(Stdio::inherit()))?;
    let sysroot = PathBuf::from(String::from_utf8_lossy(&sysroot.stdout).trim());
    if sysroot.is_absolute() && !sysroot.join("lib/rustlib").join(TARGET).exists() {
        return Err(format!(
            "Rust has no standard library for {TARGET} here: run `rustup target add {TARGET}`, {AGAIN}"
        ));
    }
    say(format!("{function}: building the guest with cargo"));
    let mut cargo = leash::command("cargo");
    cargo.args(["build", "--profile", "guest", "--target", TARGET]);
    // A crate without a profile of that name has it all the same.
    cargo.args(["--config", "profile.guest.inherits=\"release\"", "--message-format", "json-render-diagnostics"]);
    let output = run(cargo.current_dir(folder).stderr(Stdio::inherit()))?;
    if !output.status.success() {
        return Err(format!("cargo cannot build {}: correct what it says above, {AGAIN}", folder.display()));
    }
    let component = String::from_utf8_lossy(&output.stdout).lines().rev().find_map(artifact);
    let component = component.ok_or_else(|| {
        let manifest = folder.join("Cargo.toml");
        format!(
            "{} makes no component: add crate-type = [\"cdylib\"] to its section [lib], {AGAIN}",
            manifest.display()
        )
    })?;
    fs::copy(component, staged).map(drop).map_err(|error| format!("{} cannot be written ({error})", staged.display()))
}

/// The WebAssembly file that this message of cargo tells of.
fn artifact(message: &str) -> Option<PathBuf> {
    let message: Value = serde_json::from_str(message).ok()?;
    let mut files = message["filenames"].as_array()?.iter().filter_map(Value::as_str).map(PathBuf::from);
    files.find(|file| file.extension().is_some_and(|extension| extension == "wasm"))
}

fn javascript(source: &Source, staged: &Path, say: &dyn Fn(String)) -> Result<(), String> {
    let Source { function, folder, guest, world, .. } = source;
    need(&["node", "npm"], "Node.js 20 or newer, from https://nodejs.org")?;
    let names = ["package.json", "package-lock.json"].map(|name| folder.join(name));
    // npm writes a lock file where there is none.
    let wanted = || names.iter().filter_map(|name| fs::read(name).ok()).collect::<Vec<_>>().concat();
    let packages = folder.join("node_modules");
    if fs::read(packages.join(INSTALLED)).ok() != Some(wanted()) {
        say(format!("{function}: installing what package.json names"));
        let mut npm = leash::command("npm");
        npm.arg(if names[1].exists() { "ci" } else { "install" });
        npm.args(["--no-audit", "--no-fund", "--fetch-retries=1", "--fetch-retry-mintimeout=1000"]);
        let was_there = packages.exists();
        install("npm", npm.current_dir(folder)).inspect_err(|_| {
            if !was_there {
                let _ = fs::remove_dir_all(&packages);
            }
        })?;
        fs::write(packages.join(INSTALLED), wanted()).map_err(no_room)?;
    }
    let manifest = fs::read(folder.join("package.json")).ok();
    let manifest: Value = manifest.and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default();
    let script = folder.join(manifest["main"].as_str().unwrap_or("app.js"));
    let interfaces = interfaces(*world)?;
    let builder = interfaces.path().join("build.mjs");
    let builder = fs::write(&builder, COMPONENTIZE).and_then(|()| File::open(builder)).map_err(no_room)?;
    say(format!("{function}: building the guest with componentize-js"));
    let mut node = leash::command("node");
    // From standard input, so that Node looks for packages in the function's folder. The memories of componentize-js grow thousands of times,
    // and each time V8 begins to collect garbage: in threads of its own that took as much of the processor as all the rest.
    node.args(["--single-threaded-gc", "--input-type=module", "-"])
        .arg(absolute(&script))
        .arg(interfaces.path())
        .arg(World::NAME);
    node.arg(absolute(staged)).arg(absolute(guest));
    let output = run(node.current_dir(folder).stdin(builder).stderr(Stdio::inherit()))?;
    componentized(&output, "componentize-js", &script)
}

fn python(source: &Source, staged: &Path, say: &dyn Fn(String)) -> Result<(), String> {
    let Source { function, folder, guest, world, .. } = source;
    need(&["python3"], "Python 3.10 or newer, from https://www.python.org")?;
    let (environment, requirements) = (folder.join(".venv"), folder.join("requirements.txt"));
    let wanted =
        fs::read(&requirements).map_err(|error| format!("{} cannot be read ({error})", requirements.display()))?;
    let done = environment.join(INSTALLED);
    if fs::read(&done).ok().as_ref() != Some(&wanted) {
        say(format!("{function}: installing what requirements.txt names"));
        let mut venv = leash::command("python3");
        venv.args(["-m", "venv", "--clear", ".venv"]).current_dir(folder);
        if !run(&mut venv)?.status.success() {
            let _ = fs::remove_dir_all(&environment);
            return Err(format!(
                "Python has no venv here: install it, on Debian with `apt-get install python3-venv`, {AGAIN}"
            ));
        }
        let mut pip = leash::command(PYTHON);
        pip.args([
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
            "--retries",
            "1",
            "-r",
            "requirements.txt",
        ]);
        install("pip", pip.current_dir(folder)).inspect_err(|_| {
            let _ = fs::remove_dir_all(&environment);
        })?;
        fs::write(&done, wanted).map_err(no_room)?;
    }
    let made_of = stamp(folder, *world);
    if fs::read(guest).is_ok_and(|built| built.ends_with(&made_of)) {
        return Ok(());
    }
    let interfaces = interfaces(*world)?;
    say(format!("{function}: building the guest with componentize-py"));
    let mut componentize = leash::command(PYTHON);
    componentize.args(["-c", COMPONENTIZE_PY, "--quiet"]).arg("--wit-path").arg(interfaces.path());
    componentize.args(["--world", World::NAME, "componentize", "app"]);
    let output = run(componentize.arg("--output").arg(absolute(staged)).current_dir(folder).stderr(Stdio::inherit()))?;
    componentized(&output, "componentize-py", &folder.join("app.py"))?;
    let finished = File::options().append(true).open(staged).and_then(|mut guest| guest.write_all(&made_of));
    finished.map_err(no_room)
}

/// The end of a guest that is made of what is in this folder, for this world.
fn stamp(folder: &Path, world: World) -> Vec<u8> {
    let mut made_of = Sha256::new();
    let sources = State::of(folder, &State::default());
    let (name, text) = world.file();
    for (name, text) in wit::FILES.iter().copied().chain([(name, &*text)]) {
        made_of.update(name);
        made_of.update(text);
    }
    made_of.update(sources.digest(folder).to_le_bytes());
    [SECTION.as_slice(), &made_of.finalize()].concat()
}

/// Whether the tool has made a component of the script.
fn componentized(output: &Output, tool: &str, script: &Path) -> Result<(), String> {
    // What it says to nobody in particular.
    let _ = std::io::stderr().lock().write_all(&output.stdout);
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{tool} makes no component of {}: correct what it says above, {AGAIN}", script.display()))
}

/// The interfaces of this host with the guest's world, in a folder that is gone when this is dropped.
fn interfaces(world: World) -> Result<tempfile::TempDir, String> {
    let folder = tempfile::tempdir().map_err(no_room)?;
    let (name, text) = world.file();
    wit::write(folder.path()).and_then(|()| fs::write(folder.path().join(name), text)).map_err(no_room)?;
    Ok(folder)
}

fn no_room(error: std::io::Error) -> String {
    format!("a file of the build cannot be written ({error}): make room in the temporary folder, {AGAIN}")
}

/// A path that means the same in every folder.
fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

/// Runs an installer, whose words are of interest only if it fails.
fn install(tool: &str, command: &mut Command) -> Result<(), String> {
    let output = run(command)?;
    if output.status.success() {
        return Ok(());
    }
    let why = complaint(&String::from_utf8_lossy(&output.stderr));
    Err(format!("{tool} cannot install what the guest is built with ({why}): see to that, {AGAIN}"))
}

/// What says most of an installer's many lines: the first, or, of a package's own script that npm has run, its error or else its last ones.
fn complaint(said: &str) -> String {
    // npm tells of codes, and at the end of a log file; pip of its attempts; a script of its calls.
    let tells = |line: &&str| {
        let details = ["code ", "errno ", "syscall ", "path ", "at ", "Node.js ", "A complete log"];
        !line.is_empty() && !details.iter().any(|detail| line.starts_with(detail))
    };
    let starts = ["npm error ", "npm ERR! ", "ERROR: "];
    let own = said.lines().filter_map(|line| starts.iter().find_map(|start| line.strip_prefix(start)));
    let lines: Vec<&str> = own.map(str::trim).filter(tells).collect();
    let line = match &lines[..] {
        ["command failed", script @ ..] => {
            let error = script.iter().rposition(|line| line.contains("Error: "));
            let from = error.unwrap_or(script.len().saturating_sub(SCRIPT_LINES));
            script[from..].iter().take(SCRIPT_LINES).copied().collect::<Vec<_>>().join("; ")
        }
        [line, ..] => (*line).to_owned(),
        [] => said.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("it does not say why").to_owned(),
    };
    line.chars().take(600).collect()
}

/// Fails where one of these tools is missing, with what to install.
fn need(tools: &[&str], package: &str) -> Result<(), String> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let is_there = |tool: &str| std::env::split_paths(&path).any(|folder| folder.join(tool).is_file());
    match tools.iter().find(|tool| !is_there(tool)) {
        Some(tool) => Err(format!("{tool} is needed and is not on PATH: install {package}, {AGAIN}")),
        None => Ok(()),
    }
}

/// Runs a tool to its end; what is not redirected is kept.
fn run(command: &mut Command) -> Result<Output, String> {
    command.output().map_err(|error| format!("cannot start {command:?}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::{World, complaint, stamp};

    #[test]
    fn a_guest_is_made_again_for_another_world() {
        let folder = tempfile::tempdir().expect("a folder");
        let stamp = |bindings, stores| stamp(folder.path(), World { bindings, stores });
        assert_eq!(stamp(true, false), stamp(true, false));
        assert_ne!(stamp(true, false), stamp(false, false));
        assert_ne!(stamp(false, true), stamp(false, false));
    }

    #[test]
    fn an_installer_that_fails_is_told_in_one_line() {
        let npm = "npm error code ENOTFOUND\nnpm error syscall getaddrinfo\nnpm error errno ENOTFOUND\n\
            npm error network request to https://registry.npmjs.org/esbuild failed, reason: getaddrinfo ENOTFOUND\n\
            npm error network This is a problem related to network connectivity.\n\
            npm error A complete log of this run can be found in: /home/me/.npm/_logs/x.log\n";
        let pip = "WARNING: Retrying (Retry(total=0)) after connection broken\n\
            ERROR: Could not find a version that satisfies the requirement componentize-py==0.25.0\n\
            ERROR: No matching distribution found for componentize-py==0.25.0\n";
        let script = "npm error code 1\nnpm error path /app/node_modules/esbuild\nnpm error command failed\n\
            npm error command sh -c node install.js\nnpm error node:internal/modules/cjs/loader:1207\nnpm error\n\
            npm error Error: Cannot find module 'esbuild'\nnpm error Require stack:\nnpm error - /app/install.js\n\
            npm error     at Module._resolveFilename (node:internal/modules/cjs/loader:1207:15) {\n\
            npm error   code: 'MODULE_NOT_FOUND'\nnpm error }\nnpm error\nnpm error Node.js v20.20.2\n\
            npm error A complete log of this run can be found in: /home/me/.npm/_logs/x.log\n";
        let error = "Error: Cannot find module 'esbuild'; Require stack:; - /app/install.js";
        let make = "npm error code 2\nnpm error command failed\nnpm error command sh -c make\nnpm error one\nnpm error two\n\
            npm error make: *** [all] 1\n";
        for (said, line) in [
            (npm, "network request to https://registry.npmjs.org/esbuild failed, reason: getaddrinfo ENOTFOUND"),
            (pip, "Could not find a version that satisfies the requirement componentize-py==0.25.0"),
            (script, error),
            (&script.replace("npm error", "npm ERR!"), error),
            (make, "one; two; make: *** [all] 1"),
            ("killed\n\n", "killed"),
            ("", "it does not say why"),
        ] {
            assert_eq!(complaint(said), line);
        }
    }
}
