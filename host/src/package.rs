//! The package that is deployed: what a zip has to be so that Azure can start it, and so that it starts fast (azure-contract.md
//! X1 and X2, flex-deploy.md §3).
//!
//! The plan unpacks it read-only and says little about what it does not like, so everything is looked at before.

use crate::config::section::{Problem, Problems};
use crate::config::units::spell_size;
use crate::config::{self, AppSettings, Circumstances, Config, Function, host_json};
use crate::engine::code::{Processors, compiler};
use crate::guest::{compiled, composition};
use object::elf::{self, FileHeader64};
use object::endian::LittleEndian;
use object::read::elf::{FileHeader as _, ProgramHeader as _};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use tempfile::TempDir;
use zip::{System, ZipArchive};

/// Bytes of all files of a package together.
const MAX_UNPACKED: u64 = 1 << 30;

/// The kind of file in a mode, and of a regular one.
const KIND: u32 = 0o170_000;
const REGULAR: u32 = 0o100_000;
/// What Azure's user needs, who owns nothing in the package: to read a file, and to start one. Azure's own tool writes modes
/// of 100666 and 100777.
const READABLE: u32 = 0o004;
const STARTABLE: u32 = 0o005;

/// The key of `host.json` that names the executable.
const EXECUTABLE: &str = "customHandler.description.defaultExecutablePath";

/// What makes a package that is in order.
const REMEDY: &str = "make it with `flexwasm package`";

/// A package, unpacked for as long as this lives.
pub struct Package {
    folder: TempDir,
    name: String,
    files: BTreeMap<String, Entry>,
    /// The name that `host.json` gives.
    executable: String,
}

/// What the zip says about one file.
struct Entry {
    /// None where no Unix made the entry, and so no mode was kept.
    mode: Option<u32>,
    size: u64,
}

impl Package {
    /// Unpacks `zip`, and looks at its files and its executable.
    ///
    /// # Errors
    /// Every mistake found, never an empty list.
    pub fn unpack(zip: &Path) -> Result<Self, Vec<Problem>> {
        let name = zip.display().to_string();
        let whole = |remedy: String| vec![Problem { file: name.clone(), key: String::new(), value: None, remedy }];
        let file = File::open(zip).map_err(|error| whole(format!("cannot be read ({error}): {REMEDY}")))?;
        let mut archive = ZipArchive::new(file).map_err(|error| whole(format!("is no zip ({error}): {REMEDY}")))?;
        let folder = tempfile::tempdir().map_err(|error| whole(format!("cannot be unpacked ({error})")))?;
        let files = extract(&mut archive, folder.path()).map_err(|why| whole(format!("{why}: {REMEDY}")))?;
        let mut problems = Problems::default();
        let mut package = Self { folder, name, files, executable: String::new() };
        if let Some(executable) = package.check_files(&mut problems) {
            package.executable = executable;
        }
        if problems.0.is_empty() { Ok(package) } else { Err(problems.0) }
    }

    /// The app root, for as long as the package lives.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Its files with their modes and sizes, a line each.
    pub fn listing(&self) -> String {
        self.files().map(|(name, mode, size)| format!("{name} {mode:04o} {:.1} kB\n", size as f64 / 1e3)).collect()
    }

    /// Its files by name, each with its permissions, which are 0 where no mode was kept, and its bytes.
    pub fn files(&self) -> impl Iterator<Item = (&str, u32, u64)> {
        self.files.iter().map(|(name, Entry { mode, size })| (&**name, mode.unwrap_or_default() & 0o7777, *size))
    }

    /// Reads the configuration in `root`, a name of [`Self::folder`], as it will be where it is deployed, and holds the functions to what a package promises. Sources of guests elsewhere are left out: what is in the package counts.
    ///
    /// # Errors
    /// Every mistake found, never an empty list.
    pub fn load(&self, root: &Path, settings: AppSettings, given: &Circumstances) -> Result<Config, Vec<Problem>> {
        let mut config = config::load_as_deployed(root, settings, given)?;
        let mut problems = Problems::default();
        if config.pool_size_by_memory {
            let remedy = "is not set: set it, so that deploy.sh can give the platform the same number as the pool has";
            problems.add(host_json::FILE, "extensions.http.maxConcurrentRequests", None, remedy);
        }
        for function in config.functions.iter_mut().filter(|function| function.builtin.is_none()) {
            if let Err((shown, why)) = portable(function) {
                let shown = shown.strip_prefix(root).unwrap_or(&shown).display().to_string();
                // What is composed has no single file to compile.
                let remedy = if function.middleware.is_empty() {
                    "run `flexwasm compile --portable` before packing"
                } else {
                    REMEDY
                };
                problems.add(&shown, "", None, format!("{why}: {remedy}"));
            }
            function.guest.source = None;
            function.middleware.iter_mut().for_each(|entry| entry.source = None);
        }
        problems.0.append(&mut config.objections);
        if problems.0.is_empty() { Ok(config) } else { Err(problems.0) }
    }

