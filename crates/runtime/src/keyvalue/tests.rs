//! One table of answers, the same for every kind of store.

mod throttled;

use super::*;
use crate::config::AppSettings;
use crate::config::keyvalue::{Stores as Kind, Written};
use crate::config::kind::Kind as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::json;
use sha2::Sha256;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::Command;

const KEY_OF_AZURITE: &str = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";

fn written(at: &str) -> Vec<Written> {
    Kind.read(&json!({ "a": at, "b": at, "c": { "at": at, "shared": "c" } })).expect("stores")
}

fn buckets(stores: &Stores, function: &str, at: &str, root: &Path) -> Buckets {
    // The account of the emulator (README of Azurite, "Default Storage Account"), at the port after the `?`.
    let (at, port) = at.split_once('?').unwrap_or((at, ""));
    let endpoint = format!("http://127.0.0.1:{port}/devstoreaccount1");
    let storage = format!(
        "AccountName=devstoreaccount1;AccountKey={KEY_OF_AZURITE};TableEndpoint={endpoint};BlobEndpoint={endpoint}"
    );
    let (signed, forged) = (signature(), signature().replace("sig=", "sig=x"));
    let [signed, forged] = [signed, forged]
        .map(|signature| format!("TableEndpoint={endpoint};BlobEndpoint={endpoint};SharedAccessSignature={signature}"));
    let settings = [("STORAGE", storage), ("SIGNED", signed), ("FORGED", forged)];
    let settings = AppSettings::from(settings.map(|(name, value)| (name.to_owned(), value)));
    let find = |written: Written| written.find(function, root, &settings).expect("found");
    let granted: Vec<_> = written(at).into_iter().map(find).collect();
    stores.of(&granted, &Arc::default(), &Tokens::default())
}

/// A signature of the emulator's account for tables and blobs (Azure Storage, "Create an account SAS", of version 2018-11-09).
fn signature() -> String {
    let text = "devstoreaccount1\nrwdlacu\nbt\nsco\n\n2100-01-01T00:00:00Z\n\n\n2018-11-09\n";
    let key = STANDARD.decode(KEY_OF_AZURITE).expect("base64");
    let mut hmac = Hmac::<Sha256>::new_from_slice(&key).expect("a key of any length fits");
    hmac.update(text.as_bytes());
    let signature = STANDARD.encode(hmac.finalize().into_bytes());
    let signature = utf8_percent_encode(&signature, NON_ALPHANUMERIC);
    format!("sv=2018-11-09&ss=bt&srt=sco&sp=rwdlacu&se=2100-01-01T00:00:00Z&sig={signature}")
}

/// A machine that does everything at once is slow, and that is not what these tests are about.
fn patient() -> Stores {
    Stores { patience: Duration::from_secs(60), ..Stores::default() }
}

async fn answers(at: &str, root: &Path) {
    let stores = patient();
    let (key, value) = match at.split(':').next() {
        Some("azure-table") => (256, 64 << 10),
        Some("azure-blob") => (256, VALUE),
        _ => (KEY, VALUE),
    };
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
    for key in ["", "a/b\\c#d?e%f'g\n", "\u{640}é", "K", &"k".repeat(key)] {
        assert_eq!(a.set(key, key.into()).await, Ok(()));
        assert_eq!(a.get(key).await, Ok(Some(key.into())));
    }
    assert!(matches!(a.get(&"k".repeat(KEY + 1)).await, Err(Failure::Refused(_))));
    assert!(matches!(a.set("k", vec![0; value + 1]).await, Err(Failure::Refused(_))));
    assert_eq!(a.set("k", vec![0; value]).await, Ok(()));
    assert_eq!(a.get("k").await, Ok(Some(vec![0; value])));
    let all: Vec<String> = (0..=ANSWER / value).map(|number| number.to_string()).collect();
    assert_eq!(a.set_many(all.iter().map(|key| (key.clone(), vec![0; value])).collect()).await, Ok(()));
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
        assert_eq!(other.list(None).await.map(|page| page.keys), Ok(vec![]));
    }
    let (c, shared) = (ours.open("c").expect("granted"), theirs.open("c").expect("granted"));
    assert_eq!(c.set("cas", one()).await, Ok(()));
    assert_eq!(shared.get("cas").await, Ok(Some(one())));

    // Pages.
    let many: Vec<String> = (0..MANY).map(|number| format!("{number:04}")).collect();
    for part in [0..MANY / 2, MANY / 2..MANY] {
        assert_eq!(c.set_many(many[part].iter().map(|key| (key.clone(), one())).collect()).await, Ok(()));
    }
    let (mut listed, mut from) = (std::collections::BTreeSet::new(), None);
    loop {
        let page = c.list(from).await.expect("a page");
        listed.extend(page.keys);
        from = page.next;
        if from.is_none() {
            break;
        }
    }
    assert_eq!(listed.len(), MANY + 1);
    assert!(listed.contains("cas") && many.iter().all(|key| listed.contains(key)));
    // What was not answered as a cursor lists nobody else's keys.
    for forged in ["", "\u{10ffff}", "flexwasm:", "9", "1!8!YQ-- x"] {
        let keys = a.list(Some(forged.to_owned())).await.map(|page| page.keys).unwrap_or_default();
        assert!(!keys.iter().any(|key| key.contains("cas") && key != "cas"), "{keys:?}");
    }
    assert_eq!(a.list(Some("x".repeat(CURSOR + 1))).await, Err(NO_CURSOR));
}

