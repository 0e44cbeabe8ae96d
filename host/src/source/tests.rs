//! The rules of fetching, against servers on loopback that say what they are told to.

use super::*;
use crate::config::source::Artifact;
use serde_json::json;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

/// A server that keeps what it was asked.
struct Server {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Server {
    /// `answer` gets the head of a request, and says all of an answer, and that the connection ends with it.
    fn start(answer: impl Fn(&str) -> Vec<u8> + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let server = Self { address: listener.local_addr().expect("bound"), asked: Arc::default() };
        let asked = Arc::clone(&server.asked);
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let head = head(&stream);
                asked.lock().expect("no panic").push(head.clone());
                // The client may have heard enough.
                let _ = (&stream).write_all(&answer(&head));
            }
        });
        server
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().expect("no panic").clone()
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }
}

fn head(stream: &TcpStream) -> String {
    let lines = BufReader::new(stream).lines().map_while(Result::ok);
    lines.take_while(|line| !line.is_empty()).map(|line| line + "\n").collect()
}

const CLOSE: &str = "Connection: close\r\n";

fn whole(headers: &str, body: &[u8]) -> Vec<u8> {
    [format!("HTTP/1.1 200 OK\r\n{CLOSE}Content-Length: {}\r\n{headers}\r\n", body.len()).as_bytes(), body].concat()
}

fn status(line: &str) -> Vec<u8> {
    format!("HTTP/1.1 {line}\r\n{CLOSE}Content-Length: 0\r\n\r\n").into_bytes()
}

fn source(place: Place) -> Source {
    let credentials = Credentials { username: "me".to_owned(), password: "PASSWORD".to_owned() };
    Source::new(&Remote { place, credentials: Some(credentials) }, 1000).expect("a source")
}

fn file(url: &str) -> Source {
    source(Place::Http(url.parse().expect("a URL")))
}

async fn complaint(source: &Source) -> String {
    let said = source.fetch(Some("\"known\"")).await.expect_err("refused").to_string();
    assert!(!said.contains("SECRET") && !said.contains("PASSWORD") && !said.contains('\n'), "{said}");
    said
}

#[tokio::test]
async fn a_file_is_fetched_once_for_each_version() {
    let server = Server::start(|head| match head.contains("if-none-match: \"1\"\n") {
        true => status("304 Not Modified"),
        false => whole("ETag: \"1\"\r\n", b"guest"),
    });
    let source = file(&server.url("/guest.wasm?sig=SECRET"));
    let guest = Fetched::Guest { wasm: b"guest".to_vec(), version: Some("\"1\"".to_owned()) };
    assert_eq!(source.fetch(None).await.expect("there"), guest);
    assert_eq!(source.fetch(Some("\"1\"")).await.expect("there"), Fetched::Unchanged);
    assert_eq!(source.fetch(Some("\"0\"")).await.expect("there"), guest);
    let asked = server.asked();
    assert!(asked[0].starts_with("GET /guest.wasm?sig=SECRET HTTP/1.1\n"), "{asked:?}");
    assert!(asked[0].contains("authorization: Basic bWU6UEFTU1dPUkQ=\n"), "{asked:?}");
    assert!(source.can_change());
}

