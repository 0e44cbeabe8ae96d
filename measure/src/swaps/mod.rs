//! `cargo xtask swaps`: guests are replaced again and again under full load, with a fresh instance for every request and with
//! instances that are reused, and a component in front of a guest is replaced alone.
//!
//! The host runs on one processor; all callers, and the one that swaps, run on another, in one thread that never sleeps. Every guest
//! names itself at both ends of its answer, and every answer is checked against what its head says.

pub mod control;

use crate::caller::{Call, Caller, Got};
use crate::machine::Machine;
use crate::server::{Cores, Running};
use crate::stats::Spread;
use crate::table::Table;
use crate::{app, process, setup};
use anyhow::{Context as _, Result, bail, ensure};
use control::Asked;
use serde_json::json;
use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};
use testkit::App;

/// Answers with its name, at both ends.
const GUEST: &str = "target/guests/wasm32-wasip2/guest/marker.wasm";
/// The same in front of another guest.
const PART: &str = "target/guests/wasm32-wasip2/guest/marker_part.wasm";
/// Guests that take turns; each has been compiled before.
const GUESTS: usize = 10;
const SLOTS: u32 = 32;
/// Callers that never pause, twice as many as there are slots.
const CALLERS: usize = 64;
/// Nobody waits longer for an answer.
const PATIENCE: Duration = Duration::from_secs(30);

#[derive(clap::Args)]
pub struct Arguments {
    /// A few swaps with the development build, judging nothing by the clock and without writing docs/
    #[arg(long)]
    smoke: bool,
}

/// What is replaced, and how instances are used.
struct Mode {
    name: &'static str,
    reuse: u32,
    /// What is replaced.
    file: &'static str,
    /// Names it where it is not the guest itself.
    query: &'static str,
    /// Outside of a smoke run.
    swaps: usize,
    /// Then the median of them, from asking to the first answer, is below this.
    within_ms: f64,
}

const MODES: [Mode; 3] = [
    Mode { name: "fresh", reuse: 1, file: GUEST, query: "", swaps: 100, within_ms: 20.0 },
    Mode { name: "warm", reuse: 1000, file: GUEST, query: "", swaps: 100, within_ms: 20.0 },
    Mode { name: "part", reuse: 1, file: PART, query: "?part=part.wasm", swaps: 1000, within_ms: 50.0 },
];

/// How long, and how often.
#[derive(Clone, Copy)]
struct Plan {
    swaps: usize,
    length: Duration,
}

/// What came of one mode.
#[derive(Default)]
struct Seen {
    answers: usize,
    failed: usize,
    /// Answers with parts of two guests, or under the wrong name.
    mixed: usize,
    /// The first thing that was wrong.
    example: Option<String>,
    /// From asking for a swap to the first answer of its guest.
    taken: Vec<Duration>,
    /// What the host says its part of it took, in milliseconds.
    of_host: Vec<f64>,
    /// Resident memory after the tenth swap, or the last before it, and at the end.
    rss_kib: [u64; 2],
}

pub fn run(arguments: &Arguments) -> Result<()> {
    let smoke = arguments.smoke;
    let processors = process::processors()?;
    let [server, client, ..] = processors[..] else { bail!("swaps needs two processors, one for each side") };
    let cores = Cores { server, client };
    setup::build_guests(&["test-guests"])?;
    setup::build_servers(smoke)?;
    let length = Duration::from_secs(if smoke { 3 } else { 60 });
    let mut rows = Vec::new();
    for mode in &MODES {
        let plan = Plan { swaps: if smoke { 12 } else { mode.swaps }, length };
        println!("{}: {} swaps in {} s", mode.name, plan.swaps, plan.length.as_secs());
        rows.push((mode, measure(mode, cores, plan, smoke)?));
    }
    let table = table(&rows, length);
    println!("\n{table}");
    let problems: Vec<String> = rows.iter().flat_map(|(mode, seen)| seen.problems(mode, !smoke)).collect();
    if !problems.is_empty() {
        bail!("not as promised:\n{}", problems.join("\n"));
    }
    if smoke { Ok(()) } else { write(&table) }
}