/// Nothing is lost, whoever comes between: callers of this process, and of another where one can be.
async fn counts(at: &str, root: &Path) {
    let processes = if at == "memory" || at.starts_with("file:") { 1 } else { 2 };
    let processes = (0..processes).map(|_| buckets(&patient(), "counts", at, root).open("a").expect("granted"));
    let processes: Vec<_> = processes.collect();
    let bucket = &processes[0];
    assert_eq!(bucket.delete("n").await, Ok(()));
    let callers = (0..200).map(|caller| {
        let bucket = processes[caller % processes.len()].clone();
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

/// A server that ends with this.
struct Server(std::process::Child);

impl Server {
    fn start(mut command: Command) -> Self {
        Self(command.stdout(std::process::Stdio::null()).spawn().expect("it starts"))
    }

    /// Redis, which holds no more than `most` bytes.
    fn redis(port: u16, most: &str) -> Self {
        let mut command = Command::new("redis-server");
        command.args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--dir", "/tmp"]);
        command.args(["--maxmemory", most]);
        Self::start(command)
    }

    /// One service of Azurite.
    fn azurite(service: &str, port: u16, folder: &Path) -> Self {
        let installed = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/azurite/node_modules/.bin");
        let mut command = Command::new(installed.join(format!("azurite-{service}")));
        command.args(["--silent", "--disableTelemetry", "--skipApiVersionCheck", "--location"]).arg(folder);
        command.args([format!("--{service}Port"), port.to_string()]);
        Self::start(command)
    }

    fn signal(&self, signal: rustix::process::Signal) {
        rustix::process::kill_process(rustix::process::Pid::from_child(&self.0), signal).expect("it runs");
    }
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address").port()
}

/// Waits until a store answers.
async fn works(bucket: &Bucket) {
    for _ in 0..2000 {
        if bucket.set("k", Vec::new()).await.is_ok() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the store never answers");
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A server that is down, that comes, goes, is mute, and comes back.
async fn comes_back(at: &str, start: impl Fn() -> Server) {
    let down = async |bucket: &Bucket| assert!(matches!(bucket.get("k").await, Err(Failure::Unavailable(_))));
    let bucket = buckets(&Stores::default(), "down", at, Path::new("/")).open("a").expect("granted");
    down(&bucket).await;
    let server = start();
    works(&bucket).await;
    answers(at, Path::new("/")).await;
    counts(at, Path::new("/")).await;
    drop(server);
    down(&bucket).await;
    let server = start();
    works(&bucket).await;
    server.signal(rustix::process::Signal::STOP);
    down(&bucket).await;
    server.signal(rustix::process::Signal::CONT);
    works(&bucket).await;
}

/// A server that speaks as Redis does, and is a replica to its first connection. Returns its port.
fn failed_over() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let serve = |number: usize, stream: std::net::TcpStream| {
        let mut client = stream.try_clone().expect("the same stream");
        let mut stream = BufReader::new(stream);
        let mut line = || {
            let mut line = String::new();
            stream.read_line(&mut line).ok().filter(|read| *read > 0).map(|_| line.trim_end().to_owned())
        };
        // A command is a list of texts, each behind a line with its length.
        let mut command = || {
            let words: usize = line()?.trim_start_matches('*').parse().ok()?;
            (0..words).map(|_| line().and_then(|_| line())).collect::<Option<Vec<_>>>()
        };
        while let Some(command) = command() {
            let answer = match (&*command[0], number) {
                ("INCRBY", 0) => "-READONLY You can't write against a read only replica.\r\n",
                ("INCRBY", _) => ":1\r\n",
                _ => "+OK\r\n",
            };
            client.write_all(answer.as_bytes()).expect("the client waits");
        }
    };
    std::thread::spawn(move || {
        for (number, stream) in listener.incoming().map_while(std::io::Result::ok).enumerate() {
            std::thread::spawn(move || serve(number, stream));
        }
    });
    port
}

#[tokio::test]
async fn a_connection_to_what_has_become_a_replica_is_replaced() {
    let at = format!("redis://127.0.0.1:{}", failed_over());
    let bucket = buckets(&Stores::default(), "f", &at, Path::new("/")).open("a").expect("granted");
    assert!(matches!(bucket.increment("n", 1).await, Err(Failure::Unavailable(why)) if why.contains("READONLY")));
    assert_eq!(bucket.increment("n", 1).await, Ok(1));
}

#[tokio::test]
async fn a_store_that_comes_and_goes_is_told_of_now_and_then() {
    let store = Store::new(&Place::Memory, PATIENCE, &Arc::default(), &Tokens::default());
    let told = async |answer: Result<()>| {
        let _ = store.patiently(async { answer }).await;
        store.told.load(Ordering::Relaxed)
    };
    let down = || Err(Failure::Unavailable("it is away".to_owned()));
    assert_eq!(
        [told(Ok(())).await, told(down()).await, told(down()).await, told(Ok(())).await],
        [false, true, true, false]
    );
    assert!(!told(down()).await, "not again so soon");
    *store.told_at.lock().expect("no panic") = Instant::now().checked_sub(QUIET);
    assert!(told(down()).await);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server"]
async fn redis_gives_the_answers_of_the_table_and_comes_back() {
    let port = free_port();
    comes_back(&format!("redis://127.0.0.1:{port}"), || Server::redis(port, "0")).await;
    // One that has no room is there, and says so.
    let port = free_port();
    let _server = Server::redis(port, "4mb");
    let at = format!("redis://127.0.0.1:{port}");
    let bucket = buckets(&patient(), "full", &at, Path::new("/")).open("a").expect("granted");
    works(&bucket).await;
    let mut full = None;
    for number in 0..8 {
        full = full.or(bucket.set(&number.to_string(), vec![0; VALUE]).await.err());
    }
    assert_eq!(full, Some(Failure::Refused("the store is full")));
    assert_eq!(bucket.get("k").await, Ok(Some(Vec::new())));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Azurite: cargo xtask test"]
async fn a_table_in_azure_gives_the_answers_of_the_table_and_comes_back() {
    in_azure("table").await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Azurite: cargo xtask test"]
async fn blobs_in_azure_give_the_answers_of_the_table_and_come_back() {
    in_azure("blob").await;
}

async fn in_azure(service: &str) {
    let (folder, port) = (tempfile::tempdir().expect("a folder"), free_port());
    let start = || Server::azurite(service, port, folder.path());
    comes_back(&format!("azure-{service}:%STORAGE%/kvtest?{port}"), start).await;
    // The same for whoever has a signature in place of the key, and the words about one that opens nothing do not repeat it.
    let _server = start();
    let of = |setting: &str| {
        let at = format!("azure-{service}:%{setting}%/signed?{port}");
        buckets(&patient(), "signed", &at, Path::new("/")).open("a").expect("granted")
    };
    let bucket = of("SIGNED");
    works(&bucket).await;
    assert_eq!(bucket.increment("n\u{e9}", 5).await, Ok(5));
    assert_eq!(bucket.swap("n\u{e9}", Some(b"5".to_vec()), b"6".to_vec()).await, Ok(true));
    assert_eq!(bucket.list(None).await.map(|page| page.keys.len()), Ok(2));
    assert_eq!(bucket.delete("n\u{e9}").await, Ok(()));
    assert_eq!(bucket.get("n\u{e9}").await, Ok(None));
    let Err(Failure::Unavailable(why)) = of("FORGED").get("k").await else { panic!("it opens") };
    assert!(why.contains("is the signature still good") && !why.contains("sig=") && !why.contains("sv="), "{why}");
}
