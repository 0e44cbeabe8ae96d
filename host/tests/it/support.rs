//! An app folder, the host process on it, and an HTTP/1.1 client that can also misbehave.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, BufReader, PipeReader, Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

/// The files of the guests.
pub mod guests {
    test_guests_artifacts::guests!();
}

/// Longer than anything that works takes; a test that waits for it has failed.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// What the environment of every host holds and nobody may ever see.
pub const SECRET: &str = "AccountKey=PLANTED+SECRET";

/// Where the hosts' control sockets lie, each named after its app's folder.
pub const RUNTIME: &str = concat!(env!("CARGO_TARGET_TMPDIR"), "/run");

/// An invocation id as the Functions host makes them.
pub const ID: &str = "0a1b2c3d-0000-4000-8000-0123456789ab";

/// A folder with `host.json` and functions.
pub struct App {
    folder: tempfile::TempDir,
}

impl App {
    /// An app whose `flexwasm` section of host.json is `settings`, with forwarding and proxying on. Each request writes its line
    /// and each answer names its instance, unless the settings say otherwise.
    pub fn new(settings: &str) -> Self {
        let mut section: serde_json::Value = serde_json::from_str(settings).unwrap();
        if let Some(section) = section.as_object_mut() {
            section.entry("headers").or_insert("id".into());
            let log = section.entry("log").or_insert_with(|| serde_json::json!({}));
            if let Some(log) = log.as_object_mut() {
                log.entry("requests").or_insert("all".into());
            }
        }
        Self::with_host_json(&format!(
            r#"{{"version": "2.0", "someone": {{"elses": "key"}}, "extensions": {{"http": {{"routePrefix": "api"}}}},
                "customHandler": {{"enableForwardingHttpRequest": true, "enableProxyingHttpRequest": true}},
                "flexwasm": {section}}}"#
        ))
    }

    pub fn with_host_json(text: &str) -> Self {
        let app = Self { folder: tempfile::tempdir().unwrap() };
        fs::write(app.path().join("host.json"), text).unwrap();
        app
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Adds a plain HTTP function at `/api/{name}`.
    pub fn function(self, name: &str, guest: &str) -> Self {
        self.routed(name, guest, r#""authLevel": "anonymous""#, "{}")
    }

    /// Adds a plain HTTP function with more to say about its trigger, and a `flexwasm` section.
    pub fn routed(self, name: &str, guest: &str, trigger: &str, settings: &str) -> Self {
        let file = format!(
            r#"{{"scriptFile": "guest.wasm", "flexwasm": {settings}, "bindings": [
                {{"type": "httpTrigger", "direction": "in", "name": "req", {trigger}}},
                {{"type": "http", "direction": "out", "name": "res"}}]}}"#
        );
        self.function_json(name, &file).file(&format!("{name}/guest.wasm"), &fs::read(guest).unwrap())
    }

    pub fn function_json(self, name: &str, text: &str) -> Self {
        self.file(&format!("{name}/function.json"), text.as_bytes())
    }

    pub fn file(self, name: &str, content: &[u8]) -> Self {
        let path = self.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
        self
    }

    /// Starts the host as the Functions host does, and waits until it answers the readiness probe.
    pub fn start(&self) -> Host {
        self.start_with(&[])
    }

    pub fn start_with(&self, environment: &[(&str, &str)]) -> Host {
        let host = self.spawn(free_port(), environment);
        host.probe();
        host
    }

    /// The command as a user who owns nothing here: root may read and write everything, so root runs it as nobody.
    pub fn as_nobody(&self) -> Command {
        let binary = self.path().join("flexwasm");
        // By another process: a file that this one holds open for writing while a test beside it forks could not be run.
        let copied = Command::new("cp").arg(env!("CARGO_BIN_EXE_flexwasm")).arg(&binary).status().unwrap();
        assert!(copied.success());
        fs::set_permissions(self.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let mut command = Command::new(binary);
        let cache = self.path().join("cache");
        fs::create_dir(&cache).unwrap();
        command.env_clear().current_dir(self.path()).env("XDG_CACHE_HOME", &cache);
        if rustix::process::geteuid().is_root() {
            chown(&cache, Some(65534), Some(65534)).unwrap();
            command.uid(65534).gid(65534);
        }
        command
    }

    /// Starts the host on `port` without waiting.
    pub fn spawn(&self, port: u16, environment: &[(&str, &str)]) -> Host {
        let mut command = flexwasm();
        command.current_dir(self.path()).env("FUNCTIONS_CUSTOMHANDLER_PORT", port.to_string());
        command.env("FUNCTIONS_APP_ROOT_PATH", self.path()).envs(environment.iter().copied());
        Host::spawn(command, port)
    }
}

