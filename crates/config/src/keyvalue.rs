//! `grants.keyvalue`: the stores that a guest opens by name, and where they are.

use super::AppSettings;
use super::credentials::Identity;
use super::kind::Kind;
use super::section::{Section, Withheld};
use super::storage;
use serde_json::{Map, Value};
use std::fmt;
use std::fs::File;
use std::io::Read as _;
use std::path::{Component, Path, PathBuf};

/// What an entry may be.
const FORM: &str = "must be \"memory\", \"file:data/kv\", \"redis://host:6379\", \"rediss://host:6380\", \
                    \"azure-table:%AzureWebJobsStorage%/counters\", \"azure-blob:https://acme.blob.core.windows.net/state\", or an app \
                    setting with one of these, such as \"%REDIS_URL%\"";

/// One entry, as it is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// The name by which guests open the store.
    name: String,
    at: At,
    /// Whose token opens it, in Azure.
    identity: Identity,
    /// Functions that write the same name here share their keys.
    shared: Option<String>,
}

/// Where a store is, as it is written.
#[derive(Debug, Clone, PartialEq, Eq)]
enum At {
    Place(Place),
    Azure(storage::Written),
    /// In the app setting of this name.
    Setting(String),
}

/// Where a store is.
#[derive(Clone, PartialEq, Eq, Hash)]
pub enum Place {
    /// In the memory of the process, and gone with it.
    Memory,
    /// In a file, relative to the app root until the app is read.
    File(PathBuf),
    /// In Redis, by a URL that may hold a password.
    Redis(String),
    /// In Azure Storage.
    Azure(Box<storage::Resource>),
}

impl At {
    /// Reads a place.
    ///
    /// # Errors
    /// What to write instead, for a person; without a word of it.
    fn parse(text: &str) -> Result<Self, &'static str> {
        match storage::Written::parse(text) {
            Some(written) => Ok(Self::Azure(written?)),
            None => Ok(Self::Place(Place::parse(text)?)),
        }
    }
}

impl Place {
    /// Reads a place that nothing else has to be known for.
    ///
    /// # Errors
    /// As [`At::parse`].
    fn parse(text: &str) -> Result<Self, &'static str> {
        if let Some(path) = text.strip_prefix("file:") {
            let below = Path::new(path).components().all(|part| matches!(part, Component::Normal(_)));
            let fits = below && !path.is_empty() && !path.contains('\0');
            return fits.then(|| Self::File(path.into())).ok_or("must be a file in the app, such as \"file:data/kv\"");
        }
        let redis = ["redis", "rediss"].contains(&text.split(':').next().unwrap_or_default());
        match url::Url::parse(text) {
            _ if text == "memory" => Ok(Self::Memory),
            Ok(url) if redis && url.host().is_some() => Ok(Self::Redis(text.to_owned())),
            _ => Err(FORM),
        }
    }
}

/// Without what may be a secret.
impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Memory => f.write_str("memory"),
            Self::File(path) => write!(f, "file:{}", path.display()),
            Self::Redis(_) => f.write_str("redis"),
            Self::Azure(place) => place.fmt(f),
        }
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A store that a function may open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Granted {
    /// As it is written.
    pub written: Written,
    /// Where it is.
    pub place: Place,
    /// What every key of the owner begins with there, so that nobody else has it.
    pub prefix: String,
}

impl Written {
    /// The name by which guests open the store.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The app setting that names the account of a table, if it is in one.
    pub fn table_of(&self) -> Option<&str> {
        match &self.at {
            At::Azure(written) => written.table_of(),
            At::Place(_) | At::Setting(_) => None,
        }
    }

    /// Finds out where the store is, and which part of it belongs to `owner`, a function or a part of one.
    ///
    /// # Errors
    /// What is wrong, without a word of a value.
    pub fn find(self, owner: &str, root: &Path, settings: &AppSettings) -> Result<Granted, String> {
        let at = match &self.at {
            At::Setting(name) => {
                let missing = || format!("there is no app setting {name}: set it, or write another name");
                let text = settings.get(name).ok_or_else(missing)?;
                At::parse(text).map_err(|why| format!("the app setting {name} {why}"))?
            }
            at => at.clone(),
        };
        let place = match at {
            At::Place(Place::File(path)) => Place::File(a_store(root.join(path))?),
            At::Place(place) => place,
            At::Azure(written) => Place::Azure(written.find(&self.identity, settings)?.into()),
            At::Setting(_) => unreachable!("what is read of a setting is a place"),
        };
        let prefix = match &self.shared {
            Some(shared) => format!("flexwasm:shared:{shared}:"),
            None => format!("flexwasm:own:{owner}:{}:", self.name),
        };
        Ok(Granted { written: self, place, prefix })
    }
}

