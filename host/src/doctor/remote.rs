//! An app that is deployed, as its callers see it: what its receipts tell, and what happens when many ask at once.

use super::Finding;
use crate::burst::Sender;
use crate::timeline::{Receipt, Request, Timeline};
use reqwest::Url;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::{Duration, Instant};

/// How many seconds each request of the burst is held, so that those which arrive together overlap.
const DELAY: f64 = 2.0;

/// The most requests of the burst.
const MAX_BURST: u32 = 400;

/// A first answer that is this much slower than the next ones had to wait for an instance.
const COLD: Duration = Duration::from_secs(1);

/// Asks the function at `url` a few times one after the other, then twice as often as its pool has slots at once (400 times at
/// most), and judges by the receipts: the demonstration's, or the headers of any other function.
///
/// # Errors
/// For a person: the first request gets no receipt.
pub async fn examine(url: &Url, key: Option<String>) -> Result<Vec<Finding>, String> {
    let local = matches!(url.host_str(), Some("127.0.0.1" | "[::1]" | "localhost"));
    let sender = Sender::new(url.clone(), key)?;
    if url.scheme() != "https" && !(url.scheme() == "http" && local) {
        return Err(format!("{} is not encrypted: begin the URL with https://", sender.shown()));
    }
    let begun = Instant::now();
    let first = sender.ask(0.0, begun).await;
    let took = took(&first);
    let seen = first.receipt.map_err(|why| format!("{} {why}", sender.shown()))?;
    let mut findings = vec![instance(&seen)];

    let mut later = Vec::new();
    for _ in 0..3 {
        later.push(self::took(&sender.ask(0.0, begun).await));
    }
    later.sort_unstable();
    findings.push(start(took, later[1]));

    let count = u32::try_from(seen.pool.saturating_mul(2)).unwrap_or(MAX_BURST).min(MAX_BURST);
    findings.extend(spread(url, seen.pool, &sender.burst(count, DELAY).await));
    Ok(findings)
}

fn took(request: &Request) -> Duration {
    Duration::from_secs_f64((request.answered - request.sent).max(0.0) / 1e3)
}

fn instance(Receipt { on_azure, pool, memory, processors, .. }: &Receipt) -> Finding {
    if *processors == 0 {
        return Finding::Fine(format!("instance: {pool} slots; only http_trigger tells memory and processors"));
    }
    let text = format!("instance: {memory:.2} GB of memory, {processors} processors, {pool} slots");
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
fn spread(url: &Url, pool: u64, burst: &Timeline) -> Vec<Finding> {
    let mut machines = BTreeMap::<&str, Vec<&Receipt>>::new();
    let mut failures = BTreeMap::<&str, u32>::new();
    for request in &burst.requests {
        match &request.receipt {
            Ok(receipt) => machines.entry(&receipt.machine).or_default().push(receipt),
            Err(why) => *failures.entry(why).or_default() += 1,
        }
    }
    let sent = burst.requests.len();
    let slowest = burst.requests.iter().map(took).max().unwrap_or_default().as_secs_f64();
    let mut told = format!(
        "{sent} requests with delay={DELAY} at once: instances {}, the slowest took {slowest:.2} s",
        machines.len()
    );
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
    // Only the demonstration holds a request for as long as it is asked to; what is quick needs few slots.
    let held = machines.values().flatten().all(|receipt| receipt.threads.is_some());
    if !held && (peak as u64) < pool {
        findings.push(Finding::Note(format!(
            "concurrency: at most {peak} requests ran at the same time in {pool} slots; answers are too quick to tell what the \
             platform's number is"
        )));
        return findings;
    }
    let set = set_concurrency(url, pool);
    findings.push(if held && most as u64 > pool {
        Finding::Change(format!(
            "concurrency: one instance was sent {most} requests and has {pool} slots, so some waited: make the platform's number \
             that of the pool: {set}"
        ))
    } else if machines.len() > 1 && (peak as u64) < pool {
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
    let running = |at: f64| receipts.iter().filter(|receipt| receipt.start <= at && at < receipt.end).count();
    receipts.iter().map(|receipt| running(receipt.start)).max().unwrap_or(0)
}

/// The command, with the names that `deploy.sh` gives.
fn set_concurrency(url: &Url, pool: u64) -> String {
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
    use crate::timeline::Source;

    const POOL: u64 = 4;

    /// What came of machines that each ran these numbers of requests, one group after the other.
    fn answers(machines: &[&[usize]]) -> Timeline {
        let answer = |machine: usize, wave: usize| {
            let start = DELAY * 1e3 * wave as f64;
            let receipt = Receipt {
                machine: machine.to_string(),
                process: 1,
                threads: Some([1, 1]),
                instance: 1,
                slot: 0,
                pool: POOL,
                served: 1,
                generation: 1,
                start,
                end: start + DELAY * 1e3,
                on_azure: true,
                memory: 2.0,
                processors: 1,
            };
            Request { sent: 0.0, answered: DELAY * 1e3, receipt: Ok(receipt), fault: None }
        };
        let waves = machines.iter().enumerate().flat_map(|(at, waves)| waves.iter().enumerate().map(move |w| (at, w)));
        let requests =
            waves.flat_map(|(machine, (wave, count))| (0..*count).map(move |_| answer(machine, wave))).collect();
        Timeline { source: Source::Burst { url: String::new(), delay: DELAY }, total: DELAY, requests }
    }

    fn judged(url: &str, burst: &Timeline) -> String {
        let findings = spread(&Url::parse(url).expect("a URL"), POOL, burst);
        findings.last().expect("a finding").to_string()
    }

    #[test]
    fn quick_answers_of_another_app_are_no_reason_to_change_anything() {
        let mut answers = answers(&[&[2, 2, 2], &[1, 1]]);
        for request in &mut answers.requests {
            request.receipt.as_mut().expect("a receipt").threads = None;
        }
        let said = judged(AZURE, &answers);
        assert!(said.starts_with("note    concurrency: at most 2 requests ran at the same time in 4 slots"), "{said}");
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
            let receipt = Err("got HTTP 503".to_owned());
            answers.requests.push(Request { sent: 0.0, answered: 1.0, receipt, fault: None });
        }
        let said = judged(AZURE, &answers);
        assert!(said.contains("failed: 3 × got HTTP 503"), "{said}");
    }

    #[test]
    fn a_slow_first_answer_is_a_cold_start() {
        let said = start(Duration::from_secs(3), Duration::from_millis(20)).to_string();
        assert!(said.starts_with("note    cold start: the first answer took 3.00 s, the next ones 0.02 s"), "{said}");
        assert!(matches!(start(Duration::from_millis(900), Duration::from_millis(20)), Finding::Fine(_)));
    }
}
