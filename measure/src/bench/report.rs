//! The tables, as text that is Markdown too.

use super::{Results, Row, Window, servers};
use crate::stats::Spread;
use crate::table::Table;

/// Every table of a run.
pub fn tables(results: &Results) -> Vec<Table> {
    let mut tables = vec![many_connections(results), one_connection(results)];
    let ours = [
        cold_starts(results),
        phases(results),
        sleepers(results),
        neighbours(results),
        duplex(results),
        events(results),
        burst(results),
        seen(results),
        looking(results),
        grants(results),
        middleware(results),
    ];
    tables.extend([peers(results)].into_iter().chain(ours).filter(|table| !table.rows.is_empty()));
    tables
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
            mebibytes(row.idle_anonymous_kib),
            mebibytes(row.spread(0, |window| window.rss_kib).median),
        ]
    });
    Table {
        title: "64 connections",
        note:
            "Medians, with the quartiles: half of all rounds lie between them. CPU is the time on a processor of all threads of the \
               server, for each request. Memory is what is resident; pages of files, which are those of the executable, can be dropped."
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
            "without files",
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
    let compared = results.rows.iter().flat_map(|row| row.server.peers.iter().map(move |&peer| (row, peer)));
    // A smoke run is without them.
    let present = compared.filter(|(_, peer)| results.rows.iter().any(|row| row.server.key == *peer));
    let rows = present.map(|(row, peer)| {
        let ratio = |figure: fn(&Window) -> f64| spelled(ratio(results, row, peer, 0, figure), 2);
        let more = pairs(results, row, peer, 0).map(|(own, peer)| own.cpu_us - peer.cpu_us);
        vec![
            row.server.name.to_owned(),
            servers::Server::named(peer).name.to_owned(),
            ratio(|window| window.requests_per_second),
            ratio(|window| window.p50_us),
            ratio(|window| window.p99_us),
            ratio(|window| window.cpu_us),
            spelled(Spread::of(more), 1),
            ratio(|window| window.rss_kib),
        ]
    });
    Table {
        title: "Beside the peer",
        note: "64 connections; each figure of flexwasm divided by the peer's, and how many µs of CPU a request takes more. More is better for requests/s, \
               less for the others."
            .to_owned(),
        columns: vec!["server", "peer", "requests/s", "p50", "p99", "CPU", "CPU µs more", "memory"],
        rows: rows.collect(),
    }
}

fn cold_starts(results: &Results) -> Table {
    let rows = results
        .cold_starts
        .iter()
        .map(|start| vec![start.server.to_owned(), spelled(start.ready_ms, 1), spelled(start.above_raw_ms, 1)]);
    Table {
        title: "Cold start",
        note: "From just before the process is made to the end of its first answer, in milliseconds. The guest was compiled \
               ahead of time. Not pinned."
            .to_owned(),
        columns: vec!["server", "ms", "above raw, ms"],
        rows: rows.collect(),
    }
}

fn phases(results: &Results) -> Table {
    let rows = results.cold_starts.iter().flat_map(|start| {
        let name = start.server;
        start.phases_ms.iter().map(move |(phase, ms)| vec![name.to_owned(), phase.clone(), spelled(*ms, 2)])
    });
    Table {
        title: "Cold start by phase",
        note: "What flexwasm logs with `--log-level debug`, in milliseconds; phases may overlap.".to_owned(),
        columns: vec!["server", "phase", "ms"],
        rows: rows.collect(),
    }
}

fn sleepers(results: &Results) -> Table {
    let rows = results.sleepers.iter().map(|burst| {
        vec![
            format!("{} of {} s", burst.requests, burst.delay),
            burst.failures.to_string(),
            format!("{:.2}", burst.total_seconds),
            mebibytes(burst.rss_before_kib as f64),
            mebibytes(burst.rss_peak_kib as f64),
            format!("{:.1}", burst.kib_per_request),
        ]
    });
    Table {
        title: "Requests that sleep at the same time",
        note: "The demonstration guest, an instance for each request, two workers; the client is a process of its own on the \
               same two processors. Memory for each request includes its connection."
            .to_owned(),
        columns: vec!["requests", "failures", "seconds in all", "MiB before", "MiB at peak", "KiB per request"],
        rows: rows.collect(),
    }
}

