//! The package for the plan, written: what the app's configuration names, compiled guests, and an executable.

use crate::config::dirs::Folder;
use crate::config::source::{Ask, Smoke};
use crate::config::{Config, Function, file, host_json};
use crate::doctor::local::PACKAGE;
use crate::engine::code::{self, Processors};
use crate::guest::{self, compiled, composition};
use crate::package;
use std::collections::BTreeMap;
use std::fs;
use std::io::{Seek, Write};
use std::path::{Component, Path, PathBuf};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, DateTime, ZipWriter};

/// The most bytes of a file that is packed. All of them are in memory at the same time.
const LARGEST: u64 = 1 << 30;

/// The files of a package by name, and what is in them. The names of folders end with a slash.
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
    files.insert(host_json::FILE.to_owned(), read(&root.join(host_json::FILE))?);
    files.insert(name.to_owned(), read(executable)?);
    for function in &config.functions {
        for file in own_files(root, function) {
            files.insert(inside(root, &file)?, read(&file)?);
        }
        if function.builtin.is_none() {
            compile(root, function, &mut files)?;
        }
        for Folder { path, guest_path } in granted(function) {
            add(path, guest_path.trim_start_matches('/'), &[], &mut files)?;
        }
    }
    zip(&files, name, into).map_err(|error| format!("the package cannot be written ({error})"))
}

/// Refuses a `target` that is packed itself, or that lies in a folder that is.
///
/// # Errors
/// For a person: which one, and where to write the package.
pub fn spare(root: &Path, config: &Config, executables: &[&Path], target: &Path) -> Result<(), String> {
    let mut packed = vec![root.join(host_json::FILE)];
    packed.extend(executables.iter().map(|path| path.to_path_buf()));
    for function in &config.functions {
        packed.extend(own_files(root, function));
        packed.extend(composition::read(function).ok().and_then(|artifact| artifact.compiled));
        packed.extend(granted(function).map(|folder| folder.path.clone()));
    }
    let (shown, target) = (target.display(), canonical(target));
    match packed.iter().any(|packed| target.starts_with(canonical(packed))) {
        true => Err(format!("{shown} is part of what is packed: name another file with -o, such as {PACKAGE}")),
        false => Ok(()),
    }
}

/// The path with every link followed, of a file that need not be there, nor its folder.
fn canonical(path: &Path) -> PathBuf {
    let not_there = || {
        let mut folder = canonical(path.parent()?);
        match path.file_name() {
            Some(name) => folder.push(name),
            None => drop(folder.pop()),
        }
        Some(folder)
    };
    fs::canonicalize(path).ok().or_else(not_there).unwrap_or_else(|| path.to_owned())
}

/// The files that the app has for a function.
fn own_files(root: &Path, function: &Function) -> Vec<PathBuf> {
    let mut files = vec![root.join(&*function.name).join("function.json")];
    if function.builtin.is_none() {
        files.push(function.script_file.clone());
        files.extend(function.middleware.iter().map(|part| part.path.clone()));
        if let Some(Smoke { ask: Ask::Event(payload), .. }) = &function.guest.smoke {
            files.push(payload.clone());
        }
    }
    files
}

/// The folders that the guest of a function may read, and what stands in front of it.
fn granted(function: &Function) -> impl Iterator<Item = &Folder> {
    let grants = std::iter::once(&function.grants).chain(function.middleware.iter().map(|part| &part.grants));
    grants.flat_map(|grants| &grants.dirs)
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

/// Adds a folder that a guest may read, as `name`. It was reached through those `above`, the granted one first.
fn add(folder: &Path, name: &str, above: &[&Path], files: &mut Files) -> Result<(), String> {
    let unreadable = |error: std::io::Error| format!("{} cannot be read ({error})", folder.display());
    let above = [above, &[folder]].concat();
    files.insert(format!("{name}/"), Vec::new());
    for entry in fs::read_dir(folder).map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        let name = format!("{name}/{}", entry.file_name().display());
        let path = followed(entry.path(), &above)?;
        if path.is_dir() {
            add(&path, &name, &above, files)?;
        } else {
            files.insert(name, read(&path)?);
        }
    }
    Ok(())
}

