//! `cargo xtask bench scale`: what a second core changes, and what a kernel without PAGEMAP_SCAN does to others, for guests in several
//! languages.
//!
//! Unlike in the other benchmark, servers run one after the other: two that may use the same cores would disturb each other. What
//! is compared is taken within the same round.

mod slots;

use super::load::{self, Meanwhile};
use super::servers;
use crate::languages;
use crate::machine::Machine;
use crate::process::{self, Counted};
use crate::server::{self, BESIDE, Cores, Program, Running};
use crate::stats::Spread;
use crate::table::Table;
use crate::{execute, root, setup};
use anyhow::{Context as _, Result, bail};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// Where every server has its own copy of each guest, compiled, below the project's folder.
const FOLDER: &str = "target/scale";

/// Callers that never pause.
const CALLERS: [u32; 3] = [1, 4, 16];
/// More than there are callers.
const POOL: &str = "32";
/// How often a reused instance serves.
const REUSE: &str = "1000000";

#[derive(clap::Args)]
pub struct Arguments {
    /// Rounds; the figures are their medians
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// A checkout of an older commit, whose host is built there and measured too. One that asks the kernel for written pages has to be
    /// taught not to where FLEXWASM_PAGEMAP_SCAN is off, or its rows without the scan are wrong
    #[arg(long, value_name = "FOLDER")]
    beside: Option<PathBuf>,
    /// Some seconds with the development build and guests in Rust, without wasmtime serve and without writing docs/
    #[arg(long, conflicts_with_all = ["rounds", "beside"])]
    smoke: bool,
}

/// A guest that gives the benchmark's answer.
struct Guest {
    name: &'static str,
    file: &'static str,
    made: Made,
    /// Bytes of a memory that the peer's best settings keep: above what the guest writes.
    keep_resident: u32,
}

