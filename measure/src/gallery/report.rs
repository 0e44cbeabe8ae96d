//! The tables, and `docs/gallery.md`.

use super::overload::{Overload, SLEEP};
use super::{Results, Row};
use crate::table::Table;
use anyhow::{Context as _, Result};
use std::fs;

/// Both tables of a run.
pub fn tables(results: &Results) -> [Table; 2] {
    [attacks(&results.rows), overload(&results.overload)]
}

/// Writes the page.
pub fn write(results: &Results) -> Result<()> {
    let [attacks, overload] = tables(results);
    let page = format!(
        "# The gallery of hostile guests\n\n\
         Written by `cargo xtask gallery`, which anyone can run. One host serves all of `examples/hostile` and an innocent \
         function, from one processor, with the settings of `examples/hostile/host.json`. Each attack is a guest that four \
         callers ask for again and again while a fifth asks for the innocent one. The command fails if the process ends, if a \
         single innocent request is not answered correctly, if p99 of the innocent ones reaches 20 times that of the quiet \
         moment before (25 ms at least, 50 ms at most), if the host's memory exceeds 512 MiB, or if a secret \
         planted in its environment, in its app settings and as the token of its identity shows up in an answer or in the log.\n\n\
         {}\n{attacks}\n{overload}",
        results.machine,
    );
    let path = crate::root().join("docs/gallery.md");
    fs::write(&path, page).with_context(|| format!("cannot write {}", path.display()))?;
    println!("wrote docs/gallery.md");
    Ok(())
}

fn attacks(rows: &[Row]) -> Table {
    let row = |row: &Row| {
        let got = row.during.got.iter().map(|(got, times)| format!("{times} × {got}"));
        let got = got.collect::<Vec<_>>().join("; ");
        let reached = row.attack.says.map_or(String::new(), |says| format!(": “{says}”"));
        let [before, during] = row.p99_ms().map(|ms| format!("{ms:.2}"));
        vec![
            row.attack.name.to_owned(),
            row.attack.does.to_owned(),
            format!("{got}{reached}"),
            before,
            during,
            format!("{} of {}", row.during.failed, row.during.failed + row.during.latencies.len()),
            if row.up { "up" } else { "ended" }.to_owned(),
            format!("{}", row.peak >> 20),
        ]
    };
    Table {
        title: "Attacks",
        note: "p99 of the innocent requests in milliseconds, in the quiet moment before the attack and beside it; how many of \
               them failed; the process, always the same; the peak of its memory during the attack, in MiB."
            .to_owned(),
        columns: vec!["guest", "what it does", "what it got", "p99 before", "p99 beside", "failed", "process", "memory"],
        rows: rows.iter().map(row).collect(),
    }
}

fn overload(overload: &Overload) -> Table {
    let Overload { room, callers, calm, crowd } = overload;
    let row = |callers: usize, crowd: &super::overload::Crowd| {
        let got = crowd.got.iter().map(|(got, times)| format!("{times} × {got}"));
        let [early, end] = crowd.rss_kib.map(|kib| format!("{}", kib >> 10));
        vec![
            callers.to_string(),
            got.collect::<Vec<_>>().join("; "),
            format!("{:.0}", crowd.per_second),
            format!("{:.0}", crowd.slowest.as_secs_f64() * 1e3),
            format!("{:.2}", crowd.ping_p99_ms),
            early,
            end,
        ]
    };
    Table {
        title: "Overload",
        note: format!(
            "Callers that never pause ask for a guest that sleeps {} ms: as many as there are slots, and ten times as many as \
             slots and queue ({} and {}) hold. Answers with status 200 per second, the slowest answer and the p99 of the \
             host's own answer to `GET /` in milliseconds, and its memory after a sixth of the time and at the end, in MiB.",
            SLEEP.as_millis(),
            room.slots,
            room.queue,
        ),
        columns: vec!["callers", "answers", "200s per second", "slowest", "GET /", "memory early", "memory at the end"],
        rows: vec![row(room.slots, calm), row(*callers, crowd)],
    }
}
