//! The host's process, and what it says.

use crate::{Client, PATIENCE, Response, SECRET, eventually, get};
use std::fs;
use std::io::{BufRead as _, BufReader, PipeReader};
use std::net::TcpStream;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Duration;

/// A running host; killed when dropped.
pub struct Host {
    child: Mutex<Child>,
    /// Where it listens.
    pub port: u16,
    said: Arc<Said>,
    readers: Vec<thread::JoinHandle<()>>,
}

/// Where a line was said.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stream {
    Out,
    Err,
}

/// What a host said so far.
#[derive(Default)]
struct Said {
    lines: Mutex<Vec<(Stream, String)>>,
    more: Condvar,
}

impl Said {
    fn follow(self: &Arc<Self>, stream: Stream, source: impl std::io::Read + Send + 'static) -> thread::JoinHandle<()> {
        let said = Arc::clone(self);
        thread::spawn(move || {
            for line in BufReader::new(source).lines().map_while(Result::ok) {
                said.lines.lock().unwrap().push((stream, line));
                said.more.notify_all();
            }
        })
    }

    fn on(&self, streams: &[Stream]) -> Vec<String> {
        let lines = self.lines.lock().unwrap();
        lines.iter().filter(|(stream, _)| streams.contains(stream)).map(|(_, line)| line.clone()).collect()
    }

    fn find(&self, words: &[&str]) -> Option<String> {
        let has = |(_, line): &&(Stream, String)| words.iter().all(|word| line.contains(word));
        let none = |lines: &mut Vec<(Stream, String)>| !lines.iter().any(|line| has(&line));
        let lines = self.more.wait_timeout_while(self.lines.lock().unwrap(), PATIENCE, none).unwrap().0;
        lines.iter().find(has).map(|(_, line)| line.clone())
    }
}

impl Host {
    /// Starts a command that will listen on `port`, without waiting.
    pub fn spawn(mut command: Command, port: u16) -> Self {
        let piped = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = piped.spawn().unwrap();
        let said = Arc::<Said>::default();
        let out = said.follow(Stream::Out, child.stdout.take().unwrap());
        let err = said.follow(Stream::Err, child.stderr.take().unwrap());
        Self { child: Mutex::new(child), port, said, readers: vec![out, err] }
    }

    /// Starts a command whose standard output nobody reads; its end is kept open for as long as the answer's second half.
    pub fn unread(mut command: Command, port: u16) -> (Self, PipeReader) {
        let (unread, stdout) = std::io::pipe().unwrap();
        let mut child = command.stdin(Stdio::null()).stdout(stdout).stderr(Stdio::piped()).spawn().unwrap();
        // The command holds the writing end too.
        drop(command);
        let said = Arc::<Said>::default();
        let reader = said.follow(Stream::Err, child.stderr.take().unwrap());
        (Self { child: Mutex::new(child), port, said, readers: vec![reader] }, unread)
    }

    /// Starts a command that prints its URL, such as `flexwasm serve`.
    pub fn announced(command: Command) -> Self {
        let mut host = Self::spawn(command, 0);
        let line = host.line(&["http://127.0.0.1:"]);
        let digits = line.split("http://127.0.0.1:").nth(1).unwrap().split('/').next().unwrap();
        host.port = digits.parse().unwrap();
        host
    }

    /// As the Functions host: `GET /` every 25 ms until anything answers.
    pub fn probe(&self) {
        eventually("the host is ready", || TcpStream::connect(("127.0.0.1", self.port)).is_ok());
        assert_eq!(self.connect().ask("GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n").status, 200);
    }

    /// A connection to it.
    pub fn connect(&self) -> Client {
        Client::connect(self.port)
    }

    /// A request as the Functions host forwards it, on a connection of its own.
    pub fn get(&self, path: &str) -> Response {
        self.connect().get(path)
    }

    /// A request that holds the only slot; `quick` is a path that is answered at once while the slot is free.
    pub fn running(&self, path: &str, quick: &str) -> Client {
        let mut client = self.connect();
        client.write(get(path));
        drop(self.waiting(quick));
        client
    }

    /// A request that waits for a slot, once all of them are taken.
    pub fn waiting(&self, path: &str) -> Client {
        let mut client = None;
        eventually("the pool is full", || {
            let waiting = client.insert(self.connect());
            waiting.write(get(path));
            // An unoptimised host on a busy machine takes its time for an answer too.
            waiting.stays_silent(Duration::from_millis(500))
        });
        client.unwrap()
    }

    /// The first line that has all these words; waits for it.
    pub fn line(&self, words: &[&str]) -> String {
        let found = self.said.find(words);
        found.unwrap_or_else(|| panic!("no line with {words:?}"))
    }

    /// Waits for the closing line of the invocation with this outcome.
    pub fn closing_line(&self, outcome: &str) -> String {
        self.line(&[" invocation: ", &format!("outcome=\"{outcome}\"")])
    }

    /// What it said on its standard output so far, by line.
    pub fn stdout(&self) -> Vec<String> {
        self.said.on(&[Stream::Out])
    }

    /// What it said on its standard error so far, by line.
    pub fn stderr(&self) -> Vec<String> {
        self.said.on(&[Stream::Err])
    }

    /// What it said on either.
    pub fn log(&self) -> Vec<String> {
        self.said.on(&[Stream::Out, Stream::Err])
    }

    /// The id of the process.
    pub fn id(&self) -> u32 {
        self.child.lock().unwrap().id()
    }

    /// Sends a signal, such as `TERM`.
    pub fn signal(&self, name: &str) {
        let status = Command::new("kill").args([&format!("-{name}"), &self.id().to_string()]).status().unwrap();
        assert!(status.success());
    }

    /// Whether the process has not ended.
    pub fn is_running(&mut self) -> bool {
        self.ended().is_none()
    }

    /// How the process ended, once it has: exit code, or 128 + signal.
    pub fn ended(&self) -> Option<i32> {
        let status = self.child.lock().unwrap().try_wait().unwrap()?;
        Some(status.code().unwrap_or_else(|| 128 + status.signal().unwrap()))
    }

    /// Waits for the end, and for the last line of output: exit code, or 128 + signal.
    pub fn exit_code(&mut self) -> i32 {
        eventually("the process ends", || self.ended().is_some());
        self.readers.drain(..).for_each(|reader| reader.join().unwrap());
        self.ended().unwrap()
    }

    /// Resident memory in bytes.
    pub fn resident(&self) -> u64 {
        self.counted("VmRSS:")
    }

    /// The most resident memory that it has had, in bytes.
    pub fn most_resident(&self) -> u64 {
        self.counted("VmHWM:")
    }

    fn counted(&self, name: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        // It may have ended already.
        let child = self.child.get_mut().unwrap();
        let _ = child.kill();
        let _ = child.wait();
        if thread::panicking() {
            for line in self.log().iter().rev().take(50).rev() {
                eprintln!("host: {line}");
            }
            return;
        }
        for line in self.log() {
            assert!(!line.contains(SECRET), "a secret in the log: {line}");
        }
    }
}
