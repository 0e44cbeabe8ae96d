//! What slots hold when nobody calls any more, and whether swaps leave them slow.

use super::{CALLERS, GUESTS, Guest, Host, POOL};
use crate::bench::load::{self, Meanwhile};
use crate::server::{self, Cores, Running};
use crate::stats::Spread;
use crate::swaps::control;
use crate::table::Table;
use crate::{app, process};
use anyhow::{Context as _, Result};
use serde_json::json;
use std::fs;
use std::thread;
use std::time::Duration;
use testkit::App;

/// Requests each second, and page faults for each request.
type Figures = (f64, f64);

/// So many that every slot has had an instance.
const EVERY_SLOT: u32 = 32;
/// `pool.idleTimeout` by default, and a little.
const IDLE: Duration = Duration::from_secs(62);
/// Swaps, by turns between the guests.
const SWAPS: usize = 50;
/// Windows of each figure.
const WINDOWS: usize = 3;

/// Guests in three languages.
fn guests(smoke: bool) -> impl Iterator<Item = &'static Guest> {
    let kinds: &[&str] = if smoke { &["rust-small", "rust"] } else { &["rust-small", "js", "js-fetch", "python"] };
    GUESTS.iter().filter(|guest| kinds.contains(&guest.file))
}

/// Resident memory before, under load, and when free slots have given theirs back.
pub fn memory(processors: &[usize], cores: Cores, smoke: bool) -> Result<Table> {
    println!("memory of slots");
    let mut hosts = Vec::new();
    for guest in guests(smoke) {
        let address = server::free_address();
        let running = Running::start(
            guest.command(Host::Ours, false, true, &address.to_string(), smoke),
            address,
            "/",
            processors,
        )?;
        let rss = || process::status(running.process(), "VmRSS") as f64 / 1024.0;
        let idle = rss();
        load::run(&running, cores, EVERY_SLOT, Duration::from_secs(2), Meanwhile::Sleeps)?;
        let loaded = rss();
        let own = process::status(running.process(), "RssAnon") as f64 / 1024.0;
        hosts.push((guest, running, [idle, loaded, own]));
    }
    thread::sleep(if smoke { Duration::ZERO } else { IDLE });
    let row = |(guest, running, figures): (&Guest, Running, [f64; 3])| {
        let rested = process::status(running.process(), "VmRSS") as f64 / 1024.0;
        let figures = figures.into_iter().chain([rested]).map(|mib| format!("{mib:.1}"));
        [guest.name.to_owned()].into_iter().chain(figures).collect()
    };
    Ok(Table {
        title: "Memory of a pool of 32 slots",
        note: format!(
            "MiB that are resident in the whole process: after the first answer; after two seconds of {EVERY_SLOT} callers, and \
             what of it is not mapped from a file; and {} s later, when `pool.idleTimeout` is over.",
            IDLE.as_secs()
        ),
        columns: vec!["guest", "first answer", "after load", "of it anonymous", "idle again"],
        rows: hosts.into_iter().map(row).collect(),
    })
}

/// Requests/s of each guest and faults for each request, before and after swaps under load.
pub fn swapped(processors: &[usize], cores: Cores, smoke: bool) -> Result<Table> {
    println!("{SWAPS} swaps under load");
    let guests: Vec<&Guest> = guests(smoke).collect();
    let size: u32 = POOL.parse()?;
    let settings = json!({ "version": "2.0", "extensions": { "http": { "routePrefix": "" } },
        "flexwasm": { "pool": { "size": size }, "headers": "id", "log": { "level": "warn" } } });
    let bytes: Vec<Vec<u8>> =
        guests.iter().map(|guest| Ok(fs::read(guest.path(Host::Ours))?)).collect::<Result<_>>()?;
    let folder = App::with_host_json(&settings.to_string());
    let folder = app::add_function(folder, "swapped", "{*any}", &bytes[0], &json!({}));
    let (mut command, address) = app::host(&folder, smoke);
    command.env("XDG_CACHE_HOME", folder.path()).env("XDG_RUNTIME_DIR", folder.path());
    let host = Running::start(command, address, "/", processors)?;
    let socket = control::socket(&folder.path().join("flexwasm"))?;
    let length = if smoke { Duration::from_millis(150) } else { Duration::from_millis(1500) };
    let figures = || -> Result<Vec<Figures>> {
        bytes
            .iter()
            .map(|guest| {
                control::wait(&socket, "", guest)?;
                load::run(&host, cores, CALLERS[1], length / 3, Meanwhile::Sleeps)?;
                let before = process::counted(host.process())?;
                let windows: Vec<load::Window> = (0..WINDOWS)
                    .map(|_| load::run(&host, cores, CALLERS[1], length, Meanwhile::Sleeps))
                    .collect::<Result<_>>()?;
                let faults = process::counted(host.process())?.since(&before).faults;
                let requests: usize = windows.iter().map(|window| window.requests).sum();
                let rates = windows.iter().map(|window| window.requests_per_second);
                let rate = Spread::of(rates).context("there are windows")?.median;
                Ok((rate, faults as f64 / requests.max(1) as f64))
            })
            .collect()
    };
    let before = figures()?;
    thread::scope(|scope| {
        let swapping =
            scope.spawn(|| (0..SWAPS).try_for_each(|turn| control::wait(&socket, "", &bytes[turn % bytes.len()])));
        while !swapping.is_finished() {
            load::run(&host, cores, CALLERS[2], length / 3, Meanwhile::Sleeps)?;
        }
        swapping.join().expect("swapping does not panic")
    })?;
    let after = figures()?;
    let row = |((guest, before), after): ((&&Guest, Figures), Figures)| {
        let rates = [before.0, after.0].map(|rate| format!("{rate:.0}"));
        let others = [after.0 / before.0, before.1, after.1].map(|figure| format!("{figure:.2}"));
        [guest.name.to_owned()].into_iter().chain(rates).chain(others).collect()
    };
    Ok(Table {
        title: "After swaps under load",
        note: format!(
            "Requests/s with four callers and fresh instances on two cores, and page faults for each request, one guest after the other in one \
             host, before and after {SWAPS} swaps between them while {} callers never pause. A slot that a swap had left slow would fault.",
            CALLERS[2]
        ),
        columns: vec!["guest", "before", "after", "after ÷ before", "faults before", "faults after"],
        rows: guests.iter().zip(before).zip(after).map(row).collect(),
    })
}
