//! An app that is deployed, as its callers see it: what its receipts tell, and what happens when many ask at once.

use super::Finding;
use crate::source::root_cause;
use crate::tls;
use reqwest::header::HeaderValue;
use reqwest::{Client, Url, redirect};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::{Duration, Instant, SystemTime};
use tokio::task::JoinSet;

/// For one answer beyond its delay, a cold start included.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long each request of the burst is held, so that those which arrive together overlap.
const DELAY: Duration = Duration::from_secs(2);

/// The most requests of the burst.
const MAX_BURST: u32 = 400;

/// A first answer that is this much slower than the next ones had to wait for an instance.
const COLD: Duration = Duration::from_secs(1);

/// What callers with a function key send, and the variable that it is read from, as `test_concurrency.sh` does.
const KEY_HEADER: &str = "x-functions-key";
/// See [`KEY_HEADER`].
pub const KEY: &str = "FUNCTION_KEY";

/// What one receipt of the demonstration tells.
struct Receipt {
    machine: String,
    on_azure: bool,
    pool_size: u32,
    memory: f64,
    processors: u64,
    start: SystemTime,
    end: SystemTime,
}

/// One request's answer, and how long it took.
struct Answer {
    receipt: Result<Receipt, String>,
    took: Duration,
}

/// Asks the function at `url` a few times one after the other, then twice as often as its pool has slots at once (400 times at
/// most), and judges by the receipts.
///
/// # Errors
/// For a person: the first request gets no receipt.
pub async fn examine(url: &Url, key: Option<String>) -> Result<Vec<Finding>, String> {
    let local = matches!(url.host_str(), Some("127.0.0.1" | "[::1]" | "localhost"));
    if url.scheme() != "https" && !(url.scheme() == "http" && local) {
        return Err(format!("{} is not encrypted: begin the URL with https://", shown(url)));
    }
    let client = client(key)?;
    let first = ask(&client, url, Duration::ZERO).await;
    let seen = first.receipt.map_err(|why| format!("{} {why}", shown(url)))?;
    let mut findings = vec![instance(&seen)];

    let mut later = Vec::new();
    for _ in 0..3 {
        later.push(ask(&client, url, Duration::ZERO).await.took);
    }
    later.sort_unstable();
    findings.push(start(first.took, later[1]));

    let count = seen.pool_size.saturating_mul(2).min(MAX_BURST);
    let mut burst = JoinSet::new();
    for _ in 0..count {
        let (client, url) = (client.clone(), url.clone());
        burst.spawn(async move { ask(&client, &url, DELAY).await });
    }
    findings.extend(spread(url, seen.pool_size, &burst.join_all().await));
    Ok(findings)
}

/// What sends requests with this function key.
///
/// # Errors
/// For a person: the key is none, or nothing can be encrypted.
pub fn client(key: Option<String>) -> Result<Client, String> {
    let tls = tls::config().map_err(|error| format!("cannot encrypt ({error})"))?;
    let mut builder =
        Client::builder().tls_backend_preconfigured(tls).redirect(redirect::Policy::none()).referer(false);
    if let Some(key) = key {
        let key = HeaderValue::from_str(&key).map_err(|_| format!("{KEY} holds no function key: copy it anew"))?;
        builder = builder.default_headers([(KEY_HEADER.try_into().expect("a header"), key)].into_iter().collect());
    }
    builder.build().map_err(|error| format!("cannot prepare requests ({error})"))
}

async fn ask(client: &Client, url: &Url, delay: Duration) -> Answer {
    let mut url = url.clone();
    url.query_pairs_mut().append_pair("delay", &delay.as_secs().to_string());
    let begun = Instant::now();
    let exchange = async {
        let response = client.get(url).timeout(PATIENCE + delay).send().await?;
        Ok((response.status(), response.bytes().await?))
    };
    let answered: reqwest::Result<_> = exchange.await;
    let took = begun.elapsed();
    let receipt = match answered {
        // reqwest's own words would repeat the URL, which may hold a key.
        Err(error) if error.is_timeout() => Err(format!("did not answer within {} s", PATIENCE.as_secs())),
        Err(error) => Err(format!("cannot be reached ({})", root_cause(&error.without_url()))),
        Ok((status, _)) if !status.is_success() => Err(format!("answered with status {status}")),
        Ok((_, body)) => read(&body).ok_or_else(|| "gave no receipt: name the URL of http_trigger".to_owned()),
    };
    Answer { receipt, took }
}

