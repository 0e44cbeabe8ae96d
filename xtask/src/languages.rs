//! Guests in other languages, built once for each state of its sources.

use crate::{execute, root, setup};
use anyhow::{Context as _, Result};
use std::collections::BTreeMap;
use std::fmt::Display;
use std::fs;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Where everything of it is made, below the project's folder.
const FOLDER: &str = "target/examples";

/// A guest that is not written in Rust.
#[derive(Clone, Copy, clap::ValueEnum)]
pub enum Language {
    /// The demonstration in JavaScript: examples/guest-js/app.js, a listener for fetch, with componentize-js
    Js,
    /// The same against the interfaces of wasi:http: examples/guest-js/direct.js
    JsDirect,
    /// A router and an answer that streams: examples/guest-js/router.js
    JsRouter,
    /// The demonstration in Python: examples/guest-python, with componentize-py
    Python,
    /// An echo that writes while it reads: examples/guest-python/echo.py
    PythonEcho,
    /// A component in front of a guest, in JavaScript: examples/middleware/key.js
    KeyJs,
    /// A queue's function in JavaScript: examples/events/orders.js
    OrdersJs,
    /// The same in Python: examples/events/orders.py
    OrdersPython,
    /// A counter and a blob without a secret in JavaScript: examples/grants/grants.js
    GrantsJs,
    /// The same in Python: examples/grants/grants.py
    GrantsPython,
}

impl Language {
    /// The name of its component in [`FOLDER`].
    fn name(self) -> &'static str {
        match self {
            Self::Js => "guest-js",
            Self::JsDirect => "guest-js-direct",
            Self::JsRouter => "guest-js-router",
            Self::Python => "guest-python",
            Self::PythonEcho => "guest-python-echo",
            Self::KeyJs => "key-js",
            Self::OrdersJs => "orders-js",
            Self::OrdersPython => "orders-python",
            Self::GrantsJs => "grants-js",
            Self::GrantsPython => "grants-python",
        }
    }

    /// The folder with its tools below `examples`, which is also the folder in [`FOLDER`] where it is built, and its script there.
    fn source(self) -> (&'static str, &'static str) {
        match self {
            Self::Js => ("guest-js", "guest-js/app.js"),
            Self::JsDirect => ("guest-js", "guest-js/direct.js"),
            Self::JsRouter => ("guest-js", "guest-js/router.js"),
            Self::Python => ("guest-python", "guest-python/app.py"),
            Self::PythonEcho => ("guest-python", "guest-python/echo.py"),
            Self::KeyJs => ("guest-js", "middleware/key.js"),
            Self::OrdersJs => ("guest-js", "events/orders.js"),
            Self::OrdersPython => ("guest-python", "events/orders.py"),
            Self::GrantsJs => ("guest-js", "grants/grants.js"),
            Self::GrantsPython => ("guest-python", "grants/grants.py"),
        }
    }

    /// The world of wit/ that it is written against.
    fn world(self) -> &'static str {
        match self {
            Self::KeyJs => "middleware",
            Self::GrantsJs | Self::GrantsPython => "state-guest",
            _ => "guest",
        }
    }

    /// What to do with its file, for a person.
    fn next(self, file: impl Display) -> String {
        let function = match self {
            Self::KeyJs => return "copy it beside a guest and name it in guest.middleware".to_owned(),
            Self::OrdersJs | Self::OrdersPython => "--app examples/events orders",
            Self::GrantsJs | Self::GrantsPython => "--app examples/grants counter",
            _ => "http_trigger",
        };
        format!("swap it in with `./flexwasm swap {function} {file}`")
    }
}

/// Builds the guest and says how it is swapped in.
pub fn run(language: Language) -> Result<()> {
    let guest = build(language)?;
    let shown = guest.strip_prefix(root()).unwrap_or(&guest).display();
    println!("{shown}: {}", language.next(&shown));
    Ok(())
}

/// Builds the guest, if it has not been built from these very sources, and returns its file.
pub fn build(language: Language) -> Result<PathBuf> {
    let (place, script) = language.source();
    make(language.name(), place, &root().join("examples").join(script), language.world())
}

/// The same for the benchmark guest of this script below `benches/`; the tools are the demonstration's.
pub fn build_benchmark(script: &str) -> Result<PathBuf> {
    let place = script.split('/').next().unwrap_or_default();
    let name = format!("bench-{}", script.replace(['/', '.'], "-"));
    make(&name, place, &root().join("benches").join(script), "plain-guest")
}

/// Makes a component of a script, for a world of wit/, with the tools that `examples/PLACE` names.
fn make(name: &str, place: &str, script: &Path, world: &str) -> Result<PathBuf> {
    let tools = root().join("examples").join(place);
    let state = state(&[script, &tools, &root().join("wit")])?;
    let folder = root().join(FOLDER);
    let (guest, stamp) = (folder.join(name).with_extension("wasm"), folder.join(name).with_extension("state"));
    if guest.exists() && fs::read_to_string(&stamp).is_ok_and(|built| built == state) {
        return Ok(guest);
    }
    println!("building the guest {}", script.strip_prefix(root()).unwrap_or(script).display());
    let workshop = folder.join(place);
    fs::create_dir_all(&workshop).with_context(|| format!("cannot make {}", workshop.display()))?;
    let staged = workshop.join("guest.wasm");
    if script.extension().is_some_and(|extension| extension == "py") {
        python(&tools, script, world, &workshop, &staged)?;
    } else {
        javascript(&tools, script, world, &workshop, &staged)?;
    }
    fs::rename(&staged, &guest)?;
    fs::write(&stamp, state)?;
    Ok(guest)
}

fn javascript(tools: &Path, script: &Path, world: &str, workshop: &Path, guest: &Path) -> Result<()> {
    setup::node(tools, workshop)?;
    // Node looks for packages beside the script that wants them.
    fs::copy(tools.join("build.mjs"), workshop.join("build.mjs"))?;
    let mut node = Command::new("node");
    // As `flexwasm build` does.
    node.args(["--single-threaded-gc", "build.mjs"]).arg(script).arg(root().join("wit")).arg(world).arg(guest);
    execute(node.current_dir(workshop))
}

fn python(tools: &Path, script: &Path, world: &str, workshop: &Path, guest: &Path) -> Result<()> {
    let environment = setup::python(&tools.join("requirements.txt"), workshop)?;
    // Python writes its cache beside what it reads.
    fs::copy(script, workshop.join("app.py"))?;
    let mut componentize = Command::new(environment.join("bin/componentize-py"));
    componentize.arg("--quiet").arg("--wit-path").arg(root().join("wit")).args(["--world", world, "componentize"]);
    execute(componentize.args(["app", "--output"]).arg(guest).current_dir(workshop))
}

/// The names and contents of all files in these folders, as a number.
fn state(folders: &[&Path]) -> Result<String> {
    let mut files = BTreeMap::new();
    for folder in folders {
        gather(folder, &mut files).with_context(|| format!("cannot read {}", folder.display()))?;
    }
    let mut hasher = DefaultHasher::new();
    files.hash(&mut hasher);
    Ok(format!("{:016x}", hasher.finish()))
}

fn gather(path: &Path, files: &mut BTreeMap<PathBuf, Vec<u8>>) -> std::io::Result<()> {
    if !path.is_dir() {
        files.insert(path.to_owned(), fs::read(path)?);
        return Ok(());
    }
    fs::read_dir(path)?.try_for_each(|entry| gather(&entry?.path(), files))
}
