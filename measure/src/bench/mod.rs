//! `cargo xtask bench`: flexwasm beside raw hyper and beside `wasmtime serve`, the same answer from each.
//!
//! All servers run from the beginning to the end and take short turns in each of many rounds, so that what the machine's other
//! work does falls on all of them; every figure is a median over the rounds, and every ratio is taken within a round. Server and
//! client have a processor each.

mod cold;
mod collector;
mod document;
mod duplex;
mod events;
mod grants;
mod load;
mod looking;
mod middleware;
mod neighbours;
mod onlooker;
mod report;
mod scale;
mod seen;
mod servers;
mod sleepers;
mod svg;

use crate::machine::Machine;
use crate::server::{self, BESIDE, Cores, PEER, Program, Running};
use crate::stats::Spread;
use crate::{cargo, execute, process, setup};
use anyhow::{Context as _, Result, bail};
use load::{Meanwhile, Window};
use serde::Serialize;
use servers::Server;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use tempfile::TempDir;

/// The version of `wasmtime serve` that is the peer.
const PEER_VERSION: &str = "50.0.1";

/// Connections of the two scenarios.
const CONNECTIONS: [u32; 2] = [64, 1];

/// Load in one turn, for each scenario.
const WINDOW: Duration = Duration::from_millis(300);
/// Load before it that does not count: caches and branch predictors are still full of the server before.
const LEAD: Duration = Duration::from_millis(100);

#[derive(clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Arguments {
    #[command(subcommand)]
    other: Option<Other>,
    /// Rounds; in each of them every server takes its turn of some tenths of a second
    #[arg(long, default_value_t = 25, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Some seconds with the development build, without wasmtime serve and without writing docs/: does all of it work?
    #[arg(long, conflicts_with_all = ["rounds", "beside"])]
    smoke: bool,
    /// A checkout of an older commit, whose host and guests are built there and measured too
    #[arg(long, value_name = "FOLDER")]
    beside: Option<PathBuf>,
}

#[derive(clap::Subcommand)]
enum Other {
    /// Measure guests in several languages on one core and on two, and write docs/scaling.md
    Scale(scale::Arguments),
}

/// What was measured.
#[derive(Serialize)]
pub struct Results {
    pub machine: Machine,
    pub rounds: u32,
    pub rows: Vec<Row>,
    pub cold_starts: Vec<cold::Start>,
    pub sleepers: Vec<sleepers::Sleepers>,
    pub neighbours: neighbours::Neighbours,
    /// By round: without reading ahead, and with it.
    pub duplex: Vec<[duplex::Echoes; 2]>,
    pub events: events::Events,
    pub seen: seen::Seen,
    pub looking: looking::Looking,
    pub grants: grants::Grants,
    pub middleware: middleware::Middleware,
}

/// All windows of one server.
#[derive(Serialize)]
pub struct Row {
    #[serde(flatten)]
    pub server: &'static Server,
    pub command: String,
    /// What it prints of its settings.
    pub said: Vec<String>,
    /// Resident memory before any load, and how much of it are not pages of files.
    pub idle_rss_kib: f64,
    pub idle_anonymous_kib: f64,
    /// By scenario, then by round; none for a void one.
    pub windows: [Vec<Option<Window>>; CONNECTIONS.len()],
    #[serde(skip)]
    _sockets: TempDir,
}

pub fn run(arguments: &Arguments) -> Result<()> {
    if let Some(Other::Scale(arguments)) = &arguments.other {
        return scale::run(arguments);
    }
    let smoke = arguments.smoke;
    let rounds = if smoke { 1 } else { arguments.rounds };
    let processors = process::processors()?;
    let [server, client, ..] = processors[..] else { bail!("a benchmark needs two processors, one for each side") };
    let cores = Cores { server, client };
    let beside = arguments.beside.as_deref();
    build(smoke, beside)?;

    let is_present = |server: &&Server| match server.program {
        Program::Raw | Program::Flexwasm => true,
        Program::Beside => beside.is_some(),
        Program::Peer => !smoke,
    };
    let present = servers::ALL.iter().filter(is_present);
    let started: Vec<(Row, Running)> = present.map(|server| Row::start(server, cores, smoke)).collect::<Result<_>>()?;
    let (mut rows, running): (Vec<Row>, Vec<Running>) = started.into_iter().unzip();
    for round in 1..=rounds {
        println!("round {round} of {rounds}");
        for (row, running) in rows.iter_mut().zip(&running) {
            row.take_turn(running, cores);
        }
    }
    for (row, running) in rows.iter().zip(running) {
        running.check().with_context(|| row.server.name)?;
    }
    if let Some(row) = rows.iter().find(|row| row.windows.iter().any(|windows| windows.iter().all(Option::is_none))) {
        bail!("{} had no valid round", row.server.name);
    }

    let (starts, bursts): (_, &[(u32, f64)]) =
        if smoke { (2, &[(20, 0.2)]) } else { (30, &[(1_000, 2.0), (10_000, 2.0)]) };
    let results = Results {
        machine: Machine::read(),
        rounds,
        cold_starts: cold::measure(starts, smoke)?,
        sleepers: bursts
            .iter()
            .map(|&(requests, delay)| sleepers::measure(requests, delay, cores, smoke))
            .collect::<Result<_>>()?,
        neighbours: neighbours::measure(cores, smoke)?,
        duplex: duplex::measure(cores, smoke)?,
        events: events::measure(cores, smoke)?,
        seen: seen::measure(cores, smoke)?,
        looking: looking::measure(cores, smoke)?,
        grants: grants::measure(cores, smoke)?,
        middleware: middleware::measure(cores, smoke)?,
        rows,
    };
    for table in report::tables(&results) {
        println!("\n{table}");
    }
    if smoke { Ok(()) } else { document::write(&results) }
}