fn read(body: &[u8]) -> Option<Receipt> {
    let receipt: Value = serde_json::from_slice(body).ok()?;
    let time = |name: &str| humantime::parse_rfc3339(receipt["timing"][name].as_str()?).ok();
    Some(Receipt {
        machine: receipt["machine"].as_str()?.to_owned(),
        on_azure: receipt["host"]["azure_instance"].is_string(),
        pool_size: receipt["guest"]["pool_size"].as_u64()?.try_into().ok()?,
        memory: receipt["system"]["memory_total_gb"].as_f64()?,
        processors: receipt["system"]["cpu_count"].as_u64()?,
        start: time("start")?,
        end: time("end")?,
    })
}

/// A URL without what may be a key.
pub fn shown(url: &Url) -> String {
    format!("{}{}", url.origin().ascii_serialization(), url.path())
}

fn instance(Receipt { on_azure, pool_size, memory, processors, .. }: &Receipt) -> Finding {
    let text = format!("instance: {memory:.2} GB of memory, {processors} processors, {pool_size} slots");
    match on_azure {
        true => Finding::Fine(text),
        false => Finding::Note(format!("{text}; it is not an instance of the plan, which would have a name")),
    }
}

fn start(first: Duration, later: Duration) -> Finding {
    let text =
        format!("the first answer took {:.2} s, the next ones {:.2} s", first.as_secs_f64(), later.as_secs_f64());
    if first < later + COLD {
        return Finding::Fine(format!("cold start: none seen, {text}"));
    }
    let remedy = "where no caller may wait so long, keep an instance ready: deploy.sh --always-ready 1";
    Finding::Note(format!("cold start: {text}; {remedy}"))
}

/// What the burst tells about the platform's number and the pool's.
fn spread(url: &Url, pool: u32, answers: &[Answer]) -> Vec<Finding> {
    let mut machines = BTreeMap::<&str, Vec<&Receipt>>::new();
    let mut failures = BTreeMap::<&str, u32>::new();
    for answer in answers {
        match &answer.receipt {
            Ok(receipt) => machines.entry(&receipt.machine).or_default().push(receipt),
            Err(why) => *failures.entry(why).or_default() += 1,
        }
    }
    let (sent, held) = (answers.len(), DELAY.as_secs());
    let slowest = answers.iter().map(|answer| answer.took).max().unwrap_or_default().as_secs_f64();
    let mut told =
        format!("{sent} requests of {held} s at once: instances {}, the slowest took {slowest:.2} s", machines.len());
    if !failures.is_empty() {
        told += "; failed:";
        for (why, count) in &failures {
            write!(told, " {count} × {why}").expect("a string takes everything");
        }
        let remedy = "look at the app's log, and keep pool.size and perInstanceConcurrency equal";
        return vec![Finding::Change(format!("concurrency: {told}: {remedy}"))];
    }
    let most = machines.values().map(Vec::len).max().unwrap_or(0);
    let peak = machines.values().map(|receipts| overlap(receipts)).max().unwrap_or(0);
    let mut findings = vec![Finding::Fine(format!("burst: {told}"))];
    let set = set_concurrency(url, pool);
    findings.push(if most > pool as usize {
        Finding::Change(format!(
            "concurrency: one instance was sent {most} requests and has {pool} slots, so some waited: make the platform's number \
             that of the pool: {set}"
        ))
    } else if machines.len() > 1 && peak < pool as usize {
        Finding::Change(format!(
            "concurrency: no instance ran more than {peak} at the same time, though each has {pool} slots: unless that many \
             instances were there already, the platform's number is lower than the pool's: {set}"
        ))
    } else {
        Finding::Fine(format!("concurrency: up to {peak} requests at the same time in {pool} slots"))
    });
    findings
}

