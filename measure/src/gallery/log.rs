//! The host's log, read as the Functions host reads it, and searched for what must not be in it.

use crate::process;
use anyhow::Result;
use rustix::pipe::{PipeFlags, pipe_with};
use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::thread::{self, JoinHandle};
use testkit::SECRET;

/// Lines that begin so are orders to the Functions host (azure-contract.md, S13).
const ORDERS: [&str; 2] = ["LanguageWorkerConsoleLog", "azfuncjsonlog:"];

/// A log that is being read.
pub struct Log(JoinHandle<Option<String>>);

impl Log {
    /// Reads on this processor what is written to the answer's first half.
    pub fn follow(processor: usize) -> Result<(File, Self)> {
        let (reader, writer) = pipe_with(PipeFlags::CLOEXEC)?;
        let read = move || {
            // On any other one it would only be slower.
            let _ = process::bind_to(processor);
            search(File::from(reader))
        };
        Ok((File::from(writer), Self(thread::spawn(read))))
    }

    /// What was wrong with it, once its writers have ended.
    pub fn finish(self) -> Option<String> {
        self.0.join().expect("reading a log does not panic")
    }
}

fn search(log: File) -> Option<String> {
    let (mut log, mut line, mut found) = (BufReader::new(log), Vec::<u8>::new(), None);
    // To the end, whatever is found: a host whose log nobody reads is another host.
    while log.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
        let problem = fault(&String::from_utf8_lossy(&line));
        found = found.or(problem);
        line.clear();
    }
    found
}

/// What is wrong with a line.
fn fault(line: &str) -> Option<String> {
    let text = line.trim_end_matches('\n');
    let what = if text.contains(SECRET) {
        "the secret"
    } else if ORDERS.iter().any(|order| text.starts_with(order)) {
        "an order to the Functions host"
    } else if text.chars().any(char::is_control) {
        "a control character"
    } else {
        return None;
    };
    Some(format!("the log has {what}: {text:?}"))
}

#[cfg(test)]
mod tests {
    use super::{SECRET, fault};

    #[test]
    fn what_may_not_be_in_a_log_is_found() {
        assert_eq!(fault("2026-01-01T00:00:00Z  INFO guest: text=\"azfuncjsonlog:\"\n"), None);
        for line in ["azfuncjsonlog:{}", "LanguageWorkerConsoleLog x", "red \x1b[31m", "one\rtwo", SECRET] {
            assert!(fault(line).is_some(), "{line:?}");
        }
    }
}
