//! Requests that guests send: what is granted, where it goes, and what ends it.

use crate::support::{App, Client, Host, flexwasm, guests};
use std::io::{BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

/// A server that guests call. What it answers depends on the path.
struct Upstream {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
    requests: Arc<AtomicUsize>,
    /// Gets a message when a client leaves an exchange that is not over.
    left: mpsc::Receiver<()>,
}

impl Upstream {
    fn start() -> Self {
        Self::over(|stream| (BufReader::new(stream.try_clone().unwrap()), stream))
    }

    fn over<R, W>(prepare: impl Fn(TcpStream) -> (R, W) + Send + Sync + 'static) -> Self
    where
        R: std::io::BufRead + Send + 'static,
        W: Write + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let [connections, requests] = [(); 2].map(|()| Arc::new(AtomicUsize::new(0)));
        let (leaving, left) = mpsc::channel();
        let (count, asked) = (Arc::clone(&connections), Arc::clone(&requests));
        let prepare = Arc::new(prepare);
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                count.fetch_add(1, Ordering::SeqCst);
                let (leaving, prepare, asked) = (leaving.clone(), Arc::clone(&prepare), Arc::clone(&asked));
                thread::spawn(move || {
                    let (mut reader, mut writer) = prepare(stream);
                    while let Some(head) = head(&mut reader) {
                        asked.fetch_add(1, Ordering::SeqCst);
                        answer(&head, &mut reader, &mut writer, &leaving);
                    }
                });
            }
        });
        Self { address, connections, requests, left }
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    /// Requests whose head has arrived.
    fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }
}

/// The lines of a request's head.
fn head(reader: &mut impl std::io::BufRead) -> Option<Vec<String>> {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        match reader.read_line(&mut line) {
            Ok(read) if read > 0 => {}
            _ => return None,
        }
        match line.trim_end() {
            "" => return Some(lines),
            line => lines.push(line.to_owned()),
        }
    }
}

fn answer(head: &[String], reader: &mut impl std::io::BufRead, writer: &mut impl Write, leaving: &mpsc::Sender<()>) {
    let path = head[0].split(' ').nth(1).unwrap();
    let mut say = |text: &str| {
        let _ = writer.write_all(text.as_bytes()).and_then(|()| writer.flush());
    };
    let whole = |text: &str| format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{text}", text.len());
    // An empty body comes in chunks too.
    let mut chunk = || {
        let mut size = String::new();
        reader.read_line(&mut size).ok()?;
        let mut bytes = vec![0; usize::from_str_radix(size.trim_end(), 16).ok()? + 2];
        reader.read_exact(&mut bytes).ok()?;
        bytes.truncate(bytes.len() - 2);
        Some(String::from_utf8(bytes).unwrap())
    };
    let chunked = head.iter().any(|line| line.eq_ignore_ascii_case("transfer-encoding: chunked"));
    match path {
        "/echo" => {
            say("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n");
            while let Some(text) = chunk() {
                say(&format!("{:x}\r\n{text}\r\n", text.len()));
                if text.is_empty() {
                    return;
                }
            }
            let _ = leaving.send(());
        }
        "/store" => {
            while let Some(text) = chunk() {
                if text.is_empty() {
                    return say(&whole("stored"));
                }
            }
            let _ = leaving.send(());
        }
        "/silent" | "/stall" => {
            if path == "/stall" {
                say("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nabc");
            }
            let _ = reader.read_to_end(&mut Vec::new());
            let _ = leaving.send(());
        }
        _ => {
            while chunked && chunk().is_some_and(|text| !text.is_empty()) {}
            match path {
                "/late" => {
                    say("HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\n");
                    thread::sleep(Duration::from_millis(100));
                    say("fine");
                }
                "/" => say(&whole("the root")),
                "/length" => say("HTTP/1.1 200 OK\r\ncontent-length: 1234\r\n\r\n"),
                "/redirect" => say("HTTP/1.1 302 Found\r\nlocation: /ok\r\ncontent-length: 0\r\n\r\n"),
                "/host" => say(&whole(head.iter().find(|line| line.to_lowercase().starts_with("host:")).unwrap())),
                _ => say(&whole("fine")),
            }
        }
    }
}

