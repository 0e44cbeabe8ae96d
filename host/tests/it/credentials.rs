//! What the host adds to the requests of guests, who must not see it.

use crate::support::{App, Host, Response, eventually, flexwasm, guests, output};
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A secret that may appear nowhere.
const SECRET: &str = "planted-secret";

/// A server that takes one request on each connection and remembers its head.
pub struct Server {
    address: SocketAddr,
    heads: Arc<Mutex<Vec<Vec<String>>>>,
}

impl Server {
    /// Answers with what `answer` makes of a head: status, more lines of the head, body.
    pub fn start(answer: impl Fn(&[String]) -> (u16, String, String) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let heads = Arc::<Mutex<Vec<Vec<String>>>>::default();
        let (seen, answer) = (Arc::clone(&heads), Arc::new(answer));
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (seen, answer) = (Arc::clone(&seen), Arc::clone(&answer));
                thread::spawn(move || {
                    let Some(head) = receive(&stream) else { return };
                    seen.lock().unwrap().push(head.clone());
                    let (status, lines, body) = answer(&head);
                    let length = body.len();
                    let _ = write!(
                        &stream,
                        "HTTP/1.1 {status} x\r\nconnection: close\r\n{lines}content-length: {length}\r\n\r\n{body}"
                    );
                });
            }
        });
        Self { address, heads }
    }

    /// One that answers with the head that it got, the only place where the secret may be seen.
    fn echo() -> Self {
        Self::start(|head| (200, String::new(), head.join("\n")))
    }

    /// An identity endpoint whose tokens end as `answer` says, which is given how many there were before.
    pub fn identity(answer: impl Fn(usize) -> (u16, String) + Send + Sync + 'static) -> Self {
        let count = Mutex::new(0);
        Self::start(move |_| {
            let mut count = count.lock().unwrap();
            let (status, body) = answer(*count);
            *count += 1;
            (status, String::new(), body)
        })
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    fn heads(&self) -> Vec<Vec<String>> {
        self.heads.lock().unwrap().clone()
    }
}

/// Reads a request. None if there is none.
fn receive(stream: &TcpStream) -> Option<Vec<String>> {
    let mut reader = BufReader::new(stream);
    let mut line = || {
        let mut line = String::new();
        reader.read_line(&mut line).ok().filter(|read| *read > 0).map(|_| line.trim_end().to_owned())
    };
    let mut head = Vec::new();
    loop {
        match line()? {
            end if end.is_empty() => break,
            line => head.push(line),
        }
    }
    if head.iter().any(|line| line.eq_ignore_ascii_case("transfer-encoding: chunked")) {
        while line()? != "0" {}
        line()?;
    }
    Some(head)
}

pub fn in_seconds(seconds: u64) -> u64 {
    (SystemTime::now() + Duration::from_secs(seconds)).duration_since(UNIX_EPOCH).unwrap().as_secs()
}

