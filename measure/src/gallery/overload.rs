//! Ten times as many callers as the pool and its queue hold, none of whom waits before the next request.

use crate::caller::{Caller, Got};
use crate::process;
use crate::server::{Cores, Running};
use crate::stats::percentile;
use anyhow::{Result, ensure};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

/// What the guest sleeps.
pub const SLEEP: Duration = Duration::from_millis(50);
/// How many times more callers than there is room.
const TIMES: usize = 10;
/// What the host's own answer may take.
const PING_MS: f64 = 50.0;
/// Nobody waits longer for an answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// The host's own bounds.
#[derive(Clone, Copy)]
pub struct Room {
    pub slots: usize,
    pub queue: usize,
    pub queue_timeout: Duration,
}

/// What came of it.
pub struct Overload {
    pub room: Room,
    pub callers: usize,
    /// Of as many callers as there are slots.
    pub calm: Crowd,
    pub crowd: Crowd,
}

/// What some callers saw together.
pub struct Crowd {
    pub got: BTreeMap<Got, usize>,
    pub leaked: bool,
    /// Answers with status 200.
    pub per_second: f64,
    pub slowest: Duration,
    /// Of the host's own answer to `GET /`, beside the others.
    pub ping_p99_ms: f64,
    /// Resident memory after a sixth of the time, and at its end.
    pub rss_kib: [u64; 2],
}

/// First as many callers as there are slots, for a tenth of `length`, then all of them.
pub fn measure(host: &Running, cores: Cores, room: Room, length: Duration) -> Result<Overload> {
    let callers = TIMES * (room.slots + room.queue);
    println!("overload: {callers} callers for {} slots", room.slots);
    let (address, process) = (host.address(), host.process());
    let crowd = |callers, length| {
        // A thread of its own, because the processor that it is bound to stays bound.
        let client = thread::spawn(move || {
            process::bind_to(cores.client)?;
            run(address, process, callers, length)
        });
        client.join().expect("the client does not panic")
    };
    Ok(Overload { room, callers, calm: crowd(room.slots, length / 10)?, crowd: crowd(callers, length)? })
}

fn run(address: SocketAddr, process: u32, callers: usize, length: Duration) -> Result<Crowd> {
    let target = format!("/api/sleeps?ms={}", SLEEP.as_millis());
    let mut callers: Vec<Caller> = (0..callers).map(|_| Caller::new(address)).collect();
    let (mut pinger, mut pings) = (Caller::new(address), Vec::new());
    let (mut got, mut leaked, mut slowest) = (BTreeMap::new(), false, Duration::ZERO);
    let mut early = None;
    let begun = Instant::now();
    loop {
        let time_left = begun.elapsed() < length;
        for caller in &mut callers {
            if caller.is_idle() && time_left {
                caller.ask(&target)?;
            }
            if let Some(call) = caller.look() {
                *got.entry(call.got).or_default() += 1;
                leaked |= call.leaked;
                slowest = slowest.max(call.took);
            }
        }
        if pinger.is_idle() && time_left {
            pinger.ask("/")?;
        }
        if let Some(call) = pinger.look() {
            ensure!(call.got == Got::Whole(200), "GET / got {}", call.got);
            pings.push(call.took);
        }
        if early.is_none() && begun.elapsed() >= length / 6 {
            early = Some(process::status(process, "VmRSS"));
        }
        if !time_left && pinger.is_idle() && callers.iter().all(Caller::is_idle) {
            break;
        }
        ensure!(begun.elapsed() < length + PATIENCE, "requests have no end");
    }
    pings.sort_unstable();
    ensure!(!pings.is_empty(), "no GET / was answered");
    let answered = got.get(&Got::Whole(200)).copied().unwrap_or(0);
    Ok(Crowd {
        per_second: answered as f64 / begun.elapsed().as_secs_f64(),
        got,
        leaked,
        slowest,
        ping_p99_ms: percentile(&pings, 99) / 1e3,
        rss_kib: [early.unwrap_or(0), process::status(process, "VmRSS")],
    })
}

impl Overload {
    /// What must not be; what depends on the clock only where `timed`.
    pub fn problems(&self, timed: bool) -> Vec<String> {
        let Self { room, calm, crowd, .. } = self;
        let mut problems = Vec::new();
        let lost = crowd.got.keys().filter(|got| !matches!(got, Got::Whole(200 | 503)));
        problems.extend(lost.map(|got| format!("a caller got {got}")));
        if calm.leaked || crowd.leaked {
            problems.push("an answer has the secret".to_owned());
        }
        if !timed {
            return problems;
        }
        // The host may take as long as one call to notice that a wait is over.
        let patience = room.queue_timeout + 2 * SLEEP;
        if crowd.slowest > patience {
            problems.push(format!("an answer took {:?}, more than {patience:?}", crowd.slowest));
        }
        let [early, end] = crowd.rss_kib;
        if early.abs_diff(end) > early / 10 {
            problems.push(format!("memory went from {early} to {end} KiB"));
        }
        if crowd.ping_p99_ms >= PING_MS {
            problems.push(format!("GET / took {:.1} ms (p99)", crowd.ping_p99_ms));
        }
        if crowd.per_second < 0.9 * calm.per_second {
            problems.push(format!("{:.0} answers per second in place of {:.0}", crowd.per_second, calm.per_second));
        }
        problems
    }
}
