//! One table of answers, the same for every kind of store.

use super::*;
use crate::config::AppSettings;
use crate::config::keyvalue::{Stores as Kind, Written};
use crate::config::kind::Kind as _;
use serde_json::json;
use std::path::Path;

fn written(at: &str) -> Vec<Written> {
    Kind.read(&json!({ "a": at, "b": at, "c": { "at": at, "shared": "c" } })).expect("stores")
}

fn buckets(stores: &Stores, function: &str, at: &str, root: &Path) -> Buckets {
    let find = |written: Written| written.find(function, root, &AppSettings::new()).expect("found");
    stores.of(&written(at).into_iter().map(find).collect::<Vec<_>>())
}

async fn answers(at: &str, root: &Path) {
    let stores = Stores::default();
    let (ours, theirs) = (buckets(&stores, "f", at, root), buckets(&stores, "g", at, root));
    assert!(ours.open("none").is_none());
    let a = ours.open("a").expect("granted");
    let one = || b"1".to_vec();

    assert_eq!(a.get("k").await, Ok(None));
    assert_eq!(a.delete("k").await, Ok(()));
    assert_eq!(a.increment("k", 5).await, Ok(5));
    assert_eq!(a.increment("k", -7).await, Ok(-2));
    assert_eq!(a.get("k").await, Ok(Some(b"-2".to_vec())));
    assert_eq!(a.set("k", b"41".to_vec()).await, Ok(()));
    assert_eq!(a.increment("k", 1).await, Ok(42));
    for value in ["abc", "", "9223372036854775807"] {
        assert_eq!(a.set("k", value.into()).await, Ok(()));
        assert_eq!(a.increment("k", 1).await, Err(NO_NUMBER), "{value}");
        assert_eq!(a.get("k").await, Ok(Some(value.into())));
    }
    assert_eq!(a.delete("k").await, Ok(()));
    assert_eq!(a.get("k").await, Ok(None));

    // Keys are any text, none is another's, and both they and values have an end.
    for key in ["", "a/b\\c#d?e%f'g\n", "\u{640}é", "K", &"k".repeat(KEY)] {
        assert_eq!(a.set(key, key.into()).await, Ok(()));
        assert_eq!(a.get(key).await, Ok(Some(key.into())));
    }
    assert!(matches!(a.get(&"k".repeat(KEY + 1)).await, Err(Failure::Refused(_))));
    assert!(matches!(a.set("k", vec![0; VALUE + 1]).await, Err(Failure::Refused(_))));
    assert_eq!(a.set("k", vec![0; VALUE]).await, Ok(()));
    assert_eq!(a.get("k").await, Ok(Some(vec![0; VALUE])));
    let all: Vec<String> = (0..6).map(|number| number.to_string()).collect();
    assert_eq!(a.set_many(all.iter().map(|key| (key.clone(), vec![0; VALUE])).collect()).await, Ok(()));
    assert!(matches!(a.get_many(all.clone()).await, Err(Failure::Refused(_))));
    assert_eq!(a.delete_many(all).await, Ok(()));
    assert_eq!(
        a.get_many(vec!["0".into(), "K".into()]).await,
        Ok(vec![("0".into(), None), ("K".into(), Some(b"K".to_vec()))])
    );
    assert!(matches!(a.get_many(vec![String::new(); MANY + 1]).await, Err(Failure::Refused(_))));

    // Compare and swap.
    assert_eq!(a.swap("cas", Some(one()), one()).await, Ok(false));
    assert_eq!(a.swap("cas", None, vec![0, 255]).await, Ok(true));
    assert_eq!(a.swap("cas", None, one()).await, Ok(false));
    assert_eq!(a.swap("cas", Some(one()), one()).await, Ok(false));
    assert_eq!(a.swap("cas", Some(vec![0, 255]), one()).await, Ok(true));

    // Another store of the function, and the same of another function.
    for other in [ours.open("b").expect("granted"), theirs.open("a").expect("granted")] {
        assert_eq!(other.get("cas").await, Ok(None));
        assert_eq!(other.list(0).await.map(|page| page.keys), Ok(vec![]));
    }
    let (c, shared) = (ours.open("c").expect("granted"), theirs.open("c").expect("granted"));
    assert_eq!(c.set("cas", one()).await, Ok(()));
    assert_eq!(shared.get("cas").await, Ok(Some(one())));

    // Pages.
    let many: Vec<String> = (0..MANY).map(|number| format!("{number:04}")).collect();
    for part in [0..MANY / 2, MANY / 2..MANY] {
        assert_eq!(c.set_many(many[part].iter().map(|key| (key.clone(), one())).collect()).await, Ok(()));
    }
    let (mut listed, mut from) = (std::collections::BTreeSet::new(), Some(0));
    while let Some(at) = from {
        let page = c.list(at).await.expect("a page");
        listed.extend(page.keys);
        from = page.next;
    }
    assert_eq!(listed.len(), MANY + 1);
    assert!(listed.contains("cas") && many.iter().all(|key| listed.contains(key)));
    assert_eq!(a.list(u64::MAX / 2).await.map(|page| page.next), Ok(None));
}