fn measure(mode: &Mode, cores: Cores, plan: Plan, smoke: bool) -> Result<Seen> {
    let guests = guests(mode.file)?;
    let settings = json!({ "version": "2.0",
        "flexwasm": { "pool": { "size": SLOTS, "reuse": mode.reuse }, "headers": "id", "log": { "level": "warn" } } });
    let folder = App::with_host_json(&settings.to_string());
    let folder = if mode.query.is_empty() {
        app::add_function(folder, "swapped", "swapped", &guests[0], &json!({}))
    } else {
        let settings = json!({ "guest": { "middleware": ["part.wasm"] } });
        let folder = app::add_function(folder, "swapped", "swapped", &app::read(GUEST)?, &settings);
        folder.file("swapped/part.wasm", &guests[0])
    };
    let (mut command, address) = app::host(&folder, smoke);
    command.env("XDG_CACHE_HOME", folder.path()).env("XDG_RUNTIME_DIR", folder.path());
    let mut host = Running::start(command, address, "/api/swapped", &[cores.server])?;
    let socket = control::socket(&folder.path().join("flexwasm"))?;
    let process = host.process();
    let query = mode.query;
    // A thread of its own, because the processor that it is bound to stays bound.
    let client = thread::spawn(move || {
        process::bind_to(cores.client)?;
        // Each guest once, so that all of them are compiled; the one that serves is the last.
        for guest in &guests {
            control::wait(&socket, query, guest)?;
        }
        load(address, (&socket, query), &guests, process, plan)
    });
    let seen = client.join().expect("the client does not panic")?;
    ensure!(host.is_up(), "the host has ended: {}", host.errors());
    host.stop()?;
    Ok(seen)
}

/// The same guest under several names.
fn guests(file: &str) -> Result<Vec<Vec<u8>>> {
    let wasm = app::read(file)?;
    Ok((0..GUESTS).map(|number| testkit::marked(&wasm, number)).collect())
}

/// Full load, and swaps at even intervals.
fn load(
    address: SocketAddr,
    (socket, query): (&Path, &str),
    guests: &[Vec<u8>],
    process: u32,
    plan: Plan,
) -> Result<Seen> {
    let mut seen = Seen::default();
    let mut callers: Vec<Caller> = (0..CALLERS).map(|_| Caller::new(address)).collect();
    // Which guest each generation is: the first was loaded at the start, the others took their turns before.
    let mut names: BTreeMap<u64, usize> = (0..GUESTS).map(|turn| (turn as u64 + 1, turn)).collect();
    // Loading the first one again is no swap.
    let mut generation = GUESTS as u64;
    let (begun, pause) = (Instant::now(), plan.length / u32::try_from(plan.swaps)?);
    let mut swap: Option<(Asked, Instant, u64)> = None;
    let mut swaps = 0;
    loop {
        let time_left = begun.elapsed() < plan.length || seen.taken.len() < plan.swaps;
        if swap.is_none() && swaps < plan.swaps && begun.elapsed() >= pause * u32::try_from(swaps)? {
            let turn = swaps % GUESTS;
            names.insert(generation + 1, turn);
            swap = Some((Asked::send(socket, query, &guests[turn])?, Instant::now(), generation + 1));
            swaps += 1;
        }
        let answer = swap.as_mut().map(|(asked, ..)| asked.look()).transpose()?.flatten();
        if let Some(answer) = answer {
            ensure!(answer["error"].is_null(), "a swap was refused: {answer}");
            seen.of_host.push(answer["took_ms"].as_f64().context("no time")?);
        }
        for caller in &mut callers {
            if caller.is_idle() && time_left {
                caller.ask("/api/swapped")?;
            }
            let Some(call) = caller.look() else { continue };
            let Some(answered) = seen.judge(&call, &names) else { continue };
            let new = swap.as_ref().filter(|(_, _, generation)| answered == *generation && seen.taken.len() < swaps);
            seen.taken.extend(new.map(|(_, asked, _)| asked.elapsed()));
        }
        // Both: its guest has answered, and the host has said so.
        if seen.taken.len() == swaps && seen.of_host.len() == swaps && swap.take().is_some() {
            generation += 1;
            if swaps == GUESTS {
                seen.rss_kib[0] = process::status(process, "VmRSS");
            }
        }
        if !time_left && callers.iter().all(Caller::is_idle) {
            break;
        }
        ensure!(begun.elapsed() < plan.length + PATIENCE, "requests or swaps have no end");
    }
    seen.rss_kib[1] = process::status(process, "VmRSS");
    Ok(seen)
}