fn neighbours(results: &Results) -> Table {
    let super::neighbours::Neighbours { spinners, windows } = &results.neighbours;
    let figure = |figure: fn(&Window) -> f64| spelled(Spread::of(windows.iter().map(figure)), 0);
    let row = vec![
        format!("{spinners}"),
        figure(|window| window.p50_us),
        figure(|window| window.p99_us),
        figure(|window| window.requests_per_second),
    ];
    Table {
        title: "A short request beside guests that compute",
        note:
            "One connection to a guest that answers at once, while others of the same process spin on its one worker."
                .to_owned(),
        columns: vec!["guests that spin", "p50 µs", "p99 µs", "requests/s"],
        rows: vec![row],
    }
}

fn duplex(results: &Results) -> Table {
    let turns = &results.duplex;
    let columns =
        [in_turns(turns, |echoes| echoes.mebibytes_per_second, 0), in_turns(turns, |echoes| echoes.cpu_ms, 2)];
    let names = ["`limits.spool` 0", "`limits.spool` as it comes", "with ÷ without"];
    Table {
        title: "A body that its client reads while it sends it",
        note: format!(
            "One request after the other, each with a body of {} MiB that the guest sends back as it comes.",
            super::duplex::BODY >> 20
        ),
        columns: vec!["", "MiB/s", "CPU ms/request"],
        rows: rows_of(names, &columns),
    }
}

fn events(results: &Results) -> Table {
    let turns = &results.events.turns;
    let figure = |figure: fn(&Window) -> f64, decimals| in_turns(turns, figure, decimals);
    let columns = [
        figure(|window| window.requests_per_second, 0),
        figure(|window| window.p50_us, 0),
        figure(|window| window.p99_us, 0),
        figure(|window| window.cpu_us, 1),
    ];
    let names = ["`POST`", "event", "event ÷ `POST`"];
    Table {
        title: "An event beside a request with the same body",
        note: "16 connections to one process; the guest reads its body and answers with 460 bytes, which become an output for the event."
            .to_owned(),
        columns: vec!["", "per second", "p50 µs", "p99 µs", "CPU µs"],
        rows: rows_of(names, &columns),
    }
}

fn burst(results: &Results) -> Table {
    let super::events::Events { events, callers, .. } = &results.events;
    let names = ["nothing", "a burst, `pool.share` 50%", "a burst, `pool.share` 100%"];
    let row = |(name, window): (&str, &Window)| {
        vec![
            name.to_owned(),
            window.requests.to_string(),
            format!("{:.1}", window.p50_us / 1e3),
            format!("{:.1}", window.p99_us / 1e3),
            format!("{:.2}", window.p99_us / callers[0].p99_us),
        ]
    };
    Table {
        title: "Callers of a function beside a burst of a queue",
        note: format!(
            "{events} messages, 24 at once as the listener of a queue sends them, to a pool of 24 slots that also serves 8 callers, each with \
             one request after the other. Both functions wait 10 ms."
        ),
        columns: vec!["beside", "requests", "p50 ms", "p99 ms", "p99 ÷ alone"],
        rows: names.into_iter().zip(callers).map(row).collect(),
    }
}

fn seen(results: &Results) -> Table {
    let turns = &results.seen.turns;
    let names = ["alone", "alone, another process", "with its page open", "with 1 % of traces exported"];
    let row = |(index, name): (usize, &str)| {
        let figure = |figure: fn(&Window) -> f64, decimals| {
            spelled(Spread::of(turns.iter().map(|turn| figure(&turn[index]))), decimals)
        };
        let beside = |beside: fn(f64, f64) -> f64, decimals| {
            spelled(Spread::of(turns.iter().map(|turn| beside(turn[index].cpu_us, turn[0].cpu_us))), decimals)
        };
        vec![
            name.to_owned(),
            figure(|window| window.requests_per_second, 0),
            figure(|window| window.p50_us, 0),
            figure(|window| window.p99_us, 0),
            figure(|window| window.cpu_us, 1),
            beside(|own, alone| own / alone, 3),
            beside(|own, alone| own - alone, 2),
        ]
    };
    Table {
        title: "What it costs to be seen",
        note: "64 connections to each of four hosts with warm instances, of which the second shows how much two hosts with the same work \
               differ. The page is asked for ten times a second. The last one has `OTEL_EXPORTER_OTLP_ENDPOINT` and \
               `OTEL_TRACES_SAMPLER=traceidratio` with `0.01`, so it exports metrics and the log as well."
            .to_owned(),
        columns: vec!["", "per second", "p50 µs", "p99 µs", "CPU µs", "CPU ÷ alone", "CPU µs more"],
        rows: names.into_iter().enumerate().map(row).collect(),
    }
}

