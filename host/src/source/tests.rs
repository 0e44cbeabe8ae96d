//! The rules, against servers on loopback that answer as they are told.

use super::*;
use crate::config::digest::Digest;
use crate::config::section::{Problems, Section};
use crate::config::source::GuestSettings;
use rustls::pki_types::PrivateKeyDer;
use rustls::{RootCertStore, ServerConfig};
use serde_json::json;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

const SECRET: &str = "HUSH";
const MOST: u64 = 1000;

/// What a server does with a request, given its head.
type Script = dyn Fn(&str) -> Answer + Send + Sync;

/// What it writes, and whether it then waits for the other side to give up.
struct Answer(String, bool);

impl From<String> for Answer {
    fn from(text: String) -> Self {
        Self(text, false)
    }
}

/// A server that is there as long as the test's runtime.
struct Server {
    address: SocketAddr,
    /// The heads of the requests, in lower case.
    heads: Arc<Mutex<Vec<String>>>,
}

impl Server {
    async fn start<A: Into<Answer>>(script: impl Fn(&str) -> A + Send + Sync + 'static) -> Self {
        Self::over(None, Arc::new(move |head: &str| script(head).into())).await
    }

    /// One that is encrypted; answers also what to trust.
    async fn encrypted<A: Into<Answer>>(script: impl Fn(&str) -> A + Send + Sync + 'static) -> (Self, ClientConfig) {
        let authority = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).expect("a certificate");
        let key = PrivateKeyDer::try_from(authority.signing_key.serialize_der()).expect("a key");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let config = config.expect("versions").with_no_client_auth();
        let config = config.with_single_cert(vec![authority.cert.der().clone()], key).expect("a certificate");
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let server = Self::over(Some(acceptor), Arc::new(move |head: &str| script(head).into())).await;
        let mut roots = RootCertStore::empty();
        roots.add(authority.cert.der().clone()).expect("a certificate");
        (server, trust(roots))
    }

    async fn over(tls: Option<TlsAcceptor>, script: Arc<Script>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let heads = Arc::<Mutex<Vec<String>>>::default();
        let seen = Arc::clone(&heads);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (tls, script, seen) = (tls.clone(), Arc::clone(&script), Arc::clone(&seen));
                tokio::spawn(async move {
                    let Some(tls) = tls else { return serve(stream, &*script, &seen).await };
                    // Else the other side does not trust this one.
                    if let Ok(stream) = tls.accept(stream).await {
                        serve(stream, &*script, &seen).await;
                    }
                });
            }
        });
        Self { address, heads }
    }

    fn heads(&self) -> Vec<String> {
        self.heads.lock().expect("not poisoned").clone()
    }
}

async fn serve(mut stream: impl AsyncRead + AsyncWrite + Unpin, script: &Script, seen: &Mutex<Vec<String>>) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let Ok(byte) = stream.read_u8().await else { return };
        head.push(byte);
    }
    let head = String::from_utf8(head).expect("text");
    let Answer(answer, wait) = script(&head);
    seen.lock().expect("not poisoned").push(head.to_ascii_lowercase());
    // A client that has read enough goes away.
    let _ = stream.write_all(answer.as_bytes()).await;
    if wait {
        let _ = stream.read_u8().await;
    }
    let _ = stream.shutdown().await;
}

fn trust(roots: RootCertStore) -> ClientConfig {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    config.expect("versions").with_root_certificates(roots).with_no_client_auth()
}

/// An answer of this status with these header lines.
fn answer(status: &str, lines: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {}\r\n{lines}\r\n{body}", body.len())
}

fn redirect(to: &str) -> String {
    answer("302 Found", &format!("Location: {to}\r\n"), "")
}

/// The source that an app setting names, with user and password.
fn source_of(url: &str, tls: ClientConfig) -> Source {
    let settings = [("SOURCE".to_owned(), url.to_owned()), ("PASSWORD".to_owned(), SECRET.to_owned())].into();
    let guest = json!({ "source": "%SOURCE%", "username": "me", "password": "%PASSWORD%" });
    let document = json!({ "flexwasm": { "guest": guest } });
    let mut problems = Problems::default();
    let read = GuestSettings::read(&mut Section::of_file("f", &document, &mut problems), &settings);
    let remote = read.source.unwrap_or_else(|| panic!("{:?}", problems.0));
    Source::trusting(tls, &remote, MOST).expect("a client")
}

