//! Clients that read nothing before they have sent everything, and guests that answer before they have read everything: the
//! Functions host's client (.NET's over HTTP/1.1) is one of the former, in forwarding and in proxying.

use crate::support::{App, Client, Host, PATIENCE, eventually, guests};
use std::fs;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::process::Command;
use std::thread;
use std::time::Duration;

/// More than the sockets between client and host hold.
const LARGE: usize = 24 << 20;

fn bytes(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at / 7 + at / 65_536) as u8).collect()
}

fn head(path: &str, length: usize) -> String {
    format!("POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n")
}

/// Sends everything, then reads.
fn echoed(client: &mut Client, path: &str, sent: &[u8]) {
    client.write(head(path, sent.len()));
    client.write(sent);
    let answer = client.response(false);
    assert_eq!((answer.status, answer.complete, answer.body.len()), (200, true, sent.len()));
    assert!(answer.body == sent, "the bytes are others");
}

fn app(settings: &str) -> App {
    App::new(settings).function("echo", guests::ECHO).function("p3", guests::P3_ECHO)
}

/// Temporary files that the process has open.
fn temporary_files(host: &Host) -> usize {
    let open = fs::read_dir(format!("/proc/{}/fd", host.id())).unwrap();
    let targets = open.filter_map(|entry| fs::read_link(entry.unwrap().path()).ok());
    // Linux calls a file that never had a name by its number.
    targets.filter(|target| target.to_string_lossy().contains("/#")).count()
}

#[test]
fn what_is_sent_before_anything_is_read_comes_back_whole() {
    let app = app("{}");
    let host = app.start();
    for path in ["/api/echo", "/api/p3"] {
        let mut client = host.connect();
        // On one connection, so that nothing of a body is left for the next.
        for length in [1 << 20, 8 << 20, 12 << 20, 100 << 20] {
            echoed(&mut client, path, &bytes(length));
        }
    }
    eventually("the temporary files are gone", || temporary_files(&host) == 0);
}

