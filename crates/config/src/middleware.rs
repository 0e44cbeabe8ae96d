//! `guest.middleware` of a `function.json`: components in front of the guest, each with grants of its own.

use super::Grants;
use super::section::{Problems, Section};
use super::settings::{FUNCTION_KEYS, FunctionPatch, Granted};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::sync::Arc;

/// The most components in front of a guest: each of them has a memory at least, and a guest has no more than 16 with its own.
const MOST: usize = 15;

/// What an entry may be granted.
const GRANTS: [&str; 3] = ["grants.env", "grants.dirs", "grants.hosts"];

const KEY: &str = "guest.middleware";

/// A component in front of a guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Middleware {
    /// Its file as it is written, which is also its name.
    pub file: Arc<str>,
    /// The file.
    pub path: PathBuf,
    /// What it may use; it has none of the guest's grants.
    pub grants: Grants,
}

/// One entry, as it is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// Its file, relative to the function's folder.
    pub file: String,
    /// What it is granted.
    pub granted: Granted,
}

/// Takes the entries from a section.
pub fn take(section: &mut Section<'_>) -> Vec<Value> {
    let entries = section.take(KEY, |value| match value {
        Value::Array(entries) if entries.len() <= MOST => Ok(entries.clone()),
        Value::Array(_) => Err(format!("must have at most {MOST} entries: remove some")),
        _ => Err("must be a list of files, such as [\"auth.wasm\"]".to_owned()),
    });
    entries.unwrap_or_default()
}

/// Reads the entries of `file`: the name of a component's file, or an object with `file` and `grants`.
pub fn read(file: &str, entries: Vec<Value>, problems: &mut Problems) -> Vec<Written> {
    let mut read: Vec<Written> = Vec::new();
    for entry in entries {
        let shorthand = json!({ "file": entry });
        let document = json!({ "flexwasm": if entry.is_object() { &entry } else { &shorthand } });
        let mut section = Section::of_file(file, &document, problems);
        let is_known = |name: &str| read.iter().any(|other| other.file == name);
        let named = section.take("file", |value| match value.as_str() {
            Some(name) if is_known(name) => Err("stands in guest.middleware twice: leave one of them out".to_owned()),
            Some(name) if !name.is_empty() => Ok(name.to_owned()),
            _ => Err("must be a file, or an object such as {\"file\": \"auth.wasm\", \"grants\": {}}".to_owned()),
        });
        // The limits are those of the whole.
        let others: Vec<_> =
            FUNCTION_KEYS.into_iter().filter(|key| !GRANTS.contains(key) && section.has(key)).collect();
        for key in others {
            section.refuse(key, format!("is for the whole function: move it out of {KEY}"));
        }
        let patch = FunctionPatch::take(&mut section);
        if named.is_none() && entry.is_object() && entry.get("file").is_none() {
            section.refuse(KEY, "has an entry without a file: add \"file\": \"auth.wasm\"");
        }
        section.finish(&[&GRANTS[..], &["file"]].concat(), (&[], ""));
        read.extend(named.map(|file| Written { file, granted: Granted::from(&patch) }));
    }
    read
}
