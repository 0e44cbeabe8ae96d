//! `cargo xtask gallery`: guests that attack, each against the real host, with innocent requests beside them.
//!
//! One host runs from the beginning to the end, on one processor; attackers and innocent callers share another. Each attack has
//! a quiet window first, to compare with. What must not be is gathered, and the command fails with all of it.

mod attacks;
mod beside;
mod log;
mod overload;
mod report;
mod upstream;

use crate::machine::Machine;
use crate::server::{self, Cores, GUEST, Program, Running};
use crate::stats::percentile;
use crate::{app, process, setup};
use anyhow::{Context as _, Result, bail, ensure};
use attacks::Attack;
use beside::{Seen, Window};
use log::Log;
use overload::{Overload, Room};
use serde_json::{Value, json};
use std::path::Path;
use std::process::Command;
use std::time::Duration;
use testkit::{App, SECRET};
use upstream::Upstream;

/// The host's settings, below the project's folder.
const SETTINGS: &str = "examples/hostile/host.json";
/// What the overload calls.
const SLEEPS: &str = "target/guests/wasm32-wasip2/guest/sleep.wasm";
/// Resident memory of the host, at any time: `limits.totalMemory` and a third.
const MEMORY: u64 = 512 << 20;

#[derive(clap::Args)]
pub struct Arguments {
    /// Under a minute, with the development build, judging nothing by the clock and without writing docs/: is it contained?
    #[arg(long)]
    smoke: bool,
}

/// What an attack came to.
struct Row {
    attack: &'static Attack,
    quiet: Seen,
    during: Seen,
    /// Peak of the host's resident memory during the attack, in bytes.
    peak: u64,
    up: bool,
}

/// A whole run.
struct Results {
    machine: Machine,
    rows: Vec<Row>,
    overload: Overload,
}

pub fn run(arguments: &Arguments) -> Result<()> {
    let smoke = arguments.smoke;
    let processors = process::processors()?;
    let [server, client, ..] = processors[..] else { bail!("the gallery needs two processors, one for each side") };
    let cores = Cores { server, client };
    setup::build_guests(&["hostile-guests", "test-guests", "bench-guest"])?;
    setup::build_servers(smoke)?;

    let settings: Value = serde_json::from_slice(&app::read(SETTINGS)?).context(SETTINGS)?;
    let upstream = Upstream::start(cores.client)?;
    let address = server::free_address();
    let app = app_root(&settings, &upstream, address.port(), smoke)?;
    check(&flexwasm(app.path(), &upstream, smoke).arg("check").output()?)?;
    let (output, log) = Log::follow(cores.client)?;
    let mut command = flexwasm(app.path(), &upstream, smoke);
    command.args(["--listen", &address.to_string()]).stdout(output);
    let mut host = Running::start(command, address, "/api/innocent", &[cores.server])?;

    let rows = attacks::ALL.iter().map(|attack| Row::measure(attack, &mut host, cores, smoke));
    let rows = rows.collect::<Result<Vec<_>>>()?;
    let length = Duration::from_secs(if smoke { 3 } else { 60 });
    let overload = overload::measure(&host, cores, room(&settings)?, length)?;
    let results = Results { machine: Machine::read(), rows, overload };
    for table in report::tables(&results) {
        println!("\n{table}");
    }

    let mut problems: Vec<String> = results.rows.iter().flat_map(|row| row.problems(!smoke)).collect();
    problems.extend(results.overload.problems(!smoke).into_iter().map(|problem| format!("overload: {problem}")));
    let peak = process::status(host.process(), "VmHWM") << 10;
    if peak > MEMORY {
        problems.push(format!("overload: the host had {} MiB of memory", peak >> 20));
    }
    if !host.is_up() {
        problems.push("overload: the process has ended".to_owned());
    }
    let errors = host.errors();
    if !errors.is_empty() {
        problems.push(format!("the host wrote to standard error: {errors}"));
    }
    host.stop()?;
    problems.extend(log.finish());
    if !problems.is_empty() {
        bail!("not contained:\n{}", problems.join("\n"));
    }
    if smoke { Ok(()) } else { report::write(&results) }
}

/// The host's command in an app folder, with the secret, an identity, and a cache of its own.
fn flexwasm(app: &Path, upstream: &Upstream, smoke: bool) -> Command {
    let mut command = Program::Flexwasm.command(smoke);
    command
        .current_dir(app)
        .env("AzureWebJobsStorage", SECRET)
        .env("IDENTITY_ENDPOINT", format!("http://{}/token", upstream.identity))
        .env("IDENTITY_HEADER", SECRET)
        .env("API", upstream.api.to_string())
        .env("ECHO", upstream.echo.to_string())
        .env("XDG_CACHE_HOME", crate::root().join("target/gallery"));
    command
}