#[test]
fn what_is_read_ahead_lies_in_files_without_a_name_and_takes_little_memory() {
    let (app, folder) = (app(r#"{"limits": {"spool": "512MiB"}}"#), tempfile::tempdir().unwrap());
    let mut host = app.start_with(&[("TMPDIR", folder.path().to_str().unwrap())]);
    let idle = host.resident();
    let (count, body) = (16, bytes(LARGE));
    let mut clients: Vec<Client> = (0..count).map(|_| host.connect()).collect();
    for client in &mut clients {
        client.write(head("/api/echo", body.len()));
        client.write(&body);
    }
    // All of it has been taken, and nothing has been read.
    assert_eq!(temporary_files(&host), count);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    let grown = host.resident().saturating_sub(idle);
    assert!(grown < 64 << 20, "{grown} bytes");
    for client in &mut clients {
        assert!(client.response(false).body == body, "the bytes are others");
    }
    eventually("the temporary files are gone", || temporary_files(&host) == 0);

    // Nothing is left of a process that is killed.
    let mut client = host.connect();
    client.write(head("/api/echo", 2 * LARGE));
    client.write(&body);
    assert_eq!(temporary_files(&host), 1);
    host.signal("KILL");
    host.exit_code();
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

/// Sends to a guest that answers while it reads, and reads nothing: the host breaks off, and what it answered does not look whole.
fn pours_in_vain(port: u16, path: &str, length: usize) {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(head(path, length).as_bytes()).unwrap();
    let error = stream.write_all(&bytes(length)).expect_err("the host does not take everything");
    assert!(matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe), "{error}");
    let mut answer = Vec::new();
    // Its error may come before what had arrived.
    let _ = stream.read_to_end(&mut answer);
    assert!(!answer.ends_with(b"\r\n0\r\n\r\n"), "{} bytes", answer.len());
}

#[test]
fn what_cannot_be_read_ahead_is_ended_with_its_reason() {
    let app = app(r#"{"limits": {"spool": "2MiB", "timeout": "200s"}}"#);
    let host = app.start();
    for name in ["echo", "p3"] {
        let path = format!("/api/{name}");
        pours_in_vain(host.port, &path, LARGE);
        let line = host.line(&[" invocation: ", &format!("function={name} "), "outcome=\"stalled\""]);
        assert!(line.contains("reads nothing before it has sent everything"), "{line}");
        assert!(
            line.contains("limits.spool of 2MiB, shared by all requests, reached: raise it, or let the guest"),
            "{line}"
        );
        // Room and slot are free again.
        echoed(&mut host.connect(), &path, &bytes(1 << 20));
    }
}

#[test]
fn more_room_than_the_temporary_folder_has_is_told_at_the_start() {
    let app = app(r#"{"limits": {"spool": "1024GiB"}}"#);
    let host = app.start();
    host.line(&["WARN", "limits.spool of 1024GiB is more than the temporary folder has free", "set TMPDIR"]);
    echoed(&mut host.connect(), "/api/echo", &bytes(1 << 20));
}

#[test]
fn a_temporary_folder_that_takes_nothing_is_told_at_the_start_and_for_each_request() {
    // One that is missing, and one that nobody can write to.
    for folder in ["/nowhere/at/all", "/proc"] {
        let app = app(r#"{"limits": {"timeout": "200s"}}"#);
        let host = app.start_with(&[("TMPDIR", folder)]);
        host.line(&["WARN", "the temporary folder takes no file", "set TMPDIR"]);
        pours_in_vain(host.port, "/api/echo", LARGE);
        let line = host.closing_line("stalled");
        assert!(line.contains("takes no file (") && line.contains("set TMPDIR to"), "{folder}: {line}");
    }
}

#[test]
#[ignore = "needs unshare: cargo xtask test"]
fn a_full_disk_ends_the_request_and_not_the_host() {
    let (app, folder) = (app(r#"{"limits": {"timeout": "200s", "spool": "100MiB"}}"#), tempfile::tempdir().unwrap());
    let port = crate::support::free_port();
    let mut command = Command::new("unshare");
    let script = r#"mount -t tmpfs -o size=3m,mode=700 disk "$1" && TMPDIR="$1" exec "$0""#;
    command.args(["--map-root-user", "--mount", "sh", "-c", script]);
    command.arg(env!("CARGO_BIN_EXE_flexwasm")).arg(folder.path()).current_dir(app.path());
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap());
    command.env("FUNCTIONS_CUSTOMHANDLER_PORT", port.to_string());
    command.env("XDG_CACHE_HOME", concat!(env!("CARGO_TARGET_TMPDIR"), "/cache"));
    let host = Host::spawn(command, port);
    host.probe();
    pours_in_vain(port, "/api/echo", LARGE);
    let line = host.closing_line("stalled");
    assert!(line.contains("the temporary folder took no more (") && line.contains("with more room"), "{line}");
    echoed(&mut host.connect(), "/api/echo", &bytes(1 << 20));
}

#[test]
fn a_client_that_leaves_ends_the_guest_whose_request_is_read_ahead() {
    let app = app(r#"{"pool": {"size": 1}, "limits": {"timeout": "200s"}}"#);
    let host = app.start();
    let mut client = host.connect();
    client.write(head("/api/echo", 2 * LARGE));
    client.write(bytes(LARGE));
    drop(client);
    host.closing_line("client-gone");
    eventually("the temporary files are gone", || temporary_files(&host) == 0);
    echoed(&mut host.connect(), "/api/echo", &bytes(1 << 20));
}

#[test]
fn a_client_that_reads_slowly_is_not_taken_for_one_that_does_not_read() {
    let app = app(r#"{"limits": {"timeout": "200s", "spool": "1MiB"}}"#);
    let host = app.start();
    let body = bytes(8 << 20);
    let mut reader = TcpStream::connect(("127.0.0.1", host.port)).unwrap();
    reader.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut writer = reader.try_clone().unwrap();
    let sent = body.clone();
    let sending = thread::spawn(move || {
        writer
            .write_all(head("/api/echo", sent.len()).replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n").as_bytes())?;
        writer.write_all(&sent)
    });
    // About 1 MiB a second.
    let (mut answer, mut piece) = (Vec::new(), vec![0; 52_000]);
    loop {
        let length = reader.read(&mut piece).unwrap();
        if length == 0 {
            break;
        }
        answer.extend_from_slice(&piece[..length]);
        thread::sleep(Duration::from_millis(50));
    }
    sending.join().unwrap().unwrap();
    assert!(answer.len() > body.len() && answer.ends_with(b"\r\n0\r\n\r\n"), "{} bytes", answer.len());
    host.closing_line("answered");
}

#[test]
fn a_guest_that_waits_for_more_of_a_request_that_was_read_ahead_gets_it() {
    for path in ["/api/echo", "/api/p3"] {
        let app = app("{}");
        let host = app.start();
        let body = bytes(LARGE);
        let mut client = host.connect();
        client.write(head(path, body.len()));
        // Everything but the last bytes is taken, and more is waited for, before the client begins to read.
        client.write(&body[..body.len() - 10]);
        eventually("the request is read ahead", || temporary_files(&host) == 1);
        let mut answer = client.response_head();
        while answer.body.len() < body.len() - 10 {
            answer.body.extend(client.chunk().unwrap());
        }
        client.write(&body[body.len() - 10..]);
        while answer.body.len() < body.len() {
            answer.body.extend(client.chunk().unwrap());
        }
        assert!(answer.body == body, "the bytes are others");
        client.last_chunk_and_trailers();
    }
}

#[test]
fn the_deadline_holds_while_a_request_is_read_ahead() {
    for path in ["/api/echo", "/api/p3"] {
        let app = app(r#"{"limits": {"timeout": "2s"}}"#);
        let host = app.start();
        let mut client = host.connect();
        client.write(head(path, 2 * LARGE));
        client.write(bytes(LARGE));
        host.closing_line("deadline");
        eventually("the temporary files are gone", || temporary_files(&host) == 0);
    }
}

#[test]
fn switched_off_both_wait_until_the_deadline() {
    let app = app(r#"{"limits": {"timeout": "2s", "spool": "0"}}"#);
    let host = app.start();
    pours_in_vain(host.port, "/api/echo", LARGE);
    host.closing_line("deadline");
}
