//! Requests as the log of a host tells of them (docs/logs.md).

use super::Arrival;
use std::time::UNIX_EPOCH;

/// Begins what the log says of an invocation, behind time and level.
const CLOSING: &str = " invocation: ";
/// What to do where the log does not tell enough.
const REMEDY: &str =
    "write one with log.requests \"all\" and log.timestamps true, as a host that runs alone does unless told otherwise";

/// The requests that ran, in the order in which they arrived. The closing line comes at the end of each; without the wait for a slot, its time
/// is that of the request.
///
/// # Errors
/// For a person: lines without a time, or fewer than two requests.
pub fn read(log: &str) -> Result<Vec<Arrival>, String> {
    let mut arrivals = Vec::new();
    for (number, line) in log.lines().enumerate() {
        let Some((head, message)) = line.split_once(CLOSING) else { continue };
        // One that got no slot has no instance.
        let (Some(total), Some(queued), Some(_)) =
            (millis(message, " total_ms="), millis(message, " queue_ms="), message.find(" instance="))
        else {
            continue;
        };
        let time = head.split(' ').next().and_then(|time| humantime::parse_rfc3339(time).ok());
        let end = time.and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        let end = end.ok_or_else(|| format!("line {} has no time: {REMEDY}", number + 1))?;
        arrivals.push(Arrival { at: end.as_secs_f64() - total / 1e3, took: (total - queued).max(0.0) / 1e3 });
    }
    if arrivals.len() < 2 {
        return Err(format!("tells of {} requests, and it takes two at least: {REMEDY}", arrivals.len()));
    }
    arrivals.sort_by(|one, other| one.at.total_cmp(&other.at));
    Ok(arrivals)
}

/// The last value of this key: what stands before it may be a guest's words.
fn millis(message: &str, key: &str) -> Option<f64> {
    let (_, value) = message.rsplit_once(key)?;
    value.split(' ').next()?.parse().ok()
}

/// Requests a second, and seconds that one takes, on average.
///
/// # Errors
/// For a person: they came all at once.
pub fn averages(arrivals: &[Arrival]) -> Result<(f64, f64), String> {
    let count = arrivals.len() as f64;
    let begin = arrivals.first().map_or(0.0, |first| first.at);
    let end = arrivals.iter().map(|one| one.at + one.took).fold(begin, f64::max);
    let latency = arrivals.iter().map(|one| one.took).sum::<f64>() / count;
    if end - begin <= 0.0 || latency <= 0.0 {
        return Err("tells of requests that took no time: give --rps and --latency instead".to_owned());
    }
    Ok((count / (end - begin), latency))
}