impl Row {
    /// Starts a server, sees that it answers right, and notes what it says of itself.
    fn start(server: &'static Server, cores: Cores, smoke: bool) -> Result<(Self, Running)> {
        let address = server::free_address();
        let mut command = server.command(address, smoke);
        let said = tempfile::NamedTempFile::new()?;
        command.stdout(said.reopen()?);
        let sockets = server::own_sockets(&mut command)?;
        let running = Running::start(command, address, "/", &[cores.server])?;
        running.check().with_context(|| server.name)?;
        let [idle_rss_kib, idle_anonymous_kib] =
            ["VmRSS", "RssAnon"].map(|name| process::status(running.process(), name) as f64);
        let said = fs::read_to_string(said.path()).context("cannot read what a server said")?;
        // Neither addresses nor the log are settings.
        let settings = said.lines().filter(|line| !line.contains("://") && !line.contains(" INFO "));
        let said = settings.map(str::to_owned).collect();
        let row = Self {
            server,
            command: server.spelled(),
            said,
            idle_rss_kib,
            idle_anonymous_kib,
            windows: Default::default(),
            _sockets: sockets,
        };
        Ok((row, running))
    }

    fn take_turn(&mut self, running: &Running, cores: Cores) {
        for (connections, windows) in CONNECTIONS.into_iter().zip(&mut self.windows) {
            let led = load::run(running, cores, connections, LEAD, Meanwhile::Looks);
            let window = led.and_then(|_| load::run(running, cores, connections, WINDOW, Meanwhile::Looks));
            if let Err(error) = &window {
                println!("  void: {}, {connections} connections: {error:#}", self.server.name);
            }
            windows.push(window.ok());
        }
    }

    /// A figure of one scenario over the rounds.
    pub fn spread(&self, scenario: usize, figure: impl Fn(&Window) -> f64) -> Spread {
        Spread::of(self.windows[scenario].iter().flatten().map(figure)).expect("every row has a valid round")
    }
}

/// Builds all that is compared, and installs the peer.
fn build(smoke: bool, beside: Option<&Path>) -> Result<()> {
    setup::build_guests(&["bench-guest", "bench-guest-p3", "bench-part-p3", "flexwasm-guest", "test-guests"])?;
    setup::build_servers(smoke)?;
    let own = [duplex::ECHO, events::ANSWER, events::SLEEP, grants::STORE, grants::FETCH];
    for guest in [server::GUEST, servers::GUEST_P3, sleepers::GUEST, neighbours::SPIN].into_iter().chain(own) {
        execute(Program::Flexwasm.command(smoke).args(["compile", guest]))?;
    }
    if let Some(folder) = beside {
        build_beside(folder).with_context(|| format!("cannot build what is in {}", folder.display()))?;
    }
    let version = Command::new(crate::root().join(PEER)).arg("--version").output();
    let is_there = version.is_ok_and(|said| String::from_utf8_lossy(&said.stdout).contains(PEER_VERSION));
    if !smoke && !is_there {
        println!("installing wasmtime {PEER_VERSION}, the peer (once, some ten minutes)");
        let root = crate::root().join("target/peer");
        execute(cargo(&["install", "wasmtime-cli", "--version", PEER_VERSION, "--locked", "--root"]).arg(root))?;
    }
    Ok(())
}

/// Builds another checkout as it says itself, and lets [`BESIDE`] lead to it.
fn build_beside(folder: &Path) -> Result<()> {
    let folder = folder.canonicalize()?;
    println!("building the host that is in {}", folder.display());
    execute(cargo(&["build", "--release"]).current_dir(&folder))?;
    let mut guests = cargo(&["build", "--profile", "guest", "--target", setup::TARGET, "--target-dir", setup::GUESTS]);
    execute(guests.args(["--package", "bench-guest", "--package", "bench-guest-p3"]).current_dir(&folder))?;
    let link = crate::root().join(BESIDE);
    match fs::remove_file(&link) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error.into()),
        _ => symlink(&folder, &link)?,
    }
    for guest in [server::GUEST, servers::GUEST_P3] {
        execute(Program::Beside.command(false).arg("compile").arg(link.join(guest)))?;
    }
    Ok(())
}