/// How a guest comes about.
enum Made {
    /// With a stack of so many bytes.
    Rust(u32),
    P3,
    /// Of this script in benches/.
    Script(&'static str),
    /// Of a script that listens for fetch.
    Listener(&'static str),
}

impl Made {
    fn answers_once(&self) -> bool {
        matches!(self, Self::Listener(_))
    }

    fn is_slow_to_build(&self) -> bool {
        matches!(self, Self::Script(_) | Self::Listener(_))
    }
}

const GUESTS: &[Guest] = &[
    Guest { name: "Rust, stack of 1 MiB", file: "rust", made: Made::Rust(1 << 20), keep_resident: 2 << 20 },
    Guest { name: "Rust, stack of 64 KiB", file: "rust-small", made: Made::Rust(64 << 10), keep_resident: 2 << 20 },
    Guest { name: "Rust, WASI 0.3", file: "p3", made: Made::P3, keep_resident: 2 << 20 },
    Guest { name: "JavaScript", file: "js", made: Made::Script("guest-js/direct.js"), keep_resident: 16 << 20 },
    Guest {
        name: "JavaScript, fetch",
        file: "js-fetch",
        made: Made::Listener("guest-js/fetch.js"),
        keep_resident: 16 << 20,
    },
    Guest { name: "Python", file: "python", made: Made::Script("guest-python/app.py"), keep_resident: 64 << 20 },
];

/// One of those that are compared.
#[derive(Clone, Copy, PartialEq)]
enum Host {
    Ours,
    /// What the checkout beside ours builds.
    Beside,
    PeerDefaults,
    PeerBest,
}

/// A server, and how it is to run.
#[derive(Clone, Copy, PartialEq)]
struct Setting {
    host: Host,
    reused: bool,
    scan: bool,
    cores: usize,
    callers: u32,
}

/// What one window showed; all but the rate and the memory are for each request.
struct Figures {
    rate: f64,
    user_us: f64,
    system_us: f64,
    faults: f64,
    shootdowns: f64,
    rss_kib: f64,
}

impl Figures {
    fn cpu_us(&self) -> f64 {
        self.user_us + self.system_us
    }
}

/// A setting and what each round showed of it.
type Row = (Setting, Vec<Figures>);

pub fn run(arguments: &Arguments) -> Result<()> {
    let Arguments { smoke, beside, .. } = arguments;
    let (smoke, rounds) = (*smoke, if arguments.smoke { 1 } else { arguments.rounds });
    let processors = process::processors()?;
    let [first, .., last] = processors[..] else { bail!("a benchmark needs two processors") };
    let used = |cores: usize| if cores == 1 { vec![first] } else { vec![first, processors[1]] };
    let (lead, length) = if smoke {
        (Duration::from_millis(50), Duration::from_millis(150))
    } else {
        (Duration::from_millis(300), Duration::from_secs(1))
    };
    super::build(smoke, beside.as_deref())?;
    let hosts: &[Host] = match (smoke, beside) {
        (true, _) => &[Host::Ours],
        (false, None) => &[Host::Ours, Host::PeerDefaults, Host::PeerBest],
        (false, Some(_)) => &[Host::Ours, Host::Beside, Host::PeerDefaults, Host::PeerBest],
    };
    let mut tables = Vec::new();
    for guest in GUESTS.iter().filter(|guest| !smoke || !guest.made.is_slow_to_build()) {
        guest.prepare(hosts, smoke)?;
        let mut rows: Vec<Row> = Vec::new();
        for round in 1..=rounds {
            println!("{}: round {round} of {rounds}", guest.name);
            for (host, reused, scan, cores) in combinations(hosts) {
                // The engine answers once in each instance (docs/guests.md).
                if reused && guest.made.answers_once() {
                    continue;
                }
                let address = server::free_address();
                let command = guest.command(host, reused, scan, &address.to_string(), smoke);
                let running = Running::start(command, address, "/", &used(cores))?;
                running.check().with_context(|| guest.name)?;
                let sides = Cores { server: first, client: last };
                for callers in if smoke { &CALLERS[1..2] } else { &CALLERS[..] } {
                    load::run(&running, sides, *callers, lead, Meanwhile::Sleeps)?;
                    let before = process::counted(running.process())?;
                    let window = load::run(&running, sides, *callers, length, Meanwhile::Sleeps)?;
                    let figures = Figures::of(&window, &process::counted(running.process())?.since(&before));
                    let setting = Setting { host, reused, scan, cores, callers: *callers };
                    match rows.iter_mut().find(|(known, _)| *known == setting) {
                        Some((_, rounds)) => rounds.push(figures),
                        None => rows.push((setting, vec![figures])),
                    }
                }
                running.stop()?;
            }
        }
        println!("\n{}", table(guest, &rows));
        tables.push((guest, rows));
    }
    let (server, client) = (used(2), Cores { server: first, client: last });
    let mut pages =
        vec![summary(&tables), slots::memory(&server, client, smoke)?, slots::swapped(&server, client, smoke)?];
    pages.extend(tables.iter().map(|(guest, rows)| table(guest, rows)));
    let tables: String = pages.iter().map(|table| format!("\n{table}")).collect();
    println!("{tables}");
    if smoke { Ok(()) } else { write(&tables, rounds) }
}

/// Servers in the order in which they take turns. The scan matters to others, for fresh instances; the peer's defaults have none.
fn combinations(hosts: &[Host]) -> Vec<(Host, bool, bool, usize)> {
    let mut all = Vec::new();
    for &host in hosts {
        for reused in [false, true] {
            for scan in [true, false] {
                for cores in [1, 2] {
                    all.push((host, reused, scan, cores));
                }
            }
        }
    }
    all.retain(|(host, reused, scan, _)| match host {
        Host::Ours | Host::PeerDefaults => *scan,
        Host::Beside | Host::PeerBest => *scan || !*reused,
    });
    all
}

impl Host {
    fn name(self) -> &'static str {
        match self {
            Self::Ours => "flexwasm",
            Self::Beside => "flexwasm before",
            Self::PeerDefaults => "wasmtime serve",
            Self::PeerBest => "wasmtime serve, best",
        }
    }

    fn folder(self) -> &'static str {
        match self {
            Self::Ours => "ours",
            Self::Beside => "beside",
            Self::PeerDefaults => "peer",
            Self::PeerBest => "peer-best",
        }
    }
}

impl Guest {
    /// Builds it, and compiles it with each host for itself.
    fn prepare(&self, hosts: &[Host], smoke: bool) -> Result<()> {
        println!("{}: building and compiling", self.name);
        let built = self.build(&root())?;
        for &host in hosts {
            let guest = self.path(host);
            fs::create_dir_all(guest.parent().unwrap_or(Path::new(".")))?;
            let own = host == Host::Beside && !self.made.is_slow_to_build();
            let source = if own { self.build(&root().join(BESIDE))? } else { built.clone() };
            fs::copy(&source, &guest).with_context(|| format!("cannot copy {}", source.display()))?;
            let mut command = match host {
                Host::Ours => Program::Flexwasm.command(smoke),
                Host::Beside => Program::Beside.command(smoke),
                Host::PeerDefaults | Host::PeerBest => Program::Peer.command(smoke),
            };
            command
                .arg("compile")
                .args(self.options(host, true))
                .arg(&guest)
                .arg("--output")
                .arg(guest.with_extension("cwasm"));
            execute(&mut command)?;
        }
        Ok(())
    }