fn source(url: &str) -> Source {
    source_of(url, trust(RootCertStore::empty()))
}

fn anonymous(url: &str) -> Source {
    let mut source = source(url);
    source.remote.credentials = None;
    source
}

/// The one line of a fetch that has to fail.
async fn failure(source: &Source, known: Option<&str>) -> String {
    let line = source.fetch(known).await.expect_err("it must fail").to_string();
    assert!(!line.contains(SECRET) && !line.contains('\n') && !line.contains('?'), "{line}");
    line
}

fn guest(wasm: &str, version: Option<&str>) -> Fetched {
    Fetched::Guest { wasm: wasm.into(), version: version.map(str::to_owned) }
}

mod http {
    use super::*;

    #[tokio::test]
    async fn a_guest_that_is_known_is_not_read_again() {
        let server = Server::start(|head| {
            if head.contains("\"one\"") {
                answer("304 Not Modified", "ETag: \"one\"\r\n", "")
            } else {
                answer("200 OK", "ETag: \"one\"\r\n", "wasm")
            }
        })
        .await;
        let source = source(&format!("http://{}/a/b.wasm?sig=HUSH", server.address));
        assert!(source.can_change());
        assert_eq!(source.fetch(None).await.expect("a guest"), guest("wasm", Some("\"one\"")));
        assert_eq!(source.fetch(Some("\"one\"")).await.expect("an answer"), Fetched::Unchanged);
        // Not for any cache to say, and no reason to fail.
        for other in ["\"two\"", "two\r\nX: y"] {
            assert_eq!(source.fetch(Some(other)).await.expect("a guest"), guest("wasm", Some("\"one\"")));
        }
        let heads = server.heads();
        assert!(heads[0].starts_with("get /a/b.wasm?sig=hush http/1.1\r\n"), "{}", heads[0]);
        assert!(heads[0].contains("\r\nauthorization: basic bwu6sfvtsa==\r\n"), "{}", heads[0]);
        assert!(!heads[0].contains("if-none-match") && !heads[0].contains("accept-encoding"), "{}", heads[0]);
        assert!(heads[1].contains("\r\nif-none-match: \"one\"\r\n"), "{}", heads[1]);
    }

    #[tokio::test]
    async fn a_server_without_conditions_is_asked_for_all_of_it() {
        let server = Server::start(|_| answer("200 OK", "ETag: \"one\"\r\n", "wasm")).await;
        let source = anonymous(&format!("http://{}/", server.address));
        assert_eq!(source.fetch(Some("\"one\"")).await.expect("an answer"), Fetched::Unchanged);
        let server = Server::start(|_| answer("200 OK", "", "wasm")).await;
        let source = anonymous(&format!("http://{}/", server.address));
        assert_eq!(source.fetch(Some("\"one\"")).await.expect("a guest"), guest("wasm", None));
        assert!(!server.heads()[0].contains("authorization"));
    }

    #[tokio::test]
    async fn every_other_status_is_told() {
        for (status, remedy) in [
            ("304 Not Modified", "200 is expected"),
            ("204 No Content", "200 is expected"),
            ("206 Partial Content", "200 is expected"),
            ("401 Unauthorized", "check guest.username and guest.password"),
            ("403 Forbidden", "check guest.username and guest.password, or the signature"),
            ("404 Not Found", "check guest.source"),
            ("500 Internal Server Error", "look at the server"),
        ] {
            let server = Server::start(move |_| answer(status, "", "")).await;
            let source = source(&format!("http://{}/a?sig=HUSH", server.address));
            let line = failure(&source, None).await;
            assert!(line.starts_with(&format!("http://{}/a answered {status}: {remedy}", server.address)), "{line}");
        }
    }

