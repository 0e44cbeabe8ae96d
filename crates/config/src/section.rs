//! One source of our own settings (a `flexwasm` section, or the app settings), read key by key.
//!
//! Every mistake is collected, none is fatal here: a person who starts the host sees all of them at once. A key that
//! nobody took is a mistake too, because a misspelt limit must not look like a limit.

use super::hosts::{self, Grant, Refused};
use super::misspelt;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::fmt;

/// What messages call the app settings. Their values are never repeated: one can hold a secret.
pub const APP_SETTINGS: &str = "app settings";

/// The section's name in a file.
const OWN: &str = "flexwasm";

/// Our settings among the app settings.
const PREFIX: &str = "flexwasm__";

/// Keys whose values are objects.
const OBJECTS: [&str; 1] = ["grants.keyvalue"];

/// Keys that once existed, and what to do now. They are refused as unknown.
const RETIRED_KEYS: [(&str, &str); 1] = [(
    "pool.concurrentPerInstance",
    "unknown key: sharing an instance was removed; remove the key, each request has an instance of its own",
)];

/// One mistake in the configuration: where, what it says, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The file, relative to the app root, or `app settings`.
    pub file: String,
    /// The key as the file spells it; empty when the file as a whole is meant.
    pub key: String,
    /// The value that cannot work, as JSON, if there is one.
    pub value: Option<String>,
    /// What is wrong and what to write instead.
    pub remedy: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if !self.key.is_empty() {
            write!(f, ": {}", self.key)?;
        }
        if let Some(value) = &self.value {
            write!(f, " = {value}")?;
        }
        write!(f, ": {}", self.remedy)
    }
}

/// All mistakes found so far.
#[derive(Debug, Default)]
pub struct Problems(pub Vec<Problem>);

impl Problems {
    /// Notes a mistake in `file`, once: what stands in `host.json` may be read again for each function.
    pub fn add(&mut self, file: &str, key: &str, value: Option<&Value>, remedy: impl Into<String>) {
        let value = value.map(Value::to_string);
        let problem = Problem { file: file.to_owned(), key: key.to_owned(), value, remedy: remedy.into() };
        if !self.0.contains(&problem) {
            self.0.push(problem);
        }
    }
}

/// A value that cannot work and may be a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Withheld {
    /// As much of it as may be shown.
    pub shown: Option<String>,
    /// What is wrong, and what to write instead.
    pub remedy: String,
}

impl Withheld {
    /// What is wrong with a value of which `shown` is no secret.
    pub fn new(shown: Option<String>, remedy: impl Into<String>) -> Self {
        Self { shown, remedy: remedy.into() }
    }
}

/// The settings of one source by dotted key (`pool.size`).
pub struct Section<'a> {
    file: String,
    /// Its own key, which begins the keys in messages.
    name: String,
    /// Dotted key to the key as the source spells it, and the value.
    entries: BTreeMap<String, (String, Value)>,
    problems: &'a mut Problems,
}

impl<'a> Section<'a> {
    /// The `flexwasm` object of a JSON file; absent is empty.
    pub fn of_file(file: &str, document: &Value, problems: &'a mut Problems) -> Self {
        if let Some((near, _)) = misspelt(document, OWN) {
            problems.add(file, near, None, "unknown key; did you mean flexwasm?");
        }
        match document.get(OWN) {
            Some(Value::Object(_)) | None => {}
            Some(other) => problems.add(file, OWN, Some(other), "must be an object"),
        }
        let section = document.get(OWN).filter(|section| section.is_object());
        Self::of_value(file, OWN, section.unwrap_or(&Value::Object(Map::new())), problems)
    }

    /// The object that a file has under the key `name`. What is none has the empty key.
    pub fn of_value(file: &str, name: &str, value: &Value, problems: &'a mut Problems) -> Self {
        let mut entries = BTreeMap::new();
        flatten(name, "", value, &mut entries);
        Self { file: file.to_owned(), name: name.to_owned(), entries, problems }
    }