    /// Its file, from the sources in a checkout.
    fn build(&self, checkout: &Path) -> Result<PathBuf> {
        match self.made {
            Made::Script(script) | Made::Listener(script) => languages::build_benchmark(script),
            Made::P3 => Ok(checkout.join(servers::GUEST_P3)),
            Made::Rust(stack) => build_rust(checkout, stack),
        }
    }

    fn path(&self, host: Host) -> PathBuf {
        root().join(FOLDER).join(host.folder()).join(self.file).with_extension("wasm")
    }

    /// What the host is told when it compiles and when it serves. Without the scan the peer, like ours before, keeps nothing.
    fn options(&self, host: Host, scan: bool) -> Vec<String> {
        if host != Host::PeerBest {
            return Vec::new();
        }
        let (keep, scan) = if scan { (self.keep_resident, "y") } else { (0, "n") };
        vec![format!(
            "-Opooling-allocator=y,pooling-memory-keep-resident={keep},pooling-table-keep-resident=65536,pooling-pagemap-scan={scan}"
        )]
    }

    fn command(&self, host: Host, reused: bool, scan: bool, address: &str, smoke: bool) -> Command {
        let guest = self.path(host);
        if matches!(host, Host::PeerDefaults | Host::PeerBest) {
            let mut command = Program::Peer.command(smoke);
            command.args(["serve", "--addr", address, "-Scli", "--allow-precompiled"]).args(self.options(host, scan));
            let count = if reused { REUSE } else { "1" };
            command.args(["--max-instance-reuse-count", count]);
            if !reused {
                command.args(["--max-instance-concurrent-reuse-count", "1"]);
            }
            command.arg(guest.with_extension("cwasm"));
            return command;
        }
        let mut command = if host == Host::Ours { Program::Flexwasm } else { Program::Beside }.command(smoke);
        command.arg("serve").arg(&guest).args(["--listen", address, "--pool", POOL]);
        if reused {
            command.args(["--reuse", REUSE]);
        }
        if !scan {
            command.env("FLEXWASM_PAGEMAP_SCAN", "off");
        }
        command
    }
}

/// Builds the benchmark guest with a stack of so many bytes, which is a linker argument.
fn build_rust(checkout: &Path, stack: u32) -> Result<PathBuf> {
    let folder = format!("{FOLDER}/guests");
    let mut build = crate::cargo(&["build", "--profile", "guest", "--target", setup::TARGET, "--target-dir", &folder]);
    build.env("CARGO_TARGET_WASM32_WASIP2_RUSTFLAGS", format!("-Clink-arg=-zstack-size={stack}"));
    // What the other guests have been built with serves here, too.
    build.env("CARGO_BUILD_BUILD_DIR", checkout.join(setup::GUESTS));
    execute(build.args(["--package", "bench-guest"]).current_dir(checkout))?;
    Ok(checkout.join(folder).join(setup::TARGET).join("guest/bench_guest.wasm"))
}

impl Figures {
    fn of(window: &load::Window, counted: &Counted) -> Self {
        let requests = window.requests.max(1) as f64;
        Self {
            rate: window.requests_per_second,
            user_us: counted.user_us as f64 / requests,
            system_us: counted.system_us as f64 / requests,
            faults: counted.faults as f64 / requests,
            shootdowns: counted.shootdowns as f64 / requests,
            rss_kib: window.rss_kib,
        }
    }
}

/// A figure's median over the rounds, or a dash.
fn median(rounds: &[Figures], figure: fn(&Figures) -> f64, decimals: usize) -> String {
    Spread::of(rounds.iter().map(figure))
        .map_or_else(|| "–".to_owned(), |spread| format!("{:.decimals$}", spread.median))
}

fn table(guest: &Guest, rows: &[Row]) -> Table {
    let row = |(setting, rounds): &Row| {
        vec![
            setting.host.name().to_owned(),
            if setting.reused { "reused" } else { "fresh" }.to_owned(),
            match (setting.host, setting.scan) {
                (Host::Ours, _) => "–",
                (_, true) => "on",
                (_, false) => "off",
            }
            .to_owned(),
            setting.cores.to_string(),
            setting.callers.to_string(),
            median(rounds, |figures| figures.rate, 0),
            median(rounds, |figures| figures.user_us, 0),
            median(rounds, |figures| figures.system_us, 0),
            median(rounds, |figures| figures.faults, 1),
            median(rounds, |figures| figures.shootdowns, 1),
            median(rounds, |figures| figures.rss_kib / 1024.0, 0),
        ]
    };
    Table {
        title: guest.name,
        note: "Medians of the rounds; user, system, faults and shoot-downs are for each request.".to_owned(),
        columns: vec![
            "server",
            "instances",
            "scan",
            "cores",
            "callers",
            "requests/s",
            "user µs",
            "system µs",
            "faults",
            "shoot-downs",
            "MiB",
        ],
        rows: rows.iter().map(row).collect(),
    }
}