/// An app with a function for each attack, an innocent one, and one that sleeps; the host will listen on this port.
fn app_root(settings: &Value, upstream: &Upstream, port: u16, smoke: bool) -> Result<App> {
    // Planted in the app settings too.
    let local = json!({ "IsEncrypted": false, "Values": { "DATABASE": SECRET } });
    let mut app = App::with_host_json(&settings.to_string());
    app = app.file("local.settings.json", local.to_string().as_bytes());
    let none = json!({});
    for (name, guest) in [("innocent", GUEST), ("sleeps", SLEEPS)] {
        app = app::add_function(app, name, name, &app::read(guest)?, &none);
    }
    // A smoke run does not wait long for what only a deadline ends.
    let hurried = json!({ "limits": { "timeout": "300ms" } });
    // The development build may take its time over many bytes.
    let patient = json!({ "limits": { "timeout": "30s" } });
    let Upstream { api, echo, .. } = upstream;
    let hosts =
        json!([{ "url": format!("http://{api}"), "identity": "https://api.example" }, format!("http://{echo}")]);
    let with_token = json!({ "grants": { "env": ["API", "ECHO"], "hosts": hosts }, "limits": { "timeout": "30s", "outgoing": 1000 } });
    let mut with_store = if smoke { hurried.clone() } else { none.clone() };
    with_store["grants"] = json!({ "keyvalue": { "default": "memory" } });
    for attack in attacks::ALL {
        if attack.in_front {
            let grants = json!({
                "env": ["DATABASE"], "config": ["DATABASE"], "dirs": [attack.name], "keyvalue": { "default": "memory" },
                "hosts": [format!("http://127.0.0.1:{port}")],
            });
            let settings = json!({ "guest": { "middleware": ["attacker.wasm"] }, "grants": grants });
            app = app::add_function(app, attack.name, attack.name, &app::read(GUEST)?, &settings);
            app = app.file(&format!("{}/attacker.wasm", attack.name), &attack.guest()?);
            continue;
        }
        let settings = match attack {
            Attack { name: "steals_token", .. } => &with_token,
            Attack { name: "floods_store", .. } => &with_store,
            Attack { endless: true, .. } if smoke => &hurried,
            Attack { posts: 1.., .. } => &patient,
            _ => &none,
        };
        app = match attack.event {
            Some(_) => app::add_queue(app, attack.name, &attack.guest()?, settings),
            None => app::add_function(app, attack.name, attack.name, &attack.guest()?, settings),
        };
    }
    Ok(app)
}

/// Judges what `flexwasm check` said, which has compiled every guest into the cache, so that the host is ready at once.
fn check(checked: &std::process::Output) -> Result<()> {
    let [said, broken] = [&checked.stdout, &checked.stderr].map(|bytes| String::from_utf8_lossy(bytes));
    ensure!(!said.contains(SECRET) && !broken.contains(SECRET), "flexwasm check shows the secret: {said}{broken}");
    let known = broken.lines().count() == 1 && broken.contains("function loops_in_start: ");
    ensure!(known, "flexwasm check should refuse loops_in_start and no other guest, but: {broken}");
    Ok(())
}

/// The bounds that host.json sets.
fn room(settings: &Value) -> Result<Room> {
    let number = |section: &str, key: &str| {
        let value = settings["flexwasm"][section][key].as_u64().and_then(|number| usize::try_from(number).ok());
        value.with_context(|| format!("{SETTINGS} has no {section}.{key}"))
    };
    let timeout =
        settings["flexwasm"]["queue"]["timeout"].as_str().and_then(|text| text.strip_suffix('s')?.parse().ok());
    let queue_timeout = Duration::from_secs(timeout.with_context(|| format!("{SETTINGS} has no queue.timeout in s"))?);
    Ok(Room { slots: number("pool", "size")?, queue: number("queue", "length")?, queue_timeout })
}

impl Row {
    fn measure(attack: &'static Attack, host: &mut Running, cores: Cores, smoke: bool) -> Result<Self> {
        println!("{}", attack.name);
        let (quiet, during) = if smoke {
            (Window { length: Duration::ZERO, samples: 100 }, Window { length: Duration::from_millis(300), samples: 1 })
        } else {
            (
                Window { length: Duration::from_millis(500), samples: 2000 },
                Window { length: Duration::from_secs(4), samples: 1 },
            )
        };
        let quiet = beside::watch(host.address(), cores, None, quiet).context("before the attack")?;
        process::reset_peak(host.process())?;
        let during = beside::watch(host.address(), cores, Some(attack), during).context(attack.name)?;
        let peak = process::status(host.process(), "VmHWM") << 10;
        Ok(Self { attack, quiet, during, peak, up: host.is_up() })
    }

    /// The 99th percentile of innocent requests before and during the attack, in milliseconds; without end where none of them
    /// was answered.
    fn p99_ms(&self) -> [f64; 2] {
        [&self.quiet, &self.during].map(|Seen { latencies, .. }| match &latencies[..] {
            [] => f64::INFINITY,
            latencies => percentile(latencies, 99) / 1e3,
        })
    }

    /// The most that innocent requests may take during the attack, in milliseconds (p99).
    fn bound_ms(&self) -> f64 {
        (20.0 * self.p99_ms()[0]).clamp(25.0, 50.0)
    }

    /// What must not be; what depends on the clock only where `timed`.
    fn problems(&self, timed: bool) -> Vec<String> {
        let seen = self.quiet.problems.iter().chain(&self.during.problems);
        let mut problems: Vec<String> = seen.map(|(what, example)| format!("{what}: {example}")).collect();
        let (bound, [_, p99]) = (self.bound_ms(), self.p99_ms());
        if timed && p99 >= bound {
            problems.push(format!("innocent requests took {p99:.1} ms (p99), more than {bound:.1} ms"));
        }
        if self.peak > MEMORY {
            problems.push(format!("the host had {} MiB of memory", self.peak >> 20));
        }
        if !self.up {
            problems.push("the process has ended".to_owned());
        }
        problems.into_iter().map(|problem| format!("{}: {problem}", self.attack.name)).collect()
    }
}
