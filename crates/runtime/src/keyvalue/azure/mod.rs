//! A store in Azure Storage: entities of a table, or blobs in a container.
//!
//! Nothing there can be added to or compared in one step, so a value is read with its ETag and written if it still has that one; who
//! comes too late reads again. Increments of one key that wait in this process are sent together: two requests for all of them.
//!
//! A request that is throttled is sent again. It may have been done all the same, and that is harmless: to read, to delete and to set are the
//! same twice, and a write that wants an ETag finds another one there. But then nobody knows whose that is, so such a write is not tried a
//! third time with the value that is there now: the call fails, and may have been done.

mod account;
mod blob;
mod table;

use super::{Failure, NO_CURSOR, Page, Result, sum};
use crate::config::storage::{Resource, Service as Kind};
use crate::outgoing::{Client, Tokens};
use account::{Account, Answer, Call};
use http::StatusCode;
use http::header::ETAG;
use percent_encoding::percent_decode_str;
use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};

/// Letters of a name. A table's key may have 1 KiB of UTF-16 (Azure Storage, "Understanding the Table service data model"), a blob's name
/// 1024 letters.
const NAME: usize = 512;
/// The longest pause before a value is read again that somebody else has written, after the first time; twice as long after each one
/// more, up to [`LONGEST_PAUSE`].
const PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_millis(320);

/// Requests of one of the services, and what their answers mean. Names are those that [`name`] makes.
trait Service: Send + Sync {
    /// Bytes of a value, and why it may not have more.
    fn value_limit(&self) -> (usize, &'static str);
    /// Makes the table or the container.
    fn create(&self) -> Call;
    fn read(&self, name: &str) -> Call;
    /// The value in the answer of [`Service::read`].
    fn value(&self, answer: &Answer) -> Result<Vec<u8>>;
    fn write(&self, name: &str, value: Vec<u8>, only: &Only) -> Call;
    fn delete(&self, name: &str) -> Call;
    /// A page of the names that begin with `prefix`.
    fn list(&self, prefix: &str, from: Option<&str>) -> Call;
    /// The names in the answer of [`Service::list`], and where the next page begins.
    fn names(&self, answer: &Answer) -> Result<(Vec<String>, Option<String>)>;
}

/// When a value is written.
enum Only {
    Always,
    /// If there is none.
    New,
    /// If it has this ETag.
    Unchanged(String),
}

#[derive(Clone)]
pub struct Azure(Arc<Inner>);

struct Inner {
    account: Account,
    service: Box<dyn Service>,
    patience: Duration,
    /// Increments that wait, by name, while a task counts there.
    counting: Mutex<HashMap<String, Vec<Waiting>>>,
}

/// What to add, and who waits for the number.
type Waiting = (i64, oneshot::Sender<Result<i64>>);

impl std::fmt::Debug for Azure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Azure(not shown)")
    }
}

impl Azure {
    pub fn new(resource: &Resource, patience: Duration, client: Arc<Client>, tokens: &Tokens) -> Self {
        let service: Box<dyn Service> = match resource.service {
            Kind::Table => Box::new(table::Table(resource.name.clone())),
            Kind::Blob => Box::new(blob::Blob(resource.name.clone())),
        };
        let account = Account::new(resource, patience, client, tokens);
        Self(Arc::new(Inner { account, service, patience, counting: Mutex::default() }))
    }

    pub async fn get(&self, key: String) -> Result<Option<Vec<u8>>> {
        Ok(self.read(&name(&key)?).await?.map(|(value, _)| value))
    }

    pub async fn set(&self, key: String, value: Vec<u8>) -> Result<()> {
        self.write(&name(&key)?, value, &Only::Always).await.map(drop)
    }

    pub async fn delete(&self, key: String) -> Result<()> {
        let answer = self.send(self.0.service.delete(&name(&key)?)).await?;
        if answer.status == StatusCode::NOT_FOUND { Ok(()) } else { answer.good().map(drop) }
    }

