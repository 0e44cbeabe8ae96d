//! The file of a compiled guest: wasmtime's ELF image from the first byte on, so that it can be mapped; what its memories begin with
//! ([`super::contents`]), each at a multiple of [`PAGE`], so that it can be mapped as well; and our trailer.
//!
//! | bytes from the end | what |
//! |---|---|
//! | before | for each of these memories: where its content lies in the file, where it belongs in the memory, its length |
//! | 100 to 92 | how many these are, little-endian as all numbers |
//! | 92 to 84 | the compatibility hash of the engine that compiled it |
//! | 84 to 76 | length of all that stands before it |
//! | 76 to 44 | SHA-256 of the guest's `.wasm` |
//! | 44 to 12 | SHA-256 of all that stands before the compatibility hash |
//! | 12 to 8 | version of this format |
//! | 8 to 0 | `FLEXWASM` |
//!
//! A file is loaded only if every field is what this process would have written: anything else is a reason to compile
//! again, never to fail. The compatibility hash covers wasmtime's exact version, its settings, the architecture and the
//! processor's features. A file for every processor of the architecture ([`Processors::EveryKind`]) has the hash of an
//! engine with that setting, so an update of wasmtime makes it stale too.
//!
//! # What is trusted
//! wasmtime cannot check machine code. The checksum finds damage, not malice: whoever can write the file can run code
//! as this process, as with the executable beside it. [`super::cache`] says who can write there. The checksum is taken of
//! the very file that is mapped, so nobody can put another one in its place in between; but writing *into* a file while
//! it is mapped changes or ends the process. Replace it by renaming, as `flexwasm compile` does.