/// The command with nothing in its environment but a secret, a variable that nobody knows, and the tests' own cache, so
/// that each guest is compiled once.
pub fn flexwasm() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_flexwasm"));
    command.env_clear().env("AzureWebJobsStorage", SECRET).env("SOMETHING_UNKNOWN", "1");
    command.env("XDG_CACHE_HOME", concat!(env!("CARGO_TARGET_TMPDIR"), "/cache"));
    command.env("XDG_RUNTIME_DIR", RUNTIME);
    command
}

/// A component with something bad in a `place` of `component.wat`: `start`, `handle` or `more`.
pub fn component(place: &str, instructions: &str) -> Vec<u8> {
    let text = fs::read_to_string(repository().join("host/tests/wat/component.wat")).unwrap();
    wat::parse_str(text.replace(&format!("(; {place} ;)"), instructions)).unwrap()
}

/// What a command that is expected to end said.
pub fn output(mut command: Command) -> (ExitStatus, String, String) {
    let output = command.stdin(Stdio::null()).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status, text(&output.stdout), text(&output.stderr))
}

/// A port that no client socket gets by chance: outside Linux's ephemeral range, and free right now.
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = 20_000 + (std::process::id() % 100) as u16 * 100;
    loop {
        let port = first + NEXT.fetch_add(1, Ordering::Relaxed) % 2_000;
        // Not by listening on it: a process that a test beside this one forks would keep the listener for a moment, and
        // take the first connections.
        if TcpStream::connect(("127.0.0.1", port)).is_err() {
            return port;
        }
    }
}

/// A running host; killed when dropped.
pub struct Host {
    child: Mutex<Child>,
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
            waiting.stays_silent(Duration::from_millis(100))
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

    pub fn stdout(&self) -> Vec<String> {
        self.said.on(&[Stream::Out])
    }

    pub fn stderr(&self) -> Vec<String> {
        self.said.on(&[Stream::Err])
    }

    /// What it said on either.
    pub fn log(&self) -> Vec<String> {
        self.said.on(&[Stream::Out, Stream::Err])
    }

    pub fn id(&self) -> u32 {
        self.child.lock().unwrap().id()
    }

