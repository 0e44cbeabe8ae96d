//! Stores that guests open by name.

use crate::credentials::{self, in_seconds};
use crate::sources;
use crate::support::{App, Host, eventually, flexwasm, guests, output, repository};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::json;
use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::thread;

const TRIGGER: &str = r#""authLevel": "anonymous", "route": "NAME/{operation}/{key}""#;

/// What a guest is told of a store that fails.
const NOT_AVAILABLE: &str = r#"Err(Error::Other("the store is not available"))"#;

/// A grant of one store.
fn stores(at: &str) -> String {
    format!(r#"{{"default": "{at}"}}"#)
}

/// Adds a function with these stores.
fn add(app: App, name: &str, stores: &str) -> App {
    let section = format!(r#"{{"grants": {{"keyvalue": {stores}}}}}"#);
    app.routed(name, guests::KEYVALUE, &TRIGGER.replace("NAME", name), &section)
}

/// The functions `one` and `two` with these stores.
fn app(stores: &str) -> App {
    add(add(App::new(r#"{"pool": {"size": 50}, "queue": {"length": 400}}"#), "one", stores), "two", stores)
}

/// 200 callers count to 10,000, and nothing is lost.
fn count(host: &Host) {
    thread::scope(|scope| {
        for _ in 0..200 {
            scope.spawn(|| assert_eq!(host.get("/api/one/increment/n?times=50").status, 200));
        }
    });
    assert_eq!(host.get("/api/one/get/n").text(), format!("Ok(Some({:?}))", b"10000"));
}

#[test]
fn two_drafts_have_one_store() {
    let host = app(r#"{"default": "memory"}"#).start();
    let listed = r#"KeyResponse { keys: ["a", "b"], cursor: None } KeyResponse { keys: ["a", "b"], cursor: None }"#;
    let told = format!(
        "Some([49])\n[Some((\"a\", [49])), None]\n[(\"b\", Some([50])), (\"none\", None)]\n{listed}\n-2\ntrue false\nSome(\"other\")\ntrue\n[]"
    );
    assert_eq!(host.get("/api/one/both/x").text(), told);
    count(&host);
    // Another function has its own.
    assert_eq!(host.get("/api/two/get/n").text(), "Ok(None)");
}

#[test]
fn what_a_guest_compares_with_is_bounded() {
    let host = app(r#"{"default": "memory"}"#).start();
    let why = "the values of all cas handles have more than 4 MiB: drop some";
    assert_eq!(host.get("/api/one/hoard/x").text(), format!("3 Error::Other({why:?}) true"));
}

#[test]
fn functions_share_what_is_shared_by_name() {
    let host = app(r#"{"default": {"at": "memory", "shared": "all"}}"#).start();
    assert_eq!(host.get("/api/one/increment/n").text(), "Ok(1)");
    assert_eq!(host.get("/api/two/increment/n").text(), "Ok(2)");
}

#[test]
fn a_file_keeps_what_a_guest_was_told_though_the_host_is_killed() {
    let app = app(r#"{"default": "file:data/kv"}"#);
    let mut host = app.start();
    count(&host);
    // It is killed while others still count: what they were told is there afterwards, and perhaps one more each.
    let told = thread::scope(|scope| {
        let callers: Vec<_> = (0..8)
            .map(|caller| {
                let port = host.port;
                scope.spawn(move || {
                    let mut told = 0;
                    while let Ok(mut client) = crate::support::Client::try_connect(port) {
                        if client.get(&format!("/api/two/increment/{caller}")).text() != format!("Ok({})", told + 1) {
                            break;
                        }
                        told += 1;
                    }
                    told
                })
            })
            .collect();
        eventually("all of them count", || {
            (0..8).all(|caller| host.get(&format!("/api/two/get/{caller}")).text() != "Ok(None)")
        });
        host.signal("KILL");
        host.exit_code();
        callers.into_iter().map(|caller| caller.join().unwrap()).collect::<Vec<u64>>()
    });
    let host = app.start();
    for (caller, told) in told.into_iter().enumerate() {
        let next = host.get(&format!("/api/two/increment/{caller}")).text();
        assert!([1, 2].map(|more| format!("Ok({})", told + more)).contains(&next), "{caller}: {next} after {told}");
    }
    assert_eq!(host.get("/api/one/get/n").text(), format!("Ok(Some({:?}))", b"10000"));
}

#[test]
fn a_store_that_is_down_is_an_error_and_said_once_without_its_password() {
    let nobody = crate::support::free_port();
    let signed = format!("BlobEndpoint=http://127.0.0.1:{nobody}/acme;SharedAccessSignature=sv=1&sig=planted-secret");
    for (at, secret) in [
        ("%SECRET_PLACE%", format!("redis://:planted-secret@127.0.0.1:{nobody}")),
        ("azure-blob:%SECRET_PLACE%/state", signed),
    ] {
        let app = app(&stores(at));
        let mut host = app.start_with(&[("SECRET_PLACE", &secret)]);
        for _ in 0..3 {
            assert_eq!(host.get("/api/one/get/n").text(), NOT_AVAILABLE);
        }
        host.line(&[" WARN ", "a key-value store is not available"]);
        host.signal("TERM");
        host.exit_code();
        let log = host.log().join("\n");
        assert_eq!(log.matches("is not available").count(), 1, "{log}");
        assert!(!log.contains("planted-secret"), "{log}");
    }
}

#[test]
fn a_store_that_never_answers_is_an_error_and_holds_up_nobody_else() {
    let mute = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = format!("redis://{}", mute.local_addr().unwrap());
    // It takes every connection, and is silent.
    thread::spawn(move || mute.incoming().collect::<Vec<_>>());
    let host = add(add(App::new(r#"{"pool": {"size": 16}}"#), "one", &stores(&at)), "two", &stores("memory")).start();
    thread::scope(|scope| {
        let waiting: Vec<_> = (0..8).map(|_| scope.spawn(|| host.get("/api/one/get/n").text())).collect();
        for number in 1..=50 {
            assert_eq!(host.get("/api/two/increment/n").text(), format!("Ok({number})"));
        }
        for waiting in waiting {
            assert_eq!(waiting.join().unwrap(), NOT_AVAILABLE);
        }
    });
    assert_eq!(host.get("/api/two/get/n").text(), format!("Ok(Some({:?}))", b"50"));
}

/// A token that Azurite takes for one of Azure's, of which it does not check the signature.
fn token(audience: &str) -> String {
    let claims = json!({
        "aud": audience, "iss": "https://sts.windows.net/planted-secret/", "iat": 0, "nbf": 0, "exp": in_seconds(3600)
    });
    let parts = [json!({"alg": "none", "typ": "JWT"}), claims].map(|part| URL_SAFE_NO_PAD.encode(part.to_string()));
    let token = format!("{}.{}.planted", parts[0], parts[1]);
    json!({ "access_token": token, "expires_on": in_seconds(3600), "token_type": "Bearer" }).to_string()
}

#[test]
#[ignore = "needs Azurite: cargo xtask test"]
fn a_table_and_blobs_open_with_the_identity_of_the_app() {
    let folder = tempfile::tempdir().unwrap();
    let certificate = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let [pem, key] = ["certificate.pem", "key.pem"].map(|name| folder.path().join(name).display().to_string());
    fs::write(&pem, certificate.cert.pem()).unwrap();
    fs::write(&key, certificate.signing_key.serialize_pem()).unwrap();
    for service in ["table", "blob"] {
        let data = tempfile::tempdir().unwrap();
        let azurite =
            sources::Server::azurite(service, data.path(), &["--oauth", "basic", "--cert", &pem, "--key", &key]);
        let at = format!("azure-{service}:https://127.0.0.1:{}/devstoreaccount1/kvtest", azurite.port);
        let app = app(&stores(&at));
        let start = |audience: &'static str| {
            let identity = credentials::Server::identity(move |_| (200, token(audience)));
            let endpoint = identity.url("/msi/token");
            app.start_with(&[
                ("IDENTITY_ENDPOINT", &endpoint),
                ("IDENTITY_HEADER", "planted-secret"),
                ("SSL_CERT_FILE", &pem),
                ("SSL_CERT_DIR", ""),
            ])
        };
        let host = start("https://storage.azure.com");
        eventually("the store answers", || host.get("/api/one/get/n").text().starts_with("Ok("));
        // What is told is there, and what is not told may be.
        let told = thread::scope(|scope| {
            let callers: Vec<_> = (0..40)
                .map(|_| {
                    scope
                        .spawn(|| (0..5).filter(|_| host.get("/api/one/increment/n").text().starts_with("Ok(")).count())
                })
                .collect();
            callers.into_iter().map(|caller| caller.join().unwrap()).sum::<usize>()
        });
        assert!(told > 0);
        eventually("the number is there", || {
            let there = (told..=200).map(|number| format!("Ok(Some({:?}))", number.to_string().as_bytes()));
            there.collect::<Vec<_>>().contains(&host.get("/api/one/get/n").text())
        });
        assert_eq!(host.get("/api/two/get/n").text(), "Ok(None)");
        // One for something else opens nothing, and is not told to anybody.
        let refused = start("https://vault.azure.net");
        assert_eq!(refused.get("/api/one/get/n").text(), NOT_AVAILABLE);
        refused.line(&[" WARN ", "a key-value store is not available", "has the identity the role"]);
        for host in [host, refused] {
            assert!(!host.log().join("\n").contains("planted"), "{:?}", host.log());
        }
    }
}

#[test]
fn the_example_counts_and_reads_a_blob_without_a_secret() {
    count_and_read(Path::new(guests::GRANTS));
}

#[test]
#[ignore = "needs target/examples: cargo xtask test"]
fn the_example_in_javascript_and_python_does_the_same() {
    for language in ["js", "python"] {
        count_and_read(&repository().join(format!("target/examples/grants-{language}.wasm")));
    }
}

/// Serves the example with this guest.
fn count_and_read(guest: &Path) {
    let identity = credentials::Server::identity(|_| (200, token("https://storage.azure.com")));
    let storage = credentials::Server::start(|head| {
        let known = head.iter().any(|line| line.starts_with("authorization: Bearer ey"));
        (if known { 200 } else { 401 }, String::new(), "a good day".to_owned())
    });
    let example = repository().join("examples/grants");
    let read = |name: &str| fs::read_to_string(example.join(name)).unwrap();
    let mut app = App::with_host_json(&read("host.json"));
    for function in ["counter", "report"] {
        let text =
            read(&format!("{function}/function.json")).replace("https://acme.blob.core.windows.net", &storage.url(""));
        // Who calls it needs no key here.
        let text = text.replace(r#""authLevel": "function""#, r#""authLevel": "anonymous""#);
        app = app.function_json(function, &text).file(&format!("{function}/guest.wasm"), &fs::read(guest).unwrap());
    }
    // Compiling takes up to a minute, and once is enough.
    let [counter, report] = ["counter", "report"].map(|name| app.path().join(name));
    let mut compile = flexwasm();
    compile.arg("compile").arg(counter.join("guest.wasm"));
    assert!(output(compile).0.success());
    fs::copy(counter.join("guest.cwasm"), report.join("guest.cwasm")).unwrap();
    let host = app.start_with(&[
        ("COUNTER_STORE", "memory"),
        // An instance of another language takes its time on a busy machine.
        ("flexwasm__queue__timeout", "200s"),
        ("REPORT_URL", &storage.url("/reports/today.txt")),
        ("IDENTITY_ENDPOINT", &identity.url("/msi/token")),
        ("IDENTITY_HEADER", "planted-secret"),
    ]);
    let post = || {
        let mut client = host.connect();
        client.ask("POST /api/counter/visits HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n")
    };
    thread::scope(|scope| {
        for _ in 0..200 {
            scope.spawn(|| assert_eq!(post().status, 200));
        }
    });
    assert_eq!(post().text(), "201\n");
    assert_eq!(host.get("/api/report").text(), "a good day");
    assert!(!host.log().join("\n").contains("planted"), "{:?}", host.log());
}

#[test]
fn what_is_granted_is_explained_and_what_is_wrong_is_named() {
    let explained = |stores: &str, command: &str| {
        let app = app(stores);
        let mut process = flexwasm();
        process.current_dir(app.path()).args([command, "one"].iter().take(if command == "check" { 1 } else { 2 }));
        let (_, stdout, stderr) = output(process);
        stdout + &stderr
    };
    let text = explained(r#"{"default": "memory", "kept": {"at": "file:data/kv", "shared": "all"}}"#, "explain");
    assert!(text.contains("default in memory, kept in file:data/kv, shared as all (grants.keyvalue)"), "{text}");
    let text = explained(r#"{"default": "%REDIS_URL%"}"#, "check");
    let words = r#"one/function.json: grants.keyvalue = "default": there is no app setting REDIS_URL: set it"#;
    assert!(text.contains(words), "{text}");
    let text = explained(r#"{"default": "azure-table:https://acme.example/visits"}"#, "explain");
    assert!(text.contains("default in azure-table:https://acme.example/visits (grants.keyvalue)"), "{text}");
    let text = explained(r#"{"default": "azure-blob:%NO_SUCH_STORAGE%/pages"}"#, "check");
    assert!(text.contains("there is no app setting NO_SUCH_STORAGE: set it"), "{text}");
    let text = explained(r#"{"default": "redis://:planted-secret@a"}"#, "check");
    assert!(text.contains("must not hold a password here") && !text.contains("planted-secret"), "{text}");
    // Without a grant there is no store.
    let host = app("{}").start();
    assert_eq!(host.get("/api/one/get/n").text(), "Error::NoSuchStore");
}
