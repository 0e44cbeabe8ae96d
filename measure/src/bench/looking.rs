//! Looking on at a large pool: what it takes of a processor.

use super::events::SLEEP;
use super::onlooker;
use crate::client::Client;
use crate::process;
use crate::server::{self, Cores, Program, Running};
use crate::stats::Spread;
use anyhow::{Context as _, Result, ensure};
use serde::Serialize;
use std::thread;
use std::time::{Duration, Instant};

/// About as many as fit into the memory mappings that Linux grants a process unless told otherwise.
const SLOTS: u32 = 10_000;
/// Slots that are taken meanwhile.
const RUNNING: u32 = 500;
/// How long they may take to be.
const START_LIMIT: Duration = Duration::from_secs(60);
/// Windows with nobody who looks on, and as many with somebody.
const WINDOWS: usize = 5;

#[derive(Serialize)]
pub struct Looking {
    pub slots: u32,
    pub running: u32,
    /// Of one processor, in per cent.
    pub alone: Spread,
    pub looked_on: Spread,
}

/// Guests that sleep take no time, so what is left is that of looking.
pub fn measure(cores: Cores, smoke: bool) -> Result<Looking> {
    println!("looking on at {SLOTS} slots");
    let address = server::free_address();
    let mut command = Program::Flexwasm.command(smoke);
    command.args(["serve", SLEEP, "--listen", &address.to_string(), "--pool", &SLOTS.to_string()]);
    let sockets = server::own_sockets(&mut command)?;
    let running = Running::start(command, address, "/?ms=0", &[cores.server])?;
    let mut sleepers = (0..RUNNING).map(|_| Client::connect(address)).collect::<Result<Vec<_>>>()?;
    for sleeper in &mut sleepers {
        sleeper.send("GET /?ms=600000 HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")?;
    }
    let begun = Instant::now();
    while onlooker::running(sockets.path())? < RUNNING {
        ensure!(begun.elapsed() < START_LIMIT, "the guests that should sleep do not run");
        thread::sleep(Duration::from_millis(100));
    }
    let length = if smoke { Duration::from_millis(300) } else { Duration::from_secs(2) };
    let spread = || {
        let window = || -> Result<f64> {
            let (begun, before) = (Instant::now(), process::cpu_time(running.process())?);
            thread::sleep(length);
            let spent = process::cpu_time(running.process())? - before;
            Ok(100.0 * spent as f64 / begun.elapsed().as_nanos() as f64)
        };
        let windows = (0..WINDOWS).map(|_| window()).collect::<Result<Vec<_>>>()?;
        Spread::of(windows).context("no window")
    };
    let alone = spread()?;
    onlooker::begin(sockets.path())?;
    let looked_on = spread()?;
    Ok(Looking { slots: SLOTS, running: RUNNING, alone, looked_on })
}
