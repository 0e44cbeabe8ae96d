//! Many requests at the same time, sent by `flexwasm burst`, and what they take of the host's process where that runs on this machine.

use crate::process;
use crate::server::Program;
use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

/// How often the host's memory is read.
const SAMPLE: Duration = Duration::from_millis(20);

#[derive(clap::Args)]
pub struct Arguments {
    /// The function, such as http://127.0.0.1:7071/api/http_trigger
    url: String,
    /// Parallel requests
    requests: u32,
    /// Seconds that each request sleeps
    delay: f64,
}

pub fn run(arguments: &Arguments) -> Result<()> {
    let Arguments { url, requests, delay } = arguments;
    crate::execute(&mut crate::cargo(&["build", "--quiet", "--package", "flexwasm"]))?;
    println!("Sending {requests} requests, each sleeps {delay} seconds ...");
    // The development build sends: it mostly waits.
    let watch = Watch::of(true, url)?;
    let mut burst = command(true, url, *requests, *delay);
    let passed = burst.stdout(Stdio::inherit()).status().context("cannot start flexwasm")?.success();
    if let Some(watch) = watch {
        watch.finish().print(*requests);
    }
    ensure!(passed, "the burst did not pass");
    Ok(())
}

/// What a burst came to: what `flexwasm burst --json` says, and what it took of the host's process. A smoke run sends it with the
/// development build.
///
/// # Errors
/// When the function gives no receipt, or the host does not run on this machine.
pub fn send(smoke: bool, url: &str, requests: u32, delay: f64) -> Result<(Value, Cost)> {
    let watch = Watch::of(smoke, url)?.context("the answers name no process of this machine")?;
    let burst = json(command(smoke, url, requests, delay))?;
    Ok((burst, watch.finish()))
}

fn command(smoke: bool, url: &str, requests: u32, delay: f64) -> Command {
    let mut command = Program::Flexwasm.command(smoke);
    command.args(["burst", url, &requests.to_string(), &delay.to_string()]);
    command
}

fn json(mut command: Command) -> Result<Value> {
    let output = command
        .arg("--json")
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .output()
        .context("cannot start flexwasm")?;
    serde_json::from_slice(&output.stdout).context("the burst has no result")
}

/// What a burst took of the host's process: memory in KiB, and its threads.
pub struct Cost {
    pub before: u64,
    pub peak: u64,
    threads: u64,
}

impl Cost {
    /// KiB that each request added at the peak, its connection included.
    pub fn per_request(&self, requests: u32) -> f64 {
        (self.peak - self.before) as f64 / f64::from(requests)
    }

    fn print(&self, requests: u32) {
        let (before, peak) = (self.before as f64 / 1024.0, self.peak as f64 / 1024.0);
        println!("\nHOST PROCESS:\n-----------------");
        println!("Threads in all:          {}", self.threads);
        println!("Memory before, at peak:  {before:.1} MiB, {peak:.1} MiB");
        println!("Memory per request:      {:.1} KiB, its connection included", self.per_request(requests));
    }
}

/// Follows a process of this machine.
struct Watch {
    before: u64,
    peak: Arc<AtomicU64>,
    threads: Arc<AtomicU64>,
    over: Arc<AtomicBool>,
    sampler: thread::JoinHandle<()>,
}

impl Watch {
    /// Of the host behind `url`, if it runs on this machine.
    fn of(smoke: bool, url: &str) -> Result<Option<Self>> {
        let first = json(command(smoke, url, 1, 0.0))?;
        let process = first["requests"][0]["receipt"]["process"].as_u64().context("a first request got no receipt")?;
        let is_here = ["127.0.0.1", "localhost", "[::1]"].iter().any(|host| url.contains(&format!("://{host}")));
        Ok(u32::try_from(process).ok().filter(|_| is_here).map(Self::start))
    }

    fn start(process: u32) -> Self {
        let before = process::status(process, "VmRSS");
        let (peak, threads) = (Arc::new(AtomicU64::new(before)), Arc::new(AtomicU64::new(0)));
        let over = Arc::new(AtomicBool::new(false));
        let (peaks, counts, ended) = (Arc::clone(&peak), Arc::clone(&threads), Arc::clone(&over));
        let sampler = thread::spawn(move || {
            while !ended.load(Ordering::Acquire) {
                peaks.fetch_max(process::status(process, "VmRSS"), Ordering::AcqRel);
                counts.fetch_max(process::status(process, "Threads"), Ordering::AcqRel);
                thread::sleep(SAMPLE);
            }
        });
        Self { before, peak, threads, over, sampler }
    }

    fn finish(self) -> Cost {
        self.over.store(true, Ordering::Release);
        self.sampler.join().expect("the sampler does not panic");
        let (peak, threads) = (self.peak.load(Ordering::Acquire), self.threads.load(Ordering::Acquire));
        Cost { before: self.before, peak, threads }
    }
}
