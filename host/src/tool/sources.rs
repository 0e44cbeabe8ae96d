//! Where the sources of an app's guests are, in which language, and whether they have changed.

use super::wit::World;
use crate::config::{Config, Function};
use std::collections::BTreeMap;
use std::fs;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// A language that guests are written in, and how they are built.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Language {
    /// With cargo, for wasm32-wasip2
    Rust,
    /// A listener for fetch, with componentize-js
    Javascript,
    /// With componentize-py
    Python,
}

impl Language {
    /// The language of the sources in `folder`, which a file tells.
    fn of(folder: &Path) -> Option<Self> {
        let marks =
            [("Cargo.toml", Self::Rust), ("package.json", Self::Javascript), ("requirements.txt", Self::Python)];
        marks.into_iter().find(|(file, _)| folder.join(file).is_file()).map(|(_, language)| language)
    }
}

/// The folder that holds the source where the function's own does not.
const GUEST: &str = "guest";

/// Folders that hold what is built or installed, wherever they are; those with a dot in front as well, but for cargo's settings.
pub const MADE_FOLDERS: [&str; 4] = ["target", "node_modules", "dist", "__pycache__"];
/// Files that tools write while they build.
const MADE_FILES: [&str; 3] = ["Cargo.lock", "package-lock.json", "function.json"];
/// Endings of such files: guests, what is about to become one, and what editors leave.
const MADE_ENDINGS: [&str; 6] = [".wasm", ".cwasm", ".new", ".swp", ".pyc", "~"];

/// The source of one function's guest.
#[derive(Debug, Clone)]
pub struct Source {
    /// The function's name.
    pub function: String,
    /// Where it is built.
    pub folder: PathBuf,
    /// What it is written in.
    pub language: Language,
    /// The component that is made of it: the function's `scriptFile`.
    pub guest: PathBuf,
    /// What it can import, unless it is in Rust: a crate chooses for itself.
    pub world: World,
}

/// The sources of the app in `root`: of each function that has one, in the order of the functions.
pub fn find(root: &Path, config: &Config) -> Vec<Source> {
    let shared = root.join(GUEST);
    let shared = (!shared.join("function.json").exists()).then_some(shared);
    let source = |function: &Function| {
        let folders = [Some(root.join(&*function.name)), shared.clone()].into_iter().flatten();
        let (language, folder) = folders.filter_map(|folder| Some((Language::of(&folder)?, folder))).next()?;
        let (name, guest) = (function.name.to_string(), function.script_file.clone());
        Some(Source { function: name, folder, language, guest, world: World::of(function) })
    };
    config.functions.iter().filter(|function| function.builtin.is_none()).filter_map(source).collect()
}

/// What a folder of sources held at some moment.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct State(BTreeMap<PathBuf, Stamp>);

/// What is known of one file. Only its content counts: some tools write again what was there.
#[derive(Debug, Clone, Copy)]
struct Stamp {
    modified: Option<SystemTime>,
    length: u64,
    content: u64,
}

impl PartialEq for Stamp {
    fn eq(&self, other: &Self) -> bool {
        self.content == other.content
    }
}

impl Eq for Stamp {}

impl State {
    /// Looks at the folder. Files that seem to be those of `before` are not read again.
    pub fn of(folder: &Path, before: &Self) -> Self {
        let mut state = Self::default();
        state.add(folder, &[], before);
        state
    }

