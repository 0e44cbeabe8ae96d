//! `grants.keyvalue`: stores of keys and values that outlive an invocation, the same to a guest wherever they are.
//!
//! | limit | value |
//! |---|---|
//! | a key | [`KEY`] bytes |
//! | a value | [`VALUE`] bytes |
//! | keys in one call | [`MANY`], of which values of [`ANSWER`] bytes are answered |
//! | values that an instance has seen and may compare with | [`SEEN`] bytes |
//! | a store in memory, in a file | [`memory::ROOM`], [`file::ROOM`] bytes, of all functions together |
//! | calls of a function | [`pace`], but in memory, where they cost processor time alone |
//! | one call | [`PATIENCE`], and the end of the invocation |
//!
//! A number is a value of decimal digits, as Redis has it, from -2^63 to 2^63 - 1.

mod azure;
mod file;
mod memory;
mod pace;
mod redis;

use crate::config::keyvalue::{Granted, Place};
use crate::outgoing::{Client, Tokens};
use crate::tls::Trust;
use azure::Azure;
use file::File;
use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use memory::Memory;
use pace::Pace;
use redis::Redis;
use std::collections::HashMap;
use std::fmt;
use std::ops::Bound;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::{Instant, timeout};

/// Bytes of a key.
const KEY: usize = 1024;
/// Bytes of a value.
const VALUE: usize = 1 << 20;
/// What an entry takes beside its key and value, in bytes.
const ENTRY: usize = 64;
/// Keys in one call, and in one page of a list.
const MANY: usize = 1000;
/// Bytes of the values in one answer.
const ANSWER: usize = 4 << 20;
/// Bytes of keys and values that the `cas` handles of one instance keep.
pub const SEEN: usize = 4 << 20;
/// Requests of one call that are under way at the same time.
const AT_ONCE: usize = 8;
/// Bytes of what says where a page begins.
const CURSOR: usize = 4 << 10;
/// For an answer of a store.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often the log says at the most that a store is not available.
const QUIET: Duration = Duration::from_secs(10);

/// Why a call failed, as the guest is told: without addresses, credentials and values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// The guest asks for what cannot be done.
    Refused(&'static str),
    /// The store does not do what it should; the log says more.
    Unavailable(String),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(why) => f.write_str(why),
            Self::Unavailable(_) => f.write_str("the store is not available"),
        }
    }
}

/// What is no number, or would make none.
pub const NO_NUMBER: Failure = Failure::Refused("the value is no number, or the result would be none of 64 bits");

/// What was counted to, in words of a draft that has no such number.
pub const BELOW_ZERO: Failure =
    Failure::Refused("it was added, but the number is below 0, which wasi:keyvalue@0.2.0-draft cannot tell");

/// More than [`SEEN`].
pub const TOO_MUCH_SEEN: Failure = Failure::Refused("the values of all cas handles have more than 4 MiB: drop some");

/// What says where no page begins.
pub const NO_CURSOR: Failure = Failure::Refused("the cursor is none of this store");

type Result<T, E = Failure> = std::result::Result<T, E>;

/// A page of keys, and where the next one begins.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Page {
    /// In no order. A store that changes may have a key in two pages.
    pub keys: Vec<String>,
    /// None for the last page. In words of the store that it is for; a guest may change it, and gets another page of its own keys then.
    pub next: Option<String>,
}

/// The stores of all functions, each of which is open once.
#[derive(Debug)]
pub struct Stores {
    open: Mutex<HashMap<Place, Arc<Store>>>,
    /// See [`PATIENCE`]; another one in tests.
    patience: Duration,
}

impl Default for Stores {
    fn default() -> Self {
        Self { open: Mutex::default(), patience: PATIENCE }
    }
}

impl Stores {
    /// The stores that a function may open.
    pub fn of(&self, granted: &[Granted], trust: &Arc<Trust>, tokens: &Tokens) -> Buckets {
        let mut stores = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let pace = Arc::<Pace>::default();
        let bucket = |granted: &Granted| {
            let new = || Arc::new(Store::new(&granted.place, self.patience, trust, tokens));
            let store = Arc::clone(stores.entry(granted.place.clone()).or_insert_with(new));
            let prefix = granted.prefix.as_str().into();
            (granted.written.name().to_owned(), Bucket { store, prefix, pace: Arc::clone(&pace) })
        };
        Buckets(granted.iter().map(bucket).collect())
    }
}

/// The stores that a function may open, by name.
#[derive(Debug, Default)]
pub struct Buckets(HashMap<String, Bucket>);

