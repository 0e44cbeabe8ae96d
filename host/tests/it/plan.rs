//! `flexwasm plan`, from numbers and from the log of a host.

use crate::support::{App, Host, flexwasm, get, guests, output};
use std::path::Path;

fn plan(folder: &Path, arguments: &[&str]) -> (Option<i32>, String) {
    let mut command = flexwasm();
    command.current_dir(folder).arg("plan").args(arguments);
    let (status, stdout, stderr) = output(command);
    (status.code(), stdout + &stderr)
}

#[test]
fn numbers_become_a_line_for_each_size_and_what_to_type() {
    let folder = tempfile::tempdir().unwrap();
    // Less than a guest is taken to compute.
    let (code, said) = plan(folder.path(), &["--rps", "1", "--latency", "0.0001"]);
    assert_eq!(code, Some(0), "{said}");
    let (code, said) = plan(folder.path(), &["--rps", "100", "--latency", "0.2"]);
    assert_eq!(code, Some(0), "{said}");
    for words in ["20.0 at the same time on average, 36 at the peak", "  512 MB", " 2048 MB", " 4096 MB"] {
        assert!(said.contains(words), "{words} is not in {said}");
    }
    assert!(said.contains("\"maxConcurrentRequests\": 13 }") && said.ends_with("--instance-memory 512\n"), "{said}");
    for (arguments, code, words) in [
        (&["--rps", "100"][..], 2, "--latency <S>"),
        (&["--rps=-1", "--latency", "1"], 2, "--rps"),
        (&["--rps", "NaN", "--latency", "1"], 2, "write a number above 0"),
        (&["--rps", "1", "--latency", "1", "--from-log", "log"], 2, "cannot be used with"),
        (&["--rps", "1", "--latency", "0.2", "--cpu", "5"], 2, "--cpu 5 is more than the latency of 0.2 s"),
        (&["--from-log", "log"], 1, "log cannot be read"),
        (&["--rps", "1e9", "--latency", "1"], 1, "divide it among several apps"),
        (&["--rps", "1", "--latency", "1", "--memory", "4000"], 1, "lower --memory"),
    ] {
        let (exit, said) = plan(folder.path(), arguments);
        assert!(exit == Some(code) && said.contains(words), "{arguments:?}: {said}");
    }
}

#[test]
fn the_log_of_a_host_that_runs_alone_is_measured() {
    let app = App::new(r#"{"pool": {"size": 4}}"#).function("http_trigger", guests::DEMONSTRATION);
    let mut command = flexwasm();
    command.current_dir(app.path()).args(["--listen", "127.0.0.1:0"]);
    let host = Host::announced(command);
    // Two at the same time, and one that gets no guest.
    let mut both = [host.connect(), host.connect()];
    both.iter_mut().for_each(|client| client.write(get("/api/http_trigger?delay=1")));
    both.iter_mut().for_each(|client| assert_eq!(client.response(false).status, 200));
    host.get("/api/nothing");
    host.closing_line("refused");
    let log = app.path().join("log");
    std::fs::write(&log, host.log().join("\n")).unwrap();
    let (code, said) = plan(app.path(), &["--from-log", "log"]);
    assert!(code == Some(0) && said.contains(" on average, 2 at the peak\n"), "{said}");
}