use super::contents::{self, Content};
use super::linked;
use crate::config::digest::Digest;
use crate::config::source::MAX_GUEST;
use crate::engine::Wasi;
use crate::engine::code::{Processors, compiler};
use crate::engine::memory::{self, PAGE};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use sha2::{Digest as _, Sha256};
use std::fs::File;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io::{self, Read as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use wasmtime::component::Component;
use wasmtime::{Engine, Result};

/// The largest file that is looked at. Measured: the code of a guest in Rust, JavaScript or Python is two to four times its size.
const MAX_FILE: u64 = 8 * MAX_GUEST;
const MAGIC: [u8; 8] = *b"FLEXWASM";
const FORMAT: u32 = 3;
const TRAILER: usize = 92;

/// A compiled guest that can be instantiated.
#[derive(Clone, Debug)]
pub struct Code {
    /// Its code.
    pub component: Component,
    /// What those of its memories begin with that are marked, by their numbers; none for zeros.
    pub contents: Vec<Option<Arc<memory::Content>>>,
}

/// Why a file is not loaded.
#[derive(Debug, thiserror::Error)]
pub enum Unusable {
    /// Not there, no access.
    #[error("cannot be read ({0})")]
    Read(#[from] io::Error),
    /// The disk is full, say.
    #[error("cannot be written ({0})")]
    Write(io::Error),
    /// A folder or a device.
    #[error("is not a regular file")]
    NotFile,
    /// Not ours.
    #[error("is not a compiled guest, or is cut off")]
    Foreign,
    /// A later or earlier version's.
    #[error("has format {0}, but this version of flexwasm reads format {FORMAT}")]
    Format(u32),
    /// The guest has changed.
    #[error("was compiled from another .wasm file")]
    Stale,
    /// wasmtime, its settings or the processor differ.
    #[error("was compiled by another version of flexwasm, or for another processor")]
    Incompatible,
    /// Bits have changed.
    #[error("is damaged: its checksum is wrong")]
    Damaged,
    /// wasmtime found what we did not.
    #[error("is refused by wasmtime: {0}")]
    Refused(String),
}

/// Where the compiled file of the guest at `path` lies: beside it.
pub fn beside(path: &Path) -> PathBuf {
    path.with_extension("cwasm")
}

/// Opens a compiled file that is trusted by the place where it lies. None if there is none.
///
/// # Errors
/// [`Unusable::Read`].
pub fn open(path: &Path) -> std::result::Result<Option<File>, Unusable> {
    // Non-blocking, because a pipe would wait for its other end.
    match rustix::fs::open(path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty()) {
        Ok(file) => Ok(Some(file.into())),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(Unusable::Read(error.into())),
    }
}

/// What code of `engine` depends on, in one number.
pub fn compatibility(engine: &Engine) -> u64 {
    let mut hasher = DefaultHasher::new();
    engine.precompile_compatibility_hash().hash(&mut hasher);
    hasher.finish()
}

/// Compiles the component `wasm` and returns the content of its file.
///
/// # Errors
/// wasmtime's: it is not valid, or uses what this host does not support.
pub fn compile(engine: &Engine, wasm: &[u8]) -> Result<Vec<u8>> {
    let linked = linked::link(wasm);
    let (component, contents) = contents::take(linked.as_deref().unwrap_or(wasm));
    let mut content = engine.precompile_component(&component)?;
    let mut directory = Vec::new();
    for Content { at, bytes } in &contents {
        content.resize(content.len().next_multiple_of(PAGE), 0);
        directory.extend([content.len(), *at, bytes.len()]);
        content.extend(bytes);
    }
    directory.push(contents.len());
    content.extend(directory.into_iter().flat_map(|number| (number as u64).to_le_bytes()));
    let (length, checksum) = (content.len() as u64, Sha256::digest(&content));
    content.extend(compatibility(engine).to_le_bytes());
    content.extend(length.to_le_bytes());
    content.extend(Digest::of(wasm).as_bytes());
    content.extend(checksum);
    content.extend(FORMAT.to_le_bytes());
    content.extend(MAGIC);
    Ok(content)
}

/// Writes a compiled file in one step: a process that has mapped the old one keeps it.
///
/// # Errors
/// When the folder is not there or cannot be written to.
pub fn write(path: &Path, content: &[u8]) -> io::Result<()> {
    let name = path.file_name().ok_or(io::ErrorKind::IsADirectory)?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let folder = File::open(folder)?;
    super::cache::place(folder, Path::new(name), Mode::from_raw_mode(0o644), |file| file.write_all(content))
}

/// Whether `file` is what `engine`, which is for `wasi`, would make of the guest with this digest, and for which processors.
///
/// # Errors
/// [`Unusable`].
pub fn verify(file: &File, guest: &Digest, engine: &Engine, wasi: Wasi) -> std::result::Result<Processors, Unusable> {
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(Unusable::NotFile);
    }
    let length = metadata.len().checked_sub(TRAILER as u64).filter(|length| *length <= MAX_FILE);
    let length = length.ok_or(Unusable::Foreign)?;
    let mut trailer = [0; TRAILER];
    file.read_exact_at(&mut trailer, length)?;
    let mut rest = &trailer[..];
    let (compatible, announced) = (u64::from_le_bytes(take(&mut rest)), u64::from_le_bytes(take(&mut rest)));
    let (made_from, checksum) = (Digest::from(take::<32>(&mut rest)), Digest::from(take::<32>(&mut rest)));
    let (format, magic) = (u32::from_le_bytes(take(&mut rest)), take(&mut rest));
    if magic != MAGIC {
        return Err(Unusable::Foreign);
    }
    if format != FORMAT {
        return Err(Unusable::Format(format));
    }
    if announced != length {
        return Err(Unusable::Foreign);
    }
    if made_from != *guest {
        return Err(Unusable::Stale);
    }
    let every_kind = || compiler(wasi, Processors::EveryKind).is_ok_and(|engine| compatible == compatibility(&engine));
    let processors = match compatible {
        own if own == compatibility(engine) => Processors::ThisKind,
        _ if every_kind() => Processors::EveryKind,
        _ => return Err(Unusable::Incompatible),
    };
    if checksum != checksum_of(file, length)? {
        return Err(Unusable::Damaged);
    }
    Ok(processors)
}

/// For which processors the compiled file at `path` is, if it is that of the guest with this digest. None if there is no file.
///
/// # Errors
/// Why it would not be used.
pub fn verify_at(
    path: &Path,
    guest: &Digest,
    engine: &Engine,
    wasi: Wasi,
) -> std::result::Result<Option<Processors>, Unusable> {
    let Some(file) = open(path)? else { return Ok(None) };
    verify(&file, guest, engine, wasi).map(Some)
}

/// Maps `file` if it holds the guest with this digest, compiled for `engine`, which is for `wasi`.
///
/// # Errors
/// [`Unusable`].
pub fn map(file: &File, guest: &Digest, engine: &Engine, wasi: Wasi) -> std::result::Result<Code, Unusable> {
    verify(file, guest, engine, wasi)?;
    let contents = contents_of(&Arc::new(file.try_clone()?))?;
    let mapped = map_verified(file, engine);
    let component = mapped.map_err(|error| Unusable::Refused(error.root_cause().to_string()))?;
    Ok(Code { component, contents })
}

/// Maps what the memories of a verified file begin with. What is nothing but zeros is none.
fn contents_of(file: &Arc<File>) -> io::Result<Vec<Option<Arc<memory::Content>>>> {
    let end = file.metadata()?.len() - TRAILER as u64;
    let numbers = |from_end: u64, count: usize| {
        let mut bytes = vec![0; 8 * count];
        file.read_exact_at(&mut bytes, end - from_end)?;
        io::Result::Ok(bytes.as_chunks().0.iter().map(|number| u64::from_le_bytes(*number)).collect::<Vec<_>>())
    };
    let count = numbers(8, 1)?[0];
    let map = |[offset, at, len]: &[u64; 3]| {
        let (at, len) = (*at as usize, *len as usize);
        (len > 0).then(|| memory::Content::new(file, *offset, at, len).map(Arc::new)).transpose()
    };
    numbers(8 + 24 * count, 3 * count as usize)?.as_chunks().0.iter().map(map).collect()
}

/// JUSTIFICATION: mapping the code of a large guest takes milliseconds, compiling it up to a minute, and the Functions
/// host waits 30 seconds for a process to start. wasmtime has no safe way to load machine code, because it cannot check it.
#[expect(unsafe_code, reason = "the one place where compiled code is taken on trust")]
fn map_verified(file: &File, engine: &Engine) -> Result<Component> {
    // wasmtime takes no open file for a component. This name stands for the file that was verified, whatever has become
    // of its own name since.
    let name = format!("/proc/self/fd/{}", file.as_raw_fd());
    // SAFETY: the bytes are what `compile` of this version wrote, by their checksum; the compatibility hash and wasmtime's
    // own checks say that this engine and processor can run them. That nobody forged them or writes into them now is
    // the trust that the module's documentation describes.
    unsafe { Component::deserialize_file(engine, name) }
}

fn checksum_of(file: &File, length: u64) -> io::Result<Digest> {
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 64 << 10];
    let mut at = 0;
    while at < length {
        let wanted = buffer.len().min(usize::try_from(length - at).unwrap_or(usize::MAX));
        let read = file.read_at(&mut buffer[..wanted], at)?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        hasher.update(&buffer[..read]);
        at += read as u64;
    }
    Ok(<[u8; 32]>::from(hasher.finalize()).into())
}