impl Buckets {
    /// The store of this name.
    pub fn open(&self, name: &str) -> Option<Bucket> {
        self.0.get(name).cloned()
    }
}

/// One place where keys are.
#[derive(Debug)]
struct Store {
    backend: Backend,
    patience: Duration,
    /// What the log calls it.
    shown: String,
    /// Whether the log says that it is not available.
    told: AtomicBool,
    /// When it said so last.
    told_at: Mutex<Option<Instant>>,
}

#[derive(Debug)]
enum Backend {
    Memory(Memory),
    File(File),
    Redis(Redis),
    Azure(Azure),
}

/// Calls what all kinds of stores have under the same name.
macro_rules! on {
    ($backend:expr, $store:ident => $call:expr) => {
        match $backend {
            Backend::Memory($store) => $call,
            Backend::File($store) => $call.await,
            Backend::Redis($store) => $call.await,
            Backend::Azure($store) => $call.await,
        }
    };
}

impl Store {
    /// Nothing is opened before it is used.
    fn new(place: &Place, patience: Duration, trust: &Arc<Trust>, tokens: &Tokens) -> Self {
        let backend = match place {
            Place::Memory => Backend::Memory(Memory::default()),
            Place::File(path) => Backend::File(File::new(path.clone())),
            Place::Redis(url) => Backend::Redis(Redis::new(url.clone())),
            Place::Azure(place) => Backend::Azure(Azure::new(place, patience, Client::of_the_host(trust), tokens)),
        };
        Self { backend, patience, shown: place.to_string(), told: AtomicBool::new(false), told_at: Mutex::default() }
    }

    /// Waits for an answer, and tells once of a store that is not available, and once that it is again; of one that comes and goes, no
    /// more often than each [`QUIET`].
    async fn patiently<T>(&self, call: impl Future<Output = Result<T>>) -> Result<T> {
        let late = || Failure::Unavailable(format!("no answer within {} seconds", self.patience.as_secs()));
        let outcome = timeout(self.patience, call).await.unwrap_or_else(|_| Err(late()));
        let down = match &outcome {
            Err(Failure::Unavailable(why)) => Some(why),
            _ => None,
        };
        // Most of the time nothing has changed, and nothing needs to be written.
        if down.is_some() != self.told.load(Ordering::Relaxed) {
            let mut told_at = self.told_at.lock().unwrap_or_else(PoisonError::into_inner);
            match down {
                Some(why) if told_at.is_none_or(|at| at.elapsed() >= QUIET) => {
                    *told_at = Some(Instant::now());
                    self.told.store(true, Ordering::Relaxed);
                    tracing::warn!(store = self.shown, "a key-value store is not available: {why}");
                }
                None if self.told.swap(false, Ordering::Relaxed) => {
                    tracing::info!(store = self.shown, "the key-value store is available again");
                }
                _ => {}
            }
        }
        outcome
    }
}

/// A store as a function has it.
#[derive(Debug, Clone)]
pub struct Bucket {
    store: Arc<Store>,
    prefix: Arc<str>,
    /// Of the function, in all its stores.
    pace: Arc<Pace>,
}

impl Bucket {
    async fn ask<T>(&self, call: impl Future<Output = Result<T>>) -> Result<T> {
        if !matches!(self.store.backend, Backend::Memory(_)) {
            self.pace.wait().await?;
        }
        self.store.patiently(call).await
    }

    fn key(&self, key: &str) -> Result<String> {
        if key.len() > KEY {
            return Err(Failure::Refused("the key has more than 1024 bytes"));
        }
        Ok([&self.prefix, key].concat())
    }

    /// The value of a key.
    ///
    /// # Errors
    /// As every call: [`Failure`].
    pub async fn get(&self, key: &str) -> Result<Option<Vec<u8>>> {
        let key = self.key(key)?;
        self.ask(async { on!(&self.store.backend, store => store.get(key)) }).await
    }

    /// Sets a key.
    ///
    /// # Errors
    /// As every call: [`Failure`].
    pub async fn set(&self, key: &str, value: Vec<u8>) -> Result<()> {
        let (key, value) = (self.key(key)?, bounded(value)?);
        self.ask(async { on!(&self.store.backend, store => store.set(key, value)) }).await
    }

    /// Deletes a key, if it is there.
    ///
    /// # Errors
    /// As every call: [`Failure`].
    pub async fn delete(&self, key: &str) -> Result<()> {
        let key = self.key(key)?;
        self.ask(async { on!(&self.store.backend, store => store.delete(key)) }).await
    }

