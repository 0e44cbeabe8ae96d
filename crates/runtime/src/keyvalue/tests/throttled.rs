//! A storage account that throttles, played.

use super::{buckets, patient};
use crate::keyvalue::{Bucket, Failure, NO_CURSOR, Stores};
use std::collections::VecDeque;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;

const SERVICES: [&str; 2] = ["table", "blob"];

/// What becomes of a request.
#[derive(Clone, Copy, PartialEq)]
enum Fate {
    Done,
    Throttled,
    /// As by somebody on the way, who has waited too long.
    DoneAndThrottled,
    /// For its query.
    Refused,
}
use Fate::{Done, DoneAndThrottled, Refused, Throttled};

/// The one value that an account of this kind holds.
#[derive(Default)]
struct State {
    value: Option<Vec<u8>>,
    /// Counts what was written; the ETag.
    version: u64,
    /// Of the next requests; those behind them are done.
    fates: VecDeque<Fate>,
    /// Whether [`State::fates`] are of writes alone.
    of_writes: bool,
    /// The line of a head that says when to come again.
    again: &'static str,
    asked: u32,
}

#[derive(Clone)]
struct Account(Arc<Mutex<State>>, u16);

impl Account {
    async fn start(state: State) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let this = Self(Arc::new(Mutex::new(state)), port);
        let account = this.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(account.clone().serve(stream));
            }
        });
        this
    }

    fn bucket(&self, stores: &Stores, service: &str) -> Bucket {
        let at = format!("azure-{service}:%STORAGE%/kvtest?{}", self.1);
        buckets(stores, "f", &at, Path::new("/")).open("a").expect("granted")
    }

    fn state<T>(&self, of: impl FnOnce(&mut State) -> T) -> T {
        of(&mut self.0.lock().expect("no panic"))
    }

    async fn serve(self, stream: TcpStream) {
        let mut stream = BufReader::new(stream);
        loop {
            let mut head = String::new();
            while !head.ends_with("\r\n\r\n") {
                if stream.read_line(&mut head).await.unwrap_or_default() == 0 {
                    return;
                }
            }
            let header = |name: &str| {
                let mut lines = head.lines().filter_map(|line| line.split_once(": "));
                lines.find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.to_owned())
            };
            let length = header("content-length").and_then(|length| length.parse().ok()).unwrap_or_default();
            let mut body = vec![0; length];
            stream.read_exact(&mut body).await.expect("the whole body");
            let method = head.split(' ').next().unwrap_or_default();
            let answer = self.state(|state| state.answer(method, header("if-match"), header("if-none-match"), body));
            stream.write_all(&answer).await.expect("the client waits");
        }
    }
}

impl State {
    fn answer(&mut self, method: &str, matches: Option<String>, none: Option<String>, body: Vec<u8>) -> Vec<u8> {
        self.asked += 1;
        let fate = match self.of_writes && method == "GET" {
            true => Done,
            false => self.fates.pop_front().unwrap_or(Done),
        };
        let (head, body) = match fate {
            Throttled | Refused => (String::new(), Vec::new()),
            Done | DoneAndThrottled => self.act(method, matches, none.is_some() || method == "POST", body),
        };
        let (head, body) = match fate {
            Done => (head, body),
            Refused => ("400 x\r\nx-ms-error-code: InvalidQueryParameterValue\r\n".to_owned(), Vec::new()),
            Throttled | DoneAndThrottled => {
                (format!("503 x\r\nx-ms-error-code: ServerBusy\r\n{}", self.again), Vec::new())
            }
        };
        [format!("HTTP/1.1 {head}content-length: {}\r\n\r\n", body.len()).into_bytes(), body].concat()
    }

    fn act(&mut self, method: &str, matches: Option<String>, new: bool, body: Vec<u8>) -> (String, Vec<u8>) {
        let (etag, is_there) = (format!("\"{}\"", self.version), self.value.is_some());
        let head = match method {
            _ if !is_there && (matches.is_some() || method == "GET" || method == "DELETE") => {
                "404 x\r\nx-ms-error-code: ResourceNotFound\r\n"
            }
            "GET" => return (format!("200 x\r\netag: {etag}\r\n"), self.value.clone().unwrap_or_default()),
            "POST" if is_there => "409 x\r\nx-ms-error-code: EntityAlreadyExists\r\n",
            _ if new && is_there => "409 x\r\nx-ms-error-code: BlobAlreadyExists\r\n",
            _ if matches.is_some_and(|wanted| wanted != "*" && wanted != etag) => "412 x\r\n",
            _ => {
                self.version += 1;
                self.value = (method != "DELETE").then_some(body);
                "204 x\r\n"
            }
        };
        (head.to_owned(), Vec::new())
    }
}

