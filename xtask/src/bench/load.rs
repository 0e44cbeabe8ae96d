//! Load from `wrk`: one thread, a closed loop on each connection.

use super::servers::{Cores, Running};
use crate::process;
use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize};
use std::process::{Command, Stdio};

/// What one server did in one window.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Window {
    pub requests_per_second: f64,
    pub p50_us: f64,
    pub p99_us: f64,
    /// Time on a processor of all threads of the server, for each request.
    pub cpu_us: f64,
    /// Resident memory of the server at the end of the window.
    pub rss_kib: f64,
}

/// The line that `benches/wrk.lua` prints.
#[derive(Debug, Deserialize)]
struct Printed {
    requests: u64,
    /// Microseconds, as the latencies.
    duration: f64,
    p50: f64,
    p99: f64,
    /// Answers with a status from 400 on.
    statuses: u64,
    sockets: u64,
}

/// Sends requests for some seconds.
///
/// # Errors
/// When an answer was not 200 or a socket failed: such a window is void.
pub fn run(server: &Running, cores: Cores, connections: u32, seconds: u32) -> Result<Window> {
    let mut wrk = Command::new("wrk");
    wrk.args(["--threads", "1", "--connections", &connections.to_string(), "--duration", &format!("{seconds}s")]);
    wrk.arg("--script").arg(crate::root().join("benches/wrk.lua")).arg(server.url());
    let before = process::cpu_time(server.process())?;
    let child = process::spawn_on(&[cores.client], wrk.stdin(Stdio::null()).stdout(Stdio::piped()))?;
    let output = child.wait_with_output().context("cannot read what wrk prints")?;
    let spent = process::cpu_time(server.process())? - before;
    if !output.status.success() {
        bail!("wrk failed ({})", output.status);
    }
    let printed = parse(&String::from_utf8_lossy(&output.stdout))?;
    Ok(Window {
        requests_per_second: printed.requests as f64 / (printed.duration / 1e6),
        p50_us: printed.p50,
        p99_us: printed.p99,
        cpu_us: spent as f64 / 1e3 / printed.requests as f64,
        rss_kib: process::status(server.process(), "VmRSS") as f64,
    })
}

fn parse(output: &str) -> Result<Printed> {
    let line = output.lines().find(|line| line.starts_with('{')).context("wrk printed no result")?;
    let printed: Printed = serde_json::from_str(line).with_context(|| format!("wrk printed {line}"))?;
    if printed.statuses > 0 || printed.sockets > 0 || printed.requests == 0 {
        let Printed { requests, statuses, sockets, .. } = printed;
        bail!("{requests} answers, {statuses} with an error status, {sockets} socket errors");
    }
    Ok(printed)
}

#[cfg(test)]
mod tests {
    use super::parse;

    const BEFORE: &str = "Running 1s test @ http://127.0.0.1:8080/\n  1 threads and 64 connections\n";

    #[test]
    fn the_line_among_wrks_own_is_read() {
        let line = r#"{"requests":9000,"duration":1000200,"p50":812.0,"p99":2010.0,"statuses":0,"sockets":0}"#;
        let printed = parse(&format!("{BEFORE}{line}\n")).expect("a good run");
        assert_eq!((printed.requests, printed.p50, printed.p99), (9000, 812.0, 2010.0));
    }

    #[test]
    fn a_run_with_an_error_status_is_void() {
        let line = r#"{"requests":9000,"duration":1000200,"p50":812.0,"p99":2010.0,"statuses":3,"sockets":0}"#;
        let error = parse(line).expect_err("a void run");
        assert_eq!(error.to_string(), "9000 answers, 3 with an error status, 0 socket errors");
    }

    #[test]
    fn a_run_with_a_socket_error_is_void() {
        let line = r#"{"requests":9000,"duration":1000200,"p50":812.0,"p99":2010.0,"statuses":0,"sockets":1}"#;
        assert!(parse(line).is_err());
    }

    #[test]
    fn a_run_without_an_answer_is_void() {
        let line = r#"{"requests":0,"duration":1000200,"p50":0.0,"p99":0.0,"statuses":0,"sockets":0}"#;
        assert!(parse(line).is_err());
        assert!(parse(BEFORE).is_err());
    }
}
