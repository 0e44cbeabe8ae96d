//! `flexwasm burst`.

use super::context::{environment, runtime};
use super::output::Ended;
use super::pictures::Pictures;
use crate::burst::{KEY, Sender};
use crate::http::listener::raise_descriptor_limit;
use reqwest::Url;
use std::process::ExitCode;
use std::time::{Duration, Instant};

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
    #[command(flatten)]
    pictures: Pictures,
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
        let sender = Sender::new(self.url, environment().get(KEY).cloned())?;
        let runtime = runtime()?;
        // Many systems start with a limit of 1,024. Where it cannot be raised, the report shows which requests found none.
        raise_descriptor_limit();
        let timeline = runtime.block_on(async {
            let first = sender.ask(0.0, Instant::now()).await;
            first.receipt.map_err(|why| format!("a first request to {} {why}", sender.shown()))?;
            Ok::<_, String>(sender.burst(self.requests, self.delay).await)
        })?;
        runtime.shutdown_background();
        self.pictures.write(&timeline)?;
        Ok(if timeline.facts().passed() { ExitCode::SUCCESS } else { ExitCode::from(1) })
    }
}
