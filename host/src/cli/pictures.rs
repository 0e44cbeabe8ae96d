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
         Unique slots:            {} of {}\nUnique machines:         {}\n\n{}",
        timeline.total,
        (timeline.serial() * 100.0).round() / 100.0,
        facts.peak,
        facts.processes,
        facts.instances,
        facts.slots,
        facts.capacity,
        facts.machines,
        timeline.verdict(),
    )
}