    /// Its files that are others in the app at `root`. What was compiled or linked for the package is not compared.
    pub fn stale(&self, root: &Path) -> Vec<String> {
        let same = |name: &str| fs::read(self.folder().join(name)).ok() == fs::read(root.join(name)).ok();
        let sources = self.files.keys().filter(|name| **name != self.executable && !name.ends_with(".cwasm"));
        sources.filter(|name| !same(name)).cloned().collect()
    }

    /// Notes what Azure would trip over, and gives the executable's name.
    fn check_files(&self, problems: &mut Problems) -> Option<String> {
        if let Some(secret) = self.files.keys().find(|name| name.ends_with("local.settings.json")) {
            problems.add(&self.name, secret, None, "holds settings of your own machine: leave it out");
        }
        if !self.files.contains_key(host_json::FILE) {
            let inner = self.files.keys().find_map(|name| name.strip_suffix("/host.json"));
            let remedy = match inner {
                Some(folder) => format!("is in the folder {folder}: pack what is in that folder, not the folder"),
                None => format!("is missing: {REMEDY}"),
            };
            problems.add(&self.name, host_json::FILE, None, remedy);
            return None;
        }
        for (name, Entry { mode, .. }) in &self.files {
            if let Some(mode) = mode.filter(|mode| mode & READABLE != READABLE) {
                let remedy =
                    format!("has mode {mode:o}, but Azure's user is neither its owner nor in its group: {REMEDY}");
                problems.add(&self.name, name, None, remedy);
            }
        }
        let document = config::read_json(self.folder(), Path::new(host_json::FILE), problems)?;
        let named = named(&document, problems)?;
        let Some(Entry { mode, .. }) = self.files.get(&named) else {
            let remedy = format!("is named by {EXECUTABLE} in host.json, but is not in the package: {REMEDY}");
            problems.add(&self.name, &named, None, remedy);
            return None;
        };
        // Azure unpacks it read-only and changes no mode.
        let startable = |mode: u32| mode & KIND == REGULAR && mode & STARTABLE == STARTABLE;
        // One that cannot be read has been named already.
        if !mode.is_some_and(startable) && mode.is_none_or(|mode| mode & READABLE == READABLE) {
            let mode = mode.map_or("no mode, for no Unix has packed it".to_owned(), |mode| format!("mode {mode:o}"));
            let remedy =
                format!("has {mode}, but Azure starts only what everybody may start, as with 100755: {REMEDY}");
            problems.add(&self.name, &named, None, remedy);
        }
        if let Err(why) = static_executable(&self.folder().join(&named)) {
            problems.add(&self.name, &named, None, format!("{why}: {REMEDY}"));
        }
        Some(named)
    }
}

/// The name that `host.json` in `root` gives to the executable.
///
/// # Errors
/// Every mistake found, never an empty list.
pub fn executable(root: &Path) -> Result<String, Vec<Problem>> {
    let mut problems = Problems::default();
    let document = config::read_json(root, Path::new(host_json::FILE), &mut problems);
    document.and_then(|document| named(&document, &mut problems)).ok_or(problems.0)
}

/// The same of its content; None when there is none that Azure could start, with the mistake noted.
fn named(document: &Value, problems: &mut Problems) -> Option<String> {
    let named = EXECUTABLE.split('.').try_fold(document, config::member);
    let plain = |name: &&str| !name.is_empty() && !name.contains(['/', '\\', '%']);
    if let Some(plain) = named.and_then(Value::as_str).filter(plain) {
        return Some(plain.to_owned());
    }
    let remedy = "must be the bare name of the executable beside host.json, without ./, such as \"flexwasm\"";
    problems.add(host_json::FILE, EXECUTABLE, named, remedy);
    None
}