    pub fn signal(&self, name: &str) {
        let status = Command::new("kill").args([&format!("-{name}"), &self.id().to_string()]).status().unwrap();
        assert!(status.success());
    }

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
        let status = fs::read_to_string(format!("/proc/{}/status", self.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
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

/// A connection to the host.
pub struct Client {
    stream: BufReader<TcpStream>,
}

/// An answer.
#[derive(Debug, Clone)]
pub struct Response {
    pub status: u16,
    /// In the order of their lines, names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// The body ended as its framing says it should.
    pub complete: bool,
}

impl Response {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    pub fn headers(&self, name: &str) -> Vec<&str> {
        self.headers.iter().filter(|(key, _)| key == name).map(|(_, value)| value.as_str()).collect()
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The `reason` of an answer in the host's own words.
    pub fn reason(&self) -> String {
        let body: serde_json::Value = serde_json::from_slice(&self.body).unwrap();
        body["error"]["reason"].as_str().unwrap().to_owned()
    }

    /// Instance id and parameters such as `slot`, from `x-flexwasm-instance`.
    pub fn instance(&self) -> BTreeMap<String, String> {
        let value = self.header("x-flexwasm-instance").unwrap();
        let parts = value.split("; ").map(|part| part.split_once('=').unwrap_or(("id", part)));
        parts.map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
    }
}

impl Client {
    pub fn connect(port: u16) -> Self {
        Self::try_connect(port).unwrap()
    }

    pub fn try_connect(port: u16) -> std::io::Result<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        Ok(Self { stream: BufReader::new(stream) })
    }

    pub fn write(&mut self, bytes: impl AsRef<[u8]>) {
        self.try_write(bytes).unwrap();
    }

    pub fn try_write(&mut self, bytes: impl AsRef<[u8]>) -> std::io::Result<()> {
        self.stream.get_mut().write_all(bytes.as_ref())
    }

    /// Sends a request and reads its answer.
    pub fn ask(&mut self, request: impl AsRef<[u8]>) -> Response {
        self.write(request);
        self.response(false)
    }

    /// A request as the Functions host forwards it.
    pub fn get(&mut self, path: &str) -> Response {
        self.ask(get(path))
    }

    pub fn head(&mut self, path: &str) -> Response {
        self.write(get(path).replacen("GET", "HEAD", 1));
        self.response(true)
    }

    /// Reads the head of an answer; status 0 when the connection ends without one.
    pub fn response_head(&mut self) -> Response {
        let Some(line) = self.line() else {
            return Response { status: 0, headers: Vec::new(), body: Vec::new(), complete: false };
        };
        let status = line.split(' ').nth(1).unwrap().parse().unwrap();
        let mut headers = Vec::new();
        loop {
            let line = self.line().expect("the rest of the head");
            let Some((name, value)) = line.split_once(':') else { break };
            headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
        Response { status, headers, body: Vec::new(), complete: true }
    }

    /// Reads an answer; one to HEAD has no body.
    pub fn response(&mut self, to_head: bool) -> Response {
        let head = self.response_head();
        self.body(head, to_head)
    }

    /// Reads the rest of an answer whose head is read.
    pub fn body(&mut self, mut response: Response, to_head: bool) -> Response {
        if to_head || matches!(response.status, 0 | 100 | 204 | 304) {
            return response;
        }
        if response.header("transfer-encoding") == Some("chunked") {
            response.complete = false;
            while let Some(chunk) = self.chunk() {
                if chunk.is_empty() {
                    response.complete = true;
                    break;
                }
                response.body.extend(chunk);
            }
        } else if let Some(length) = response.header("content-length") {
            let length: usize = length.parse().unwrap();
            response.complete = self.read_up_to(length, &mut response.body) == length;
        } else {
            response.complete = self.stream.read_to_end(&mut response.body).is_ok();
        }
        response
    }

    /// One chunk of a chunked body; an empty one ends it, none means that the connection ended first.
    pub fn chunk(&mut self) -> Option<Vec<u8>> {
        let length = usize::from_str_radix(self.line()?.trim(), 16).ok()?;
        let mut chunk = Vec::new();
        (self.read_up_to(length, &mut chunk) == length).then_some(())?;
        self.line()?;
        Some(chunk)
    }

    /// What follows the last chunk of a chunked body: trailers, a line each.
    pub fn last_chunk_and_trailers(&mut self) -> Vec<String> {
        assert_eq!(self.line().unwrap(), "0");
        std::iter::from_fn(|| self.line().filter(|line| !line.is_empty())).collect()
    }

    /// Whether a connection that waits for its next request is of no use: it was closed, or holds something nobody asked for.
    pub fn is_stale(&mut self) -> bool {
        self.stream.get_ref().set_nonblocking(true).unwrap();
        let silent = matches!(self.stream.fill_buf(), Err(error) if error.kind() == std::io::ErrorKind::WouldBlock);
        self.stream.get_ref().set_nonblocking(false).unwrap();
        !silent
    }

    /// Whether nothing at all arrives for `time`.
    pub fn stays_silent(&mut self, time: Duration) -> bool {
        self.stream.get_ref().set_read_timeout(Some(time)).unwrap();
        let nothing = matches!(self.stream.fill_buf(), Err(error) if error.kind() == std::io::ErrorKind::WouldBlock);
        self.stream.get_ref().set_read_timeout(Some(PATIENCE)).unwrap();
        nothing
    }

    /// Whether the host has closed the connection, with nothing left to read.
    pub fn is_closed(&mut self) -> bool {
        let mut rest = Vec::new();
        match self.stream.read_to_end(&mut rest) {
            Ok(_) => rest.is_empty(),
            Err(error) => error.kind() == std::io::ErrorKind::ConnectionReset,
        }
    }

    /// Whether the connection ends in a reset, whatever comes before.
    pub fn is_reset(&mut self) -> bool {
        self.stream.read_to_end(&mut Vec::new()).is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionReset)
    }

    fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        let read = self.stream.read_line(&mut line).ok()?;
        (read > 0).then(|| line.trim_end().to_owned())
    }

    fn read_up_to(&mut self, length: usize, into: &mut Vec<u8>) -> usize {
        // An error ends the body as well as the end of the connection does.
        let _ = self.stream.by_ref().take(length as u64).read_to_end(into);
        into.len()
    }
}

/// A request as the Functions host forwards it.
pub fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: app.example\r\nX-Azure-Functions-InvocationId: {ID}\r\n\r\n")
}

/// A request with a body.
pub fn post(path: &str, body: &str) -> String {
    format!(
        "POST {path} HTTP/1.1\r\nHost: app.example\r\nX-Azure-Functions-InvocationId: {ID}\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// Waits until `done`, and fails when it never is.
pub fn eventually(what: &str, mut done: impl FnMut() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < until, "it never happened: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// What `cargo xtask package --for-tests` makes, below the repository's folder.
pub const PACKAGE: &str = "target/package-test/flexwasm.zip";

/// The repository's own folder.
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}