    /// The app settings `flexwasm__a__b`. A value that reads as a JSON number, array or object is one; anything else is text.
    pub fn of_app_settings<'s>(settings: impl Iterator<Item = (&'s str, &'s str)>, problems: &'a mut Problems) -> Self {
        let mut entries = BTreeMap::new();
        for (name, text) in settings {
            // Azure does not tell upper from lower case in a setting's name, so a misspelt one is seen and reported.
            let (prefix, key) = name.split_at_checked(PREFIX.len()).unwrap_or_default();
            if !prefix.eq_ignore_ascii_case(PREFIX) {
                continue;
            }
            let value = match serde_json::from_str(text) {
                Ok(value @ (Value::Number(_) | Value::Array(_) | Value::Object(_))) => value,
                _ => Value::String(text.to_owned()),
            };
            entries.insert(key.replace("__", "."), (name.to_owned(), value));
        }
        Self { file: APP_SETTINGS.to_owned(), name: OWN.to_owned(), entries, problems }
    }

    /// Takes one key. None when it is absent, or wrong and noted.
    pub fn take<T>(&mut self, key: &str, read: impl FnOnce(&Value) -> Result<T, String>) -> Option<T> {
        let (spelled, value) = self.entries.remove(key)?;
        let shown = (self.file != APP_SETTINGS).then_some(&value);
        read(&value).map_err(|remedy| self.problems.add(&self.file, &spelled, shown, remedy)).ok()
    }

    /// Whether the key is there and was not taken yet.
    pub fn has(&self, key: &str) -> bool {
        self.entries.contains_key(key)
    }

    /// Takes one key whose value may be a secret: `read` says how much of it may be shown.
    pub fn take_discreet<T>(&mut self, key: &str, read: impl FnOnce(&Value) -> Result<T, Withheld>) -> Option<T> {
        let (spelled, value) = self.entries.remove(key)?;
        let note = |Withheld { shown, remedy }| {
            self.problems.add(&self.file, &spelled, shown.map(Value::from).as_ref(), remedy);
        };
        read(&value).map_err(note).ok()
    }

    /// Notes that a key of a file, though right in itself, cannot work.
    pub fn refuse(&mut self, key: &str, remedy: impl Into<String>) {
        self.problems.add(&self.file, &format!("{}.{key}", self.name), None, remedy);
    }

    /// Takes a list of servers, and notes each entry that cannot be granted. What holds a secret by mistake is not repeated.
    pub fn take_hosts(
        &mut self,
        key: &str,
        read: impl FnOnce(&Value) -> Result<Vec<Value>, String>,
    ) -> Option<Vec<Grant>> {
        let (spelled, value) = self.entries.remove(key)?;
        let entries = read(&value).map_err(|remedy| self.problems.add(&self.file, &spelled, None, remedy)).ok()?;
        let refused = match hosts::parse(&entries) {
            Ok(grants) => return Some(grants),
            Err(refused) => refused,
        };
        for Refused { shown, remedy, discreet } in refused {
            if self.file == APP_SETTINGS {
                self.problems.add(&self.file, &spelled, None, discreet);
            } else {
                self.problems.add(&self.file, &spelled, Some(&shown.into()), remedy);
            }
        }
        None
    }

    /// Ends the reading: what is left over is unknown. `elsewhere` lists keys that exist but do not belong here, and says
    /// where they do.
    pub fn finish(self, known: &[&str], elsewhere: (&[&str], &str)) {
        for (key, (spelled, value)) in self.entries {
            let inner = |name: &&str| name.strip_prefix(&*key)?.strip_prefix('.')?.split('.').next().map(str::to_owned);
            let [ours, others] = [known, elsewhere.0].map(|names| names.iter().find_map(inner));
            // A group without settings says nothing.
            if (ours.is_some() || others.is_some()) && value.as_object().is_some_and(Map::is_empty) {
                continue;
            }
            let remedy =
                if let Some((_, remedy)) = RETIRED_KEYS.iter().find(|(name, _)| name.eq_ignore_ascii_case(&key)) {
                    (*remedy).to_owned()
                } else if elsewhere.0.contains(&key.as_str()) || ours.is_none() && others.is_some() {
                    elsewhere.1.to_owned()
                } else if let Some(inner) = ours {
                    match self.file == APP_SETTINGS {
                        true => format!("is a group of settings: set one of them, such as {spelled}__{inner}"),
                        false => format!("must be an object with settings such as \"{inner}\""),
                    }
                } else if let Some(meant) = known.iter().find(|name| name.eq_ignore_ascii_case(&key)) {
                    format!("unknown key; did you mean {meant}?")
                } else {
                    format!("unknown key; remove it, or use one of: {}", known.join(", "))
                };
            self.problems.add(&self.file, &spelled, None, remedy);
        }
    }
}

/// Lists the leaves of `value` below `prefix` in the section `name`. An object without members is a leaf.
fn flatten(name: &str, prefix: &str, value: &Value, entries: &mut BTreeMap<String, (String, Value)>) {
    let inner = |members: &&Map<String, Value>| !members.is_empty() && !OBJECTS.contains(&prefix);
    let Some(members) = value.as_object().filter(|members| prefix.is_empty() || inner(members)) else {
        let spelled = if prefix.is_empty() { name.to_owned() } else { format!("{name}.{prefix}") };
        entries.insert(prefix.to_owned(), (spelled, value.clone()));
        return;
    };
    for (member, value) in members {
        let key = if prefix.is_empty() { member.clone() } else { format!("{prefix}.{member}") };
        flatten(name, &key, value, entries);
    }
}
