//! What is made of requests that are over, for people and for programs.

use super::output::{Ended, print};
use crate::timeline::{Timeline, page, trace};
use std::fs;
use std::path::{Path, PathBuf};

/// Where it goes.
#[derive(Debug, clap::Args)]
pub struct Pictures {
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

impl Pictures {
    /// Writes the files that were asked for, and prints a summary.
    pub fn write(&self, timeline: &Timeline) -> Result<(), Ended> {
        if let Some(file) = &self.html {
            write(file, page(timeline))?;
        }
        if let Some(file) = &self.trace {
            write(file, trace(timeline).to_string())?;
        }
        match self.json {
            true => print(format_args!("{:#}\n", timeline.json())),
            false => print(format_args!("{}\n", in_words(timeline))),
        }
    }
}

fn write(file: &Path, text: String) -> Result<(), String> {
    fs::write(file, text).map_err(|error| format!("cannot write {}: {error}", file.display()))
}

fn in_words(timeline: &Timeline) -> String {
    let facts = timeline.facts();
    // A log does not tell them.
    let threads =
        if facts.threads > 0 { format!("Unique threads:          {}\n", facts.threads) } else { String::new() };
    format!(
        "Total execution time:    {:.2} seconds (one after the other: {} seconds)\n\
         Peak overlap:            {} requests at the same time\n\
         Unique processes:        {}\n{threads}Unique instances:        {}\n\
         Unique slots:            {} of {}\nUnique machines:         {}\n\n{}{}",
        timeline.total,
        (timeline.serial() * 100.0).round() / 100.0,
        facts.peak,
        facts.processes,
        facts.instances,
        facts.slots,
        facts.capacity,
        facts.machines,
        timeline.reasons(),
        timeline.verdict(),
    )
}

#[cfg(test)]
mod tests {
    use super::in_words;
    use crate::timeline::{Request, Source, Timeline};

    #[test]
    fn a_burst_that_fails_says_why() {
        let source = Source::Burst { url: "http://127.0.0.1/".to_owned(), delay: 1.0 };
        let request = Request { sent: 0.0, answered: 1.0, receipt: Err("got HTTP 503: full".to_owned()), fault: None };
        let said = in_words(&Timeline { source, total: 1.0, requests: vec![request] });
        let end = "\n\n1 failed: got HTTP 503: full\n❌ RESULT: 1 of 1 requests failed.";
        assert!(said.ends_with(end), "{said}");
    }
}