/// Unpacks folders and regular files, and answers what the zip says about the files.
fn extract(archive: &mut ZipArchive<File>, folder: &Path) -> Result<BTreeMap<String, Entry>, String> {
    if archive.has_duplicate_names() {
        return Err("has two files of one name".to_owned());
    }
    let (mut files, mut left) = (BTreeMap::new(), MAX_UNPACKED);
    for index in 0..archive.len() {
        let mut entry = archive.by_index(index).map_err(|error| format!("has a broken file ({error})"))?;
        let name = String::from_utf8_lossy(entry.name_raw()).into_owned();
        // Linux takes a backslash for a part of the name, Windows for a folder.
        if name.contains('\\') || name.starts_with('/') {
            return Err(format!("has a file whose name is not a path with slashes below the package ({name})"));
        }
        let mode = entry.unix_mode().filter(|_| entry.system() == System::Unix);
        let Some(path) = entry.enclosed_name().filter(|_| entry.is_file() || entry.is_dir()) else {
            return Err(format!("has a file that is none, or that leads out of it ({name})"));
        };
        let path: PathBuf = folder.join(path);
        let broken = |error: io::Error| format!("cannot be unpacked at {name} ({error})");
        if entry.is_dir() {
            fs::create_dir_all(path).map_err(broken)?;
            continue;
        }
        let unpacked = fs::create_dir_all(path.parent().unwrap_or(folder))
            .and_then(|()| io::copy(&mut entry.by_ref().take(left), &mut File::create_new(&path)?));
        let size = unpacked.map_err(broken)?;
        left -= size;
        if left == 0 {
            return Err(format!("is larger than {} unpacked", spell_size(MAX_UNPACKED)));
        }
        files.insert(name, Entry { mode, size });
    }
    Ok(files)
}

/// Whether Linux on an x86-64 processor can start the file by itself, whatever libraries that system has (flex-deploy.md §3.3).
///
/// # Errors
/// For a person, after the name of the file: why not.
pub fn static_executable(path: &Path) -> Result<(), String> {
    let content = fs::read(path).map_err(|error| format!("cannot be read ({error})"))?;
    let content = &content[..];
    let no_elf = |_| "is no executable of Linux for x86-64".to_owned();
    let header = FileHeader64::<LittleEndian>::parse(content).map_err(no_elf)?;
    let endian = header.endian().map_err(no_elf)?;
    let executable = matches!(header.e_type.get(endian), elf::ET_EXEC | elf::ET_DYN);
    if header.e_machine.get(endian) != elf::EM_X86_64 || !executable {
        return Err("is no executable of Linux for x86-64".to_owned());
    }
    let segments = header.program_headers(endian, content).map_err(no_elf)?;
    if segments.iter().any(|segment| segment.p_type(endian) == elf::PT_INTERP) {
        return Err("needs libraries that Azure may not have, because it is not linked statically".to_owned());
    }
    Ok(())
}

/// Whether the file beside the guest saves its compilation on every processor.
///
/// # Errors
/// Which file does not, and why.
pub fn portable(function: &Function) -> Result<(), (PathBuf, String)> {
    let at = |why: String| (compiled::beside(&function.script_file), why);
    let artifact = composition::read(function).map_err(|error| at(error.to_string()))?;
    let wasi = artifact.interfaces.wasi;
    let engine = compiler(wasi, Processors::ThisKind).map_err(|error| at(error.to_string()))?;
    let path = artifact.compiled.unwrap_or_default();
    let why = match compiled::verify_at(&path, &artifact.digest, &engine, wasi) {
        Ok(Some(Processors::EveryKind)) => return Ok(()),
        Ok(Some(Processors::ThisKind)) => "is for processors like the one that compiled it".to_owned(),
        Ok(None) => "is missing, so each instance would compile the guest anew".to_owned(),
        Err(why) => why.to_string(),
    };
    Err((path, why))
}

#[cfg(test)]
mod tests {
    use super::*;
    use zip::ZipWriter;
    use zip::write::SimpleFileOptions;

    #[test]
    fn folders_are_unpacked_but_none_that_lead_out() {
        let folder = tempfile::tempdir().expect("a folder");
        let (zip, into) = (folder.path().join("zip"), folder.path().join("into"));
        let unpacked = |name: &str| {
            let mut archive = ZipWriter::new(File::create(&zip).expect("made"));
            archive.add_directory(name, SimpleFileOptions::default()).expect("added");
            archive.finish().expect("written");
            extract(&mut ZipArchive::new(File::open(&zip).expect("there")).expect("a zip"), &into)
        };
        assert!(unpacked("data/empty/").is_ok_and(|files| files.is_empty()));
        assert!(into.join("data/empty").is_dir());
        for outside in ["../outside/", "/outside/", "a\\b/"] {
            assert!(unpacked(outside).is_err(), "{outside}");
        }
        assert!(!folder.path().join("outside").exists());
    }
}