fn looking(results: &Results) -> Table {
    let super::looking::Looking { slots, running, alone, looked_on } = results.looking;
    let row = vec![slots.to_string(), running.to_string(), spelled(alone, 2), spelled(looked_on, 2)];
    Table {
        title: "Looking on at a large pool",
        note: "What a host takes of one processor whose guests all sleep, and what it takes with its page open; in per cent."
            .to_owned(),
        columns: vec!["slots", "of them run", "alone", "with its page open"],
        rows: vec![row],
    }
}

fn grants(results: &Results) -> Table {
    let super::grants::Grants { reads, requests } = &results.grants;
    let times = f64::from(super::grants::READS);
    let row = |(name, turns, times): (&str, &[[Window; 2]], f64)| {
        let adds = turns.iter().map(|[without, with]| (with.cpu_us - without.cpu_us) / times);
        vec![name.to_owned(), spelled(Spread::of(adds), 2)]
    };
    let rows = [
        ("a value read from a store in memory", &reads[..], times),
        ("a token, which the host has, on a request that a guest sends", &requests[..], 1.0),
    ];
    Table {
        title: "What a grant adds",
        note: format!(
            "16 connections. An invocation that reads {times} values more than another, for each of them; and one whose request goes to the same \
             server with a token of 1500 bytes or without."
        ),
        columns: vec!["", "CPU µs"],
        rows: rows.into_iter().map(row).collect(),
    }
}

fn middleware(results: &Results) -> Table {
    let super::middleware::Middleware { turns, phases_us } = &results.middleware;
    let figure = |figure: fn(&Window) -> f64, decimals| in_turns(turns, figure, decimals);
    let phase = |phase: usize| {
        let [alone, behind] = phases_us.each_ref().map(|phases| phases[phase]);
        [spelled(alone, 0), spelled(behind, 0), format!("{:.2}", behind.median / alone.median)]
    };
    let columns = [
        figure(|window| window.requests_per_second, 0),
        figure(|window| window.p50_us, 0),
        figure(|window| window.p99_us, 0),
        figure(|window| window.cpu_us, 1),
        phase(0),
        phase(1),
    ];
    let names = ["alone", "behind it", "behind ÷ alone"];
    Table {
        title: "A guest behind a component that does nothing",
        note: "16 connections to one process, a fresh instance of the guest, or of guest and component, for each request. Both are in Rust, for \
               WASI 0.3. The last two columns are what the host tells of requests that come one after the other (`server-timing`)."
            .to_owned(),
        columns: vec!["", "per second", "p50 µs", "p99 µs", "CPU µs", "µs to make the instance", "µs from the call to the head"],
        rows: rows_of(names, &columns),
    }
}

/// A figure of each of two that took turns, and the second divided by the first within each round.
fn in_turns<T>(turns: &[[T; 2]], figure: fn(&T) -> f64, decimals: usize) -> [String; 3] {
    let of = |index: usize| spelled(Spread::of(turns.iter().map(|turn| figure(&turn[index]))), decimals);
    let ratio = spelled(Spread::of(turns.iter().map(|[first, second]| figure(second) / figure(first))), 2);
    [of(0), of(1), ratio]
}

/// A row for each of two that took turns, and one for their ratio.
fn rows_of(names: [&str; 3], columns: &[[String; 3]]) -> Vec<Vec<String>> {
    let row = |(index, name): (usize, &str)| {
        [name.to_owned()].into_iter().chain(columns.iter().map(|column| column[index].clone())).collect()
    };
    names.into_iter().enumerate().map(row).collect()
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
        |Spread { median, low, high }| format!("{median:.decimals$} ({low:.decimals$}–{high:.decimals$})"),
    )
}

fn mebibytes(kib: f64) -> String {
    format!("{:.1}", kib / 1024.0)
}

/// A whole number with its thousands set apart, such as `12,345`.
pub fn thousands(number: f64) -> String {
    let digits = format!("{number:.0}");
    let mut spelled = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at) % 3 == 0 {
            spelled.push(',');
        }
        spelled.push(digit);
    }
    spelled
}

#[cfg(test)]
mod tests {
    use super::{spelled, thousands};
    use crate::stats::Spread;

    #[test]
    fn thousands_are_set_apart() {
        assert_eq!([999.0, 1000.0, 1_234_567.4].map(thousands), ["999", "1,000", "1,234,567"]);
    }

    #[test]
    fn a_figure_that_no_round_has_is_a_dash() {
        assert_eq!(spelled(None, 1), "–");
        assert_eq!(spelled(Spread { median: 2.0, low: 1.25, high: 3.0 }, 1), "2.0 (1.2–3.0)");
    }
}
