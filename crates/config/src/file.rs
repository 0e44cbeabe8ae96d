//! Files of the app, read so that none holds up the reader: pipes and devices have no end, or none that comes.

use super::units::spell_size;
use rustix::fs::OFlags;
use std::fs::OpenOptions;
use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

/// The most bytes of a file with settings.
pub const MAX_SETTINGS: u64 = 4 << 20;

/// Why a file is not read.
#[derive(Debug, thiserror::Error)]
pub enum Unread {
    /// Not there, no access.
    #[error("cannot be read ({0})")]
    Io(#[from] io::Error),
    /// A folder, a pipe or a device.
    #[error("is not a regular file: put a file there, or a link to one")]
    NotFile,
    /// Larger than this.
    #[error("is larger than {}: remove what it does not need", spell_size(*.0))]
    TooLarge(u64),
}

/// Reads a regular file of at most `most` bytes.
///
/// # Errors
/// [`Unread`].
pub fn read(path: &Path, most: u64) -> Result<Vec<u8>, Unread> {
    // To open a pipe would wait for somebody who writes into it.
    let file = OpenOptions::new().read(true).custom_flags(OFlags::NONBLOCK.bits().cast_signed()).open(path)?;
    let metadata = file.metadata()?;
    let length = metadata.len();
    if !metadata.is_file() {
        return Err(Unread::NotFile);
    }
    let mut bytes = Vec::new();
    if length <= most {
        bytes.try_reserve_exact(usize::try_from(length).unwrap_or(usize::MAX)).map_err(io::Error::from)?;
        // It may have grown meanwhile.
        file.take(most + 1).read_to_end(&mut bytes)?;
    }
    if length.max(bytes.len() as u64) > most { Err(Unread::TooLarge(most)) } else { Ok(bytes) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{CWD, FileType, Mode, mknodat};
    use std::fs::{self, File};

    #[test]
    fn only_a_regular_file_within_its_bound_is_read() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = |name: &str| folder.path().join(name);
        fs::write(path("file"), "12345").expect("written");
        assert_eq!(read(&path("file"), 5).expect("it fits"), b"12345");
        assert!(matches!(read(&path("file"), 4), Err(Unread::TooLarge(4))));
        assert!(matches!(read(&path("none"), 4), Err(Unread::Io(_))));
        // Files of the kernel do not tell their size.
        assert!(matches!(read(Path::new("/proc/self/maps"), 4), Err(Unread::TooLarge(4))));
        let sparse = File::create(path("sparse")).expect("made");
        sparse.set_len(1 << 40).expect("a large file");
        assert!(matches!(read(&path("sparse"), 4), Err(Unread::TooLarge(4))));
        mknodat(CWD, path("pipe"), FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).expect("a pipe");
        for odd in [&path("pipe"), Path::new("/dev/zero"), folder.path()] {
            assert!(matches!(read(odd, 4), Err(Unread::NotFile)), "{}", odd.display());
        }
    }
}
