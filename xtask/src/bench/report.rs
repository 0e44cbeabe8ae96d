//! The tables, as text that is Markdown too.

use super::stats::Spread;
use super::{Results, Row, Window, servers};
use std::fmt;

/// A table with a heading and a few words on how to read it.
pub struct Table {
    pub title: &'static str,
    pub note: String,
    pub columns: Vec<&'static str>,
    pub rows: Vec<Vec<String>>,
}

impl fmt::Display for Table {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(out, "## {}\n\n{}\n", self.title, self.note)?;
        let heads: Vec<String> = self.columns.iter().map(|&column| column.to_owned()).collect();
        let widths: Vec<usize> = (0..heads.len())
            .map(|at| self.rows.iter().chain([&heads]).map(|row| row[at].chars().count()).max().unwrap_or(0))
            .collect();
        let rule: Vec<String> = widths.iter().map(|&width| "-".repeat(width)).collect();
        for row in [&heads, &rule].into_iter().chain(&self.rows) {
            let cells = row.iter().zip(&widths).map(|(cell, &width)| format!(" {cell:<width$} |"));
            writeln!(out, "|{}", cells.collect::<String>())?;
        }
        Ok(())
    }
}

/// Every table of a run.
pub fn tables(results: &Results) -> Vec<Table> {
    vec![many_connections(results), one_connection(results), peers(results)]
}

fn many_connections(results: &Results) -> Table {
    let rows = results.rows.iter().map(|row| {
        let figure = |figure: fn(&Window) -> f64, decimals| spelled(row.spread(0, figure), decimals);
        let ratio = |figure: fn(&Window) -> f64| spelled(ratio(results, row, servers::FLOOR, 0, figure), 2);
        vec![
            row.server.name.to_owned(),
            figure(|window| window.requests_per_second, 0),
            ratio(|window| window.requests_per_second),
            figure(|window| window.p50_us, 0),
            figure(|window| window.p99_us, 0),
            figure(|window| window.cpu_us, 1),
            ratio(|window| window.cpu_us),
            mebibytes(row.idle_rss_kib),
            mebibytes(row.spread(0, |window| window.rss_kib).median),
        ]
    });
    Table {
        title: "64 connections",
        note:
            "Medians, with the least and the most of all rounds. CPU is the time on a processor of all threads of the \
               server, for each request."
                .to_owned(),
        columns: vec![
            "server",
            "requests/s",
            "÷ raw",
            "p50 µs",
            "p99 µs",
            "CPU µs/request",
            "CPU × raw",
            "MiB idle",
            "MiB loaded",
        ],
        rows: rows.collect(),
    }
}

fn one_connection(results: &Results) -> Table {
    let rows = results.rows.iter().map(|row| {
        let figure = |figure: fn(&Window) -> f64, decimals| spelled(row.spread(1, figure), decimals);
        let above = pairs(results, row, servers::FLOOR, 1).map(|(own, raw)| own.p50_us - raw.p50_us);
        vec![
            row.server.name.to_owned(),
            figure(|window| window.p50_us, 0),
            spelled(Spread::of(above), 0),
            figure(|window| window.p99_us, 0),
            figure(|window| window.cpu_us, 1),
        ]
    });
    Table {
        title: "One connection",
        note: "One request after the other: what a guest adds to the time of an answer.".to_owned(),
        columns: vec!["server", "p50 µs", "above raw, µs", "p99 µs", "CPU µs/request"],
        rows: rows.collect(),
    }
}

fn peers(results: &Results) -> Table {
    let pairs = results.rows.iter().flat_map(|row| row.server.peers.iter().map(move |&peer| (row, peer)));
    // A smoke run is without them.
    let present = pairs.filter(|(_, peer)| results.rows.iter().any(|row| row.server.key == *peer));
    let rows = present.map(|(row, peer)| {
        let ratio = |figure: fn(&Window) -> f64| spelled(ratio(results, row, peer, 0, figure), 2);
        vec![
            row.server.name.to_owned(),
            servers::Server::named(peer).name.to_owned(),
            ratio(|window| window.requests_per_second),
            ratio(|window| window.p50_us),
            ratio(|window| window.p99_us),
            ratio(|window| window.cpu_us),
            ratio(|window| window.rss_kib),
        ]
    });
    Table {
        title: "Beside the peer",
        note: "64 connections; each figure of flexwasm divided by the peer's. More is better for requests/s, less for the \
               others."
            .to_owned(),
        columns: vec!["server", "peer", "requests/s", "p50", "p99", "CPU", "memory"],
        rows: rows.collect(),
    }
}

/// The windows of a row beside those of another, of the rounds in which both are valid.
pub fn pairs<'a>(
    results: &'a Results,
    row: &'a Row,
    other: &str,
    scenario: usize,
) -> impl Iterator<Item = (&'a Window, &'a Window)> {
    let other = results.rows.iter().find(|row| row.server.key == other).expect("a row of this run");
    row.windows[scenario]
        .iter()
        .zip(&other.windows[scenario])
        .filter_map(|(own, other)| Some((own.as_ref()?, other.as_ref()?)))
}

/// A row's figure divided by another's, within each round.
pub fn ratio(results: &Results, row: &Row, other: &str, scenario: usize, figure: fn(&Window) -> f64) -> Option<Spread> {
    Spread::of(pairs(results, row, other, scenario).map(|(own, other)| figure(own) / figure(other)))
}

fn spelled(spread: impl Into<Option<Spread>>, decimals: usize) -> String {
    spread.into().map_or_else(
        || "–".to_owned(),
        |Spread { median, min, max }| format!("{median:.decimals$} ({min:.decimals$}–{max:.decimals$})"),
    )
}

fn mebibytes(kib: f64) -> String {
    format!("{:.1}", kib / 1024.0)
}