fn value(text: &str) -> Option<Vec<u8>> {
    Some(text.into())
}

#[tokio::test]
async fn what_is_throttled_is_asked_again_when_the_account_says() {
    for service in SERVICES {
        // Each request is throttled the first time.
        let fates = [Throttled, Done].repeat(20).into();
        let account = Account::start(State { fates, again: "retry-after: 0\r\n", ..State::default() }).await;
        let bucket = account.bucket(&patient(), service);
        assert_eq!(bucket.set("k", b"1".to_vec()).await, Ok(()), "{service}");
        assert_eq!(bucket.increment("k", 2).await, Ok(3));
        assert_eq!(bucket.swap("k", value("3"), b"4".to_vec()).await, Ok(true));
        assert_eq!(bucket.swap("k", value("3"), b"5".to_vec()).await, Ok(false));
        assert_eq!(bucket.get("k").await, Ok(value("4")));
        assert_eq!(bucket.delete("k").await, Ok(()));
        assert_eq!(bucket.swap("k", None, b"6".to_vec()).await, Ok(true));
        // As many as without that, twice: 1 + 2 + 2 + 1 + 1 + 1 + 2.
        assert_eq!(account.state(|state| state.asked), 20, "{service}");
        let begun = Instant::now();
        account.state(|state| (state.fates, state.again) = ([Throttled].into(), "retry-after: 1\r\n"));
        assert_eq!(bucket.get("k").await, Ok(value("6")));
        assert!(begun.elapsed() >= Duration::from_secs(1), "{service}");
    }
}

#[tokio::test]
async fn what_was_throttled_and_done_all_the_same_is_not_done_twice() {
    for service in SERVICES {
        let account = Account::start(State { of_writes: true, again: "retry-after: 0\r\n", ..State::default() }).await;
        let bucket = account.bucket(&patient(), service);
        let next_is = |fate| account.state(|state| state.fates = [fate].into());
        // Nobody can tell whose the value is that is there now.
        let unknown = |outcome: Failure| matches!(outcome, Failure::Unavailable(why) if why.contains("may be the one"));

        next_is(DoneAndThrottled);
        assert!(bucket.increment("k", 1).await.is_err_and(unknown), "{service}");
        assert_eq!(bucket.get("k").await, Ok(value("1")));
        next_is(DoneAndThrottled);
        assert!(bucket.increment("k", 1).await.is_err_and(unknown), "{service}");
        assert_eq!(bucket.get("k").await, Ok(value("2")));
        next_is(DoneAndThrottled);
        assert!(bucket.swap("k", value("2"), b"7".to_vec()).await.is_err_and(unknown), "{service}");
        assert_eq!(bucket.get("k").await, Ok(value("7")));
        // What is the same twice.
        next_is(DoneAndThrottled);
        assert_eq!(bucket.set("k", b"8".to_vec()).await, Ok(()));
        assert_eq!(bucket.get("k").await, Ok(value("8")));
        next_is(DoneAndThrottled);
        assert_eq!(bucket.delete("k").await, Ok(()));
        assert_eq!(bucket.get("k").await, Ok(None));
        next_is(DoneAndThrottled);
        assert!(bucket.swap("k", None, b"9".to_vec()).await.is_err_and(unknown), "{service}");
        assert_eq!(bucket.increment("k", 1).await, Ok(10), "the next call is one like any other");
    }
}

#[tokio::test]
async fn an_account_that_throttles_for_longer_than_a_call_may_take_is_an_error() {
    let throttled =
        |outcome: Failure| matches!(outcome, Failure::Unavailable(why) if why.contains("it throttles the app"));
    for (again, most) in [("retry-after: 3600\r\n", 1), ("retry-after: 18446744073709551615\r\n", 1), ("", 4)] {
        let fates = [Throttled].repeat(100).into();
        let account = Account::start(State { fates, again, ..State::default() }).await;
        let short = Stores { patience: Duration::from_secs(1), ..Stores::default() };
        let stores = if most == 1 { patient() } else { short };
        let outcome = account.bucket(&stores, "blob").get("k").await;
        // One of a second may end before the account has answered even once.
        assert!(most > 1 && outcome.is_err() || outcome.is_err_and(throttled), "{again}");
        assert!(account.state(|state| state.asked) <= most, "{again}");
    }
}

#[tokio::test]
async fn an_invented_cursor_is_no_outage() {
    for service in SERVICES {
        let account = Account::start(State { fates: [Refused, Refused].into(), ..State::default() }).await;
        let bucket = account.bucket(&patient(), service);
        assert_eq!(bucket.list(Some("invented".to_owned())).await, Err(NO_CURSOR));
        assert!(matches!(bucket.list(None).await, Err(Failure::Unavailable(_))));
    }
}