/// Fresh instances with four callers: the ratios that count.
fn summary(tables: &[(&Guest, Vec<Row>)]) -> Table {
    let callers = CALLERS[1];
    let fresh = |host, scan, cores| Setting { host, reused: false, scan, cores, callers };
    let mut lines = Vec::new();
    for (guest, rows) in tables {
        for scan in [true, false] {
            let ours = fresh(Host::Ours, true, 2);
            let rate = |other| ratio(rows, ours, other, |figures| figures.rate);
            let one = fresh(Host::Ours, true, 1);
            lines.push(vec![
                guest.name.to_owned(),
                if scan { "on" } else { "off" }.to_owned(),
                rate(one),
                ratio(rows, one, fresh(Host::Beside, scan, 1), |figures| figures.rate),
                rate(fresh(Host::Beside, scan, 2)),
                rate(fresh(Host::PeerBest, scan, 2)),
                rate(fresh(Host::PeerDefaults, true, 2)),
                ratio(rows, one, fresh(Host::Beside, scan, 1), Figures::cpu_us),
                ratio(rows, ours, fresh(Host::Beside, scan, 2), Figures::cpu_us),
            ]);
        }
    }
    Table {
        title: "Fresh instances, four callers",
        note: "Ratios within a round, medians of the rounds. Requests/s on two cores, divided by ours on one core, by those of flexwasm \
               before (also with each on one core), by the peer's at its best settings, both with the scan or without, and by the peer's at its \
               defaults; and CPU for each request, divided by that of flexwasm before."
            .to_owned(),
        columns: vec![
            "guest",
            "scan",
            "÷ one core",
            "÷ before, one core",
            "÷ before",
            "÷ peer, best",
            "÷ peer",
            "CPU × before, one core",
            "CPU × before, two cores",
        ],
        rows: lines,
    }
}

/// A dash where one of the two was not measured.
fn ratio(rows: &[Row], own: Setting, other: Setting, figure: fn(&Figures) -> f64) -> String {
    let rounds = |setting| rows.iter().find(|(known, _)| *known == setting).map_or(&[][..], |(_, rounds)| rounds);
    let ratios = rounds(own).iter().zip(rounds(other)).map(|(own, other)| figure(own) / figure(other));
    Spread::of(ratios).map_or_else(|| "–".to_owned(), |spread| format!("{:.2}", spread.median))
}

fn write(tables: &str, rounds: u32) -> Result<()> {
    let page = format!(
        "# Guests on more than one core\n\n\
         Written by `cargo xtask bench scale --rounds {rounds}`. [speed.md](speed.md) says how to read it. Servers run one after the \
         other, on the first core or on the first two. The caller is on the last core, where it sleeps until an answer arrives: on a machine \
         with two cores it takes its share of the server's second one. `scan off` stands for kernels without PAGEMAP_SCAN, which are older than Linux \
         6.7: it is of no concern to flexwasm any more, but to what it is compared with.\n\n{}\n{}",
        Machine::read(),
        tables.trim_start(),
    );
    let path = root().join("docs/scaling.md");
    fs::write(&path, page).with_context(|| format!("cannot write {}", path.display()))?;
    println!("wrote docs/scaling.md");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{Figures, Host, Setting, combinations, ratio};

    fn figures(rate: f64) -> Figures {
        Figures { rate, user_us: 1.0, system_us: 1.0, faults: 0.0, shootdowns: 0.0, rss_kib: 0.0 }
    }

    #[test]
    fn a_ratio_is_taken_within_each_round() {
        let setting = |cores| Setting { host: Host::Ours, reused: false, scan: true, cores, callers: 4 };
        let rows =
            vec![(setting(1), vec![figures(10.0), figures(100.0)]), (setting(2), vec![figures(20.0), figures(300.0)])];
        assert_eq!(ratio(&rows, setting(2), setting(1), |figures| figures.rate), "2.50");
        assert_eq!(ratio(&rows, setting(2), setting(3), |figures| figures.rate), "–");
    }

    #[test]
    fn others_run_without_the_scan_where_it_matters() {
        let all = combinations(&[Host::Ours, Host::PeerBest, Host::PeerDefaults]);
        assert_eq!(all.len(), 4 + 6 + 4);
        assert!(all.iter().all(|(host, reused, scan, _)| *scan || *host == Host::PeerBest && !*reused));
    }
}
