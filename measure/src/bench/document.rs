//! `docs/benchmarks.md`, its figures as JSON, and the chart.

use super::{Results, report, svg};
use anyhow::{Context as _, Result};
use std::fmt::Write as _;
use std::fs;

/// Writes all three.
pub fn write(results: &Results) -> Result<()> {
    let folder = crate::root().join("docs");
    fs::create_dir_all(&folder)?;
    let json = serde_json::to_string_pretty(results)? + "\n";
    for (name, text) in
        [("benchmarks.md", page(results)?), ("benchmarks.json", json), ("benchmarks.svg", svg::chart(results))]
    {
        let path = folder.join(name);
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        println!("wrote docs/{name}");
    }
    Ok(())
}

fn page(results: &Results) -> Result<String> {
    let Results { machine, rounds, .. } = results;
    let mut page = format!(
        "# Benchmarks\n\n\
         Written by `cargo xtask bench --rounds {rounds}`, which anyone can run: it builds what is \
         compared, installs the peer, and takes all figures from one machine in one run. Trust the ratios more than the \
         figures.\n\n\
         ![requests per second of each server](benchmarks.svg)\n\n\
         Every server gives the same 460 bytes of JSON to `GET /` (`benches/`), from one processor; a client that never sleeps \
         asks from another, each connection with one request at a time. All servers run all the time and take turns of 0.3 s in each \
         round; a turn with any other answer is void. Every ratio is taken within a round. Standard output is discarded for all of them, flexwasm's line \
         for each request too. flexwasm runs as it ships: release build, default settings, all its headers on.\n\n\
         {machine}\n"
    );
    for table in report::tables(results) {
        writeln!(page, "{table}")?;
    }
    writeln!(page, "## What was run\n")?;
    for row in &results.rows {
        writeln!(page, "**{}**\n\n```text\n{}\n```\n", row.server.name, row.command)?;
        for line in &row.said {
            writeln!(page, "It says: {}.\n", line.trim_end_matches(':'))?;
        }
    }
    Ok(page.trim_end().to_owned() + "\n")
}
