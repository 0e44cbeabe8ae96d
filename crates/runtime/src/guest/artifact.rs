//! What a guest is made of: the bytes of one component, read once. Whatever happens later to the file that they came from,
//! digest, code and guest belong together.

use super::compiled;
use super::composition::Part;
use super::footprint::Footprint;
use super::interfaces::Interfaces;
use crate::config::digest::Digest;
use crate::config::file::{self, Unread};
use crate::config::units::spell_size;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The component model's first bytes: magic number, version and layer.
const COMPONENT: &[u8] = b"\0asm\x0d\0\x01\0";
/// A core module's first bytes.
const CORE_MODULE: &[u8] = b"\0asm\x01\0\0\0";

/// A component, with what its bytes say of it.
pub struct Artifact {
    /// Where it came from, for messages: a file, or a source without its secrets.
    pub origin: String,
    /// All of it.
    pub wasm: Vec<u8>,
    /// Of all of it.
    pub digest: Digest,
    /// What it asks for and offers.
    pub interfaces: Interfaces,
    /// What its instances are made of.
    pub footprint: Footprint,
    /// The components that it was composed of, the outermost first and the guest itself last. Empty if it stands alone.
    pub parts: Arc<[Part]>,
    /// Where its compiled file may lie, if it came from a file of the app.
    pub compiled: Option<PathBuf>,
}

/// Why bytes are no guest, at first sight.
#[derive(Debug, thiserror::Error)]
pub enum NoArtifact {
    /// No such file, no access.
    #[error("cannot be read ({0}): check the path, and that the guest has been built")]
    Read(io::Error),
    /// A folder, a pipe or a device.
    #[error("is not a regular file: put the guest there, or a link to its file")]
    NotFile,
    /// Beyond `guest.maxSize`.
    #[error("is larger than {}, which guest.maxSize allows: raise it, or build a smaller guest", spell_size(*.0))]
    TooLarge(u64),
    /// A component's own building block.
    #[error(
        "is a core WebAssembly module, not a component: build it for the target wasm32-wasip2, or wrap it with `wasm-tools component new`"
    )]
    CoreModule,
    /// Something else altogether.
    #[error(
        "is not a WebAssembly component: name a .wasm file built for wasm32-wasip2 (or by componentize-js or componentize-py)"
    )]
    NotComponent,
}

impl From<Unread> for NoArtifact {
    fn from(why: Unread) -> Self {
        match why {
            Unread::Io(error) => Self::Read(error),
            Unread::NotFile => Self::NotFile,
            Unread::TooLarge(most) => Self::TooLarge(most),
        }
    }
}

impl Artifact {
    /// Reads the component in the file `path`, of at most `max_size` bytes.
    ///
    /// # Errors
    /// [`NoArtifact`].
    pub fn read(path: &Path, max_size: u64) -> Result<Self, NoArtifact> {
        let artifact = Self::new(path.display().to_string(), file::read(path, max_size)?)?;
        Ok(Self { compiled: Some(compiled::beside(path)), ..artifact })
    }

    /// Takes bytes that are here already. Takes their digest, which is milliseconds for a large guest.
    ///
    /// # Errors
    /// [`NoArtifact`]: they are no component.
    pub fn new(origin: String, wasm: Vec<u8>) -> Result<Self, NoArtifact> {
        match &wasm {
            component if component.starts_with(COMPONENT) => {}
            module if module.starts_with(CORE_MODULE) => return Err(NoArtifact::CoreModule),
            _ => return Err(NoArtifact::NotComponent),
        }
        let (digest, interfaces, footprint) = (Digest::of(&wasm), Interfaces::of(&wasm), Footprint::of(&wasm));
        Ok(Self { origin, wasm, digest, interfaces, footprint, parts: Arc::default(), compiled: None })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_is_no_guest_and_no_file_is_read_beyond_its_bound() {
        let refused = |path: &str, most| Artifact::read(Path::new(path), most).err().expect("refused").to_string();
        assert!(refused("/dev/zero", 1 << 20).starts_with("is not a regular file: put the guest there"));
        // It does not tell its size.
        assert!(refused("/proc/self/maps", 1 << 10).starts_with("is larger than 1KiB, which guest.maxSize allows"));
    }
}
