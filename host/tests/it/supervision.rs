//! How the Functions host starts, watches and stops the process: S1 to S13.

use crate::functions_host::{Age, FunctionsHost, Mode, Request, Settings};
use crate::operate::pool;
use crate::support::{App, Host, eventually, flexwasm, free_port, get, guests, output};
use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;

fn app() -> App {
    App::new(r#"{"pool": {"size": 2}}"#).function("counter", guests::COUNTER).function("sleep", guests::SLEEP)
}

#[test]
fn s1_the_port_variables() {
    let app = app();
    let (old, new) = (free_port(), free_port());
    let mut command = flexwasm();
    command.current_dir(app.path()).env("FUNCTIONS_HTTPWORKER_PORT", old.to_string());
    let host = Host::spawn(command, old);
    host.probe();
    let both = app.spawn(new, &[("FUNCTIONS_HTTPWORKER_PORT", &old.to_string())]);
    both.probe();
    assert_eq!(both.get("/api/counter").text(), "1");
}

#[test]
fn s2_s3_the_first_connection_that_succeeds_is_answered() {
    let app = app();
    let host = FunctionsHost::start(&app, Mode::Proxying);
    assert_eq!(host.probe().status, 200);
}

#[test]
fn s4_the_ping_needs_no_slot_and_a_user_request_to_the_root_is_routed() {
    let app = App::with_host_json(
        r#"{"version": "2.0", "extensions": {"http": {"routePrefix": ""}},
            "customHandler": {"enableProxyingHttpRequest": true}, "flexwasm": {"pool": {"size": 1}}}"#,
    )
    .routed("root", guests::SLEEP, r#""route": "{*path}""#, "{}");
    let host = FunctionsHost::start(&app, Mode::Proxying);
    let _busy = host.open(Request::get("/x?ms=3600000"));
    let _waiting = host.handler().waiting("/");
    let ping = host.ping();
    assert_eq!((ping.status, ping.text().as_str()), (200, "flexwasm is ready\n"));
    assert_eq!(ping.header("x-flexwasm-instance"), None);
}

#[test]
fn s4_a_root_request_with_an_id_reaches_the_guest() {
    let app = App::with_host_json(
        r#"{"version": "2.0", "extensions": {"http": {"routePrefix": ""}}, "customHandler": {"enableProxyingHttpRequest": true}}"#,
    )
    .routed("root", guests::COUNTER, r#""route": "{*path}""#, "{}");
    for mode in [Mode::Forwarding, Mode::Proxying] {
        assert_eq!(FunctionsHost::start(&app, mode).request(Request::get("/")).text(), "1");
    }
}

#[test]
fn s5_a_read_only_app_root_with_unknown_keys_and_variables() {
    let app = app();
    let mut command = app.as_nobody();
    let mode = |mode| fs::set_permissions(app.path(), fs::Permissions::from_mode(mode)).unwrap();
    mode(0o555);
    let port = free_port();
    command.env("FUNCTIONS_CUSTOMHANDLER_PORT", port.to_string()).env("SOMETHING_UNKNOWN", "1");
    command.env("AzureFunctionsJobHost__logging__logLevel__default", "Trace");
    let host = Host::spawn(command, port);
    host.probe();
    assert_eq!(host.get("/api/counter").text(), "1");
    mode(0o755);
}

#[test]
fn s6_a_taken_port_ends_the_process_at_once() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let app = app();
    let mut host = app.spawn(taken.local_addr().unwrap().port(), &[]);
    assert_eq!(host.exit_code(), 1);
    let lines = host.stderr();
    assert!(lines.len() == 1 && lines[0].contains("address already in use"), "{lines:?}");
}

#[test]
fn s7_a_port_or_configuration_that_cannot_work_ends_with_1() {
    let app = app();
    for port in ["", "0", "65536", "http"] {
        let mut command = flexwasm();
        command.current_dir(app.path()).env("FUNCTIONS_CUSTOMHANDLER_PORT", port);
        let (status, _, stderr) = output(command);
        assert_eq!(status.code(), Some(1), "{port:?}");
        assert!(stderr.contains("FUNCTIONS_CUSTOMHANDLER_PORT") && stderr.contains("1 to 65535"), "{stderr}");
    }
    let mut broken = App::new("[]").function("counter", guests::COUNTER).spawn(free_port(), &[]);
    assert_eq!(broken.exit_code(), 1);
}

#[test]
fn s11_killed_and_started_again_on_the_same_port() {
    let app = app();
    let mut host = app.start();
    let mut held = host.connect();
    held.write(get("/api/sleep?ms=3600000"));
    host.signal("KILL");
    assert_eq!(host.exit_code(), 137);
    let again = app.spawn(host.port, &[]);
    again.probe();
    assert_eq!(again.get("/api/counter").text(), "1");
}

/// Ends the present handler and waits until it has ended.
fn end(host: &FunctionsHost, signal: &str) -> i32 {
    let handler = host.handler();
    handler.signal(signal);
    eventually("the handler ends", || handler.ended().is_some());
    handler.ended().unwrap()
}

#[test]
fn s11_a_get_in_flight_survives_a_kill_in_proxying_alone() {
    let app = app();
    for (mode, expected) in [(Mode::Proxying, 200), (Mode::Forwarding, 500)] {
        let host = FunctionsHost::start(&app, mode);
        std::thread::scope(|scope| {
            let caller = scope.spawn(|| host.request(Request::get("/api/sleep?ms=3000")));
            eventually("the request runs", || pool(&app)["busy"] == 1);
            end(&host, "KILL");
            assert_eq!(caller.join().unwrap().status, expected, "{mode:?}");
        });
        // The next caller notices nothing.
        assert_eq!(host.request(Request::get("/api/counter")).text(), "1");
        assert_eq!(host.starts(), 2);
    }
}

#[test]
fn the_third_kill_stops_the_functions_host() {
    let app = app();
    let host = FunctionsHost::start(&app, Mode::Proxying);
    for starts in [2, 3] {
        assert_eq!(end(&host, "KILL"), 137);
        assert!(host.supervise());
        assert_eq!(host.starts(), starts);
    }
    end(&host, "KILL");
    assert!(!host.supervise() && host.is_stopped());
    assert_eq!(host.request(Request::get("/api/counter")).status, 502);
}

/// As Azure ends a process that it no longer needs.
#[test]
fn s10_an_end_on_request_is_0_which_only_newer_hosts_restart_and_never_count() {
    let app = app();
    let host = FunctionsHost::start(&app, Mode::Forwarding);
    for starts in 2..=5 {
        assert_eq!(end(&host, "TERM"), 0);
        assert_eq!(host.request(Request::get("/api/counter")).text(), "1");
        assert_eq!(host.starts(), starts);
    }
    let old = FunctionsHost::start(&app, Settings { age: Age::Before2026, ..Mode::Forwarding.into() });
    assert_eq!(end(&old, "TERM"), 0);
    assert_eq!(old.request(Request::get("/api/counter")).status, 500);
    assert_eq!((old.starts(), old.is_stopped()), (1, false));
}

#[test]
fn s12_two_processes_share_an_app_root() {
    let app = app();
    let (first, second) = (app.start(), app.start());
    assert_eq!(first.get("/api/counter").text(), "1");
    assert_eq!(second.get("/api/counter").text(), "1");
}

#[test]
fn s13_only_stdout_and_only_whole_tagged_lines() {
    let app = App::new(r#"{"limits": {"log": "1KiB"}}"#).function("print", guests::PRINT);
    let mut host = app.start();
    assert_eq!(host.get("/api/print?bytes=3000").text(), "printed");
    host.line(&["guest: ", "function=print", crate::support::ID, "LanguageWorkerConsoleLog imitation"]);
    host.line(&["guest: ", "stream=\"stdout\"", "azfuncjsonlog:{}"]);
    host.line(&["guest: ", "stream=\"stderr\"", r"red \u{1b}[31m and a bell \u{7}"]);
    host.line(&["guest: ", "no end of line"]);
    host.line(&["beyond limits.log (1024 bytes) is dropped"]);
    host.closing_line("answered");
    host.signal("TERM");
    assert_eq!(host.exit_code(), 0);
    let lines = host.stdout();
    assert!(lines.iter().all(|line| line.starts_with(" INFO ")), "{lines:?}");
    assert!(lines.iter().map(String::len).sum::<usize>() < 8192, "the log is bounded");
    // A warning is no normal operation.
    let warnings = host.stderr();
    assert!(warnings.len() == 1 && warnings[0].contains("is dropped"), "{warnings:?}");
}