    pub async fn list(&self, prefix: String, from: Option<String>) -> Result<Page> {
        let answer = self.send(self.0.service.list(&name(&prefix)?, from.as_deref())).await?;
        if answer.status == StatusCode::NOT_FOUND {
            return Ok(Page::default());
        }
        // The request is ours but for the cursor.
        if answer.status == StatusCode::BAD_REQUEST && from.is_some() {
            return Err(NO_CURSOR);
        }
        let (names, next) = self.0.service.names(&answer.good()?)?;
        Ok(Page { keys: names.iter().filter_map(|name| key(name)).collect(), next })
    }

    pub async fn swap(&self, key: String, old: Option<Vec<u8>>, new: Vec<u8>) -> Result<bool> {
        let (name, mut pause) = (name(&key)?, PAUSE);
        loop {
            let (now, only) = self.look(&name).await?;
            if now != old {
                return Ok(false);
            }
            if self.write(&name, new.clone(), &only).await? {
                return Ok(true);
            }
            rest(&mut pause).await;
        }
    }

    pub async fn increment(&self, key: String, by: i64) -> Result<i64> {
        let answered = self.queue(name(&key)?, by);
        answered.await.map_err(|_| Failure::Unavailable("the host is ending".to_owned()))?
    }

    fn counting(&self) -> MutexGuard<'_, HashMap<String, Vec<Waiting>>> {
        self.0.counting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets a number be added by the task that counts there, which the first one begins.
    fn queue(&self, name: String, by: i64) -> oneshot::Receiver<Result<i64>> {
        let (answer, answered) = oneshot::channel();
        let mut counting = self.counting();
        if let Some(waiting) = counting.get_mut(&name) {
            waiting.push((by, answer));
        } else {
            counting.insert(name.clone(), vec![(by, answer)]);
            // It goes on when the invocation that began it has ended: others wait for it.
            tokio::spawn(self.clone().count(name));
        }
        answered
    }

    /// Who waits now, but those whose invocation has ended. Where nobody does, the task that asks is to end.
    fn waiting(&self, name: &str) -> Vec<Waiting> {
        let mut counting = self.counting();
        let mut waiting = counting.get_mut(name).map(std::mem::take).unwrap_or_default();
        waiting.retain(|(_, answer)| !answer.is_closed());
        if waiting.is_empty() {
            counting.remove(name);
        }
        waiting
    }

    /// Counts for all who wait, until nobody does.
    async fn count(self, name: String) {
        loop {
            let waiting = self.waiting(&name);
            if waiting.is_empty() {
                return;
            }
            let added = timeout(self.0.patience, self.add(&name, waiting.iter().map(|(by, _)| *by).collect())).await;
            let late =
                |_| Err(Failure::Unavailable("it is slow, or others write to the same key without a pause".to_owned()));
            let added = added.unwrap_or_else(late);
            for (at, (_, answer)) in waiting.into_iter().enumerate() {
                let number = added.as_ref().map_err(Clone::clone).and_then(|numbers| numbers[at].clone());
                // Nobody may wait any more.
                let _ = answer.send(number);
            }
        }
    }

    /// Adds one after the other to a number, and writes what comes of it once. Answers each number on the way.
    async fn add(&self, name: &str, summands: Vec<i64>) -> Result<Vec<Result<i64>>> {
        let mut pause = PAUSE;
        loop {
            let (mut value, only) = self.look(name).await?;
            let numbers: Vec<_> = summands
                .iter()
                .map(|by| {
                    let number = sum(value.as_deref(), *by)?;
                    value = Some(number.to_string().into_bytes());
                    Ok(number)
                })
                .collect();
            let Some(value) = value.filter(|_| numbers.iter().any(Result::is_ok)) else {
                return Ok(numbers);
            };
            if self.write(name, value, &only).await? {
                return Ok(numbers);
            }
            rest(&mut pause).await;
        }
    }

