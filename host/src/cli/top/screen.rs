//! What `flexwasm top` shows, made of the reports of a host (docs/observe.md).

use crate::config::units::spell_size;
use serde_json::Value;
use std::collections::VecDeque;

/// How many seconds of the curve are kept: as many columns as a wide terminal has.
const SECONDS: usize = 300;
/// From none to all.
const LEVELS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
/// Lines of slots at the most, so that the rest has room.
const SLOT_LINES: usize = 10;

/// What was reported so far.
#[derive(Default)]
pub struct Screen {
    /// The last report, and the last one with what changes once in a second.
    last: Value,
    slow: Value,
    seconds: VecDeque<Value>,
}

impl Screen {
    /// What to ask for.
    pub fn next(&self) -> &str {
        self.last["next"].as_str().unwrap_or_default()
    }

    /// Notes a report.
    pub fn take(&mut self, report: Value) {
        if report["host"] != self.last["host"] {
            self.seconds.clear();
        }
        if report.get("about").is_some() {
            self.seconds.extend(report["seconds"].as_array().into_iter().flatten().cloned());
            self.seconds.drain(..self.seconds.len().saturating_sub(SECONDS));
            self.slow = report.clone();
        }
        self.last = report;
    }

    /// As many lines of as many columns as there is room for, the most important ones first.
    pub fn lines(&self, (width, height): (usize, usize)) -> Vec<String> {
        let mut lines = self.numbers();
        lines.push(String::new());
        lines.extend(self.curve(width));
        lines.push(String::new());
        lines.extend(self.slots(width));
        lines.push(String::new());
        lines.extend(self.functions());
        lines.push(String::new());
        lines.extend(self.news());
        lines.truncate(height);
        // What guests choose may have anything in it: nothing of it is a command to the terminal.
        let clean = |letter: char| if letter.is_control() { '\u{fffd}' } else { letter };
        lines.iter().map(|line| line.chars().take(width).map(clean).collect()).collect()
    }

    fn numbers(&self) -> Vec<String> {
        let Self { last, slow, seconds } = self;
        let about = &slow["about"];
        let second = seconds.back().unwrap_or(&Value::Null);
        let ended = |word: &str| second["ended"][word].as_u64().unwrap_or(0);
        let times = |name: &str| match &second[name] {
            Value::Array(pair) => {
                format!(
                    "{} / {}",
                    time(pair.first().unwrap_or(&Value::Null)),
                    time(pair.last().unwrap_or(&Value::Null))
                )
            }
            _ => "-".to_owned(),
        };
        let size = |value: &Value| value.as_u64().map_or("-".to_owned(), |bytes| spell_size(bytes >> 20 << 20));
        let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
        vec![
            format!("flexwasm {} · {}, process {}", text(&about["version"]), text(&about["machine"]), about["process"]),
            format!(
                "slots       {} of {} running, {} parked, {} requests waiting",
                last["running"], about["slots"], last["parked"], last["waiting"]
            ),
            format!(
                "per second  {} answered, {} refused, {} failed, {} late, {} left by their client",
                ended("answered"),
                ended("refused"),
                ended("failed"),
                ended("deadline"),
                ended("gone")
            ),
            format!(
                "p50 / p99   queue {}, instantiate {}, guest {}",
                times("queueMs"),
                times("instantiateMs"),
                times("guestMs")
            ),
            format!(
                "memory      guests {} of {}, process {} · {:.2} of {} processors",
                size(&second["memory"]),
                size(&about["totalMemory"]),
                size(&second["resident"]),
                second["cpu"].as_f64().unwrap_or(0.0),
                about["processors"]
            ),
        ]
    }

    fn curve(&self, width: usize) -> [String; 2] {
        let recent = self.seconds.range(self.seconds.len().saturating_sub(width)..);
        let counts: Vec<u64> = recent.map(|second| second["running"].as_u64().unwrap_or(0)).collect();
        let most = counts.iter().copied().max().unwrap_or(0);
        let top = LEVELS.len() as u64 - 1;
        let level = |count: &u64| LEVELS[usize::try_from((count * top).div_ceil(most.max(1))).unwrap_or(0)];
        let title = format!("running, the last {} s, at most {most}", counts.len());
        [title, counts.iter().map(level).collect()]
    }

    fn slots(&self, width: usize) -> Vec<String> {
        let all = usize::try_from(self.slow["about"]["slots"].as_u64().unwrap_or(0)).unwrap_or(0);
        let shown = all.min(width.max(1) * SLOT_LINES);
        let mut marks = vec!['·'; shown];
        for slot in self.last["slots"].as_array().into_iter().flatten() {
            let number = slot[0].as_u64().and_then(|number| usize::try_from(number).ok());
            if let Some(mark) = number.and_then(|number| marks.get_mut(number)) {
                *mark = if slot[1] == "parked" { '○' } else { '█' };
            }
        }
        let rest = if shown < all { format!(", the first {shown} of {all}") } else { String::new() };
        let title = format!("slots: █ running, ○ parked, · free{rest}");
        [title].into_iter().chain(marks.chunks(width.max(1)).map(|line| line.iter().collect())).collect()
    }