/// The next field of a trailer.
fn take<const N: usize>(rest: &mut &[u8]) -> [u8; N] {
    let mut field = [0; N];
    rest.read_exact(&mut field).expect("the fields add up to the trailer");
    field
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::memory::Stacks;

    fn file(content: &[u8]) -> File {
        let mut file = tempfile::tempfile().expect("a temporary file");
        file.write_all(content).expect("written");
        file
    }

    struct Sample {
        engine: Engine,
        guest: Digest,
        content: Vec<u8>,
    }

    fn sample(processors: Processors) -> Sample {
        sample_of(Wasi::P2, processors)
    }

    fn sample_of(wasi: Wasi, processors: Processors) -> Sample {
        let wasm = wat::parse_str(r#"(component (core module (func (export "f") nop)))"#).expect("a component");
        let content = compile(&compiler(wasi, processors).expect("an engine"), &wasm).expect("compiled");
        let engine = compiler(wasi, Processors::ThisKind).expect("an engine");
        Sample { engine, guest: Digest::of(&wasm), content }
    }

    #[test]
    fn what_was_compiled_is_mapped() {
        for (wasi, other) in [(Wasi::P2, Wasi::P3), (Wasi::P3, Wasi::P2)] {
            for processors in [Processors::ThisKind, Processors::EveryKind] {
                let Sample { engine, guest, content } = sample_of(wasi, processors);
                let file = file(&content);
                assert_eq!(verify(&file, &guest, &engine, wasi).expect("usable"), processors);
                map(&file, &guest, &engine, wasi).expect("mapped");
                let foreign = compiler(other, Processors::ThisKind).expect("an engine");
                assert!(matches!(verify(&file, &guest, &foreign, other), Err(Unusable::Incompatible)));
            }
        }
    }

    #[test]
    fn the_engine_that_runs_guests_has_the_compilers_settings() {
        for wasi in [Wasi::P2, Wasi::P3] {
            let running = crate::engine::Engine::new(wasi, &Stacks::default()).expect("an engine");
            let compiling = compiler(wasi, Processors::ThisKind).expect("an engine");
            assert_eq!(compatibility(&running.wasm), compatibility(&compiling));
        }
    }

    #[test]
    fn a_flipped_bit_anywhere_is_noticed() {
        let Sample { engine, guest, content } = sample(Processors::ThisKind);
        // Every byte of the trailer, and a spread over the image.
        let trailer = content.len() - TRAILER..content.len();
        for at in (0..trailer.start).step_by(97).chain(trailer.clone()) {
            for bit in [0x01, 0x80] {
                let mut flipped = content.clone();
                flipped[at] ^= bit;
                let refused = verify(&file(&flipped), &guest, &engine, Wasi::P2);
                assert!(refused.is_err(), "byte {at}");
                if !trailer.contains(&at) {
                    assert!(matches!(refused, Err(Unusable::Damaged)), "byte {at}: {refused:?}");
                }
            }
        }
    }

    #[test]
    fn whatever_else_lies_there_is_named() {
        let Sample { engine, guest, content } = sample(Processors::ThisKind);
        let said =
            |content: &[u8]| verify(&file(content), &guest, &engine, Wasi::P2).expect_err("unusable").to_string();
        let edited = |from_end: usize, bytes: &[u8]| {
            let mut content = content.clone();
            let at = content.len() - from_end;
            content[at..at + bytes.len()].copy_from_slice(bytes);
            said(&content)
        };
        for length in [0, 1, TRAILER - 1, TRAILER, content.len() / 2, content.len() - 1] {
            assert_eq!(said(&content[..length]), "is not a compiled guest, or is cut off", "{length}");
        }
        assert_eq!(said(&[&content[..], b"x"].concat()), "is not a compiled guest, or is cut off");
        assert_eq!(said(&content[1..]), "is not a compiled guest, or is cut off");
        assert_eq!(edited(12, &[9]), "has format 9, but this version of flexwasm reads format 3");
        assert_eq!(edited(76, &[0; 32]), "was compiled from another .wasm file");
        assert_eq!(edited(92, &[0; 8]), "was compiled by another version of flexwasm, or for another processor");
        assert_eq!(edited(44, &[0; 32]), "is damaged: its checksum is wrong");
        let folder = File::open("/").expect("a folder");
        assert!(matches!(verify(&folder, &guest, &engine, Wasi::P2), Err(Unusable::NotFile)));
    }

    #[test]
    fn the_code_of_the_largest_guest_is_not_taken_for_a_file_that_is_cut_off() {
        let Sample { engine, guest, content } = sample(Processors::ThisKind);
        let length = 4 * MAX_GUEST;
        let mut trailer = content[content.len() - TRAILER..].to_vec();
        trailer[8..16].copy_from_slice(&length.to_le_bytes());
        let file = file(&[]);
        // It has holes: nothing of it is on the disk.
        file.write_all_at(&trailer, length).expect("written");
        let other = Digest::of(b"another guest");
        assert!(matches!(verify(&file, &other, &engine, Wasi::P2), Err(Unusable::Stale)));
        file.set_len(MAX_FILE + TRAILER as u64 + 1).expect("longer");
        assert!(matches!(verify(&file, &guest, &engine, Wasi::P2), Err(Unusable::Foreign)));
    }

    #[test]
    fn wasmtime_has_the_last_word() {
        // As if our checks had a hole: a valid trailer behind what is no image, and behind one for other settings.
        let Sample { engine, guest, .. } = sample(Processors::ThisKind);
        let mut settings = crate::engine::code::settings(Wasi::P2);
        settings.epoch_interruption(false);
        let other = Engine::new(&settings).expect("an engine");
        let wasm = wat::parse_str("(component)").expect("a component");
        for image in [b"no image".to_vec(), other.precompile_component(&wasm).expect("compiled")] {
            assert!(map_verified(&file(&image), &engine).is_err());
        }
        assert!(matches!(
            verify(&file(&compile(&other, &wasm).expect("compiled")), &guest, &engine, Wasi::P2),
            Err(Unusable::Stale)
        ));
        assert!(matches!(
            verify(&file(&compile(&other, &wasm).expect("compiled")), &Digest::of(&wasm), &engine, Wasi::P2),
            Err(Unusable::Incompatible)
        ));
    }
}