/// What a file with a store begins with (redb, "Database header" of its design).
const STORE: &[u8] = b"redb\x1A\x0A\xA9\x0D\x0A";

/// Lets a file through that is a store, or is not there yet.
fn a_store(path: PathBuf) -> Result<PathBuf, String> {
    let mut begin = Vec::new();
    let read = |file: File| file.take(STORE.len() as u64).read_to_end(&mut begin);
    // What cannot be read now can perhaps when the store is opened, which tells why it cannot.
    let is_other =
        path.is_dir() || path.is_file() && File::open(&path).and_then(read).is_ok() && !STORE.starts_with(&begin);
    if is_other {
        return Err(format!("{} holds something else: name a file that is not there yet", path.display()));
    }
    Ok(path)
}

impl fmt::Display for Written {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} in ", self.name)?;
        match &self.at {
            At::Place(place) => write!(f, "{place}")?,
            At::Azure(written) => write!(f, "{written}")?,
            At::Setting(name) => write!(f, "%{name}%")?,
        }
        self.shared.as_ref().map_or(Ok(()), |shared| write!(f, ", shared as {shared}"))
    }
}

/// An object of stores by name.
pub struct Stores;

impl Kind for Stores {
    type Value = Vec<Written>;

    fn read(&self, value: &Value) -> Result<Vec<Written>, String> {
        let entries = value.as_object().ok_or("must be an object, such as {\"default\": \"memory\"}")?;
        entries.iter().map(|(name, value)| entry(name, value)).collect()
    }

    fn spell(&self, value: &Vec<Written>) -> String {
        if value.is_empty() {
            return "{}".to_owned();
        }
        value.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
    }

    fn take(&self, key: &str, section: &mut Section<'_>) -> Option<Vec<Written>> {
        section.take_discreet(key, |value| self.read(value).map_err(|why| Withheld::new(None, why)))
    }
}