    fn functions(&self) -> Vec<String> {
        let rows = self.slow["functions"].as_array().into_iter().flatten().map(|function| {
            let text = |key: &str| function[key].as_str().unwrap_or_default().to_owned();
            let generation = function["generation"].as_u64().map_or("-".to_owned(), |number| number.to_string());
            format!("{:<24} {generation:>10}  {:<12}  {}", text("name"), text("digest"), text("problem"))
        });
        [format!("{:<24} {:>10}  {:<12}", "function", "generation", "digest")].into_iter().chain(rows).collect()
    }

    fn news(&self) -> Vec<String> {
        let now = self.last["atMs"].as_f64().unwrap_or(0.0);
        let items = self.slow["news"].as_array().into_iter().flatten().rev().map(|item| {
            let text = |key: &str| item[key].as_str().unwrap_or_default().to_owned();
            let ago = ((now - item["atMs"].as_f64().unwrap_or(now)) / 1e3).max(0.0);
            format!("{ago:>6.0} s ago  {}: {} {}", text("function"), text("kind"), text("text"))
        });
        ["last swaps and failures".to_owned()].into_iter().chain(items).collect()
    }
}

fn time(ms: &Value) -> String {
    match ms.as_f64() {
        Some(ms) if ms >= 1000.0 => format!("{:.2} s", ms / 1e3),
        Some(ms) if ms >= 10.0 => format!("{ms:.0} ms"),
        Some(ms) => format!("{ms:.2} ms"),
        None => "-".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn second(running: u32) -> Value {
        json!({
            "running": running, "memory": 5 << 20, "resident": 30 << 20, "cpu": 0.5, "ended": { "answered": 7, "failed": 1 },
            "queueMs": [0.01, 0.2], "instantiateMs": [0.05, 12.0], "guestMs": [3.0, 1500.0],
        })
    }

    fn report(host: &str, seconds: &[u32]) -> Value {
        json!({
            "host": host, "next": format!("{host}-1-1"), "atMs": 9000.0, "running": 2, "parked": 1, "waiting": 3,
            "slots": [[0, "head", "f", 1, 7, 100.0], [2, "parked", "f", 1, 6, 50.0], [4, "body", "f", 1, 8, 60.0]],
            "about": {
                "machine": "m", "process": 12, "version": "1.2.3", "slots": 6, "totalMemory": 1 << 30, "processors": 2,
            },
            "seconds": seconds.iter().map(|running| second(*running)).collect::<Vec<_>>(),
            "functions": [{ "name": "f", "generation": 1, "digest": "abc", "problem": null }],
            "news": [
                { "atMs": 1000.0, "kind": "swapped", "function": "f", "text": "generation 2" },
                { "atMs": 4000.0, "kind": "faulted", "function": "f", "text": "said \u{1b}[2J" },
            ],
        })
    }

    #[test]
    fn a_screen_has_what_matters_and_no_command_to_the_terminal() {
        let mut screen = Screen::default();
        assert!(screen.lines((80, 24)).len() <= 24 && screen.next().is_empty(), "before the first report");
        screen.take(report("a", &[0, 1, 4, 2]));
        let lines = screen.lines((100, 40));
        for line in [
            "flexwasm 1.2.3 · m, process 12",
            "slots       2 of 6 running, 1 parked, 3 requests waiting",
            "per second  7 answered, 0 refused, 1 failed, 0 late, 0 left by their client",
            "p50 / p99   queue 0.01 ms / 0.20 ms, instantiate 0.05 ms / 12 ms, guest 3.00 ms / 1.50 s",
            "memory      guests 5MiB of 1GiB, process 30MiB · 0.50 of 2 processors",
            "running, the last 4 s, at most 4",
            " ▂█▄",
            "█·○·█·",
            "     5 s ago  f: faulted said \u{fffd}[2J",
        ] {
            assert!(lines.iter().any(|shown| shown == line), "{line:?} is not in {lines:#?}");
        }
        assert_eq!(screen.next(), "a-1-1");

        let narrow = screen.lines((10, 7));
        assert!(narrow.len() == 7 && narrow.iter().all(|line| line.chars().count() <= 10), "{narrow:?}");
        // Another process begins anew.
        screen.take(report("b", &[1]));
        assert!(screen.lines((100, 40)).contains(&"running, the last 1 s, at most 1".to_owned()));
    }
}