    #[tokio::test]
    async fn no_more_than_the_largest_guest_is_read() {
        let chunked = |size: usize| {
            let chunk = |size: usize| format!("{size:x}\r\n{}\r\n", "x".repeat(size));
            let head = "HTTP/1.1 200 OK\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n";
            format!("{head}{}{}0\r\n\r\n", chunk(size / 2), chunk(size - size / 2))
        };
        let whole = |size: usize| answer("200 OK", "", &"x".repeat(size));
        for (text, fits) in [(whole(1000), true), (whole(1001), false), (chunked(1000), true), (chunked(1001), false)] {
            // A response that announces too much is not read at all: this one never gets to its body.
            let announced = !fits && text.contains("Content-Length");
            let text = if announced { text.trim_end_matches('x').to_owned() } else { text };
            let server = Server::start(move |_| Answer(text.clone(), announced)).await;
            let source = source(&format!("http://{}/a", server.address));
            if fits {
                assert_eq!(source.fetch(None).await.expect("a guest"), guest(&"x".repeat(1000), None));
            } else {
                let line = failure(&source, None).await;
                assert!(line.contains("has a guest of more than guest.maxSize, 1000B: raise it"), "{line}");
            }
        }
    }

    #[tokio::test]
    async fn a_part_is_never_taken_for_the_whole() {
        for (text, words) in [
            ("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf", "broke off its answer ("),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n", "broke off its answer ("),
            ("HTTP/1.1 200 OK\r\n\r\nhalf", "does not say how long its answer is"),
            ("HTTP/1.1 200", "broke off its answer ("),
            ("", "broke off its answer ("),
            ("rubbish\r\n\r\n", "broke off its answer ("),
        ] {
            let server = Server::start(move |_| text.to_owned()).await;
            let line = failure(&source(&format!("http://{}/a?HUSH", server.address)), None).await;
            assert!(line.contains(words), "{text:?}: {line}");
        }
    }

    #[tokio::test]
    async fn a_server_that_answers_too_slowly_is_given_up() {
        for text in ["", "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf"] {
            let server = Server::start(move |_| Answer(text.to_owned(), true)).await;
            let mut source = source(&format!("http://{}/a", server.address));
            source.timeout = Duration::from_millis(100);
            let line = failure(&source, None).await;
            assert!(line.contains("did not answer in whole within 100ms: look at"), "{line}");
        }
    }

    #[tokio::test]
    async fn a_server_that_is_not_there_or_not_trusted_is_not_reached() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        drop(listener);
        let line = failure(&source(&format!("http://{address}/a?HUSH")), None).await;
        assert!(line.contains("/a cannot be reached (Connection refused"), "{line}");

        let (server, _) = Server::encrypted(|_| answer("200 OK", "", "wasm")).await;
        let line = failure(&source(&format!("https://{}/a?HUSH", server.address)), None).await;
        assert!(line.contains("cannot be reached (invalid peer certificate"), "{line}");
    }

    #[tokio::test]
    async fn redirects_are_followed_where_they_started_and_not_for_ever() {
        let server = Server::start(|head| match head.split(' ').nth(1).expect("a path") {
            "/0" => answer("200 OK", "", "wasm"),
            "/start?sig=HUSH" => redirect("/5"),
            path => redirect(&format!("/{}", path[1..].parse::<u32>().expect("a number") - 1)),
        })
        .await;
        let at = |path: &str| source(&format!("http://{}/{path}", server.address));
        assert_eq!(at("5").fetch(None).await.expect("a guest"), guest("wasm", None));
        assert!(server.heads().iter().all(|head| head.contains("authorization: basic")));
        let line = failure(&at("start?sig=HUSH"), None).await;
        assert!(line.ends_with("/start redirects more than 5 times: let guest.source name the place itself"), "{line}");
    }