fn entry(name: &str, value: &Value) -> Result<Written, String> {
    let fits = |name: &str| {
        let inner = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        (1..=64).contains(&name.len()) && name.bytes().all(inner)
    };
    if !fits(name) {
        return Err(format!("has a store {name:?}: name it with 1 to 64 letters, digits, -, _ and ."));
    }
    const KEYS: [&str; 4] = ["at", "shared", "clientId", "token"];
    let wrong = |why: &str| format!("has a store {name} that {why}");
    let none = Map::new();
    let (at, entry) = match value {
        Value::Object(entry) if entry.keys().all(|key| KEYS.contains(&key.as_str())) => (entry.get("at"), entry),
        Value::Object(_) => {
            return Err(format!("has an unknown key in the store {name}: use {}", KEYS.join(", ")));
        }
        value => (Some(value), &none),
    };
    let identity = Identity::storage(entry).map_err(|why| wrong(&why))?;
    let text = at.and_then(Value::as_str).ok_or_else(|| wrong(FORM))?;
    let setting = text.strip_prefix('%').and_then(|text| text.strip_suffix('%'));
    let at = match setting.filter(|setting| !setting.is_empty() && !setting.contains('%')) {
        Some(setting) => At::Setting(setting.to_owned()),
        None if text.contains('@') => {
            return Err(wrong(
                "must not hold a password here: write \"%REDIS_URL%\", and put the URL into that app setting",
            ));
        }
        None => At::parse(text).map_err(wrong)?,
    };
    if let At::Place(_) = at
        && let Some(key) = ["clientId", "token"].iter().find(|key| entry.contains_key(**key))
    {
        return Err(wrong(&format!("has a {key}, which is of no use outside Azure: remove it")));
    }
    let shared = match entry.get("shared") {
        None => None,
        Some(shared) => {
            let fits = shared.as_str().filter(|shared| fits(shared));
            Some(
                fits.ok_or_else(|| wrong("is shared under no name: write 1 to 64 letters, digits, -, _ and ."))?
                    .to_owned(),
            )
        }
    };
    Ok(Written { name: name.to_owned(), at, identity, shared })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_store_is_found_and_belongs_to_its_function() {
        let settings =
            AppSettings::from([("R".to_owned(), "redis://:hush@a".to_owned()), ("X".to_owned(), "hush".to_owned())]);
        let azure = json!({"at": "azure-blob:https://a.example/abc", "clientId": "%X%", "token": "%X%"});
        let stores = json!({
            "a": "memory", "b": "file:data/kv", "c": {"at": "%R%", "shared": "all"}, "d": "%X%", "e": "%Y%", "f": azure
        });
        let written = Stores.read(&stores).expect("stores");
        assert_eq!(
            Stores.spell(&written),
            "a in memory; b in file:data/kv; c in %R%, shared as all; d in %X%; e in %Y%; f in azure-blob:https://a.example/abc"
        );
        let found: Vec<_> =
            written.into_iter().map(|written| written.find("f", Path::new("/app"), &settings)).collect();
        let places: Vec<_> =
            found[..3].iter().map(|found| found.as_ref().map(|found| (&found.place, &*found.prefix))).collect();
        assert_eq!(places[0], Ok((&Place::Memory, "flexwasm:own:f:a:")));
        assert_eq!(places[1], Ok((&Place::File("/app/data/kv".into()), "flexwasm:own:f:b:")));
        assert_eq!(places[2], Ok((&Place::Redis("redis://:hush@a".to_owned()), "flexwasm:shared:all:")));
        assert!(!format!("{found:?}").contains("hush"));
        assert!(found[3].as_ref().is_err_and(|why| why.starts_with("the app setting X must be")));
        assert_eq!(found[4], Err("there is no app setting Y: set it, or write another name".to_owned()));
        let Ok(Granted { place: Place::Azure(account), .. }) = &found[5] else { panic!("{found:?}") };
        let storage::Access::Token(token) = &account.access else { panic!("{account:?}") };
        assert_eq!(token.client_id.as_deref(), Some("hush"));
    }

    #[test]
    fn a_file_of_the_app_is_no_place_for_a_store() {
        let root = tempfile::tempdir().expect("a folder");
        for (name, content) in [("host.json", &b"{}"[..]), ("kv", &[STORE, b"..."].concat()), ("new", b"")] {
            std::fs::write(root.path().join(name), content).expect("written");
        }
        std::fs::create_dir(root.path().join("data")).expect("made");
        let find = |at: &str| {
            let written = Stores.read(&json!({"a": at})).expect("a store").remove(0);
            written.find("f", root.path(), &AppSettings::default()).map(drop)
        };
        for (at, fits) in [
            ("file:host.json", false),
            ("file:data", false),
            ("file:kv", true),
            ("file:new", true),
            ("file:data/kv", true),
        ] {
            assert_eq!(find(at).is_ok(), fits, "{at}");
        }
        assert!(find("file:data").is_err_and(|why| why.contains("data holds something else: name a file")));
    }

    #[test]
    fn what_is_no_store_is_told_what_to_write() {
        for (stores, words) in [
            (json!([]), "must be an object, such as {\"default\": \"memory\"}"),
            (json!({"": "memory"}), "1 to 64 letters"),
            (json!({"a:b": "memory"}), "1 to 64 letters"),
            (json!({"a": "hush"}), "must be \"memory\""),
            (json!({"a": 1}), "must be \"memory\""),
            (json!({"a": {"shared": "b"}}), "must be \"memory\""),
            (json!({"a": {"at": "memory", "share": "b"}}), "unknown key"),
            (json!({"a": {"at": "memory", "shared": "b c"}}), "is shared under no name"),
            (json!({"a": "file:/hush"}), "a file in the app"),
            (json!({"a": "file:../hush"}), "a file in the app"),
            (json!({"a": "file:"}), "a file in the app"),
            (json!({"a": "redis:hush"}), "must be \"memory\""),
            (json!({"a": "redis://:hush@b"}), "must not hold a password here"),
            (json!({"a": "azure-queue:hush"}), "must be \"memory\""),
            (json!({"a": "azure-table:hush"}), "must end in the name of a table"),
            (json!({"a": {"at": "azure-table:%A%/abc", "token": "hush"}}), "holds a token, which must not stand here"),
            (json!({"a": {"at": "memory", "clientId": "hush"}}), "of no use outside Azure"),
        ] {
            let wrong = Stores.read(&stores).expect_err(words);
            assert!(wrong.contains(words) && !wrong.contains("hush"), "{stores}: {wrong}");
        }
    }
}
