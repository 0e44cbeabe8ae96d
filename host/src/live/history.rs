//! The numbers of the last minutes, one row for each second.

use super::counters::{OUTCOMES, Quantiles, Second};
use super::millis;
use crate::observe::metrics::Levels;
use serde_json::{Map, Value, json};
use std::collections::VecDeque;
use std::fs;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// How many seconds are kept.
const KEPT: usize = 300;

/// Ticks of a second in `/proc/self/stat`: what Linux tells programs, on every machine (proc(5), `USER_HZ`).
const TICKS: f64 = 100.0;

/// The last of them.
#[derive(Default)]
pub struct History(Mutex<State>);

#[derive(Default)]
struct State {
    /// All that were noted.
    count: u64,
    rows: VecDeque<Row>,
    /// Seconds of processors that the process had used when it was looked at last.
    used: Option<f64>,
}

struct Row {
    at: Duration,
    levels: Levels,
    ended: Second,
    /// Bytes of memory of the process.
    resident: Option<u64>,
    /// Seconds of processors that it used in this second.
    cpu: Option<f64>,
}

impl History {
    /// Notes one more.
    pub fn note(&self, at: Duration, levels: Levels, ended: Second) {
        let (resident, used) = (resident(), used());
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let cpu = used.zip(state.used).map(|(now, before)| now - before);
        state.used = used;
        state.count += 1;
        if state.rows.len() == KEPT {
            state.rows.pop_front();
        }
        state.rows.push_back(Row { at, levels, ended, resident, cpu });
    }

    /// Those after the first `seen`, in JSON, and how many there were in all.
    pub fn since(&self, seen: u64) -> (Vec<Value>, u64) {
        let state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let new = usize::try_from(state.count.saturating_sub(seen)).unwrap_or(usize::MAX).min(state.rows.len());
        (state.rows.range(state.rows.len() - new..).map(Row::json).collect(), state.count)
    }
}

impl Row {
    fn json(&self) -> Value {
        let Self { at, levels, ended, resident, cpu } = self;
        let outcomes = OUTCOMES.iter().zip(ended.outcomes).filter(|(_, count)| *count > 0);
        let outcomes: Map<String, Value> = outcomes.map(|(word, count)| ((*word).to_owned(), count.into())).collect();
        json!({
            "atMs": millis(*at).round(), "running": levels.running, "parked": levels.parked, "waiting": levels.waiting,
            "memory": levels.memory, "resident": resident, "cpu": cpu, "ended": outcomes,
            "queueMs": ended.queue.map(Quantiles::json), "instantiateMs": ended.instantiate.map(Quantiles::json),
            "guestMs": ended.guest.map(Quantiles::json),
        })
    }
}

fn resident() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.trim().trim_end_matches(" kB").parse::<u64>().ok()? << 10)
}

fn used() -> Option<f64> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    // Behind the name, which may have spaces: utime and stime are the 14th and the 15th field (proc(5)).
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let mut next = || fields.next()?.parse::<f64>().ok();
    Some((next()? + next()?) / TICKS)
}