    #[tokio::test]
    async fn another_server_gets_nothing_but_the_question() {
        let (other, trusted) = Server::encrypted(|_| answer("200 OK", "ETag: \"one\"\r\n", "wasm")).await;
        let to = format!("https://{}/elsewhere", other.address);
        let server = Server::start(move |_| redirect(&to)).await;
        let source = source_of(&format!("http://{}/a?sig=HUSH", server.address), trusted);
        assert_eq!(source.fetch(None).await.expect("a guest"), guest("wasm", Some("\"one\"")));
        let [head] = &other.heads()[..] else { panic!("one request") };
        assert!(head.starts_with("get /elsewhere http/1.1\r\n"), "{head}");
        for word in ["authorization", "referer", "hush", "sig="] {
            assert!(!head.contains(word), "{head}");
        }
    }

    #[tokio::test]
    async fn a_server_that_is_not_encrypted_is_not_gone_to() {
        let other = Server::start(|_| answer("200 OK", "", "wasm")).await;
        let to = format!("http://{}/elsewhere?HUSH", other.address);
        let words = format!("/a redirects to http://{}, which is not encrypted: let guest.source", other.address);
        let again = to.clone();
        let server = Server::start(move |_| redirect(&to)).await;
        let line = failure(&source(&format!("http://{}/a", server.address)), None).await;
        assert!(line.contains(&words), "{line}");

        let (server, trusted) = Server::encrypted(move |_| redirect(&again)).await;
        let line = failure(&source_of(&format!("https://{}/a", server.address), trusted), None).await;
        assert!(line.contains(&words), "{line}");
        assert_eq!(other.heads(), [""; 0]);
    }
}

mod oci {
    use super::*;

    const WASM: &str = "wasm";

    fn sha256(text: &str) -> String {
        format!("sha256:{}", Digest::of(text.as_bytes()))
    }

    fn manifest(layer: &str, size: u64) -> String {
        json!({
            "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": { "mediaType": "application/vnd.wasm.config.v0+json", "digest": sha256("{}"), "size": 2 },
            "layers": [{ "mediaType": "application/wasm", "digest": layer, "size": size }],
        })
        .to_string()
    }

    /// What a registry with one artifact answers, if it wants no proof.
    fn registry(head: &str, manifest: &str) -> String {
        let path = head.split(' ').nth(1).expect("a path");
        let digest = format!("Docker-Content-Digest: {}\r\n", sha256(manifest));
        match path.strip_prefix("/v2/team/guest/") {
            Some("manifests/latest") => {
                let whole = answer("200 OK", &digest, manifest);
                if head.starts_with("HEAD") { whole.replace(manifest, "") } else { whole }
            }
            Some(part) if part == format!("manifests/{}", sha256(manifest)) => answer("200 OK", "", manifest),
            Some(part) if part.starts_with("blobs/") => answer("200 OK", "", WASM),
            _ => answer("404 Not Found", "", ""),
        }
    }

    fn at(server: &Server, reference: &str) -> String {
        format!("oci://{}/team/guest{reference}", server.address)
    }

    #[tokio::test]
    async fn a_tag_is_asked_for_its_digest() {
        let manifest = manifest(&sha256(WASM), 4);
        let version = sha256(&manifest);
        let server = Server::start(move |head| registry(head, &manifest)).await;
        let source = source(&at(&server, ":latest"));
        assert!(source.can_change());
        assert_eq!(source.fetch(None).await.expect("a guest"), guest(WASM, Some(&version)));
        assert_eq!(source.fetch(Some(&version)).await.expect("an answer"), Fetched::Unchanged);
        assert_eq!(source.fetch(Some("sha256:0")).await.expect("a guest"), guest(WASM, Some(&version)));
        let (heads, blob) = (server.heads(), sha256(WASM));
        let asked: Vec<_> = heads.iter().map(|head| head.split(" http/1.1").next().expect("a line")).collect();
        let (get, head) = ("get /v2/team/guest/manifests/latest", "head /v2/team/guest/manifests/latest");
        let blob = format!("get /v2/team/guest/blobs/{blob}");
        assert_eq!(asked, [get, &blob, head, head, get, &blob]);
        // Nobody wanted them.
        assert!(heads.iter().all(|head| !head.contains("authorization")));
        let line = failure(&anonymous(&at(&server, ":other")), None).await;
        assert!(line.ends_with("/team/guest:other answered 404 Not Found: check guest.source"), "{line}");
    }

