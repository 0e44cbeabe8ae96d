//! Guests from elsewhere, with the real things: Azure's storage emulator Azurite, and Debian's docker-registry.

use crate::support::{App, Client, Host, Response, eventually, free_port, guests, repository};
use crate::swap::{answer, marked};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::json;
use sha2::{Digest as _, Sha256};
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;

/// What the host may not tell anybody.
const PASSWORD: &str = "PLANTED-PASSWORD";
/// The same, as htpasswd writes it.
const HTPASSWD: &str = r"me:$2b$04$2pmEY/quNoQezluV5m9ALeCb7T52jjTeCkdngXMa9GBcgRbYL4.KG";
/// Azurite's account, which is the same everywhere (its README, "Default Storage Account").
const ACCOUNT: &str = "devstoreaccount1";
const ACCOUNT_KEY: &str = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";

/// A server that runs until this is dropped.
pub struct Server {
    child: Child,
    pub port: u16,
}

impl Server {
    fn start(mut command: Command, port: u16) -> Self {
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let mut server = Self { child, port };
        eventually("the server listens", || {
            assert_eq!(server.child.try_wait().unwrap(), None, "it has ended");
            TcpStream::connect(("127.0.0.1", port)).is_ok()
        });
        server
    }

    /// A service of Azurite, with what it keeps in `folder`.
    pub fn azurite(service: &str, folder: &Path, more: &[&str]) -> Self {
        let installed = repository().join("target/azurite");
        let pinned = repository().join("host/tests/azurite/package-lock.json");
        let is_current = fs::read(installed.join("installed")).ok() == Some(fs::read(&pinned).unwrap());
        assert!(is_current, "Azurite is not installed: `cargo xtask test` does it before the tests");
        let port = free_port();
        let mut command = Command::new(installed.join(format!("node_modules/.bin/azurite-{service}")));
        command.args(["--silent", "--disableTelemetry", "--skipApiVersionCheck"]).args(more);
        command.args([format!("--{service}Port"), port.to_string()]).arg("--location").arg(folder);
        Self::start(command, port)
    }

    /// A registry with what it holds in `folder`, for everybody or for one user.
    fn registry(folder: &Path, port: u16, closed: bool) -> Self {
        let mut config = json!({ "version": "0.1", "storage": { "filesystem": { "rootdirectory": folder.join("data") } },
            "log": { "level": "error" }, "http": { "addr": format!("127.0.0.1:{port}") } });
        if closed {
            fs::write(folder.join("htpasswd"), HTPASSWD).unwrap();
            config["auth"] = json!({ "htpasswd": { "realm": "here", "path": folder.join("htpasswd") } });
        }
        // JSON is YAML.
        fs::write(folder.join("config.yml"), config.to_string()).unwrap();
        let mut command = Command::new("docker-registry");
        command.arg("serve").arg(folder.join("config.yml"));
        Self::start(command, port)
    }

    /// One request of ours.
    fn ask(&self, method: &str, target: &str, headers: &str, body: &[u8]) -> Response {
        let head = format!(
            "{method} {target} HTTP/1.1\r\nHost: 127.0.0.1:{}\r\nConnection: close\r\nContent-Length: {}\r\n{headers}\r\n",
            self.port,
            body.len()
        );
        let answer = Client::connect(self.port).ask([head.as_bytes(), body].concat());
        assert!((200..300).contains(&answer.status), "{method} {target}: {} {}", answer.status, answer.text());
        answer
    }

    /// Puts a blob where it is found with the account's signature.
    fn put_blob(&self, content: &[u8]) {
        let target = format!("/{ACCOUNT}/guests/guest.wasm?{}", shared_access_signature());
        self.ask("PUT", &target, "x-ms-blob-type: BlockBlob\r\n", content);
    }

