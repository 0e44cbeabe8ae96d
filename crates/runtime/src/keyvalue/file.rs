//! A store in a file, which one thread writes to. It takes what waits together, in one transaction, and answers when that is on the
//! disk: so a process that is killed loses nothing that a guest was told, and many guests share the time of one disk access.

use super::{Failure, MANY, Outcome, Page, sum};
use redb::{Database, ReadableTable as _, StorageError, Table, TableDefinition};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::thread;
use tokio::sync::{mpsc, oneshot};

const TABLE: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("keyvalue");
/// What is done in one transaction.
const TOGETHER: usize = 256;
/// Bytes of the file that are kept in memory.
const CACHE: usize = 16 << 20;

type Keys<'t> = Table<'t, &'static str, &'static [u8]>;
/// What is done with the keys, or with why there are none.
type Act = Box<dyn FnOnce(Outcome<&mut Keys<'_>>) -> Reply + Send>;

/// What a guest asks for.
struct Work {
    writes: bool,
    /// Does it, if there is a table, and says how to answer once that is on the disk, or is not.
    act: Act,
}

type Reply = Box<dyn FnOnce(Outcome<()>) + Send>;

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

    pub async fn get(&self, key: String) -> Outcome<Option<Vec<u8>>> {
        self.run(false, move |keys| value(keys, &key)).await
    }

    pub async fn set(&self, key: String, value: Vec<u8>) -> Outcome<()> {
        self.run(true, move |keys| insert(keys, &key, &value)).await
    }

    pub async fn delete(&self, key: String) -> Outcome<()> {
        self.run(true, move |keys| keys.remove(&*key).map(drop).map_err(|error| broken(&error))).await
    }

    pub async fn list(&self, prefix: String, from: u64) -> Outcome<Page> {
        self.run(false, move |keys| {
            let skip = usize::try_from(from).unwrap_or(usize::MAX);
            let all = keys.range(&*prefix..).map_err(|error| broken(&error))?;
            let all = all.map(|entry| entry.map(|(key, _)| key.value().to_owned()));
            let below = all.take_while(|key| key.as_ref().map_or(true, |key| key.starts_with(&prefix)));
            let listed = below.skip(skip).take(MANY + 1).collect::<Result<Vec<_>, _>>();
            let mut listed = listed.map_err(|error| broken(&error))?;
            let next = (listed.len() > MANY).then_some(from + MANY as u64);
            listed.truncate(MANY);
            Ok(Page { keys: listed, next })
        })
        .await
    }

    pub async fn increment(&self, key: String, by: i64) -> Outcome<i64> {
        self.run(true, move |keys| {
            let number = sum(value(keys, &key)?.as_deref(), by)?;
            insert(keys, &key, number.to_string().as_bytes())?;
            Ok(number)
        })
        .await
    }

    pub async fn swap(&self, key: String, old: Option<Vec<u8>>, new: Vec<u8>) -> Outcome<bool> {
        self.run(true, move |keys| {
            let fits = value(keys, &key)? == old;
            if fits {
                insert(keys, &key, &new)?;
            }
            Ok(fits)
        })
        .await
    }

    /// Does something in the thread of the file.
    async fn run<T: Send + 'static>(
        &self,
        writes: bool,
        work: impl FnOnce(&mut Keys<'_>) -> Outcome<T> + Send + 'static,
    ) -> Outcome<T> {
        let (answer, answered) = oneshot::channel();
        let act = Box::new(move |keys: Outcome<&mut Keys<'_>>| {
            let outcome = keys.and_then(work);
            // Nobody may wait any more.
            Box::new(move |kept: Outcome<()>| drop(answer.send(kept.and(outcome)))) as Reply
        });
        let gone = || Failure::Unavailable("its thread has ended".to_owned());
        self.thread()?.send(Work { writes, act }).await.map_err(|_| gone())?;
        answered.await.map_err(|_| gone())?
    }

    /// The thread, which ends with this.
    fn thread(&self) -> Outcome<&mpsc::Sender<Work>> {
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
) -> Outcome<()> {
    let database = match open {
        Some(database) => database,
        None => open.insert(create(path)?),
    };
    let transaction = database.begin_write().map_err(|error| broken(&error))?;
    let changes = together.iter().any(|work| work.writes);
    {
        let mut keys = transaction.open_table(TABLE).map_err(|error| broken(&error))?;
        replies.extend(together.drain(..).map(|work| (work.act)(Ok(&mut keys))));
    }
    if changes {
        transaction.commit().map_err(|error| broken(&error))
    } else {
        transaction.abort().map_err(|error| broken(&error))
    }
}

fn create(path: &Path) -> Outcome<Database> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(|error| broken(&error))?;
    }
    Database::builder().set_cache_size(CACHE).create(path).map_err(|error| broken(&error))
}

fn value(keys: &Keys<'_>, key: &str) -> Outcome<Option<Vec<u8>>> {
    let found = keys.get(key).map_err(|error| broken(&error))?;
    Ok(found.map(|value| value.value().to_vec()))
}

fn insert(keys: &mut Keys<'_>, key: &str, value: &[u8]) -> Outcome<()> {
    keys.insert(key, value).map(drop).map_err(|error: StorageError| broken(&error))
}

fn broken(error: &dyn std::fmt::Display) -> Failure {
    Failure::Unavailable(error.to_string())
}
