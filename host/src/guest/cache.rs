//! The cache folder: compiled guests that this user's processes made, one file for each guest and kind of engine.
//!
//! Whatever lies there is executed, so nobody else may be able to put anything there: the folder has to be a folder (no
//! link), ours, and closed to everybody else (0700); a file in it has to be a regular file (no link), ours, and not
//! writable by others. Whoever has our user id is out of scope. Files appear by renaming, so a reader never sees half of one;
//! one that was cut off by a crash fails its checksum. Nothing is ever removed.

use super::compiled::{Digest, Unusable};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, RawMode, fstat, openat, renameat, unlinkat};
use rustix::process::geteuid;
use rustix::thread::gettid;
use std::fs::{DirBuilder, File};
use std::io::{self, Write as _};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

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
    folders.push(format!("/tmp/flexwasm-{}", geteuid().as_raw()).into());
    folders
}

impl Cache {
    /// Opens the folder, and makes it if it is not there.
    ///
    /// # Errors
    /// Why it cannot be used, for a person.
    pub fn open(path: &Path) -> Result<Self, String> {
        DirBuilder::new()
            .mode(0o700)
            .recursive(true)
            .create(path)
            .map_err(|error| format!("cannot be made ({error})"))?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let folder = rustix::fs::open(path, flags, Mode::empty())
            .map_err(|error| format!("is a link, or cannot be opened ({error})"))?;
        let status = fstat(&folder).map_err(|error| error.to_string())?;
        let mode = status.st_mode & 0o777;
        if status.st_uid != geteuid().as_raw() {
            return Err(format!("belongs to user {}, not to us", status.st_uid));
        }
        if mode != 0o700 {
            return Err(format!("has mode {mode:o}, but must be closed to everybody else: chmod 700"));
        }
        Ok(Self { path: path.to_owned(), folder })
    }

    /// The name of a compiled guest.
    pub fn name(guest: &Digest, compatibility: u64) -> String {
        format!("{}-{compatibility:016x}.cwasm", super::hexadecimal(guest))
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
        Ok(Some(file.into()))
    }

    /// Keeps what `content` holds.
    ///
    /// # Errors
    /// When the disk is full, say; then nothing is kept.
    pub fn keep(&self, name: &str, content: &File) -> io::Result<()> {
        let mut content = content;
        place(self.folder.as_fd(), Path::new(name), Mode::RUSR | Mode::WUSR, |file| {
            io::copy(&mut content, file).map(drop)
        })
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
    // Nobody else who runs has this thread's id; one that was killed in between may have left the file behind.
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
    fn the_folder_is_made_private_or_not_used() {
        let base = tempfile::tempdir().expect("a folder");
        let path = base.path().join("a/b/flexwasm");
        drop(Cache::open(&path).expect("made"));
        assert_eq!(fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o700);
        drop(Cache::open(&path).expect("still there"));

        let said = |path: &Path| Cache::open(path).err().expect("unusable");
        for mode in [0o770, 0o755, 0o707] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("ours");
            assert_eq!(said(&path), format!("has mode {mode:o}, but must be closed to everybody else: chmod 700"));
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).expect("ours");
        let link = base.path().join("link");
        symlink(&path, &link).expect("made");
        assert!(said(&link).starts_with("is a link, or cannot be opened"), "{}", said(&link));
        let file = base.path().join("file");
        fs::write(&file, "").expect("written");
        assert!(said(&file).starts_with("cannot be made"), "{}", said(&file));
    }

    #[test]
    fn what_others_could_have_written_is_not_opened() {
        let base = tempfile::tempdir().expect("a folder");
        let path = base.path().join("flexwasm");
        let cache = Cache::open(&path).expect("made");
        assert!(cache.find("x").expect("readable").is_none());
        let content = base.path().join("content");
        fs::write(&content, "content").expect("written");
        cache.keep("x", &File::open(&content).expect("there")).expect("kept");
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