impl Seen {
    /// Counts an answer; its generation, if it is one that a guest gave.
    fn judge(&mut self, call: &Call, names: &BTreeMap<u64, usize>) -> Option<u64> {
        self.answers += 1;
        let head = call.response.header("x-flexwasm-instance");
        let generation = head.and_then(|head| head.split("generation=").nth(1)?.split(';').next()?.parse().ok());
        let body = call.response.text();
        let Some(generation) = generation.filter(|_| call.got == Got::Whole(200)) else {
            self.failed += 1;
            self.example.get_or_insert_with(|| format!("{}: {body}", call.got));
            return None;
        };
        let expected = names.get(&generation).map(|&name| testkit::marked_answer(name));
        if expected.as_ref() != Some(&body) {
            self.mixed += 1;
            self.example.get_or_insert_with(|| format!("generation {generation} answered {body}"));
        }
        Some(generation)
    }

    fn median_ms(&self) -> Option<Spread> {
        Spread::of(self.taken.iter().map(|taken| taken.as_secs_f64() * 1e3))
    }

    fn problems(&self, mode: &Mode, timed: bool) -> Vec<String> {
        let mut problems = Vec::new();
        if self.failed + self.mixed > 0 {
            let example = self.example.as_deref().unwrap_or_default();
            problems.push(format!("{} requests failed, {} answers were mixed: {example}", self.failed, self.mixed));
        }
        let [early, end] = self.rss_kib;
        if end * 10 > early * 11 {
            problems.push(format!("memory has grown from {early} to {end} KiB"));
        }
        let within = mode.within_ms;
        if timed && self.median_ms().is_none_or(|spread| spread.median >= within) {
            problems.push(format!("the median swap took {within} ms or more"));
        }
        problems.into_iter().map(|problem| format!("{}: {problem}", mode.name)).collect()
    }
}

fn table(rows: &[(&Mode, Seen)], length: Duration) -> Table {
    let row = |(mode, seen): &(&Mode, Seen)| {
        let spread = seen.median_ms().unwrap_or(Spread { median: 0.0, low: 0.0, high: 0.0 });
        let slowest = seen.taken.iter().max().map_or(0.0, Duration::as_secs_f64) * 1e3;
        let of_host = Spread::of(seen.of_host.iter().copied()).map_or(0.0, |spread| spread.median);
        vec![
            mode.name.to_owned(),
            seen.taken.len().to_string(),
            seen.answers.to_string(),
            seen.failed.to_string(),
            seen.mixed.to_string(),
            format!("{:.1} ({:.1}–{:.1})", spread.median, spread.low, spread.high),
            format!("{slowest:.1}"),
            format!("{of_host:.1}"),
            format!("{:.1}", seen.rss_kib[0] as f64 / 1024.0),
            format!("{:.1}", seen.rss_kib[1] as f64 / 1024.0),
        ]
    };
    Table {
        title: "Swaps under load",
        note: format!(
            "Swaps in {} s while {CALLERS} callers never pause; {SLOTS} slots; {GUESTS} compiled guests take turns. `fresh`: every request in \
             an instance of its own, `warm`: instances are reused, `part`: as `fresh`, but what is replaced is a component in front of a \
             guest that stays. Milliseconds from asking for a swap to the first answer of the \
             new guest: median, quartiles, slowest; of these, the host's own work until the guest was published (median). Resident \
             memory after the tenth swap and at the end, in MiB.",
            length.as_secs(),
        ),
        columns: vec![
            "mode",
            "swaps",
            "answers",
            "failed",
            "mixed",
            "ms to the first answer",
            "slowest",
            "of the host",
            "MiB after 10",
            "MiB at the end",
        ],
        rows: rows.iter().map(row).collect(),
    }
}

fn write(table: &Table) -> Result<()> {
    let page = format!(
        "# Swapping guests under load\n\n\
         Written by `cargo xtask swaps`, which anyone can run. The host runs on one processor; all callers, and the one that swaps, run on \
         another. Each guest names itself at both ends of its answer, and each answer is checked against the generation that its head \
         names. The command fails if a single request is not answered correctly, if memory at the end is more than a tenth above that \
         after the tenth swap, or if the median is 20 ms or more (50 ms for a part, which is composed with its guest anew).\n\n{}\n{table}",
        Machine::read(),
    );
    let path = crate::root().join("docs/swaps.md");
    fs::write(&path, page).with_context(|| format!("cannot write {}", path.display()))?;
    println!("wrote docs/swaps.md");
    Ok(())
}