fn token(number: usize, end: u64) -> String {
    format!(r#"{{"access_token": "{SECRET}-{number}", "expires_on": "{end}", "token_type": "Bearer"}}"#)
}

/// The fetching guests with these entries of `grants.hosts`: of WASI 0.2 as `fetch`, of 0.3 as `p3`.
fn app(entries: &str) -> App {
    let section = format!(r#"{{"grants": {{"hosts": [{entries}]}}}}"#);
    let trigger = r#""authLevel": "anonymous", "methods": ["get", "post"]"#;
    App::new("{}").routed("fetch", guests::FETCH, trigger, &section).routed("p3", guests::P3_FETCH, trigger, &section)
}

fn start(app: &App, identity: &Server) -> Host {
    app.start_with(&[("IDENTITY_ENDPOINT", &identity.url("/msi/token")), ("IDENTITY_HEADER", "identity-header")])
}

fn ask(host: &Host, function: &str, url: &str, headers: &str) -> Response {
    host.connect().ask(format!("GET /api/{function} HTTP/1.1\r\nHost: a\r\nx-url: {url}\r\n{headers}\r\n"))
}

/// Ends the host; the secret is nowhere in its log.
fn assert_silent(mut host: Host) {
    host.signal("TERM");
    host.exit_code();
    let log = host.log().join("\n");
    assert!(!log.contains(SECRET) && !log.contains("identity-header"), "{log}");
}

#[test]
fn headers_are_set_by_the_host_and_forged_ones_dropped() {
    let upstream = Server::echo();
    let app = app(&format!(
        r#"{{"url": "{}", "methods": ["GET"], "paths": ["/v1/"], "headers": {{"Authorization": "Bearer %API_TOKEN%", "x-api-key": "%API_TOKEN%"}}}}"#,
        upstream.url("")
    ));
    let host = app.start_with(&[("API_TOKEN", SECRET)]);
    for function in ["fetch", "p3"] {
        let forged = "x-send: authorization=forged\r\nx-send: AUTHORIZATION=forged\r\nx-send: x_api_key=forged\r\nx-send: x-http-method-override=DELETE\r\nx-send: x-original-url=/v2\r\nx-send: x-own=stays\r\n";
        let answer = ask(&host, function, &upstream.url("/v1/a?b"), forged);
        let got = answer.text();
        let mut lines: Vec<_> = got.lines().map(str::to_lowercase).collect();
        lines.retain(|line| !["traceparent", "host", "transfer-encoding"].iter().any(|name| line.starts_with(name)));
        lines.sort();
        let expected = [
            "authorization: bearer planted-secret",
            "get /v1/a?b http/1.1",
            "x-api-key: planted-secret",
            "x-own: stays",
        ];
        assert_eq!(lines, expected, "{function}");
        host.line(&[" WARN ", &format!("function={function}"), "lost its header authorization"]);
        // Not in what the client gets beside what the server echoes.
        assert!(!format!("{:?}", answer.headers).contains(SECRET));
    }
    let before = upstream.heads().len();
    for path in ["/v2", "/v1/../v2", "/v1/%2e%2e/v2", "/v1/..%2fv2", "/v1/%252e%252e/v2", "//v1/", "/v1/..;/v2"] {
        assert_eq!(ask(&host, "fetch", &upstream.url(path), "").text(), "ErrorCode::HttpRequestDenied", "{path}");
        assert!(ask(&host, "p3", &upstream.url(path), "").text().contains("HttpRequestDenied"), "{path}");
    }
    let url = upstream.url("/v1/a");
    let post = format!("POST /api/fetch HTTP/1.1\r\nHost: a\r\nx-url: {url}\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(host.connect().ask(post).text(), "ErrorCode::HttpRequestDenied");
    host.line(&[" WARN ", "neither this method nor this path"]);
    assert_eq!(upstream.heads().len(), before);
    assert_silent(host);
}

#[test]
fn a_credential_does_not_follow_a_redirect() {
    let other = Server::echo();
    let location = format!("location: {}\r\n", other.url("/a"));
    let upstream = Server::start(move |_| (302, location.clone(), String::new()));
    let entries = format!(
        r#"{{"url": "{}", "headers": {{"authorization": "%API_TOKEN%", "x-api-key": "%API_TOKEN%"}}}}, "{}""#,
        upstream.url(""),
        other.url("")
    );
    let host = app(&entries).start_with(&[("API_TOKEN", SECRET)]);
    let answer = ask(&host, "fetch", &upstream.url("/"), "");
    assert_eq!(answer.status, 302);
    assert!(upstream.heads()[0].iter().any(|line| line.contains(SECRET)));
    // The guest follows it, with a header of its own that the other server may have, and a Host that it may not choose.
    for function in ["fetch", "p3"] {
        let location = answer.header("x-location").unwrap();
        let got = ask(&host, function, location, "x-send: authorization=its-own\r\n").text();
        assert!(got.contains("authorization: its-own") && !got.contains(SECRET), "{got}");
        assert!(got.to_lowercase().contains(&format!("host: {}", other.address)), "{got}");
    }
    assert_silent(host);
}

#[test]
fn a_token_is_asked_for_once_and_kept() {
    let upstream = Server::echo();
    let identity = Server::identity(|number| {
        thread::sleep(Duration::from_millis(100));
        (200, token(number, in_seconds(3600)))
    });
    let entry =
        format!(r#"{{"url": "{}", "identity": "https://storage.azure.com/", "clientId": "%ID%"}}"#, upstream.url(""));
    let app = app(&entry);
    let host = app.start_with(&[
        ("IDENTITY_ENDPOINT", &identity.url("/msi/token")),
        ("IDENTITY_HEADER", "identity-header"),
        ("ID", "some id"),
    ]);
    let answers: Vec<_> = thread::scope(|scope| {
        let asked: Vec<_> = ["fetch", "p3"]
            .into_iter()
            .cycle()
            .take(16)
            .map(|function| scope.spawn(|| ask(&host, function, &upstream.url("/"), "").text()))
            .collect();
        asked.into_iter().map(|asked| asked.join().unwrap()).collect()
    });
    for answer in answers {
        assert!(answer.contains(&format!("authorization: Bearer {SECRET}-0")), "{answer}");
    }
    let heads = identity.heads();
    assert_eq!(heads.len(), 1, "both functions have one token");
    let query = "api-version=2019-08-01&resource=https%3A%2F%2Fstorage%2Eazure%2Ecom%2F&client_id=some%20id";
    assert_eq!(heads[0][0], format!("GET /msi/token?{query} HTTP/1.1"));
    assert!(heads[0].iter().any(|line| line == "x-identity-header: identity-header"), "{heads:?}");
    assert_silent(host);
}

#[test]
fn a_token_is_renewed_while_it_is_good_and_used_while_that_fails() {
    let upstream = Server::echo();
    // It is due after half of its time.
    let identity = Server::identity(|number| match number {
        0 => (200, token(0, in_seconds(12))),
        1 => (429, format!("{{\"error\": \"{SECRET}\"}}")),
        _ => (200, token(number, in_seconds(3600))),
    });
    let entry = format!(r#"{{"url": "{}", "identity": "a"}}"#, upstream.url(""));
    let host = start(&app(&entry), &identity);
    let mut got = Vec::new();
    eventually("the token is renewed", || {
        got.push(ask(&host, "fetch", &upstream.url("/"), "").text());
        got.last().is_some_and(|got| got.contains(&format!("{SECRET}-2")))
    });
    assert!(got.iter().all(|got| got.contains(&format!("Bearer {SECRET}-"))), "{got:?}");
    assert_eq!(identity.heads().len(), 3);
    assert_silent(host);
}

#[test]
fn without_a_token_nothing_is_sent_and_the_guest_is_told_no_more() {
    let upstream = Server::echo();
    let identity = Server::identity(|_| (400, format!("{{\"error\": \"{SECRET}\"}}")));
    let entry = format!(r#"{{"url": "{}", "identity": "a"}}"#, upstream.url(""));
    let host = start(&app(&entry), &identity);
    for _ in 0..3 {
        let answer = ask(&host, "fetch", &upstream.url("/"), "").text();
        assert_eq!(answer, r#"ErrorCode::InternalError(Some("the host has no token for this server"))"#);
    }
    assert!(ask(&host, "p3", &upstream.url("/"), "").text().contains("the host has no token for this server"));
    host.line(&[" WARN ", "there is no token for", "IDENTITY_ENDPOINT answers with status 400"]);
    assert!(upstream.heads().is_empty());
    assert!(identity.heads().len() <= 2, "it is left in peace for a while");
    assert_silent(host);
}

#[test]
fn on_a_machine_without_an_identity_the_token_is_a_persons() {
    let upstream = Server::echo();
    let entry = format!(r#"{{"url": "{}", "identity": "https://a", "token": "%LOCAL_TOKEN%"}}"#, upstream.url(""));
    let app = app(&entry);
    let host = app.start_with(&[("LOCAL_TOKEN", SECRET)]);
    assert!(ask(&host, "fetch", &upstream.url("/"), "").text().contains(&format!("authorization: Bearer {SECRET}")));
    assert_silent(host);

    // The Azure CLI, played.
    let folder = tempfile::tempdir().unwrap();
    let az = folder.path().join("az");
    let json = format!(r#"{{"accessToken": "{SECRET}", "expires_on": {}}}"#, in_seconds(3600));
    fs::write(
        &az,
        format!(
            "#!/bin/sh\n[ \"$*\" = 'account get-access-token --output json --resource https://a' ] && echo '{json}'\n"
        ),
    )
    .unwrap();
    fs::set_permissions(&az, fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:/usr/bin:/bin", folder.path().display());
    let host = app.start_with(&[("PATH", &path)]);
    assert!(ask(&host, "fetch", &upstream.url("/"), "").text().contains(&format!("authorization: Bearer {SECRET}")));
    assert_silent(host);

    let host = app.start_with(&[("PATH", "/nowhere")]);
    assert!(ask(&host, "fetch", &upstream.url("/"), "").text().contains("no token"));
    host.line(&[" WARN ", "IDENTITY_ENDPOINT is not set", "az cannot be started"]);
}

#[test]
fn a_guest_reads_its_configuration_and_nothing_else() {
    let section = r#"{"grants": {"config": ["GREETING"]}}"#;
    let app = App::new("{}")
        .routed("config", guests::CONFIG, r#""authLevel": "anonymous", "route": "config/{key}""#, section)
        .routed("none", guests::CONFIG, r#""authLevel": "anonymous", "route": "none/{key}""#, "{}");
    let host = app.start_with(&[("GREETING", "hello"), ("OTHER", SECRET)]);
    let pairs = r#"Ok([("GREETING", "hello")])"#;
    assert_eq!(host.get("/api/config/GREETING").text(), format!(r#"Ok(Some("hello")) {pairs}"#));
    assert_eq!(host.get("/api/config/OTHER").text(), format!("Ok(None) {pairs}"));
    assert_eq!(host.get("/api/none/GREETING").text(), "Ok(None) Ok([])");
}

#[test]
fn two_grants_that_add_different_things_to_one_request_are_refused_at_the_start() {
    let entry = |path: &str, name: &str| {
        format!(r#"{{"url": "https://api.example", "paths": ["{path}"], "headers": {{"authorization": "%{name}%"}}}}"#)
    };
    let app = app(&format!("{}, {}", entry("/v1/", "ONE"), entry("/v1/orders/", "TWO")));
    let mut command = flexwasm();
    command.current_dir(app.path()).env("ONE", SECRET).env("TWO", SECRET);
    let (status, stdout, stderr) = output(command);
    assert_eq!((status.code(), &*stdout), (Some(1), ""), "{stderr}");
    let words =
        ["fetch/function.json: flexwasm.grants.hosts", "fits requests that entry 1 fits too, and adds something else"];
    assert!(words.iter().all(|word| stderr.contains(word)) && !stderr.contains(SECRET), "{stderr}");
}
