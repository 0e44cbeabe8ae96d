//! `guest.middleware` of a `function.json` or of `host.json`: components in front of the guest, each with grants of its own.

use super::digest::Digest;
use super::section::{Problems, Section};
use super::settings::{FUNCTION_KEYS, FunctionPatch, Granted};
use super::source::{self, Remote};
use super::{AppSettings, Grants};
use serde_json::Value;
use std::path::PathBuf;
use std::sync::Arc;

/// The most components in front of a guest: each of them has a memory at least, and a guest has no more than 16 with its own.
const MOST: usize = 15;

/// What an entry may say beside its file.
const KEYS: [&str; 10] = [
    "file",
    "source",
    "username",
    "password",
    "sha256",
    "grants.env",
    "grants.config",
    "grants.dirs",
    "grants.hosts",
    "grants.keyvalue",
];

const KEY: &str = "guest.middleware";

/// A component in front of a guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Middleware {
    /// Its file as it is written, which is also its name. Empty if there are grants for none.
    pub file: Arc<str>,
    /// The file.
    pub path: PathBuf,
    /// Where else it comes from.
    pub source: Option<Remote>,
    /// Only a component with this digest ever stands there.
    pub sha256: Option<Digest>,
    /// What it may use; it has none of the guest's grants.
    pub grants: Grants,
}

/// One entry, as it is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// Its own key, such as `flexwasm.guest.middleware[0]`.
    pub key: String,
    /// Its file, relative to the folder of the function or, in `host.json`, of the app.
    pub file: String,
    /// Where else it comes from.
    pub source: Option<Remote>,
    /// Which component it has to be.
    pub sha256: Option<Digest>,
    /// What it is granted.
    pub granted: Granted,
}

/// Takes the entries from a section. None if it has no word about them.
pub fn take(section: &mut Section<'_>) -> Option<Vec<Value>> {
    section.take(KEY, |value| match value {
        Value::Array(entries) if entries.len() <= MOST => Ok(entries.clone()),
        Value::Array(_) => Err(format!("must have at most {MOST} entries: remove some")),
        _ => Err("must be a list of files, such as [\"auth.wasm\"]".to_owned()),
    })
}

/// Reads the entries of `file`: the name of a component's file, or an object with [`KEYS`]. What is wrong with the chain as a whole,
/// such as a file that stands in it twice, costs one function and is found when that is composed.
pub fn read(file: &str, entries: Vec<Value>, settings: &AppSettings, problems: &mut Problems) -> Vec<Written> {
    let mut read = Vec::new();
    for (place, entry) in entries.iter().enumerate() {
        let key = format!("flexwasm.{KEY}[{place}]");
        let mut section = Section::of_value(file, &key, entry, problems);
        let name = if entry.is_object() { "file" } else { "" };
        let named = if section.has(name) {
            section.take(name, |value| match value.as_str() {
                Some(name) if !name.is_empty() => Ok(name.to_owned()),
                _ => Err("must be a file, or an object such as {\"file\": \"auth.wasm\", \"grants\": {}}".to_owned()),
            })
        } else {
            Some(String::new())
        };
        // The limits are those of the whole.
        let others: Vec<_> =
            FUNCTION_KEYS.into_iter().filter(|name| !KEYS.contains(name) && section.has(name)).collect();
        for name in others {
            section.refuse(name, format!("is for the whole function: move it out of {KEY}"));
        }
        let granted = Granted::from(&FunctionPatch::take(&mut section));
        let source = source::take(&mut section, settings, "");
        let sha256 = source::take_digest(&mut section, "sha256");
        section.finish(&KEYS, (&[], ""));
        read.extend(named.map(|file| Written { key, file, source, sha256, granted }));
    }
    read
}