/// The most of them that were running at one moment.
fn overlap(receipts: &[&Receipt]) -> usize {
    let running = |at: SystemTime| receipts.iter().filter(|receipt| receipt.start <= at && at < receipt.end).count();
    receipts.iter().map(|receipt| running(receipt.start)).max().unwrap_or(0)
}

/// The command, with the names that `deploy.sh` gives.
fn set_concurrency(url: &Url, pool: u32) -> String {
    let host = url.host_str().unwrap_or_default();
    let name = if host.ends_with(".azurewebsites.net") { host.split('.').next().unwrap_or_default() } else { "NAME" };
    format!(
        "az functionapp scale config set --name {name} --resource-group rg-{name} --trigger-type http --trigger-settings \
         perInstanceConcurrency={pool}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const POOL: u32 = 4;

    /// Answers of machines that each ran these numbers of requests, one group after the other.
    fn answers(machines: &[&[usize]]) -> Vec<Answer> {
        let answer = |machine: usize, wave: usize| {
            let start = SystemTime::UNIX_EPOCH + DELAY * wave as u32;
            let receipt = Receipt {
                machine: machine.to_string(),
                on_azure: true,
                pool_size: POOL,
                memory: 2.0,
                processors: 1,
                start,
                end: start + DELAY,
            };
            Answer { receipt: Ok(receipt), took: DELAY }
        };
        let waves = machines.iter().enumerate().flat_map(|(at, waves)| waves.iter().enumerate().map(move |w| (at, w)));
        waves.flat_map(|(machine, (wave, count))| (0..*count).map(move |_| answer(machine, wave))).collect()
    }

    fn judged(url: &str, answers: &[Answer]) -> String {
        let findings = spread(&Url::parse(url).expect("a URL"), POOL, answers);
        findings.last().expect("a finding").to_string()
    }

    const AZURE: &str = "https://my-app.azurewebsites.net/api/http_trigger?code=secret";

    #[test]
    fn a_platform_that_fills_the_pools_is_fine() {
        assert_eq!(
            judged(AZURE, &answers(&[&[4], &[4]])),
            "ok      concurrency: up to 4 requests at the same time in 4 slots"
        );
    }

    #[test]
    fn a_platform_that_sends_too_few_is_told_the_number() {
        let said = judged(AZURE, &answers(&[&[2], &[2], &[1, 1], &[2]]));
        assert!(said.starts_with("change  concurrency: no instance ran more than 2 at the same time"), "{said}");
        let command = "az functionapp scale config set --name my-app --resource-group rg-my-app --trigger-type http \
                       --trigger-settings perInstanceConcurrency=4";
        assert!(said.ends_with(command), "{said}");
    }

    #[test]
    fn a_platform_that_sends_too_many_is_told_the_number() {
        let said = judged("https://example.org/api/http_trigger", &answers(&[&[4, 3], &[1]]));
        assert!(said.starts_with("change  concurrency: one instance was sent 7 requests and has 4 slots"), "{said}");
        assert!(said.contains("--name NAME --resource-group rg-NAME"), "{said}");
    }

    #[test]
    fn failures_are_counted_by_reason() {
        let mut answers = answers(&[&[4]]);
        for _ in 0..3 {
            answers.push(Answer { receipt: Err("answered with status 503".to_owned()), took: DELAY });
        }
        let said = judged(AZURE, &answers);
        assert!(said.contains("failed: 3 × answered with status 503"), "{said}");
    }

    #[test]
    fn a_slow_first_answer_is_a_cold_start() {
        let said = start(Duration::from_secs(3), Duration::from_millis(20)).to_string();
        assert!(said.starts_with("note    cold start: the first answer took 3.00 s, the next ones 0.02 s"), "{said}");
        assert!(matches!(start(Duration::from_millis(900), Duration::from_millis(20)), Finding::Fine(_)));
    }
}
