//! Innocent requests, one after the other, and attackers beside them: all from one thread that never sleeps.

use super::attacks::Attack;
use crate::caller::{Call, Caller, Got};
use crate::process;
use crate::server::{BODY, Cores};
use anyhow::{Result, ensure};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

/// Attackers at the same time: half of the pool.
pub const ATTACKERS: usize = 4;
/// Nobody waits longer for an answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long to watch.
#[derive(Clone, Copy)]
pub struct Window {
    /// No request is begun later, but for innocent ones until the last attacker has his answer.
    pub length: Duration,
    /// Innocent requests, whatever the length.
    pub samples: usize,
}

/// What came of it.
#[derive(Default)]
pub struct Seen {
    /// Of the innocent requests that were answered right, in order.
    pub latencies: Vec<Duration>,
    /// Innocent requests that were not.
    pub failed: usize,
    /// How often the attackers got what.
    pub got: BTreeMap<Got, usize>,
    /// What must not be, with the first example of each.
    pub problems: BTreeMap<String, String>,
}

/// Watches innocent requests, with attackers beside them if there is an attack.
///
/// # Errors
/// When the host cannot be reached, or leaves a request without an end.
pub fn watch(address: SocketAddr, cores: Cores, attack: Option<&'static Attack>, window: Window) -> Result<Seen> {
    // A thread of its own, because the processor that it is bound to stays bound.
    let client = thread::spawn(move || {
        process::bind_to(cores.client)?;
        run(address, attack, window)
    });
    client.join().expect("the client does not panic")
}

fn run(address: SocketAddr, attack: Option<&Attack>, window: Window) -> Result<Seen> {
    let mut seen = Seen::default();
    let mut innocent = Caller::new(address);
    let mut attackers: Vec<Caller> = attack.iter().flat_map(|_| (0..ATTACKERS).map(|_| Caller::new(address))).collect();
    let mut calls = 0;
    let begun = Instant::now();
    loop {
        let time_left = begun.elapsed() < window.length;
        for attacker in &mut attackers {
            let Some(attack) = attack else { continue };
            if attacker.is_idle() && time_left {
                let target = format!("/api/{}?n={calls}&port={}", attack.name, address.port());
                match attack.event {
                    Some(envelope) => attacker.post_event(attack.name, envelope)?,
                    None if attack.posts > 0 => attacker.post(&target, attack.posts)?,
                    None => attacker.ask(&target)?,
                }
                calls += 1;
            }
            if let Some(call) = attacker.look() {
                seen.attacked(attack, &call);
            }
        }
        let more =
            time_left || seen.latencies.len() + seen.failed < window.samples || !attackers.iter().all(Caller::is_idle);
        if innocent.is_idle() {
            if !more {
                break;
            }
            innocent.ask("/api/innocent")?;
        }
        if let Some(call) = innocent.look() {
            seen.answered(&call);
        }
        ensure!(begun.elapsed() < window.length + PATIENCE, "requests have no end");
    }
    seen.latencies.sort_unstable();
    Ok(seen)
}

impl Seen {
    fn answered(&mut self, call: &Call) {
        self.look_at(call);
        if call.got == Got::Whole(200) && call.response.body == BODY {
            self.latencies.push(call.took);
        } else {
            self.failed += 1;
            self.note(format!("an innocent request got {}", call.got), text(call));
        }
    }

    fn attacked(&mut self, attack: &Attack, call: &Call) {
        self.look_at(call);
        *self.got.entry(call.got).or_default() += 1;
        if !attack.expected.contains(&call.got) {
            self.note(format!("an attacker got {}", call.got), text(call));
        }
        let is_other = |says: &str| call.got == Got::Whole(200) && call.response.body != says.as_bytes();
        if attack.says.is_some_and(is_other) {
            self.note("an attacker reached".to_owned(), text(call));
        }
    }

    /// What holds for every answer.
    fn look_at(&mut self, call: &Call) {
        if call.leaked {
            self.note("an answer has the secret".to_owned(), text(call));
        }
        for (name, value) in &call.response.headers {
            let own = name == "x-flexwasm-instance" || name == "x-flexwasm-host";
            if name == "x-injected" || own && value == "forged" {
                self.note(format!("a guest set the header {name}"), value.clone());
            }
        }
    }

    fn note(&mut self, what: String, example: String) {
        self.problems.entry(what).or_insert(example);
    }
}

/// The beginning of a body.
fn text(call: &Call) -> String {
    String::from_utf8_lossy(&call.response.body).chars().take(400).collect()
}
