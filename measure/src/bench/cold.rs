//! Cold start: from just before the process is made to the end of its first answer, a guest's own.
//!
//! Not pinned: a process that starts may use every processor, as it may where it ships.

use crate::process;
use crate::server::{self, GUEST, Program, Running};
use crate::stats::Spread;
use anyhow::{Context as _, Result};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fs;

/// What is started: a name, the program, and flexwasm's pool.
const STARTS: [(&str, Option<u32>); 3] =
    [("raw hyper", None), ("flexwasm, pool of 10", Some(10)), ("flexwasm, pool of 1000", Some(1000))];

/// Starts of one server, in milliseconds.
#[derive(Serialize)]
pub struct Start {
    pub server: &'static str,
    pub ready_ms: Spread,
    /// Within each run.
    pub above_raw_ms: Spread,
    /// What flexwasm says of its own start, in its order; measured in runs that count for nothing else.
    pub phases_ms: Vec<(String, Spread)>,
}

/// Starts every server as often as there are runs, by turns.
pub fn measure(runs: usize, smoke: bool) -> Result<Vec<Start>> {
    println!("cold start, {runs} times each");
    let mut ready: [Vec<f64>; STARTS.len()] = Default::default();
    let mut phases: [Vec<Vec<(String, f64)>>; STARTS.len()] = Default::default();
    for _ in 0..runs {
        for (at, (_, pool)) in STARTS.into_iter().enumerate() {
            ready[at].push(start(pool, smoke)?);
            if let Some(pool) = pool {
                phases[at].push(start_with_phases(pool, smoke)?);
            }
        }
    }
    let starts = STARTS.into_iter().enumerate().map(|(at, (server, _))| {
        let above = ready[at].iter().zip(&ready[0]).map(|(own, raw)| own - raw);
        Ok(Start {
            server,
            ready_ms: Spread::of(ready[at].iter().copied()).context("no run")?,
            above_raw_ms: Spread::of(above).context("no run")?,
            phases_ms: by_phase(&phases[at]),
        })
    });
    starts.collect()
}

/// Milliseconds to the first answer.
fn start(pool: Option<u32>, smoke: bool) -> Result<f64> {
    let address = server::free_address();
    let command = match pool {
        None => {
            let mut command = Program::Raw.command(smoke);
            command.arg(address.port().to_string());
            command
        }
        Some(pool) => {
            let mut command = Program::Flexwasm.command(smoke);
            command.args(["serve", GUEST, "--listen", &address.to_string(), "--pool", &pool.to_string()]);
            command
        }
    };
    let running = Running::start(command, address, "/", &process::processors()?)?;
    Ok(running.ready_after.as_secs_f64() * 1e3)
}

fn start_with_phases(pool: u32, smoke: bool) -> Result<Vec<(String, f64)>> {
    let address = server::free_address();
    let said = tempfile::NamedTempFile::new()?;
    let mut command = Program::Flexwasm.command(smoke);
    command.args(["serve", GUEST, "--listen", &address.to_string(), "--pool", &pool.to_string()]);
    command.args(["--log-level", "debug"]).stdout(said.reopen()?);
    // Asked to stop, it writes what its log has gathered.
    Running::start(command, address, "/", &process::processors()?)?.stop()?;
    Ok(parse_phases(&fs::read_to_string(said.path())?))
}

/// The phases among flexwasm's log lines, such as `… DEBUG startup: phase="code of serve" ms=1.2`.
fn parse_phases(log: &str) -> Vec<(String, f64)> {
    let phase = |line: &str| {
        let (_, line) = line.split_once("startup: phase=\"")?;
        let (phase, line) = line.split_once("\" ms=")?;
        Some((phase.to_owned(), line.split_whitespace().next()?.parse().ok()?))
    };
    log.lines().filter_map(phase).collect()
}

/// In the order of the first run.
fn by_phase(runs: &[Vec<(String, f64)>]) -> Vec<(String, Spread)> {
    let mut values: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    for (phase, ms) in runs.iter().flatten() {
        values.entry(phase).or_default().push(*ms);
    }
    let first = runs.first().into_iter().flatten();
    first.filter_map(|(phase, _)| Some((phase.clone(), Spread::of(values.remove(phase.as_str())?)?))).collect()
}

#[cfg(test)]
mod tests {
    use super::{by_phase, parse_phases};
    use crate::stats::Spread;

    #[test]
    fn phases_are_found_among_other_lines() {
        let log = "flexwasm 0.1.0 runs up to 10 instances\n\
                   2026-11-22T10:00:00.000001Z DEBUG startup: phase=\"code of serve\" ms=1.25\n\
                   2026-11-22T10:00:00.000002Z  INFO invocation: function=serve ms=9\n\
                   2026-11-22T10:00:00.000003Z DEBUG startup: phase=\"listen\" ms=0.5\n";
        assert_eq!(parse_phases(log), [("code of serve".to_owned(), 1.25), ("listen".to_owned(), 0.5)]);
    }

    #[test]
    fn a_phase_is_a_median_over_the_runs_in_the_order_of_the_first() {
        let run = |b: f64, a: f64| vec![("b".to_owned(), b), ("a".to_owned(), a)];
        let found = by_phase(&[run(1.0, 2.0), run(3.0, 2.0)]);
        let expected = |median, low, high| Spread { median, low, high };
        assert_eq!(found, [("b".to_owned(), expected(2.0, 2.0, 2.0)), ("a".to_owned(), expected(2.0, 2.0, 2.0))]);
    }
}
