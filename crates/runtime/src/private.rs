//! Folders that nobody else can put anything into. Whoever has our user id is out of scope.

use rustix::fs::{Mode, OFlags, fstat};
use rustix::process::geteuid;
use std::fs::DirBuilder;
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

/// Opens a folder that is ours, no link, and closed to everybody else (0700); makes it if it is not there.
///
/// # Errors
/// Why it cannot be used, for a person.
pub fn open(path: &Path) -> Result<OwnedFd, String> {
    DirBuilder::new().mode(0o700).recursive(true).create(path).map_err(|error| format!("cannot be made ({error})"))?;
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
    Ok(folder)
}

/// The one below /tmp, for processes that have no other place.
pub fn below_tmp() -> PathBuf {
    format!("/tmp/flexwasm-{}", geteuid().as_raw()).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    #[test]
    fn a_folder_is_made_private_or_not_used() {
        let base = tempfile::tempdir().expect("a folder");
        let path = base.path().join("a/b/flexwasm");
        drop(open(&path).expect("made"));
        assert_eq!(fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o700);
        drop(open(&path).expect("still there"));

        let said = |path: &Path| open(path).expect_err("unusable");
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
}