    /// Adds a folder, which was reached through those `above`, by device and inode. A link counts as what it leads to.
    fn add(&mut self, folder: &Path, above: &[(u64, u64)], before: &Self) {
        // What is gone in this moment is missed by the next look.
        let Ok(this) = fs::metadata(folder).map(|folder| (folder.dev(), folder.ino())) else { return };
        if above.contains(&this) {
            return;
        }
        let above = [above, &[this]].concat();
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
            let Ok(kind) = fs::metadata(&path) else { continue };
            if kind.is_dir() && (name == ".cargo" || !name.starts_with('.') && !MADE_FOLDERS.contains(&name.as_str())) {
                self.add(&path, &above, before);
            }
            let is_made = MADE_FILES.contains(&name.as_str())
                || name.starts_with('.')
                || MADE_ENDINGS.iter().any(|ending| name.ends_with(ending));
            if kind.is_file()
                && !is_made
                && let Some(stamp) = Stamp::of(&path, before.0.get(&path))
            {
                self.0.insert(path, stamp);
            }
        }
    }

    /// A number that stands for the names of all files, within `folder`, and their contents.
    pub fn digest(&self, folder: &Path) -> u64 {
        let mut hasher = DefaultHasher::new();
        for (path, stamp) in &self.0 {
            (path.strip_prefix(folder).unwrap_or(path), stamp.content).hash(&mut hasher);
        }
        hasher.finish()
    }

    /// A file that is another one there, or is only here or there.
    pub fn difference<'s>(&'s self, other: &'s Self) -> Option<&'s Path> {
        let differs = |(path, stamp): &(&PathBuf, &Stamp)| other.0.get(*path) != Some(*stamp);
        let only_there = || other.0.keys().find(|path| !self.0.contains_key(*path));
        self.0.iter().find(differs).map(|(path, _)| path).or_else(only_there).map(PathBuf::as_path)
    }
}

impl Stamp {
    fn of(path: &Path, before: Option<&Self>) -> Option<Self> {
        let metadata = fs::metadata(path).ok()?;
        let (modified, length) = (metadata.modified().ok(), metadata.len());
        if let Some(same) = before.filter(|before| (before.modified, before.length) == (modified, length)) {
            return Some(*same);
        }
        let mut hasher = DefaultHasher::new();
        fs::read(path).ok()?.hash(&mut hasher);
        Some(Self { modified, length, content: hasher.finish() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn what_links_lead_to_is_a_source_too() {
        let (folder, shared) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
        let (folder, shared) = (folder.path(), shared.path());
        fs::write(shared.join("lib.rs"), "one").expect("written");
        symlink(shared, folder.join("shared")).expect("made");
        symlink(shared.join("lib.rs"), folder.join("link.rs")).expect("made");
        symlink("nowhere", folder.join("gone.rs")).expect("made");
        // These have no end.
        symlink(".", folder.join("this")).expect("made");
        symlink(folder, shared.join("back")).expect("made");
        let before = State::of(folder, &State::default());
        fs::write(shared.join("lib.rs"), "three").expect("written");
        let after = State::of(folder, &before);
        let changed: Vec<_> = after.0.iter().filter(|(path, stamp)| before.0[*path] != **stamp).collect();
        let names: Vec<_> = changed.iter().map(|(path, _)| path.strip_prefix(folder).expect("in it")).collect();
        assert_eq!(names, [Path::new("link.rs"), Path::new("shared/lib.rs")]);
        assert_eq!(after.0.len(), 2);
    }

    #[test]
    fn what_is_built_is_no_change_and_what_is_saved_is_one() {
        let folder = tempfile::tempdir().expect("a folder");
        let write = |name: &str, text: &str| {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().expect("a folder")).expect("made");
            fs::write(path, text).expect("written");
        };
        write("src/lib.rs", "one");
        write(".cargo/config.toml", "one");
        let first = State::of(folder.path(), &State::default());
        for made in [
            "target/x/guest.wasm",
            "node_modules/a/index.js",
            ".venv/bin/python",
            ".git/index",
            "__pycache__/app.pyc",
            "guest.wasm",
            "guest.wasm.new",
            "guest.cwasm",
            "Cargo.lock",
            "package-lock.json",
            ".lib.rs.swp",
            "lib.rs~",
        ] {
            write(made, "made");
            assert_eq!(State::of(folder.path(), &first).difference(&first), None, "{made}");
        }
        // The same text again.
        write("src/lib.rs", "one");
        assert_eq!(State::of(folder.path(), &first), first);
        for (name, text) in [("src/lib.rs", "two"), ("src/new.rs", ""), (".cargo/config.toml", "two")] {
            let before = State::of(folder.path(), &first);
            write(name, text);
            let after = State::of(folder.path(), &before);
            assert_eq!(after.difference(&before), Some(&*folder.path().join(name)));
            assert_eq!(before.difference(&after), Some(&*folder.path().join(name)));
        }
    }
}
