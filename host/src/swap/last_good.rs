//! The last guest that a source delivered and that served. It is kept on disk, so that a start without the source still serves.

use crate::config::digest::Digest;
use crate::config::source::Remote;
use crate::guest::artifact::Artifact;
use crate::guest::cache::Cache;
use serde_json::{Value, json};
use std::io::{Read as _, Write as _};

/// Where the last good guest of one function, from one source, is kept.
pub struct LastGood<'a> {
    cache: &'a Cache,
    /// The name of the note. It follows from function and source, because two functions with one source may keep different guests.
    name: String,
}

/// What was kept.
pub struct Kept {
    /// The component.
    pub wasm: Vec<u8>,
    /// What its source called it.
    pub version: Option<String>,
}

impl<'a> LastGood<'a> {
    /// The place that belongs to this function, or part of one, and source. Nothing is read or written yet.
    pub fn new(cache: &'a Cache, function: &str, source: &Remote) -> Self {
        let key = Digest::of(format!("{function} {source}").as_bytes());
        Self { cache, name: format!("{}.last-good", key.digits::<32>()) }
    }

    /// Reads the guest. Returns none if none was noted, or if its file is not what was kept.
    pub fn read(&self) -> Option<Kept> {
        let read = |name: &str| {
            let mut content = Vec::new();
            self.cache.find(name).ok()??.read_to_end(&mut content).ok()?;
            Some(content)
        };
        let note: Value = serde_json::from_slice(&read(&self.name)?).ok()?;
        let digest: Digest = note["sha256"].as_str()?.parse().ok()?;
        let wasm = read(&component(&digest))?;
        let version = note["version"].as_str().map(str::to_owned);
        (Digest::of(&wasm) == digest).then_some(Kept { wasm, version })
    }

    /// Writes the component, before it is published. Until [`LastGood::note`], a start does not use it.
    ///
    /// # Errors
    /// Names the file and what is wrong with it, for a person: the disk is full, say.
    pub fn keep(&self, artifact: &Artifact) -> Result<(), String> {
        let name = component(&artifact.digest);
        let kept = self.cache.keep(&name, |file| file.write_all(&artifact.wasm));
        kept.map_err(|why| format!("{} {why}", self.cache.locate(&name).display()))
    }

    /// Notes that the component with this digest serves, under the version that its source gave.
    ///
    /// # Errors
    /// As [`LastGood::keep`].
    pub fn note(&self, digest: &Digest, version: Option<&str>) -> Result<(), String> {
        let note = json!({ "sha256": digest.to_string(), "version": version }).to_string();
        let noted = self.cache.keep(&self.name, |file| file.write_all(note.as_bytes()));
        noted.map_err(|why| format!("{} {why}", self.cache.locate(&self.name).display()))
    }
}

fn component(digest: &Digest) -> String {
    format!("{digest}.wasm")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::source::Location;

    #[test]
    fn what_was_kept_and_noted_is_read_until_it_is_damaged() {
        let base = tempfile::tempdir().expect("a folder");
        let path = base.path().join("flexwasm");
        let cache = Cache::open(&path).expect("made");
        let location = Location::Http("https://example.com/guest.wasm?key=1".parse().expect("a URL"));
        let source = Remote { location, credentials: None };
        let good = LastGood::new(&cache, "a", &source);
        assert!(good.read().is_none());
        let wasm = wat::parse_str("(component)").expect("a component");
        let artifact = Artifact::new("test".to_owned(), wasm.clone()).expect("a component");
        good.keep(&artifact).expect("kept");
        assert!(good.read().is_none(), "it does not serve yet");
        good.note(&artifact.digest, Some("\"etag\"")).expect("noted");
        let kept = good.read().expect("kept");
        assert_eq!((kept.wasm, kept.version.as_deref()), (wasm, Some("\"etag\"")));
        assert!(LastGood::new(&cache, "b", &source).read().is_none());

        let file = path.join(component(&artifact.digest));
        std::fs::write(&file, "half").expect("ours");
        assert!(good.read().is_none());
    }
}
