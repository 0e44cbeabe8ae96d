//! The chart: requests per second of each server, with the spread of the rounds.

use super::{Results, report};
use crate::server::Program;
use crate::stats::Spread;
use std::fmt::Write as _;

const BAR: usize = 18;
const STEP: usize = 28;
const LABELS: f64 = 290.0;
const BARS: f64 = 400.0;
const TOP: usize = 44;

/// Readable on a light and on a dark page.
pub fn chart(results: &Results) -> String {
    let rates: Vec<(&str, &str, Spread)> = results
        .rows
        .iter()
        .map(|row| {
            let class = match row.server.program {
                Program::Raw => "raw",
                Program::Flexwasm | Program::Beside => "own",
                Program::Peer => "peer",
            };
            (row.server.name, class, row.spread(0, |window| window.requests_per_second))
        })
        .collect();
    let most = rates.iter().map(|(.., rate)| rate.high).fold(1.0, f64::max);
    let height = TOP + rates.len() * STEP + 8;
    let mut bars = String::new();
    for (at, (name, class, rate)) in rates.iter().enumerate() {
        let x = |value: f64| LABELS + value / most * BARS;
        let top = TOP + at * STEP;
        let (text, middle) = (top + BAR - 5, top + BAR / 2);
        let Spread { median, low, high } = *rate;
        writeln!(
            bars,
            r#"  <text x="{label}" y="{text}" text-anchor="end">{name}</text>
  <rect class="{class}" x="{LABELS}" y="{top}" width="{width:.1}" height="{BAR}" rx="2"/>
  <path d="M{from:.1} {middle}H{to:.1}"/>
  <text x="{after:.1}" y="{text}">{rate}</text>"#,
            label = LABELS - 8.0,
            width = x(median) - LABELS,
            from = x(low),
            to = x(high),
            after = x(high) + 6.0,
            rate = report::thousands(median),
        )
        .expect("a string takes every line");
    }
    format!(
        r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 760 {height}" role="img" aria-label="Requests per second">
  <style>
    text {{ font: 13px system-ui, sans-serif; fill: #24292f }}
    .raw {{ fill: #8c959f }} .own {{ fill: #2da44e }} .peer {{ fill: #6e9fd8 }}
    path {{ stroke: #24292f; stroke-width: 1.5 }}
    @media (prefers-color-scheme: dark) {{ text {{ fill: #e6edf3 }} path {{ stroke: #e6edf3 }} }}
  </style>
  <text x="12" y="22">Requests per second, 64 connections, a server on one processor. Lines: least to most of all rounds.</text>
{bars}</svg>
"#
    )
}
