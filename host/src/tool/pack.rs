//! The package for the plan, written: what the app's configuration names, compiled guests, and an executable.

use crate::config::source::{Ask, Smoke};
use crate::config::{Config, Function, host_json};
use crate::engine::code::{self, Processors};
use crate::guest::{self, compiled, composition};
use crate::package;
use std::collections::BTreeMap;
use std::fs;
use std::io::{Seek, Write};
use std::path::{Component, Path, PathBuf};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, DateTime, ZipWriter};

/// The files of a package by name, and what is in them.
type Files = BTreeMap<String, Vec<u8>>;

/// Whether the plan can start this executable, which is a flexwasm.
///
/// # Errors
/// For a person: why not, and which one to use.
pub fn fits_the_plan(own: &Path) -> Result<(), String> {
    package::static_executable(own).map_err(|why| {
        let version = env!("CARGO_PKG_VERSION");
        format!(
            "this flexwasm {why}: pack with the released one, from flexwasm-{version}-x86_64-linux.tar.gz, or build it in the \
             repository with `cargo xtask dist`"
        )
    })
}

/// Writes the package of the app in `root`, whose configuration this is, with the executable under the name that `host.json` gives to it:
/// the same bytes for the same app and executable.
///
/// # Errors
/// For a person: what cannot be read, compiled or written.
pub fn write(
    root: &Path,
    config: &Config,
    (name, executable): (&str, &Path),
    into: impl Write + Seek,
) -> Result<(), String> {
    let mut files = Files::new();
    let own = |name: &str| read(&root.join(name));
    files.insert(host_json::FILE.to_owned(), own(host_json::FILE)?);
    files.insert(name.to_owned(), read(executable)?);
    for function in &config.functions {
        let settings = format!("{}/function.json", function.name);
        files.insert(settings.clone(), own(&settings)?);
        if function.builtin.is_some() {
            continue;
        }
        for part in std::iter::once(&function.script_file).chain(function.middleware.iter().map(|part| &part.path)) {
            files.insert(inside(root, part)?, read(part)?);
        }
        compile(root, function, &mut files)?;
        if let Some(Smoke { ask: Ask::Event(payload), .. }) = &function.guest.smoke {
            files.insert(inside(root, payload)?, read(payload)?);
        }
        let grants = std::iter::once(&function.grants).chain(function.middleware.iter().map(|part| &part.grants));
        for folder in grants.flat_map(|grants| &grants.dirs) {
            add(&folder.path, folder.guest_path.trim_start_matches('/'), &mut files)?;
        }
    }
    zip(&files, name, into).map_err(|error| format!("the package cannot be written ({error})"))
}

/// Adds the code of a guest for every processor of the plan: what lies beside it, if that will do.
fn compile(root: &Path, function: &Function, files: &mut Files) -> Result<(), String> {
    let shown = function.script_file.display();
    let artifact = composition::read(function).map_err(|error| format!("{shown} {error}"))?;
    let beside = artifact.compiled.unwrap_or_default();
    let name = inside(root, &beside)?;
    if files.contains_key(&name) {
        return Ok(());
    }
    if package::portable(function).is_ok() {
        files.insert(name, read(&beside)?);
        return Ok(());
    }
    let engine = code::compiler(artifact.interfaces.wasi, Processors::EveryKind);
    let code = engine.and_then(|engine| compiled::compile(&engine, &artifact.wasm));
    let code = code.map_err(|error| format!("{shown} cannot be compiled: {}", guest::chain(&error)))?;
    files.insert(name, code);
    Ok(())
}

/// The files of a folder that a guest may read, below `name`.
fn add(folder: &Path, name: &str, files: &mut Files) -> Result<(), String> {
    let unreadable = |error: std::io::Error| format!("{} cannot be read ({error})", folder.display());
    for entry in fs::read_dir(folder).map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        let name = format!("{name}/{}", entry.file_name().display());
        // A link counts as what it leads to.
        let path = entry.path();
        if path.is_dir() {
            add(&path, &name, files)?;
        } else {
            files.insert(name, read(&path)?);
        }
    }
    Ok(())
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    fs::read(path).map_err(|error| format!("{} cannot be read ({error})", path.display()))
}

/// The path of a file of the app, as the package names it.
fn inside(root: &Path, path: &Path) -> Result<String, String> {
    let mut names = PathBuf::new();
    for part in path.strip_prefix(root).unwrap_or(path).components() {
        let fits = match part {
            Component::Normal(name) => {
                names.push(name);
                true
            }
            Component::CurDir => true,
            Component::ParentDir => names.pop(),
            Component::RootDir | Component::Prefix(_) => false,
        };
        if !fits {
            return Err(format!("{} is outside of the app: move it into the function's folder", path.display()));
        }
    }
    Ok(names.display().to_string())
}

/// Azure keeps the modes as they are here.
fn zip(files: &Files, executable: &str, into: impl Write + Seek) -> zip::result::ZipResult<()> {
    let mut archive = ZipWriter::new(into);
    for (name, content) in files {
        let mode = if name == executable { 0o755 } else { 0o644 };
        let options = SimpleFileOptions::default()
            .compression_method(CompressionMethod::Deflated)
            .last_modified_time(DateTime::default())
            .unix_permissions(mode);
        archive.start_file(name.as_str(), options)?;
        archive.write_all(content)?;
    }
    archive.finish()?.flush()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_executable_that_needs_libraries_is_refused_with_where_to_get_another() {
        // A shell of this machine does.
        let why = fits_the_plan(Path::new("/bin/sh")).expect_err("not for the plan");
        for words in ["linked statically", "-x86_64-linux.tar.gz", "cargo xtask dist"] {
            assert!(why.contains(words), "{why}");
        }
    }

    #[test]
    fn a_file_of_the_app_has_one_name() {
        let name = |path: &str| inside(Path::new("app"), Path::new(path));
        assert_eq!(name("app/f/guest.wasm").as_deref(), Ok("f/guest.wasm"));
        assert_eq!(name("app/f/./../shared/guest.wasm").as_deref(), Ok("shared/guest.wasm"));
        for outside in ["app/f/../../guest.wasm", "/etc/guest.wasm"] {
            assert!(name(outside).is_err_and(|why| why.contains("is outside of the app")), "{outside}");
        }
    }
}