    #[tokio::test]
    async fn a_registry_that_tells_no_digest_is_not_asked_for_the_layer() {
        let manifest = manifest(&sha256(WASM), 4);
        let version = sha256(&manifest);
        let server = Server::start(move |head| match head.split(' ').next() {
            Some("HEAD") => answer("405 Method Not Allowed", "", ""),
            _ => answer("200 OK", "", &manifest),
        })
        .await;
        let fetched = source(&at(&server, ":latest")).fetch(Some(&version)).await;
        assert_eq!(fetched.expect("an answer"), Fetched::Unchanged);
    }

    #[tokio::test]
    async fn a_digest_is_asked_for_once() {
        let manifest = manifest(&sha256(WASM), 4);
        let version = sha256(&manifest);
        let server = Server::start(move |head| registry(head, &manifest)).await;
        let source = source(&at(&server, &format!("@{version}")));
        assert!(!source.can_change());
        assert_eq!(source.fetch(None).await.expect("a guest"), guest(WASM, Some(&version)));
        assert_eq!(source.fetch(Some(&version)).await.expect("an answer"), Fetched::Unchanged);
        assert_eq!(server.heads().len(), 2);
    }

    #[tokio::test]
    async fn what_does_not_have_its_digest_is_refused() {
        let false_layer = manifest(&sha256("other"), 4);
        let server = Server::start(move |head| registry(head, &false_layer)).await;
        let line = failure(&source(&at(&server, ":latest")), None).await;
        assert!(line.contains("/team/guest:latest has a layer that is not the one of its digest"), "{line}");

        let manifest = manifest(&sha256(WASM), 4);
        let server = Server::start(move |_| answer("200 OK", "", &manifest)).await;
        let line = failure(&source(&at(&server, &format!("@{}", sha256("other")))), None).await;
        assert!(line.contains("has a manifest that is not the one of its digest: look at the registry"), "{line}");
    }

    #[tokio::test]
    async fn what_is_too_large_is_not_read() {
        for (manifest, words) in [
            (manifest(&sha256(WASM), MOST + 1), "has a guest of more than guest.maxSize, 1000B"),
            (" ".repeat((1 << 20) + 1), "has a manifest of more than 1MiB"),
        ] {
            let server = Server::start(move |head| registry(head, &manifest)).await;
            let line = failure(&source(&at(&server, ":latest")), None).await;
            assert!(line.contains(words), "{line}");
            assert_eq!(server.heads().len(), 1);
        }
        // Nor one that says it were smaller.
        let manifest = manifest(&sha256(WASM), 4);
        let server = Server::start(move |head| match head.contains("/blobs/") {
            true => answer("200 OK", "", &"x".repeat(1001)),
            false => registry(head, &manifest),
        })
        .await;
        let line = failure(&source(&at(&server, ":latest")), None).await;
        assert!(line.contains("guest.maxSize"), "{line}");
    }

