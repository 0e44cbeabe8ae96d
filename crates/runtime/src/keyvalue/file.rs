//! A store in a file, which one thread writes to. It takes what waits together, in one transaction, and answers when that is on the
//! disk: so a process that is killed loses nothing that a guest was told, and many guests share the time of one disk access.

use super::{Failure, MANY, Page, Result, after, page, size, sum};
use redb::{Database, ReadableTable as _, Table, TableDefinition};
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::thread;
use tokio::sync::{mpsc, oneshot};

const TABLE: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("keyvalue");
/// Figures about it.
const FIGURES: TableDefinition<'_, &str, u64> = TableDefinition::new("figures");
/// The bytes of all keys and values.
const BYTES: &str = "bytes";
/// The most of them. The file itself is larger, by a half or so.
pub const ROOM: u64 = 1 << 30;
/// What is done in one transaction.
const TOGETHER: usize = 256;
/// Bytes of the file that are kept in memory.
const CACHE: usize = 16 << 20;

/// The keys in a transaction, and their bytes so far.
struct Keys<'t> {
    table: Table<'t, &'static str, &'static [u8]>,
    bytes: u64,
}

/// What is done with the keys, or with why there are none.
type Act = Box<dyn FnOnce(Result<&mut Keys<'_>>) -> Reply + Send>;

/// What a guest asks for.
struct Work {
    writes: bool,
    /// Does it, if there is a table, and says how to answer once that is on the disk, or is not.
    act: Act,
}

type Reply = Box<dyn FnOnce(Result<()>) + Send>;

/// A file, opened when it is first used.
#[derive(Debug)]
pub struct File {
    path: PathBuf,
    work: OnceLock<mpsc::Sender<Work>>,
}

impl File {
    pub fn new(path: PathBuf) -> Self {
        Self { path, work: OnceLock::new() }
    }

    pub async fn get(&self, key: String) -> Result<Option<Vec<u8>>> {
        self.run(false, move |keys| keys.get(&key)).await
    }

    pub async fn set(&self, key: String, value: Vec<u8>) -> Result<()> {
        self.run(true, move |keys| keys.insert(&key, &value)).await
    }

    pub async fn delete(&self, key: String) -> Result<()> {
        self.run(true, move |keys| keys.remove(&key)).await
    }

    pub async fn list(&self, prefix: String, from: Option<String>) -> Result<Page> {
        self.run(false, move |keys| {
            let first = after(&prefix, from.as_deref());
            let first = first.as_ref().map(String::as_str);
            let all = keys.table.range::<&str>((first, Bound::Unbounded)).map_err(|error| broken(&error))?;
            let all = all.map(|entry| entry.map(|(key, _)| key.value().to_owned()));
            let below = all.take_while(|key| key.as_ref().map_or(true, |key| key.starts_with(&prefix)));
            let listed = below.take(MANY + 1).collect::<Result<Vec<_>, _>>();
            Ok(page(&prefix, listed.map_err(|error| broken(&error))?))
        })
        .await
    }

    pub async fn increment(&self, key: String, by: i64) -> Result<i64> {
        self.run(true, move |keys| {
            let number = sum(keys.get(&key)?.as_deref(), by)?;
            keys.insert(&key, number.to_string().as_bytes())?;
            Ok(number)
        })
        .await
    }

    pub async fn swap(&self, key: String, old: Option<Vec<u8>>, new: Vec<u8>) -> Result<bool> {
        self.run(true, move |keys| {
            let fits = keys.get(&key)? == old;
            if fits {
                keys.insert(&key, &new)?;
            }
            Ok(fits)
        })
        .await
    }

    /// Does something in the thread of the file.
    async fn run<T: Send + 'static>(
        &self,
        writes: bool,
        work: impl FnOnce(&mut Keys<'_>) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let (answer, answered) = oneshot::channel();
        let act = Box::new(move |keys: Result<&mut Keys<'_>>| {
            let outcome = keys.and_then(work);
            // Nobody may wait any more.
            Box::new(move |kept: Result<()>| drop(answer.send(kept.and(outcome)))) as Reply
        });
        let gone = || Failure::Unavailable("its thread has ended".to_owned());
        self.thread()?.send(Work { writes, act }).await.map_err(|_| gone())?;
        answered.await.map_err(|_| gone())?
    }

    /// The thread, which ends with this.
    fn thread(&self) -> Result<&mpsc::Sender<Work>> {
        if let Some(work) = self.work.get() {
            return Ok(work);
        }
        let (work, waiting) = mpsc::channel(TOGETHER);
        let path = self.path.clone();
        let serve = move || serve(&path, waiting);
        let started = thread::Builder::new().name("keyvalue".to_owned()).spawn(serve);
        started.map_err(|error| Failure::Unavailable(format!("no thread can be started: {error}")))?;
        // Where two came at the same time, the thread of the one that is too late ends at once.
        Ok(self.work.get_or_init(|| work))
    }
}