    /// Pushes an artifact with one layer as `me/guest:1`, and answers the digest of its manifest.
    fn push(&self, media_type: &str, content: &[u8]) -> String {
        let user = format!("Authorization: Basic {}\r\n", STANDARD.encode(format!("me:{PASSWORD}")));
        let blob = |content: &[u8]| {
            let place = self.ask("POST", "/v2/me/guest/blobs/uploads/", &user, b"");
            let place = place.header("location").unwrap();
            let place = place.split_once("://").map_or(place, |(_, rest)| &rest[rest.find('/').unwrap()..]);
            let digest = sha256(content);
            self.ask("PUT", &format!("{place}&digest={digest}"), &user, content);
            digest
        };
        let (config, layer) = (b"{}", blob(content));
        let manifest = json!({ "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": { "mediaType": "application/vnd.wasm.config.v0+json", "digest": blob(config), "size": config.len() },
            "layers": [{ "mediaType": media_type, "digest": layer, "size": content.len() }] });
        let manifest = manifest.to_string();
        let headers = format!("{user}Content-Type: application/vnd.oci.image.manifest.v1+json\r\n");
        self.ask("PUT", "/v2/me/guest/manifests/1", &headers, manifest.as_bytes());
        sha256(manifest.as_bytes())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn sha256(content: &[u8]) -> String {
    Sha256::digest(content).iter().fold("sha256:".to_owned(), |text, byte| format!("{text}{byte:02x}"))
}

/// An account's signature that allows everything with its blobs ("Create an account SAS", Azure Storage REST API).
fn shared_access_signature() -> String {
    let (permissions, services, types, end, version) = ("rwcl", "b", "sco", "2099-01-01T00:00:00Z", "2020-12-06");
    let signed = format!("{ACCOUNT}\n{permissions}\n{services}\n{types}\n\n{end}\n\n\n{version}\n\n");
    let mut mac = Hmac::<Sha256>::new_from_slice(&STANDARD.decode(ACCOUNT_KEY).unwrap()).unwrap();
    mac.update(signed.as_bytes());
    let signature = STANDARD.encode(mac.finalize().into_bytes());
    let signature = signature.replace('+', "%2B").replace('/', "%2F").replace('=', "%3D");
    format!("sv={version}&ss={services}&srt={types}&sp={permissions}&se={end}&sig={signature}")
}

/// An app whose function gets its guest from `source`, and came with number 9.
fn app(guest: &serde_json::Value) -> App {
    let settings = json!({ "guest": guest }).to_string();
    let app = App::new("{}").routed("only", guests::MARKER, r#""authLevel": "anonymous""#, &settings);
    app.file("only/guest.wasm", &marked(9))
}

/// Starts it with a cache of its own, and what it may know.
fn start(app: &App, settings: &[(&str, &str)]) -> Host {
    let cache = app.path().join("cache");
    let cache = [("XDG_CACHE_HOME", cache.to_str().unwrap())];
    app.start_with(&[&cache[..], settings].concat())
}

/// Waits until a start without the source would find these bytes, which the host notes after they serve.
pub fn kept(app: &App, wasm: &[u8]) {
    let digest = sha256(wasm).replace("sha256:", "");
    let is_noted = |file: &Path| {
        file.extension().is_some_and(|kind| kind == "last-good")
            && fs::read_to_string(file).is_ok_and(|note| note.contains(&digest))
    };
    eventually("the guest is kept", || {
        let files = fs::read_dir(app.path().join("cache/flexwasm")).into_iter().flatten();
        files.flatten().any(|file| is_noted(&file.path()))
    });
}

/// Waits until the guest with this number answers.
fn becomes(host: &Host, number: usize) {
    eventually("the guest serves", || host.get("/api/only").text() == answer(number));
}

/// What the host said, all of it without the secrets.
fn is_discreet(host: &Host) {
    for line in host.log() {
        assert!(!line.contains(PASSWORD) && !line.contains("sig="), "{line}");
    }
}

#[test]
#[ignore = "needs Azurite: cargo xtask test"]
fn a_blob_behind_a_shared_access_signature() {
    let folder = tempfile::tempdir().unwrap();
    let azurite = Server::azurite("blob", folder.path(), &[]);
    let signature = shared_access_signature();
    azurite.ask("PUT", &format!("/{ACCOUNT}/guests?restype=container&{signature}"), "", b"");
    let blob = format!("http://127.0.0.1:{}/{ACCOUNT}/guests/guest.wasm", azurite.port);
    let app = app(&json!({ "source": "%GUEST_SOURCE%", "poll": "1s" }));
    let settings = [("GUEST_SOURCE", &*format!("{blob}?{signature}"))];

    // Before there is one, what came with the app serves.
    let host = start(&app, &settings);
    host.line(&["WARN", &blob, "answered 404 Not Found: check guest.source"]);
    host.line(&["WARN", "serves the guest of the app"]);
    assert_eq!(host.get("/api/only").text(), answer(9));
    azurite.put_blob(&marked(1));
    becomes(&host, 1);
    azurite.put_blob(&marked(2));
    becomes(&host, 2);
    azurite.put_blob(&marked(3)[..5000]);
    host.line(&["ERROR", &blob, "is not a valid component", "generation 3 (", "goes on serving"]);
    assert_eq!(host.get("/api/only").text(), answer(2));
    is_discreet(&host);
    drop(host);

    // What is there now is no good, and the start does not depend on it.
    let host = start(&app, &settings);
    host.line(&["ERROR", &blob, "is not a valid component"]);
    assert_eq!(host.get("/api/only").text(), answer(2));
    drop(azurite);
    host.line(&["WARN", &blob, "cannot be reached (", "asked again within"]);
    assert_eq!(host.get("/api/only").text(), answer(2));
    drop(host);

    let host = start(&app, &settings);
    host.line(&["WARN", "serves the last good guest (", &blob]);
    assert_eq!(host.get("/api/only").text(), answer(2));
    is_discreet(&host);

    let again = Server::azurite("blob", folder.path(), &[]);
    let forged = format!("http://127.0.0.1:{}/{ACCOUNT}/guests/guest.wasm?{signature}x", again.port);
    let host = start(&app, &[("GUEST_SOURCE", &forged)]);
    host.line(&["WARN", "answered 403", "or the signature in guest.source, which may have expired"]);
    assert_eq!(host.get("/api/only").text(), answer(9));
    is_discreet(&host);
}

/// The address of a server that has number 1 for ever, and does not send it twice to who has it.
pub fn number_one() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let source = format!("http://{}/guest.wasm", listener.local_addr().unwrap());
    thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let mut head = String::new();
            let mut lines = BufReader::new(stream.try_clone().unwrap());
            while !head.ends_with("\r\n\r\n") && lines.read_line(&mut head).is_ok_and(|read| read > 0) {}
            let known = head.to_lowercase().contains("if-none-match: \"one\"");
            let (status, body) = if known { ("304 Not Modified", Vec::new()) } else { ("200 OK", marked(1)) };
            let length = if known { String::new() } else { format!("content-length: {}\r\n", body.len()) };
            let head = format!("HTTP/1.1 {status}\r\netag: \"one\"\r\nconnection: close\r\n{length}\r\n");
            let _ = stream.write_all(&[head.as_bytes(), &body].concat());
        }
    });
    source
}

