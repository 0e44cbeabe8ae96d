//! The cache folder: what this user's processes compiled, one file for each guest and kind of engine, and the guests that
//! came from elsewhere.
//!
//! Whatever lies there is executed, so nobody else may be able to put anything there: the folder has to be
//! [`private`]; a file in it has to be a regular file (no link), ours, and not writable by others. Files appear
//! by renaming, so a reader never sees half of one; one that was cut off by a crash fails its checksum. Beyond
//! [`MOST`] bytes the files that have not been used for the longest time are removed.

use super::compiled::Unusable;
use crate::config::digest::Digest;
use crate::private;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, RawMode, fstat, openat, renameat, unlinkat};
use rustix::process::geteuid;
use rustix::thread::gettid;
use std::fs::{self, File, FileTimes};
use std::io::{self, Write as _};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Bytes of all files: the compiled forms of thousands of Rust guests, or of a dozen with a language engine in them.
const MOST: u64 = 1 << 30;

/// A folder that has passed the checks.
pub struct Cache {
    path: PathBuf,
    /// The folder itself: whatever its name stands for later, files are opened in here.
    folder: OwnedFd,
}

/// Where the folder may be, best first. The Flex Consumption plan need not give the process a home that it can write to.
pub fn candidates(variable: impl Fn(&str) -> Option<String>) -> Vec<PathBuf> {
    let absolute = |name| variable(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let mut folders: Vec<PathBuf> = Vec::new();
    folders.extend(absolute("XDG_CACHE_HOME").map(|base| base.join("flexwasm")));
    folders.extend(absolute("HOME").map(|home| home.join(".cache/flexwasm")));
    folders.push(private::below_tmp());
    folders
}

impl Cache {
    /// Opens the folder, and makes it if it is not there.
    ///
    /// # Errors
    /// Why it cannot be used, for a person.
    pub fn open(path: &Path) -> Result<Self, String> {
        private::open(path).map(|folder| Self { path: path.to_owned(), folder })
    }

    /// The name of a guest's code.
    pub fn code(guest: &Digest, compatibility: u64) -> String {
        format!("{guest}-{compatibility:016x}.cwasm")
    }

    /// Where a file lies, for people.
    pub fn locate(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Opens a file that nobody else can have written. None if there is none.
    ///
    /// # Errors
    /// When it is not to be trusted.
    pub fn find(&self, name: &str) -> Result<Option<File>, Unusable> {
        // Non-blocking, because a pipe would wait for its other end.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = match openat(&self.folder, name, flags, Mode::empty()) {
            Ok(file) => file,
            Err(rustix::io::Errno::NOENT) => return Ok(None),
            Err(rustix::io::Errno::LOOP) => return Err(Unusable::NotFile),
            Err(error) => return Err(Unusable::Read(error.into())),
        };
        let status = fstat(&file).map_err(io::Error::from)?;
        if FileType::from_raw_mode(status.st_mode) != FileType::RegularFile {
            return Err(Unusable::NotFile);
        }
        let others = RawMode::from(0o022u16);
        if status.st_uid != geteuid().as_raw() || status.st_mode & others != 0 {
            return Err(Unusable::Read(io::Error::other("others can write to it")));
        }
        let file = File::from(file);
        // Its last use. Where that cannot be noted it is only removed sooner.
        let _ = file.set_times(FileTimes::new().set_modified(SystemTime::now()));
        Ok(Some(file))
    }

    /// Keeps what `write` writes.
    ///
    /// # Errors
    /// [`Unusable::Write`]: when the disk is full, say; then nothing is kept.
    pub fn keep(&self, name: &str, write: impl FnOnce(&mut File) -> io::Result<()>) -> Result<(), Unusable> {
        place(self.folder.as_fd(), Path::new(name), Mode::RUSR | Mode::WUSR, write).map_err(Unusable::Write)?;
        self.trim(name, MOST);
        Ok(())
    }

    /// Removes what has not been used for the longest time until at most `most` bytes are left, but never `kept`. A process
    /// that has mapped a file keeps it.
    fn trim(&self, kept: &str, most: u64) {
        let Ok(entries) = fs::read_dir(&self.path) else { return };
        let mut files: Vec<(SystemTime, u64, std::ffi::OsString)> = entries
            .filter_map(|entry| {
                let entry = entry.ok()?;
                let metadata = entry.metadata().ok().filter(fs::Metadata::is_file)?;
                Some((metadata.modified().ok()?, metadata.len(), entry.file_name()))
            })
            .collect();
        files.sort();
        let mut total: u64 = files.iter().map(|(_, size, _)| size).sum();
        for (_, size, name) in files.into_iter().filter(|(.., name)| name != kept) {
            if total <= most {
                break;
            }
            // Another process may have been faster.
            let _ = unlinkat(&self.folder, Path::new(&name), AtFlags::empty());
            total -= size;
        }
    }
}

/// Writes a file in `folder` under a name of its own and then renames it, so that a reader finds all of it or none.
///
/// # Errors
/// The first step that failed; what was written is removed.
pub fn place(
    folder: impl AsFd,
    name: &Path,
    mode: Mode,
    write: impl FnOnce(&mut File) -> io::Result<()>,
) -> io::Result<()> {
    // No other thread that runs has this id; one that was killed in between may have left the file behind.
    let staged = name.with_added_extension(format!("{}.new", gettid().as_raw_nonzero()));
    let _ = unlinkat(&folder, &staged, AtFlags::empty());
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut file = File::from(openat(&folder, &staged, flags, mode)?);
    let placed = write(&mut file)
        .and_then(|()| file.flush())
        .and_then(|()| renameat(&folder, &staged, &folder, name).map_err(io::Error::from));
    if placed.is_err() {
        let _ = unlinkat(&folder, &staged, AtFlags::empty());
    }
    placed
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    #[test]
    fn what_has_not_been_used_for_long_makes_room() {
        let base = tempfile::tempdir().expect("a folder");
        let path = base.path().join("flexwasm");
        let cache = Cache::open(&path).expect("made");
        for (age, name) in [(30, "oldest"), (20, "older"), (10, "old")] {
            cache.keep(name, |file| file.write_all(&[0; 100])).expect("kept");
            let file = File::options().write(true).open(path.join(name)).expect("there");
            let then = SystemTime::now() - std::time::Duration::from_secs(age);
            file.set_times(FileTimes::new().set_modified(then)).expect("ours");
        }
        assert!(cache.find("oldest").expect("readable").is_some(), "and used just now");
        cache.trim("old", 250);
        let left = |name: &str| path.join(name).exists();
        assert_eq!((left("oldest"), left("older"), left("old")), (true, false, true));
        cache.trim("old", 0);
        assert_eq!((left("oldest"), left("old")), (false, true));
    }

    #[test]
    fn what_others_could_have_written_is_not_opened() {
        let base = tempfile::tempdir().expect("a folder");
        let path = base.path().join("flexwasm");
        let cache = Cache::open(&path).expect("made");
        assert!(cache.find("x").expect("readable").is_none());
        let content = base.path().join("content");
        fs::write(&content, "content").expect("written");
        cache.keep("x", |file| file.write_all(b"content")).expect("kept");
        assert_eq!(fs::read_to_string(path.join("x")).expect("there"), "content");
        assert_eq!(fs::metadata(path.join("x")).expect("there").permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(&path).expect("there").count(), 1, "nothing is left over");
        assert!(cache.find("x").expect("readable").is_some());

        fs::set_permissions(path.join("x"), fs::Permissions::from_mode(0o620)).expect("ours");
        assert_eq!(
            cache.find("x").expect_err("not to be trusted").to_string(),
            "cannot be read (others can write to it)"
        );
        symlink(&content, path.join("link")).expect("made");
        fs::create_dir(path.join("folder")).expect("made");
        for name in ["link", "folder"] {
            assert!(matches!(cache.find(name), Err(Unusable::NotFile)), "{name}");
        }
    }

    #[test]
    fn a_file_that_cannot_be_written_leaves_nothing_behind() {
        let base = tempfile::tempdir().expect("a folder");
        let folder = File::open(base.path()).expect("there");
        let full = |file: &mut File| file.write_all(b"half of it").and(Err(io::ErrorKind::StorageFull.into()));
        let refused = place(&folder, Path::new("x"), Mode::RUSR, full).expect_err("the disk is full");
        assert_eq!(refused.kind(), io::ErrorKind::StorageFull);
        assert_eq!(fs::read_dir(base.path()).expect("there").count(), 0);
    }

    #[test]
    fn a_home_that_is_missing_or_relative_is_passed_over() {
        let own: PathBuf = format!("/tmp/flexwasm-{}", geteuid().as_raw()).into();
        let given = |pairs: &'static [(&str, &str)]| {
            candidates(|name| pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned()))
        };
        assert_eq!(given(&[("HOME", ""), ("XDG_CACHE_HOME", "cache")]), std::slice::from_ref(&own));
        let both = given(&[("HOME", "/home/a"), ("XDG_CACHE_HOME", "/cache")]);
        assert_eq!(both, [PathBuf::from("/cache/flexwasm"), "/home/a/.cache/flexwasm".into(), own]);
    }
}