#[tokio::test]
async fn what_is_too_large_or_broken_is_refused() {
    let large = format!("{:x}\r\n{}\r\n0\r\n\r\n", 1001, "x".repeat(1001));
    for (answer, words) in [
        (status("500 Internal Server Error"), " answers with status 500 Internal Server Error"),
        (status("404 Not Found"), " answers with status 404 Not Found: it is not there; check guest.source"),
        (
            status("403 Forbidden"),
            " answers with status 403 Forbidden: set guest.username and guest.password, or renew the key",
        ),
        (status("204 No Content"), " answers with status 204"),
        (whole("", &[0; 1001]), " is larger than 1000B, which guest.maxSize allows"),
        (
            format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{large}").into_bytes(),
            " is larger than 1000B, which guest.maxSize allows",
        ),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf".to_vec(), " cannot be fetched ("),
        (b"rubbish\r\n\r\n".to_vec(), " cannot be fetched ("),
        (Vec::new(), " cannot be fetched ("),
    ] {
        let server = Server::start(move |_| answer.clone());
        let said = complaint(&file(&server.url("/guest.wasm?sig=SECRET"))).await;
        assert!(said.starts_with(&format!("{}{words}", server.url("/guest.wasm"))), "{said}");
    }
    // Nobody listens there any more.
    let gone = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("bound");
    let said = complaint(&file(&format!("http://{gone}/guest.wasm?sig=SECRET"))).await;
    assert!(said.contains("Connection refused"), "{said}");
}

#[tokio::test]
async fn redirects_stay_with_the_server_or_are_encrypted() {
    let other = Server::start(|_| whole("", b"guest"));
    let elsewhere = other.url("/guest.wasm");
    let server = Server::start(move |head| {
        let path = head.split(' ').nth(1).unwrap_or_default();
        let to = match path.split('?').next().unwrap_or_default() {
            "/moved" => "/guest",
            "/elsewhere" => &elsewhere,
            "/loop" => "/loop",
            "/named" => "https://me:SECRET@localhost/guest",
            _ => return whole("", b"guest"),
        };
        status(&format!("302 Found\r\nLocation: {to}"))
    });
    let guest = Fetched::Guest { wasm: b"guest".to_vec(), version: None };
    assert_eq!(file(&server.url("/moved?sig=SECRET")).fetch(None).await.expect("followed"), guest);
    let last = server.asked().pop().expect("asked");
    assert!(last.starts_with("GET /guest HTTP/1.1\n") && last.contains("authorization: "), "{last}");
    assert!(!last.contains("SECRET"), "a query was told to the next server: {last}");
    for (path, words) in [
        ("/elsewhere", "a redirect to another server without encryption"),
        ("/loop", "more than 5 redirects"),
        ("/named", "a redirect with a user or password in it"),
    ] {
        let said = complaint(&file(&server.url(&format!("{path}?sig=SECRET")))).await;
        assert!(said.contains(words), "{said}");
    }
    assert_eq!(other.asked(), Vec::<String>::new());
}

/// The digest of some bytes, as registries spell it.
fn sha256(bytes: &[u8]) -> String {
    format!("sha256:{}", crate::guest::hexadecimal(&crate::guest::compiled::digest(bytes)))
}

fn manifest(layers: &[(&str, &[u8])]) -> Vec<u8> {
    let layers: Vec<_> = layers
        .iter()
        .map(|(media_type, bytes)| json!({ "mediaType": media_type, "digest": sha256(bytes), "size": bytes.len() }))
        .collect();
    json!({ "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json", "layers": layers })
        .to_string()
        .into_bytes()
}

/// A registry with one manifest for every tag, and one blob for every digest.
fn registry(manifest: Vec<u8>, blob: &'static [u8]) -> Server {
    Server::start(move |head| match head.split(' ').nth(1).unwrap_or_default() {
        path if path.starts_with("/v2/me/guest/manifests/") => {
            let headers = format!("Docker-Content-Digest: {}\r\n", sha256(&manifest));
            whole(&headers, if head.starts_with("HEAD") { b"" } else { &manifest })
        }
        path if path.starts_with("/v2/me/guest/blobs/") => whole("", blob),
        _ => status("404 Not Found"),
    })
}

fn artifact(server: &Server, reference: &str) -> Source {
    let registry = server.url("/").parse().expect("a URL");
    source(Place::Oci(Artifact { registry, repository: "me/guest".to_owned(), reference: reference.to_owned() }))
}

#[tokio::test]
async fn an_artifact_is_fetched_once_for_each_manifest() {
    let manifest = manifest(&[("application/wasm", b"guest")]);
    let version = sha256(&manifest);
    let server = registry(manifest, b"guest");
    let guest = Fetched::Guest { wasm: b"guest".to_vec(), version: Some(version.clone()) };
    for (reference, asked_again) in [("1", 1), (version.as_str(), 0)] {
        let source = artifact(&server, reference);
        assert_eq!(source.can_change(), reference == "1");
        assert_eq!(source.fetch(None).await.expect("there"), guest);
        assert_eq!(source.fetch(Some("sha256:other")).await.expect("there"), guest);
        let before = server.asked().len();
        assert_eq!(source.fetch(Some(&version)).await.expect("there"), Fetched::Unchanged);
        assert_eq!(server.asked().len() - before, asked_again, "{reference}");
    }
    assert!(server.asked().iter().all(|head| !head.contains("authorization")), "nobody asked for credentials");
}

#[tokio::test]
async fn an_artifact_that_is_no_guest_is_refused() {
    const TAR: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
    const WASM: &str = "application/wasm";
    let index = json!({ "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": [] }).to_string();
    let pinned = sha256(b"another manifest");
    for (reference, manifest, blob, words) in [
        (
            "1",
            manifest(&[(TAR, b"guest")]),
            &b"guest"[..],
            "has one layer of type application/vnd.oci.image.layer.v1.tar+gzip: expected is",
        ),
        (
            "1",
            manifest(&[(WASM, b"guest"), (WASM, b"more")]),
            b"guest",
            "has 2 layers of type application/wasm, application/wasm",
        ),
        ("1", manifest(&[]), b"guest", "has no layer: expected is an artifact with one layer of type application/wasm"),
        ("1", index.into_bytes(), b"guest", "is a list of artifacts (application/vnd.oci.image.index.v1+json)"),
        ("1", b"rubbish".to_vec(), b"guest", "has no manifest that can be read"),
        ("1", manifest(&[(WASM, &[0; 1001])]), b"guest", "is larger than 1000B, which guest.maxSize allows"),
        // It says less than it sends.
        ("1", manifest(&[(WASM, b"guest")]), &[0; 1001], "is larger than 1000B, which guest.maxSize allows"),
        ("1", manifest(&[(WASM, b"guest")]), b"other", "has a layer that is not the one of its digest"),
        (&pinned, manifest(&[(WASM, b"guest")]), b"guest", "has a manifest that is not the one of its digest"),
    ] {
        let server = registry(manifest, blob);
        let said = complaint(&artifact(&server, reference)).await;
        assert!(said.starts_with("oci://127.0.0.1:") && said.contains(words), "{said}");
    }
    let server = Server::start(|_| status("500 Internal Server Error"));
    assert!(complaint(&artifact(&server, "1")).await.contains("answers with status 500"));
}

#[tokio::test]
async fn credentials_go_to_the_token_service_alone() {
    let service = Server::start(|head| {
        let right = head.starts_with("GET /token?scope=repository%3Ame%2Fguest%3Apull&service=here HTTP/1.1\n")
            && head.contains("authorization: Basic bWU6UEFTU1dPUkQ=\n");
        if right { whole("", br#"{"token": "T1"}"#) } else { status("401 Unauthorized") }
    });
    let manifest = manifest(&[("application/wasm", b"guest")]);
    let challenge = format!("WWW-Authenticate: Bearer realm=\"{}\",service=\"here\"", service.url("/token"));
    let server = Server::start(move |head| match head.contains("authorization: Bearer T1\n") {
        false => status(&format!("401 Unauthorized\r\n{challenge}")),
        true if head.contains("/blobs/") => whole("", b"guest"),
        true => whole("", &manifest),
    });
    let source = artifact(&server, "1");
    assert!(matches!(source.fetch(None).await.expect("there"), Fetched::Guest { .. }));
    assert_eq!((server.asked().len(), service.asked().len()), (3, 1), "the token is used again");
    assert!(server.asked().iter().all(|head| !head.contains("Basic")), "the registry saw the password");

    let server =
        Server::start(|_| status("401 Unauthorized\r\nWWW-Authenticate: Bearer realm=\"http://example.com/token\""));
    let said = complaint(&artifact(&server, "1")).await;
    assert!(said.contains("names a token service without encryption, which gets no credentials"), "{said}");
}

#[tokio::test]
async fn a_registry_may_want_basic_authentication() {
    let manifest = manifest(&[("application/wasm", b"guest")]);
    let server = Server::start(move |head| match head.contains("authorization: Basic bWU6UEFTU1dPUkQ=\n") {
        false => status("401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"x\""),
        true if head.contains("/blobs/") => whole("", b"guest"),
        true => whole("", &manifest),
    });
    assert!(matches!(artifact(&server, "1").fetch(None).await.expect("there"), Fetched::Guest { .. }));
    let Place::Oci(place) = artifact(&server, "1").remote.place else { unreachable!("an artifact") };
    let anonymous = Source::new(&Remote { place: Place::Oci(place), credentials: None }, 1000).expect("a source");
    assert!(complaint(&anonymous).await.contains("status 401 Unauthorized: set guest.username and guest.password"));
}