/// Nothing is lost, whoever comes between.
async fn counts(at: &str, root: &Path) {
    let bucket = buckets(&Stores::default(), "counts", at, root).open("a").expect("granted");
    assert_eq!(bucket.delete("n").await, Ok(()));
    let callers = (0..200).map(|_| {
        let bucket = bucket.clone();
        tokio::spawn(async move {
            for _ in 0..50 {
                bucket.increment("n", 1).await.expect("it counts");
            }
        })
    });
    for caller in callers.collect::<Vec<_>>() {
        caller.await.expect("it ends");
    }
    assert_eq!(bucket.get("n").await, Ok(Some(b"10000".to_vec())));
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_gives_the_answers_of_the_table() {
    answers("memory", Path::new("/")).await;
    counts("memory", Path::new("/")).await;
    let bucket = buckets(&Stores::default(), "f", "memory", Path::new("/")).open("a").expect("granted");
    let mut full = None;
    for number in 0..=memory::ROOM / VALUE {
        full = bucket.set(&number.to_string(), vec![0; VALUE]).await.err();
    }
    assert!(matches!(full, Some(Failure::Refused(why)) if why.contains("full")), "{full:?}");
    assert_eq!(bucket.delete("0").await, Ok(()));
    assert_eq!(bucket.set("0", vec![0; VALUE]).await, Ok(()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_gives_the_answers_of_the_table_and_keeps_them() {
    let folder = tempfile::tempdir().expect("a folder");
    answers("file:data/kv", folder.path()).await;
    counts("file:data/counts", folder.path()).await;
    // What cannot be opened is told, and is tried again.
    let file = folder.path().join("blocked");
    std::fs::write(&file, "").expect("written");
    let bucket = buckets(&Stores::default(), "f", "file:blocked/kv", folder.path()).open("a").expect("granted");
    assert!(matches!(bucket.get("k").await, Err(Failure::Unavailable(why)) if why.contains("exists")));
    std::fs::remove_file(&file).expect("removed");
    assert_eq!(bucket.get("k").await, Ok(None));
}

/// Redis on a port of its own, which ends with this.
struct Server(std::process::Child);

impl Server {
    fn start(port: u16) -> Self {
        let mut command = std::process::Command::new("redis-server");
        command.args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--dir", "/tmp"]);
        let child = command.stdout(std::process::Stdio::null()).spawn();
        Self(child.expect("redis-server is missing: apt-get install redis-server"))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server"]
async fn redis_gives_the_answers_of_the_table_and_comes_back() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address").port();
    let at = format!("redis://127.0.0.1:{free}");
    let bucket = buckets(&Stores::default(), "down", &at, Path::new("/")).open("a").expect("granted");
    assert!(matches!(bucket.get("k").await, Err(Failure::Unavailable(_))));
    let works = async || {
        for _ in 0..1000 {
            if bucket.set("k", Vec::new()).await.is_ok() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("Redis never answers");
    };
    let server = Server::start(free);
    works().await;
    answers(&at, Path::new("/")).await;
    counts(&at, Path::new("/")).await;
    drop(server);
    assert!(matches!(bucket.get("k").await, Err(Failure::Unavailable(_))));
    let server = Server::start(free);
    works().await;
    // One that is stopped answers nobody.
    let stopped = rustix::process::Pid::from_child(&server.0);
    rustix::process::kill_process(stopped, rustix::process::Signal::STOP).expect("stopped");
    assert!(matches!(bucket.get("k").await, Err(Failure::Unavailable(_))));
    rustix::process::kill_process(stopped, rustix::process::Signal::CONT).expect("goes on");
    works().await;
}