/// The fetching guests with these grants: of WASI 0.2 as `fetch`, of 0.3 as `p3`.
fn app(grants: &[&str], settings: &str) -> App {
    let grants: Vec<String> = grants.iter().map(|grant| format!("{grant:?}")).collect();
    let section = format!(r#"{{"grants": {{"hosts": [{}]}}{settings}}}"#, grants.join(", "));
    let trigger = r#""authLevel": "anonymous", "methods": ["get", "head", "post"]"#;
    App::new("{}").routed("fetch", guests::FETCH, trigger, &section).routed("p3", guests::P3_FETCH, trigger, &section)
}

/// Sends `url`, and headers that each end with a line break.
fn ask(host: &Host, function: &str, url: &str, headers: &str) -> crate::support::Response {
    host.connect().ask(format!("GET /api/{function} HTTP/1.1\r\nHost: a\r\nx-url: {url}\r\n{headers}\r\n"))
}

#[test]
fn an_answer_to_head_is_passed_on_with_its_length() {
    let upstream = Upstream::start();
    let host = app(&[&format!("http://{}", upstream.address)], "").start();
    for function in ["fetch", "p3", "fetch", "p3"] {
        let mut client = host.connect();
        let url = upstream.url("/length");
        client.write(format!("HEAD /api/{function} HTTP/1.1\r\nHost: a\r\nx-url: {url}\r\n\r\n"));
        let answer = client.response(true);
        assert_eq!((answer.status, answer.header("content-length")), (200, Some("1234")), "{function}");
    }
    // Each left a connection that the next could use.
    assert_eq!(upstream.connections(), 2);
}

#[test]
fn a_granted_server_is_reached_and_its_connection_kept() {
    let upstream = Upstream::start();
    let host = app(&[&format!("http://{}", upstream.address)], "").start();
    for function in ["fetch", "p3", "fetch", "p3"] {
        let answer = ask(&host, function, &upstream.url("/ok"), "");
        assert_eq!((answer.status, answer.text().as_str()), (200, "fine"), "{function}");
    }
    for function in ["fetch", "p3"] {
        assert_eq!(ask(&host, function, &upstream.url("/late"), "").text(), "fine", "{function}");
    }
    // A function has its own.
    assert_eq!(upstream.connections(), 2);
    assert_eq!(ask(&host, "fetch", &upstream.url("/host"), "").text(), format!("host: {}", upstream.address));
    // Without a path it is asked for its root.
    for function in ["fetch", "p3"] {
        assert_eq!(ask(&host, function, &upstream.url(""), "").text(), "the root");
    }
}

#[test]
fn what_is_not_granted_is_denied_and_said_once() {
    let upstream = Upstream::start();
    let port = upstream.address.port();
    let mut host = app(&["https://127.0.0.1", "http://*.example.com"], "").start();
    for url in [upstream.url("/ok?token=hush"), format!("http://localhost:{port}/ok"), "http://example.com/".to_owned()]
    {
        assert_eq!(ask(&host, "fetch", &url, "").text(), "ErrorCode::HttpRequestDenied", "{url}");
        assert!(ask(&host, "p3", &url, "").text().contains("HttpRequestDenied"), "{url}");
    }
    let line = host.line(&[" WARN ", "function=fetch", &format!("grants.hosts does not name http://127.0.0.1:{port}")]);
    assert!(line.contains("id=") && !line.contains("hush"), "{line}");
    ask(&host, "fetch", &upstream.url("/many"), "x-times: 20\r\n");
    // All of its log is there when it has ended.
    host.signal("TERM");
    host.exit_code();
    // Once for each of seven requests, however often the last one asks.
    assert_eq!(host.log().iter().filter(|line| line.contains("grants.hosts does not name")).count(), 7);
    assert_eq!(upstream.connections(), 0);
}

#[test]
fn a_granted_name_may_not_lead_to_an_address_of_private_use() {
    let upstream = Upstream::start();
    let port = upstream.address.port();
    let (url, name) = (format!("http://localhost:{port}/ok"), format!("http://localhost:{port}"));
    let host = app(&[&name], "").start();
    assert_eq!(ask(&host, "fetch", &url, "").text(), "ErrorCode::DestinationIpProhibited");
    assert!(ask(&host, "p3", &url, "").text().contains("DestinationIpProhibited"));
    host.line(&[" WARN ", &format!("{name} resolves to "), "let grants.hosts name that address"]);
    assert_eq!(upstream.connections(), 0);

    // The address itself makes it mean.
    let host = app(&[&name, &format!("http://127.0.0.1:{port}")], "").start();
    assert_eq!(ask(&host, "fetch", &url, "").text(), "fine");
}

#[test]
fn redirects_are_the_guests_business() {
    let upstream = Upstream::start();
    let host = app(&[&format!("http://{}", upstream.address)], "").start();
    let answer = ask(&host, "fetch", &upstream.url("/redirect"), "");
    assert_eq!((answer.status, answer.header("x-location")), (302, Some("/ok")));
}

#[test]
fn a_server_that_falls_silent_is_given_up_and_left() {
    let upstream = Upstream::start();
    let host = app(&[&format!("http://{}", upstream.address)], "").start();
    let answer = ask(&host, "fetch", &upstream.url("/silent"), "x-first-ms: 50\r\n");
    assert_eq!((answer.status, answer.text().as_str()), (502, "ErrorCode::ConnectionReadTimeout"));
    upstream.left.recv_timeout(Duration::from_secs(10)).expect("the connection is closed");

    let mut client = host.connect();
    client.write(format!(
        "GET /api/fetch HTTP/1.1\r\nHost: a\r\nx-url: {}\r\nx-between-ms: 50\r\n\r\n",
        upstream.url("/stall")
    ));
    assert_eq!(client.response_head().status, 200);
    assert_eq!(client.chunk().as_deref(), Some(&b"abc"[..]));
    assert!(client.is_closed(), "the end must not look like one");
    upstream.left.recv_timeout(Duration::from_secs(10)).expect("the connection is closed");
}

#[test]
fn a_client_that_leaves_takes_the_requests_of_its_guest_along() {
    let upstream = Upstream::start();
    let host = app(&[&format!("http://{}", upstream.address)], "").start();
    for (function, path) in [("fetch", "/silent"), ("fetch", "/stall"), ("p3", "/silent"), ("p3", "/stall")] {
        let mut client = host.connect();
        let before = upstream.requests();
        client.write(format!("GET /api/{function} HTTP/1.1\r\nHost: a\r\nx-url: {}\r\n\r\n", upstream.url(path)));
        crate::support::eventually("the guest has asked", || upstream.requests() > before);
        drop(client);
        upstream.left.recv_timeout(Duration::from_secs(10)).unwrap_or_else(|_| panic!("{function} {path}"));
    }
}

#[test]
fn bodies_stream_in_both_directions() {
    let upstream = Upstream::start();
    let host = app(&[&format!("http://{}", upstream.address)], "").start();
    let mut client = host.connect();
    let url = upstream.url("/echo");
    client.write(format!("POST /api/p3 HTTP/1.1\r\nHost: a\r\nx-url: {url}\r\nTransfer-Encoding: chunked\r\n\r\n"));
    client.write("5\r\nhello\r\n");
    assert_eq!(client.response_head().status, 200);
    assert_eq!(client.chunk().unwrap(), b"hello");
    client.write("5\r\nagain\r\n");
    assert_eq!(client.chunk().unwrap(), b"again");
    client.write("0\r\n\r\n");
    assert!(client.last_chunk_and_trailers().is_empty());
    // One that copies its body piece by piece.
    let request =
        format!("POST /api/p3 HTTP/1.1\r\nHost: a\r\nx-url: {url}\r\nx-copy: 1\r\nContent-Length: 5\r\n\r\nhello");
    assert_eq!(Client::connect(host.port).ask(request).text(), "hello");
    // That of 0.2 sends all, then reads.
    let body = "x".repeat(300_000);
    let request =
        format!("POST /api/fetch HTTP/1.1\r\nHost: a\r\nx-url: {url}\r\nContent-Length: 300000\r\n\r\n{body}");
    assert_eq!(Client::connect(host.port).ask(request).text(), body);
}

#[test]
fn an_instance_that_handed_an_answer_on_answers_again() {
    let upstream = Upstream::start();
    let settings = format!(r#"{{"grants": {{"hosts": ["http://{}"]}}, "pool": {{"reuse": 9}}}}"#, upstream.address);
    let host = App::new("{}").routed("own", guests::P3_FETCH, r#""authLevel": "anonymous""#, &settings).start();
    for served in ["1", "2"] {
        let answer = ask(&host, "own", &upstream.url("/late"), "");
        assert_eq!((answer.text().as_str(), answer.instance()["served"].as_str()), ("fine", served));
    }
}

#[test]
fn requests_are_counted() {
    let upstream = Upstream::start();
    let grant = format!("http://{}", upstream.address);
    let settings = r#", "pool": {"reuse": 10}, "limits": {"outgoing": 3, "outgoingConcurrent": 2}"#;
    let host = app(&[&grant], settings).start();
    let times = |times: u32, path: &str, more: &str| {
        ask(&host, "fetch", &upstream.url(path), &format!("x-times: {times}\r\n{more}")).text()
    };
    assert_eq!(times(2, "/ok", ""), "200 200");
    assert_eq!(
        times(3, "/silent", "x-first-ms: 50\r\n"),
        ["ErrorCode::ConnectionReadTimeout"; 2].join(" ") + " ErrorCode::ConnectionLimitReached"
    );
    host.line(&[" WARN ", "function=fetch", "limits.outgoingConcurrent of 2 reached"]);

    let settings = r#", "pool": {"reuse": 10}, "limits": {"outgoing": 3}"#;
    let host = app(&[&grant], settings).start();
    let times = |times: u32| ask(&host, "fetch", &upstream.url("/ok"), &format!("x-times: {times}\r\n")).text();
    // Each request of a warm instance has the whole of it.
    for _ in 0..2 {
        assert_eq!(times(3), "200 200 200");
    }
    assert_eq!(times(4), "200 200 200 ErrorCode::ConnectionLimitReached");
    host.line(&[" WARN ", "function=fetch", "limits.outgoing of 3 reached"]);
}

#[test]
fn serve_takes_hosts_and_refuses_what_is_none() {
    let upstream = Upstream::start();
    let serve = |grant: &str| {
        let mut command = flexwasm();
        command.args(["serve", guests::FETCH, "--listen", "127.0.0.1:0", "--allow-host", grant]);
        command
    };
    let host = Host::announced(serve(&format!("http://{}", upstream.address)));
    let answer = host.connect().ask(format!("GET / HTTP/1.1\r\nHost: a\r\nx-url: {}\r\n\r\n", upstream.url("/ok")));
    assert_eq!(answer.text(), "fine");
    let (status, _, stderr) = crate::support::output(serve("example.com"));
    assert_eq!(status.code(), Some(1));
    assert!(stderr.contains(r#"command line: --allow-host = "example.com": is not scheme://host"#), "{stderr}");
    assert!(stderr.contains(r#"write "https://example.com""#), "{stderr}");
    let (_, _, stderr) = crate::support::output(serve("https://me:hush@example.com/?hush"));
    assert!(stderr.contains(r#"--allow-host = "https://…@example.com/…": must not hold a user"#), "{stderr}");
    assert!(!stderr.contains("hush"), "{stderr}");
}

/// An encrypted server with a certificate of its own for these names, which is added to `trusted`.
fn encrypted(names: &[&str], trusted: &mut String) -> Upstream {
    let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
    let authority = rcgen::generate_simple_self_signed(names).unwrap();
    trusted.push_str(&authority.cert.pem());
    let key = rustls::pki_types::PrivateKeyDer::try_from(authority.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = config.with_no_client_auth().with_single_cert(vec![authority.cert.der().clone()], key).unwrap();
    let config = Arc::new(config);
    Upstream::over(move |stream| {
        let connection = rustls::ServerConnection::new(Arc::clone(&config)).unwrap();
        let stream = Arc::new(std::sync::Mutex::new(rustls::StreamOwned::new(connection, stream)));
        (BufReader::new(Locked(Arc::clone(&stream))), Locked(stream))
    })
}

#[test]
fn an_encrypted_server_has_to_be_the_one_that_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let mut pem = String::new();
    let upstream = encrypted(&["localhost", "127.0.0.1"], &mut pem);
    let named_otherwise = encrypted(&["localhost"], &mut pem);
    let stranger = encrypted(&["127.0.0.1"], &mut String::new());
    let trusted = folder.path().join("trusted.pem");
    std::fs::write(&trusted, &pem).unwrap();
    let port = upstream.address.port();
    let url = format!("https://127.0.0.1:{port}/ok");
    let named = format!("https://localhost:{port}/ok");
    let others = [&named_otherwise, &stranger].map(|other| format!("https://{}", other.address));
    let own = [format!("https://127.0.0.1:{port}"), format!("https://localhost:{port}")];
    let app = app(&[&own[0], &own[1], &others[0], &others[1]], "");

    let host = app.start_with(&[("SSL_CERT_FILE", trusted.to_str().unwrap()), ("SSL_CERT_DIR", "")]);
    for url in [&url, &named, &url] {
        assert_eq!(ask(&host, "fetch", url, "").text(), "fine", "{url}");
    }
    for other in others {
        assert_eq!(ask(&host, "fetch", &format!("{other}/ok"), "").text(), "ErrorCode::TlsCertificateError");
    }
    // One that nobody trusts.
    let host = app.start_with(&[("SSL_CERT_DIR", folder.path().join("none").to_str().unwrap())]);
    let answer = ask(&host, "fetch", &url, "");
    assert_eq!((answer.status, answer.text().as_str()), (502, "ErrorCode::TlsCertificateError"));
    host.line(&["ERROR ", "the system trusts no certificate"]);
}

#[test]
fn a_server_that_cannot_be_reached_is_named_to_the_guest_and_does_not_fill_the_log() {
    // Its backlog takes connections, and nobody ever says a word.
    let mute = TcpListener::bind("127.0.0.1:0").unwrap();
    let mute = mute.local_addr().unwrap();
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let host = app(&[&format!("https://{mute}"), &format!("http://{nobody}")], "").start();
    let answer = ask(&host, "fetch", &format!("http://{nobody}/"), "x-times: 2\r\n");
    assert_eq!(answer.text(), "ErrorCode::ConnectionRefused ErrorCode::ConnectionRefused");
    let answer = ask(&host, "fetch", &format!("https://{mute}/"), "x-connect-ms: 50\r\n");
    assert_eq!(answer.text(), "ErrorCode::ConnectionTimeout");
    // Who sends a user and password along is not understood.
    let answer = ask(&host, "fetch", &format!("http://me:hush@{nobody}/"), "");
    assert_eq!(answer.text(), "ErrorCode::HttpRequestUriInvalid");
    host.closing_line("answered");
    let warnings: Vec<_> =
        host.log().into_iter().filter(|line| !line.contains(" INFO ") && !line.contains(" invocation: ")).collect();
    assert!(warnings.is_empty(), "{warnings:?}");
}

#[test]
fn an_upload_that_is_cut_off_does_not_look_whole() {
    let upstream = Upstream::start();
    let host = app(&[&format!("http://{}", upstream.address)], r#", "limits": {"timeout": "500ms"}"#).start();
    for (function, more, path) in [
        ("fetch", "", "/echo"),
        ("p3", "x-copy: 1\r\n", "/echo"),
        ("fetch", "", "/store"),
        ("p3", "x-copy: 1\r\n", "/store"),
    ] {
        let url = upstream.url(path);
        let clients = (0..20).map(|_| {
            let mut client = host.connect();
            client.write(format!(
                "POST /api/{function} HTTP/1.1\r\nHost: a\r\nx-url: {url}\r\n{more}Transfer-Encoding: chunked\r\n\r\n"
            ));
            client.write("5\r\nhello\r\n");
            client
        });
        // The guests wait for the rest until their time is over; then the server must not see an end.
        let clients: Vec<_> = clients.collect();
        for _ in &clients {
            let left = upstream.left.recv_timeout(Duration::from_secs(10));
            left.unwrap_or_else(|_| panic!("{function} {path}: half of a body looked whole"));
        }
    }
}

/// Both halves of an encrypted stream; they are used by turns.
struct Locked<S>(Arc<std::sync::Mutex<S>>);

impl<S: std::io::Read> std::io::Read for Locked<S> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().read(buffer)
    }
}

impl<S: Write> Write for Locked<S> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.0.lock().unwrap().flush()
    }
}