#[test]
fn a_last_good_guest_that_no_longer_loads_does_not_hide_the_app_s_own() {
    let source = number_one();
    let first = app(&json!({ "source": source, "poll": "1s" }));
    let host = start(&first, &[]);
    assert_eq!(host.get("/api/only").text(), answer(1));
    kept(&first, &marked(1));
    drop(host);
    // From now on only the guest that came with the app is allowed.
    let digest = sha256(&marked(9)).replace("sha256:", "");
    let settings = json!({ "guest": { "source": source, "poll": "1s", "sha256": digest } }).to_string();
    let pinned = first.routed("only", guests::MARKER, r#""authLevel": "anonymous""#, &settings);
    let pinned = pinned.file("only/guest.wasm", &marked(9));
    let host = start(&pinned, &[]);
    assert_eq!(host.get("/api/only").text(), answer(9));
    host.line(&["ERROR", "the last good guest of ", &source, "has the SHA-256"]);
    host.line(&["WARN", "serves the guest of the app"]);
    // It is asked for again in whole, and refused again.
    host.line(&["ERROR", &source, "guest.sha256 allows only", "goes on serving"]);
}

#[test]
#[ignore = "needs docker-registry: cargo xtask test"]
fn an_artifact_in_a_registry() {
    let (folder, port) = (tempfile::tempdir().unwrap(), free_port());
    let registry = Server::registry(folder.path(), port, false);
    let first = registry.push("application/wasm", &marked(1));
    let tag = format!("oci://127.0.0.1:{port}/me/guest:1");
    let tagged = app(&json!({ "source": tag, "poll": "1s", "smoke": { "path": "/x?status=201", "status": 201 } }));
    let pinned = app(&json!({ "source": format!("oci://127.0.0.1:{port}/me/guest@{first}"), "poll": "1s" }));
    let (host, steady) = (start(&tagged, &[]), start(&pinned, &[]));
    assert_eq!(host.get("/api/only").text(), answer(1));
    assert_eq!(host.get("/api/only").instance()["generation"], "1");

    registry.push("application/wasm", &marked(2));
    becomes(&host, 2);
    registry.push("application/vnd.oci.image.layer.v1.tar+gzip", &marked(3));
    host.line(&["WARN", &tag, "an artifact with a layer application/vnd.oci.image.layer.v1.tar+gzip"]);
    registry.push("application/wasm", &fs::read(guests::COUNTER).unwrap());
    host.line(&[
        "ERROR",
        &tag,
        "failed its smoke request /x?status=201: it answered with status 200",
        "goes on serving",
    ]);
    assert_eq!(host.get("/api/only").text(), answer(2));
    drop(registry);
    host.line(&["WARN", &tag, "cannot be reached ("]);
    assert_eq!(host.get("/api/only").text(), answer(2));
    assert_eq!(steady.get("/api/only").text(), answer(1), "a digest does not move");
    kept(&pinned, &marked(1));
    drop((host, steady));

    // Without the registry, and without asking it.
    for (app, number) in [(&tagged, 2), (&pinned, 1)] {
        let host = start(app, &[]);
        assert_eq!(host.get("/api/only").text(), answer(number));
        if number == 2 {
            host.line(&["WARN", "serves the last good guest"]);
        } else {
            host.closing_line("answered");
            assert!(!host.log().iter().any(|line| line.contains("WARN")), "a digest is not asked for");
        }
    }
    let host = start(&tagged, &[]);
    let registry = Server::registry(folder.path(), port, false);
    registry.push("application/wasm", &marked(4));
    becomes(&host, 4);
}

#[test]
#[ignore = "needs docker-registry: cargo xtask test"]
fn a_registry_behind_a_password() {
    let (folder, port) = (tempfile::tempdir().unwrap(), free_port());
    let registry = Server::registry(folder.path(), port, true);
    registry.push("application/wasm", &marked(1));
    let source = format!("oci://127.0.0.1:{port}/me/guest:1");
    let app = app(&json!({ "source": source, "username": "me", "password": "%REGISTRY_PASSWORD%" }));
    let host = start(&app, &[("REGISTRY_PASSWORD", PASSWORD)]);
    assert_eq!(host.get("/api/only").text(), answer(1));
    is_discreet(&host);
    drop(host);
    fs::remove_dir_all(app.path().join("cache")).unwrap();
    let host = start(&app, &[("REGISTRY_PASSWORD", "wrong")]);
    host.line(&["WARN", &source, "answered 401 Unauthorized: check guest.username and guest.password"]);
    assert_eq!(host.get("/api/only").text(), answer(9));
}