    #[tokio::test]
    async fn what_is_no_guest_is_told_what_it_is() {
        let good = || serde_json::from_str(&manifest(&sha256(WASM), 4)).expect("JSON");
        let with = |pointer: &str, value: serde_json::Value| {
            let mut manifest: serde_json::Value = good();
            *manifest.pointer_mut(pointer).expect("it is there") = value;
            manifest.to_string()
        };
        let layer = good()["layers"][0].clone();
        for (manifest, found) in [
            ("rubbish".to_owned(), "no manifest"),
            ("[]".to_owned(), "an artifact with config"),
            (json!({ "manifests": [] }).to_string(), "an index of several manifests"),
            (
                with("/mediaType", json!("application/vnd.docker.distribution.manifest.v2+json")),
                "a manifest application/vnd.docker.distribution.manifest.v2+json",
            ),
            (
                with("/config/mediaType", json!("application/vnd.oci.image.config.v1+json")),
                "an artifact with config application/vnd.oci.image.config.v1+json",
            ),
            (with("/config/mediaType", json!("\n".repeat(500))), "an artifact with config \\n\\n"),
            (with("/layers", json!([layer, layer])), "an artifact with 2 layers"),
            (with("/layers", json!([])), "an artifact with 0 layers"),
            (
                with("/layers/0/mediaType", json!("application/vnd.oci.image.layer.v1.tar+gzip")),
                "an artifact with a layer application/vnd.oci.image.layer.v1.tar+gzip",
            ),
            (with("/layers/0/digest", json!("sha512:00")), "an artifact with a layer of digest"),
            (with("/layers/0/digest", json!(format!("sha256:{}", "../".repeat(21) + "x"))), "with a layer of digest"),
            (with("/layers/0/size", json!(-1)), "an artifact with a layer of digest"),
        ] {
            let server = Server::start(move |head| registry(head, &manifest)).await;
            let line = failure(&source(&at(&server, ":latest")), None).await;
            assert!(line.contains(&format!("is \"{found}")) || line.contains(found), "{line}");
            assert!(line.ends_with(
                ", but a guest is an artifact with config application/vnd.wasm.config.v0+json and one layer application/wasm: push it with `wkg oci push`"
            ) && line.len() < 500, "{line}");
        }
        // Which the specification allows.
        let mut manifest: serde_json::Value = good();
        manifest.as_object_mut().expect("an object").remove("mediaType");
        let manifest = manifest.to_string();
        let server = Server::start(move |head| registry(head, &manifest)).await;
        source(&at(&server, ":latest")).fetch(None).await.expect("a guest");
    }

    #[tokio::test]
    async fn a_password_is_sent_to_who_wants_one() {
        let manifest = manifest(&sha256(WASM), 4);
        let server = Server::start(move |head| match head.contains("Basic bWU6SFVTSA==") {
            true => registry(head, &manifest),
            false => answer("401 Unauthorized", "WWW-Authenticate: Basic realm=\"x\"\r\n", ""),
        })
        .await;
        source(&at(&server, ":latest")).fetch(None).await.expect("a guest");
        assert_eq!(server.heads().len(), 3);
        let line = failure(&anonymous(&at(&server, ":latest")), None).await;
        assert!(line.contains("wants a user: set guest.username and guest.password"), "{line}");

        // Once, and not again and again.
        let server = Server::start(|_| answer("401 Unauthorized", "WWW-Authenticate: Basic realm=\"x\"\r\n", "")).await;
        let line = failure(&source(&at(&server, ":latest")), None).await;
        assert!(line.contains("answered 401 Unauthorized: check guest.username and guest.password"), "{line}");
        assert_eq!(server.heads().len(), 2);
    }

    /// A registry that takes tokens alone, and the service at `realm` that gives them.
    async fn token_registry(realm: String) -> Server {
        let manifest = manifest(&sha256(WASM), 4);
        Server::start(move |head| {
            if head.to_ascii_lowercase().contains("authorization: bearer t") {
                return registry(head, &manifest);
            }
            let parameters = format!("realm=\"{realm}\",service=\"a b\",scope=\"repository:team/guest:pull\"");
            answer("401 Unauthorized", &format!("WWW-Authenticate: Bearer {parameters}\r\n"), "")
        })
        .await
    }

    #[tokio::test]
    async fn a_token_is_got_where_the_registry_says() {
        let (service, trusted) = Server::encrypted(|_| answer("200 OK", "", "{\"token\": \"t\"}")).await;
        let registry = token_registry(format!("https://{}/token?x=y", service.address)).await;
        let source = source_of(&at(&registry, ":latest"), trusted.clone());
        source.fetch(None).await.expect("a guest");
        let [head] = &service.heads()[..] else { panic!("one request") };
        let expected = "get /token?x=y&service=a+b&scope=repository%3ateam%2fguest%3apull http/1.1\r\n";
        assert!(head.starts_with(expected) && head.contains("authorization: basic bwu6sfvtsa==\r\n"), "{head}");
        // The registry saw the token alone.
        assert!(registry.heads().iter().all(|head| !head.contains("basic")));

        let mut source = source_of(&at(&registry, ":latest"), trusted);
        source.remote.credentials = None;
        source.fetch(None).await.expect("a guest");
        assert!(!service.heads()[1].contains("authorization"));
    }

