//! `test_concurrency.sh` for any number of requests: one process, one connection for each request.
//!
//! The report is the script's own (`--report`), so there is one table and one verdict. Against a host on this machine it
//! also shows what the burst cost: memory and threads of the host's process, read from `/proc`.

use crate::process;
use anyhow::{Context as _, Result, bail};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Bytes;
use hyper::{Request, Uri};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::Value;
use std::fmt::Write as _;
use std::fs;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// How long a request may take beyond its delay.
const PATIENCE: Duration = Duration::from_secs(120);
/// How often the host's memory is read.
const SAMPLE: Duration = Duration::from_millis(20);

#[derive(clap::Args)]
pub struct Arguments {
    /// The function, such as http://127.0.0.1:7071/api/http_trigger
    url: Uri,
    /// Parallel requests
    #[arg(value_parser = clap::value_parser!(u32).range(1..=20_000))]
    requests: u32,
    /// Seconds that each request sleeps
    #[arg(value_parser = seconds)]
    delay: f64,
}

fn seconds(text: &str) -> Result<f64, String> {
    let number: f64 = text.parse().map_err(|_| "write a number of seconds, such as 0.5".to_owned())?;
    Duration::try_from_secs_f64(number).map(|_| number).map_err(|error| error.to_string())
}

/// What one request came to: status (0 for none) and answer.
pub type Answer = (u16, String);

pub fn run(arguments: &Arguments) -> Result<()> {
    let Arguments { url, requests, delay } = arguments;
    println!("Sending {requests} requests, each sleeps {delay} seconds ...");
    let burst = send(url, *requests, *delay)?;
    let verdict = report(&burst.answers, *delay, burst.total);
    if let Some(cost) = burst.cost {
        cost.print(*requests);
    }
    verdict
}

/// What a burst came to.
pub struct Burst {
    pub answers: Vec<Answer>,
    pub total: Duration,
    /// Of the host's process, where it runs on this machine.
    pub cost: Option<Cost>,
}

/// Sends all requests at once, after a first one that does not sleep.
///
/// # Errors
/// When the first one fails; the others' failures stand among the answers.
pub fn send(url: &Uri, requests: u32, delay: f64) -> Result<Burst> {
    let separator = if url.query().is_some() { '&' } else { '?' };
    let with_delay = |delay: f64| format!("{url}{separator}delay={delay}").parse::<Uri>();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;

    let (status, first) = runtime.block_on(fetch(client(), with_delay(0.0)?));
    if status != 200 {
        bail!("a first request to {url} failed: HTTP {status} {first}");
    }
    let first: Value = serde_json::from_str(&first).context("the first answer is not JSON: is this http_trigger?")?;
    let local = url.host().is_some_and(|host| matches!(host, "127.0.0.1" | "localhost" | "[::1]"));
    let process = first["host"]["process_id"].as_u64().and_then(|process| u32::try_from(process).ok());
    let watch = process.filter(|_| local).map(Watch::start);

    raise_descriptor_limit();
    let target = with_delay(delay)?;
    let client = client();
    let started = Instant::now();
    let answers = runtime.block_on(async {
        let sent: Vec<_> = (0..requests).map(|_| tokio::spawn(fetch(client.clone(), target.clone()))).collect();
        let mut answers = Vec::with_capacity(sent.len());
        for task in sent {
            answers.push(task.await.expect("a request does not panic"));
        }
        answers
    });
    Ok(Burst { answers, total: started.elapsed(), cost: watch.map(Watch::finish) })
}

fn client() -> Client<HttpsConnector<HttpConnector>, Empty<Bytes>> {
    let connector = HttpsConnectorBuilder::new().with_webpki_roots().https_or_http().enable_http1().build();
    Client::builder(TokioExecutor::new()).build(connector)
}

/// Every request has a connection of its own, and many systems start with a limit of 1,024 descriptors.
fn raise_descriptor_limit() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    // Where it cannot be raised, the report will show which requests found no descriptor.
    let _ = setrlimit(Resource::Nofile, limit);
}

async fn fetch(client: Client<HttpsConnector<HttpConnector>, Empty<Bytes>>, url: Uri) -> Answer {
    let exchange = async {
        let mut request = Request::get(url);
        if let Ok(key) = std::env::var("FUNCTION_KEY") {
            request = request.header("x-functions-key", key);
        }
        let response = client.request(request.body(Empty::new())?).await?;
        let status = response.status().as_u16();
        let body = response.into_body().collect().await?.to_bytes();
        Ok::<Answer, anyhow::Error>((status, String::from_utf8_lossy(&body).into_owned()))
    };
    match tokio::time::timeout(PATIENCE, exchange).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(error)) => (0, format!("{error:#}")),
        Err(_) => (0, format!("no answer within {} s", PATIENCE.as_secs())),
    }
}

fn report(answers: &[Answer], delay: f64, total: Duration) -> Result<()> {
    let file = tempfile::NamedTempFile::new()?;
    let mut lines = String::new();
    for (number, (status, body)) in answers.iter().enumerate() {
        writeln!(lines, "{}\t{status:03}\t{}", number + 1, body.replace(['\t', '\n'], " "))?;
    }
    fs::write(file.path(), lines)?;
    let mut script = Command::new("bash");
    script.arg(crate::root().join("test_concurrency.sh")).arg("--report").arg(file.path());
    script.args([answers.len().to_string(), delay.to_string(), total.as_secs_f64().to_string()]);
    if !script.status().context("cannot start bash")?.success() {
        bail!("the burst did not pass");
    }
    Ok(())
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