    /// A page of the keys.
    ///
    /// # Errors
    /// As every call: [`Failure`].
    pub async fn list(&self, from: Option<String>) -> Result<Page> {
        if from.as_ref().is_some_and(|from| from.len() > CURSOR) {
            return Err(NO_CURSOR);
        }
        let prefix = self.prefix.to_string();
        let page = self.ask(async { on!(&self.store.backend, store => store.list(prefix, from)) }).await?;
        let own = |key: String| key.strip_prefix(&*self.prefix).map(str::to_owned);
        Ok(Page { keys: page.keys.into_iter().filter_map(own).collect(), next: page.next })
    }

    /// Adds to a number, which is 0 before it is there. No other call comes between.
    ///
    /// # Errors
    /// As every call: [`Failure`].
    pub async fn increment(&self, key: &str, by: i64) -> Result<i64> {
        let key = self.key(key)?;
        self.ask(async { on!(&self.store.backend, store => store.increment(key, by)) }).await
    }

    /// Sets a key if it has the old value, or is not there as then. Whether it had.
    ///
    /// # Errors
    /// As every call: [`Failure`].
    pub async fn swap(&self, key: &str, old: Option<Vec<u8>>, new: Vec<u8>) -> Result<bool> {
        let (key, new) = (self.key(key)?, bounded(new)?);
        self.ask(async { on!(&self.store.backend, store => store.swap(key, old, new)) }).await
    }

    /// The values of many keys, in their order.
    ///
    /// # Errors
    /// As every call: [`Failure`].
    pub async fn get_many(&self, keys: Vec<String>) -> Result<Vec<(String, Option<Vec<u8>>)>> {
        few(&keys)?;
        let got = stream::iter(keys).map(|key| async move { Ok((self.get(&key).await?, key)) }).buffered(AT_ONCE);
        let add = |(mut all, bytes): (Vec<_>, usize), (value, key): (Option<Vec<u8>>, String)| async move {
            let bytes = bytes + value.as_ref().map_or(0, Vec::len);
            if bytes > ANSWER {
                return Err(Failure::Refused("the values have more than 4 MiB together: ask for fewer keys"));
            }
            all.push((key, value));
            Ok((all, bytes))
        };
        Ok(got.try_fold((Vec::new(), 0), add).await?.0)
    }

    /// Sets many keys, one by one.
    ///
    /// # Errors
    /// As every call: [`Failure`]; some may be set then.
    pub async fn set_many(&self, pairs: Vec<(String, Vec<u8>)>) -> Result<()> {
        few(&pairs)?;
        let set = stream::iter(pairs).map(|(key, value)| async move { self.set(&key, value).await });
        set.buffered(AT_ONCE).try_collect().await
    }

    /// Deletes many keys, one by one.
    ///
    /// # Errors
    /// As every call: [`Failure`]; some may be deleted then.
    pub async fn delete_many(&self, keys: Vec<String>) -> Result<()> {
        few(&keys)?;
        stream::iter(keys).map(|key| async move { self.delete(&key).await }).buffered(AT_ONCE).try_collect().await
    }
}

fn bounded(value: Vec<u8>) -> Result<Vec<u8>> {
    if value.len() > VALUE { Err(Failure::Refused("the value has more than 1 MiB")) } else { Ok(value) }
}

fn few<T>(list: &[T]) -> Result<()> {
    if list.len() > MANY { Err(Failure::Refused("more than 1000 keys in one call")) } else { Ok(()) }
}

/// Where keys begin that come after the last one of a page, or all of them.
fn after(prefix: &str, from: Option<&str>) -> Bound<String> {
    from.map_or_else(|| Bound::Included(prefix.to_owned()), |from| Bound::Excluded([prefix, from].concat()))
}

/// A page of sorted keys, of which there are more if one more than fits was found.
fn page(prefix: &str, mut keys: Vec<String>) -> Page {
    let more = keys.len() > MANY;
    keys.truncate(MANY);
    let last = keys.last().filter(|_| more).and_then(|key| key.strip_prefix(prefix));
    Page { next: last.map(str::to_owned), keys }
}

/// Bytes that an entry takes of a store's room.
fn size(key: &str, value: &[u8]) -> usize {
    ENTRY + key.len() + value.len()
}

/// The number that comes of a value, as Redis reads it.
fn sum(value: Option<&[u8]>, by: i64) -> Result<i64> {
    let Some(value) = value else { return Ok(by) };
    let number =
        str::from_utf8(value).ok().and_then(|text| text.parse::<i64>().ok().filter(|it| it.to_string() == text));
    number.and_then(|number| number.checked_add(by)).ok_or(NO_NUMBER)
}

#[cfg(test)]
mod tests;