/// What is packed for this entry of the last of the folders: what a link leads to, which has to be in the first, as in a running host.
fn followed(path: PathBuf, folders: &[&Path]) -> Result<PathBuf, String> {
    if !path.is_symlink() {
        return Ok(path);
    }
    let refused = |to: &Path, why: String| {
        let (link, to) = (path.display(), to.display());
        Err(format!("{link} is a link to {to}, {why}: remove it, or put a copy of what it leads to in its place"))
    };
    match fs::canonicalize(&path) {
        Ok(to) if folders.contains(&&*to) => refused(&to, "which is a folder that it is in".to_owned()),
        Ok(to) if !to.starts_with(folders[0]) => {
            refused(&to, format!("out of the folder {}, which a guest may read", folders[0].display()))
        }
        Ok(to) => Ok(to),
        Err(error) => refused(&fs::read_link(&path).unwrap_or_default(), format!("which cannot be read ({error})")),
    }
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    file::read(path, LARGEST).map_err(|why| format!("{} {why}", path.display()))
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
        let is_folder = name.ends_with('/');
        let mode = if name == executable || is_folder { 0o755 } else { 0o644 };
        let options = SimpleFileOptions::default()
            .compression_method(CompressionMethod::Deflated)
            .last_modified_time(DateTime::default())
            .unix_permissions(mode);
        if is_folder {
            archive.add_directory(name.as_str(), options)?;
        } else {
            archive.start_file(name.as_str(), options)?;
            archive.write_all(content)?;
        }
    }
    archive.finish()?.flush()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{CWD, FileType, Mode, mknodat};
    use std::os::unix::fs::symlink;

    #[test]
    fn a_pipe_in_a_granted_folder_is_named_and_not_waited_for() {
        let app = tempfile::tempdir().expect("a folder");
        let pipe = app.path().join("pipe");
        mknodat(CWD, &pipe, FileType::Fifo, Mode::RUSR, 0).expect("made");
        let why = add(app.path(), "data", &[], &mut Files::new()).expect_err("a pipe");
        assert!(why.starts_with(&format!("{} is not a regular file", pipe.display())), "{why}");
    }

    #[test]
    fn links_in_a_granted_folder_must_stay_in_it_and_come_to_an_end() {
        let app = tempfile::tempdir().expect("a folder");
        let root = fs::canonicalize(app.path()).expect("there");
        let data = root.join("data");
        fs::create_dir_all(data.join("more/empty")).expect("made");
        fs::write(data.join("more/file"), "text").expect("written");
        fs::write(root.join("secret"), "secret").expect("written");
        symlink("more", data.join("folder")).expect("made");
        symlink(data.join("more/file"), data.join("link")).expect("made");
        let added = || {
            let mut files = Files::new();
            add(&data, "data", &[], &mut files).map(|()| files)
        };
        let files = added().expect("all of it fits");
        let names: Vec<_> = files.keys().map(String::as_str).collect();
        let wanted = [
            "data/",
            "data/folder/",
            "data/folder/empty/",
            "data/folder/file",
            "data/link",
            "data/more/",
            "data/more/empty/",
            "data/more/file",
        ];
        assert_eq!(names, wanted);
        assert_eq!((&*files["data/link"], &*files["data/folder/file"]), (&b"text"[..], &b"text"[..]));
        for (to, words) in [
            ("../../secret", "/secret, out of the folder "),
            ("/etc", " to /etc, out of the folder "),
            ("../..", ", out of the folder "),
            (".", "/data/more, which is a folder that it is in"),
            ("..", "/data, which is a folder that it is in"),
            ("bad", "to bad, which cannot be read ("),
            ("nowhere", "to nowhere, which cannot be read ("),
        ] {
            let link = data.join("more/bad");
            symlink(to, &link).expect("made");
            let why = added().expect_err(to);
            assert!(why.starts_with(&format!("{} is a link to ", link.display())), "{why}");
            assert!(why.contains(words) && why.contains(": remove it, or put a copy"), "{to}: {why}");
            fs::remove_file(link).expect("removed");
        }
        // Each leads into the other.
        for (link, to) in [("one", "two"), ("two", "one")] {
            fs::create_dir(data.join(link)).expect("made");
            symlink(format!("../{to}"), data.join(link).join("other")).expect("made");
        }
        assert!(added().is_err_and(|why| why.contains("which is a folder that it is in")));
    }

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