    #[tokio::test]
    async fn no_password_is_sent_to_a_token_service_that_is_not_encrypted() {
        let service = Server::start(|_| answer("200 OK", "", "{\"token\": \"t\"}")).await;
        let registry = token_registry(format!("http://{}/token", service.address)).await;
        let line = failure(&source(&at(&registry, ":latest")), None).await;
        assert!(line.contains("names a token service that is not encrypted: look at the registry"), "{line}");
        assert_eq!(service.heads(), [""; 0]);
    }

    #[tokio::test]
    async fn a_token_service_that_is_none_is_told() {
        let large = "x".repeat((64 << 10) + 1);
        for (answer, words) in [
            (answer("200 OK", "", "{}"), "has a token service that gives no token"),
            (answer("200 OK", "", "HUSH"), "has a token service that gives no token"),
            (answer("200 OK", "", &large), "has a token service that says too much"),
            (answer("401 Unauthorized", "", "HUSH"), "answered 401 Unauthorized: check guest.username"),
        ] {
            let (service, trusted) = Server::encrypted(move |_| answer.clone()).await;
            let registry = token_registry(format!("https://{}/", service.address)).await;
            let line = failure(&source_of(&at(&registry, ":latest"), trusted), None).await;
            assert!(line.contains(words), "{line}");
        }
        for (challenge, words) in [
            ("Bearer service=\"x\"", "wants a token, but does not say from where"),
            ("Negotiate", "wants a proof that is neither a password nor a token"),
        ] {
            let lines = format!("WWW-Authenticate: {challenge}\r\n");
            let server = Server::start(move |_| answer("401 Unauthorized", &lines, "")).await;
            let line = failure(&source(&at(&server, ":latest")), None).await;
            assert!(line.contains(words), "{line}");
        }
    }

    /// Registries keep their layers on other servers.
    #[tokio::test]
    async fn where_a_layer_is_kept_no_password_is_sent() {
        let (store, trusted) = Server::encrypted(|_| answer("200 OK", "", WASM)).await;
        let (manifest, to) = (manifest(&sha256(WASM), 4), format!("https://{}/layer?sig=x", store.address));
        let registry = Server::start(move |head| {
            if !head.contains("Basic bWU6SFVTSA==") {
                return answer("401 Unauthorized", "WWW-Authenticate: Basic realm=\"x\"\r\n", "");
            }
            if head.contains("/blobs/") { redirect(&to) } else { registry(head, &manifest) }
        })
        .await;
        source_of(&at(&registry, ":latest"), trusted).fetch(None).await.expect("a guest");
        let [head] = &store.heads()[..] else { panic!("one request") };
        assert!(head.starts_with("get /layer?sig=x ") && !head.contains("authorization"), "{head}");
    }

    /// A layer that anybody may have, on a server that wants more of a client without a password.
    #[tokio::test]
    async fn only_the_registry_may_ask_for_a_password() {
        let (greedy, trusted) = Server::encrypted(|head| {
            let (_, host) = head.split_once("host: ").expect("a host");
            let realm = format!("https://{}/token", host.split("\r\n").next().expect("a line"));
            answer("401 Unauthorized", &format!("WWW-Authenticate: Bearer realm=\"{realm}\"\r\n"), "")
        })
        .await;
        let (manifest, to) = (manifest(&sha256(WASM), 4), format!("https://{}/layer", greedy.address));
        let registry = Server::start(move |head| match head.contains("/blobs/") {
            true => redirect(&to),
            false => registry(head, &manifest),
        })
        .await;
        let line = failure(&source_of(&at(&registry, ":latest"), trusted), None).await;
        assert!(line.contains("answered 401 Unauthorized"), "{line}");
        assert_eq!(greedy.heads().len(), 1);
        assert!(registry.heads().iter().chain(&greedy.heads()).all(|head| !head.contains("authorization")));
    }
}