/// Does what is asked for until nobody can ask any more.
fn serve(path: &Path, mut waiting: mpsc::Receiver<Work>) {
    let mut open = None;
    while let Some(first) = waiting.blocking_recv() {
        let mut together = vec![first];
        while together.len() < TOGETHER
            && let Ok(next) = waiting.try_recv()
        {
            together.push(next);
        }
        let mut replies = Vec::new();
        let kept = transact(&mut open, path, &mut together, &mut replies);
        if let Err(failure) = &kept {
            // What failed once is not trusted any more.
            open = None;
            replies.extend(together.drain(..).map(|work| (work.act)(Err(failure.clone()))));
        }
        replies.into_iter().for_each(|reply| reply(kept.clone()));
    }
}

/// Does all of it in one transaction. What it could not begin is left in the list.
fn transact(
    open: &mut Option<Database>,
    path: &Path,
    together: &mut Vec<Work>,
    replies: &mut Vec<Reply>,
) -> Result<()> {
    let database = match open {
        Some(database) => database,
        None => open.insert(create(path)?),
    };
    let transaction = database.begin_write().map_err(|error| broken(&error))?;
    let changes = together.iter().any(|work| work.writes);
    {
        let table = transaction.open_table(TABLE).map_err(|error| broken(&error))?;
        let mut figures = transaction.open_table(FIGURES).map_err(|error| broken(&error))?;
        let bytes = figures.get(BYTES).map_err(|error| broken(&error))?.map_or(0, |bytes| bytes.value());
        let mut keys = Keys { table, bytes };
        replies.extend(together.drain(..).map(|work| (work.act)(Ok(&mut keys))));
        if changes {
            figures.insert(BYTES, keys.bytes).map_err(|error| broken(&error))?;
        }
    }
    if changes {
        transaction.commit().map_err(|error| broken(&error))
    } else {
        transaction.abort().map_err(|error| broken(&error))
    }
}

fn create(path: &Path) -> Result<Database> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(|error| broken(&error))?;
    }
    Database::builder().set_cache_size(CACHE).create(path).map_err(|error| broken(&error))
}

impl Keys<'_> {
    fn get(&self, key: &str) -> Result<Option<Vec<u8>>> {
        let found = self.table.get(key).map_err(|error| broken(&error))?;
        Ok(found.map(|value| value.value().to_vec()))
    }

    fn insert(&mut self, key: &str, value: &[u8]) -> Result<()> {
        let old = self.table.get(key).map_err(|error| broken(&error))?.map_or(0, |old| size(key, old.value()));
        let bytes = (self.bytes + size(key, value) as u64).saturating_sub(old as u64);
        if bytes > ROOM && bytes > self.bytes {
            return Err(Failure::Refused("the store is full: it has room for 1 GiB"));
        }
        self.table.insert(key, value).map(drop).map_err(|error| broken(&error))?;
        self.bytes = bytes;
        Ok(())
    }

    fn remove(&mut self, key: &str) -> Result<()> {
        let old = self.table.remove(key).map_err(|error| broken(&error))?;
        let freed = old.map_or(0, |old| size(key, old.value()));
        self.bytes = self.bytes.saturating_sub(freed as u64);
        Ok(())
    }
}

fn broken(error: &dyn std::fmt::Display) -> Failure {
    Failure::Unavailable(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_file_that_is_full_takes_what_makes_it_smaller() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("kv");
        let database = create(&path).expect("it is new");
        let transaction = database.begin_write().expect("a transaction");
        transaction.open_table(FIGURES).expect("a table").insert(BYTES, ROOM - 200).expect("inserted");
        transaction.commit().expect("kept");
        drop(database);
        let file = File::new(path);
        let set = async |bytes| file.set("k".to_owned(), vec![0; bytes]).await;
        assert_eq!(set(100).await, Ok(()));
        assert!(matches!(set(300).await, Err(Failure::Refused(why)) if why.contains("full")));
        assert!(matches!(file.increment("n".to_owned(), 1).await, Err(Failure::Refused(_))));
        assert_eq!(set(50).await, Ok(()));
        assert_eq!(file.delete("k".to_owned()).await, Ok(()));
        assert_eq!(file.increment("n".to_owned(), 1).await, Ok(1));
        assert!(set(300).await.is_err(), "what is deleted is counted once");
    }
}