    /// A value, and when one may be written in its place.
    async fn look(&self, name: &str) -> Result<(Option<Vec<u8>>, Only)> {
        Ok(match self.read(name).await? {
            Some((value, etag)) => (Some(value), Only::Unchanged(etag)),
            None => (None, Only::New),
        })
    }

    /// A value with its ETag.
    async fn read(&self, name: &str) -> Result<Option<(Vec<u8>, String)>> {
        let answer = self.send(self.0.service.read(name)).await?;
        if answer.status == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        let answer = answer.good()?;
        let etag = answer.headers.get(ETAG).and_then(|etag| etag.to_str().ok());
        let etag = etag.ok_or_else(|| Failure::Unavailable("it answers without an ETag".to_owned()))?;
        Ok(Some((self.0.service.value(&answer)?, etag.to_owned())))
    }

    /// Writes a value. Whether that was so, or somebody else was faster.
    async fn write(&self, name: &str, value: Vec<u8>, only: &Only) -> Result<bool> {
        let (limit, why) = self.0.service.value_limit();
        if value.len() > limit {
            return Err(Failure::Refused(why));
        }
        let mut answer = self.send(self.0.service.write(name, value.clone(), only)).await?;
        if ["TableNotFound", "ContainerNotFound"].contains(&&*answer.code()) {
            let made = self.send(self.0.service.create()).await?;
            if made.status != StatusCode::CONFLICT {
                made.good()?;
            }
            answer = self.send(self.0.service.write(name, value, only)).await?;
        }
        let late = match only {
            Only::Always => false,
            Only::New => ["EntityAlreadyExists", "BlobAlreadyExists"].contains(&&*answer.code()),
            // It may be gone.
            Only::Unchanged(_) => answer.code() == "ResourceNotFound",
        };
        if late || answer.status == StatusCode::PRECONDITION_FAILED {
            let unknown =
                "it has throttled a write and then another value was there, which may be the one that was written";
            return if answer.repeated { Err(Failure::Unavailable(unknown.to_owned())) } else { Ok(false) };
        }
        answer.good().map(|_| true)
    }

    async fn send(&self, call: Call) -> Result<Answer> {
        self.0.account.send(call).await
    }
}

/// Lets others go first for a moment, each caller for another one.
async fn rest(pause: &mut Duration) {
    sleep(pause.mul_f64(fastrand::f64())).await;
    *pause = (*pause * 2).min(LONGEST_PAUSE);
}

/// A key as both services can name it, and no two alike: letters, digits, `-`, `_` and `:` stand for themselves, every other byte is `~` and
/// two hexadecimal digits.
fn name(key: &str) -> Result<String> {
    let mut name = String::with_capacity(key.len());
    for byte in key.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_:".contains(&byte) {
            name.push(char::from(byte));
        } else {
            write!(name, "~{byte:02X}").expect("a String takes everything");
        }
    }
    let long = "the key is too long for Azure Storage, where it has 512 letters with its prefix, and three for each that is no letter, \
                digit, -, _ or :";
    if name.len() > NAME { Err(Failure::Refused(long)) } else { Ok(name) }
}

/// The key that a name was made of. None for a name that somebody else has made.
fn key(name: &str) -> Option<String> {
    let key = percent_decode_str(&name.replace('~', "%")).decode_utf8().ok()?.into_owned();
    (self::name(&key).as_deref() == Ok(name)).then_some(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_has_a_name_of_its_own() {
        for (text, expected) in [("a-Z_0:", "a-Z_0:"), ("~2E", "~7E2E"), (".", "~2E"), ("a/\u{e9}%", "a~2F~C3~A9~25")] {
            assert_eq!(name(text).as_deref(), Ok(expected));
            assert_eq!(key(expected).as_deref(), Some(text));
        }
        for foreign in ["a.b", "~2e", "~61", "~ZZ", "~FF", "%41"] {
            assert_eq!(key(foreign), None, "{foreign}");
        }
        assert!(name(&"a".repeat(NAME)).is_ok());
        assert!(name(&"a".repeat(NAME + 1)).is_err());
    }
}
