//! The first files of a Linux: an archive in cpio's format "newc" (the kernel's Documentation/driver-api/early-userspace/buffer-format.rst).

use anyhow::{Context as _, Result};
use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read as _;
use std::path::Path;
use zip::ZipArchive;

const FOLDER: u32 = 0o040_755;
const EXECUTABLE: u32 = 0o100_755;

/// An archive that grows by files.
#[derive(Default)]
pub struct Initramfs {
    bytes: Vec<u8>,
    folders: BTreeSet<String>,
}

impl Initramfs {
    /// Adds a folder after those that lead to it.
    pub fn folder(&mut self, name: &str) {
        if let Some((above, _)) = name.rsplit_once('/') {
            self.folder(above);
        }
        if self.folders.insert(name.to_owned()) {
            self.entry(name, FOLDER, &[]);
        }
    }

    /// Adds a file that can be run, and the folders that lead to it.
    pub fn executable(&mut self, name: &str, content: &[u8]) {
        self.file(name, EXECUTABLE, content);
    }

    /// Adds what the zip holds, with its modes, below this folder.
    pub fn unzip(&mut self, zip: &Path, folder: &str) -> Result<()> {
        let broken = || format!("cannot read {}", zip.display());
        let mut archive = ZipArchive::new(File::open(zip).with_context(broken)?).with_context(broken)?;
        for index in 0..archive.len() {
            let mut file = archive.by_index(index).with_context(broken)?;
            let mode = file.unix_mode().with_context(|| format!("{}: {} has no mode", zip.display(), file.name()))?;
            let mut content = Vec::new();
            file.read_to_end(&mut content).with_context(broken)?;
            self.file(&format!("{folder}/{}", file.name()), mode, &content);
        }
        Ok(())
    }

    /// The whole archive.
    pub fn finish(mut self) -> Vec<u8> {
        self.entry("TRAILER!!!", 0, &[]);
        self.bytes
    }

    fn file(&mut self, name: &str, mode: u32, content: &[u8]) {
        if let Some((folder, _)) = name.rsplit_once('/') {
            self.folder(folder);
        }
        self.entry(name, mode, content);
    }

    fn entry(&mut self, name: &str, mode: u32, content: &[u8]) {
        // Inode, mode, owner, group, links, time, size, four numbers of devices, length of the name, checksum.
        let fields = [0, mode as usize, 0, 0, 1, 0, content.len(), 0, 0, 0, 0, name.len() + 1, 0];
        let header: String = fields.iter().map(|field| format!("{field:08x}")).collect();
        self.bytes.extend(format!("070701{header}{name}\0").as_bytes());
        self.pad();
        self.bytes.extend(content);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::Initramfs;

    #[test]
    fn an_archive_is_what_the_kernel_documents() {
        let mut archive = Initramfs::default();
        archive.executable("a/b", b"hello");
        archive.executable("a/c", b"");
        let entry = |mode: &str, size: &str, length: &str, rest: &str| {
            format!("07070100000000{mode}0000000000000000000000010000000{size}{}{length}00000000{rest}", "0".repeat(32))
        };
        let wanted = [
            entry("000041ed", "000000000", "00000002", "a\0"),
            entry("000081ed", "000000005", "00000004", "a/b\0\0\0hello\0\0\0"),
            entry("000081ed", "000000000", "00000004", "a/c\0\0\0"),
            entry("00000000", "000000000", "0000000b", "TRAILER!!!\0\0\0\0"),
        ];
        assert_eq!(String::from_utf8(archive.finish()).expect("ASCII"), wanted.concat());
    }
}
