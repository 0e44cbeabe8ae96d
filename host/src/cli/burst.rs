//! `flexwasm burst`.

use super::context::{environment, runtime};
use super::output::{Ended, print};
use crate::doctor::remote::{self, client, shown};
use crate::http::listener::raise_descriptor_limit;
use crate::source::root_cause;
use crate::timeline::{Receipt, Request, Timeline, page, trace};
use reqwest::{Client, Url};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

/// How long an answer may take beyond its delay.
const PATIENCE: Duration = Duration::from_secs(120);

const AFTER_HELP: &str = "\
Every request has a connection of its own. Before them, one that does not sleep is sent, which wakes an app that sleeps. A \
function key is read from the variable FUNCTION_KEY.

The exit status is 0 when no request failed and as many ran at the same time as the pool allows, else 1.

Example:
  flexwasm burst http://127.0.0.1:7071/api/http_trigger 20 5 --html timeline.html";

/// Send many requests at once to the demonstration's function, here or deployed, and show which slot ran each of them, and when
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub struct Burst {
    /// The function, such as http://127.0.0.1:7071/api/http_trigger
    #[arg(value_parser = http_url)]
    url: Url,
    /// Parallel requests
    #[arg(value_name = "N", value_parser = clap::value_parser!(u32).range(1..=20_000))]
    requests: u32,
    /// Seconds that each request sleeps, such as 0.5
    #[arg(value_parser = seconds)]
    delay: f64,
    /// Write a page with a lane for each slot; it needs nothing but a browser
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Write a trace, which Perfetto (ui.perfetto.dev) opens
    #[arg(long, value_name = "FILE")]
    trace: Option<PathBuf>,
    /// Print everything for programs (docs/observe.md)
    #[arg(long)]
    json: bool,
}

fn http_url(text: &str) -> Result<Url, String> {
    match text.parse::<Url>() {
        Ok(url) if matches!(url.scheme(), "http" | "https") => Ok(url),
        Ok(_) => Err("it must begin with http:// or https://".to_owned()),
        Err(error) => Err(format!("{error}: write a URL such as http://127.0.0.1:7071/api/http_trigger")),
    }
}

fn seconds(text: &str) -> Result<f64, String> {
    let number: f64 = text.parse().map_err(|_| "write a number of seconds, such as 0.5".to_owned())?;
    Duration::try_from_secs_f64(number).map(|_| number).map_err(|error| error.to_string())
}

impl Burst {
    /// Sends the requests, writes what was asked for, and prints the verdict.
    pub fn run(self) -> Result<ExitCode, Ended> {
        let client = client(environment().get(remote::KEY).cloned())?;
        let runtime = runtime()?;
        // Many systems start with a limit of 1,024. Where it cannot be raised, the report shows which requests found none.
        raise_descriptor_limit();
        let timeline = runtime.block_on(send(&client, &self.url, self.requests, self.delay))?;
        runtime.shutdown_background();
        if let Some(file) = &self.html {
            write(file, page(&timeline))?;
        }
        if let Some(file) = &self.trace {
            write(file, trace(&timeline).to_string())?;
        }
        match self.json {
            true => print(format_args!("{:#}\n", timeline.json()))?,
            false => print(format_args!("{}\n", in_words(&timeline)))?,
        }
        Ok(if timeline.facts().passed() { ExitCode::SUCCESS } else { ExitCode::from(1) })
    }
}

fn write(file: &Path, text: String) -> Result<(), String> {
    fs::write(file, text).map_err(|error| format!("cannot write {}: {error}", file.display()))
}

/// Sends all of them at once, after a first one that does not sleep.
async fn send(client: &Client, url: &Url, requests: u32, delay: f64) -> Result<Timeline, String> {
    if let Err(why) = ask(client, url, 0.0, Instant::now()).await.receipt {
        return Err(format!("a first request to {} {why}", shown(url)));
    }
    let begun = Instant::now();
    let mut sent = JoinSet::new();
    for _ in 0..requests {
        let (client, url) = (client.clone(), url.clone());
        sent.spawn(async move { ask(&client, &url, delay, begun).await });
    }
    let mut requests = sent.join_all().await;
    let total = begun.elapsed().as_secs_f64();
    requests.sort_by(|one, other| one.sent.total_cmp(&other.sent));
    Ok(Timeline { url: shown(url), delay, total, requests })
}

async fn ask(client: &Client, url: &Url, delay: f64, begun: Instant) -> Request {
    let mut url = url.clone();
    url.query_pairs_mut().append_pair("delay", &delay.to_string());
    let patience = PATIENCE.saturating_add(Duration::from_secs_f64(delay));
    let now = || begun.elapsed().as_secs_f64() * 1e3;
    let sent = now();
    let exchange = async {
        let response = client.get(url).timeout(patience).send().await?;
        Ok((response.status(), response.bytes().await?))
    };
    let exchanged: reqwest::Result<_> = exchange.await;
    let answered = now();
    let receipt = match exchanged {
        // reqwest's own words would repeat the URL, which may hold a key.
        Err(error) if error.is_timeout() => Err(format!("had no answer within {} s", patience.as_secs())),
        Err(error) => Err(format!("had no answer ({})", root_cause(&error.without_url()))),
        Ok((status, body)) if !status.is_success() => Err(refusal(status.as_u16(), &body)),
        Ok((_, body)) => Receipt::read(&body).ok_or_else(|| "got no receipt: name the URL of http_trigger".to_owned()),
    };
    Request { sent, answered, receipt }
}

/// The status, and the host's reason where it gives one.
fn refusal(status: u16, body: &[u8]) -> String {
    let answer: Value = serde_json::from_slice(body).unwrap_or_default();
    match answer["error"]["message"].as_str() {
        Some(why) => format!("got HTTP {status}: {why}"),
        None => format!("got HTTP {status}"),
    }
}

fn in_words(timeline: &Timeline) -> String {
    let facts = timeline.facts();
    format!(
        "Total execution time:    {:.2} seconds (one after the other: {} seconds)\n\
         Peak overlap:            {} requests at the same time\n\
         Unique processes:        {}\nUnique threads:          {}\nUnique instances:        {}\n\
         Unique slots:            {} of {}\nUnique machines:         {}\n\n{}",
        timeline.total,
        timeline.delay * facts.requests as f64,
        facts.peak,
        facts.processes,
        facts.threads,
        facts.instances,
        facts.slots,
        facts.capacity,
        facts.machines,
        facts.verdict(),
    )
}
