//! Many requests that sleep at the same time: what a waiting guest costs.
//!
//! The demonstration guest, two workers, and a pool with a slot for each request; the burst is `cargo xtask burst`'s.

use crate::burst;
use crate::server::{self, Cores, Program, Running};
use anyhow::{Context as _, Result};
use serde::Serialize;
use serde_json::Value;

/// Below the project's folder.
pub const GUEST: &str = "target/guests/wasm32-wasip2/guest/flexwasm_guest.wasm";

#[derive(Serialize)]
pub struct Sleepers {
    pub requests: u32,
    pub delay: f64,
    pub failures: usize,
    pub total_seconds: f64,
    pub rss_before_kib: u64,
    pub rss_peak_kib: u64,
    /// How much resident memory each request added at the peak, its connection included.
    pub kib_per_request: f64,
}

/// Both sides share the two processors: each has its peak while the other waits.
pub fn measure(requests: u32, delay: f64, cores: Cores, smoke: bool) -> Result<Sleepers> {
    println!("{requests} requests that sleep {delay} s");
    let address = server::free_address();
    let mut command = Program::Flexwasm.command(smoke);
    command.args(["serve", GUEST, "--listen", &address.to_string(), "--pool", &requests.to_string()]);
    // Until it is dropped.
    let _running = Running::start(command, address, "/", &[cores.server, cores.client])?;
    let (burst, cost) = burst::send(smoke, &format!("http://{address}/"), requests, delay)?;
    let number = |value: &Value| value.as_f64().context("the burst has no result");
    Ok(Sleepers {
        requests,
        delay,
        failures: number(&burst["facts"]["failed"])? as usize,
        total_seconds: number(&burst["totalSeconds"])?,
        rss_before_kib: cost.before,
        rss_peak_kib: cost.peak,
        kib_per_request: cost.per_request(requests),
    })
}
