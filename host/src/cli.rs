//! The command line, and the process's exit status.
//!
//! | status | meaning to the Functions host (azure-contract.md §1.8) |
//! |---|---|
//! | 0 | stopped on request, all running invocations answered or cut off at `drain.timeout` |
//! | 1 | cannot start: the last lines on stderr say why; counted as a crash |
//! | 2 | wrong command line |
//! | 141 | a command whose output nobody reads any more, as with `\| head -1` |
//! | 143 | a second signal cut the draining short |

mod output;

use crate::app::{App, Checked};
use crate::config::hosts::Refused;
use crate::config::section::{Problem, Problems};
use crate::config::settings::{HostPatch, MAX_POOL_SIZE, MAX_REUSE};
use crate::config::source::MAX_GUEST;
use crate::config::{self, AppSettings, Circumstances, Config, Function, Grants};
use crate::control::{self, client};
use crate::describe;
use crate::doctor::{Finding, local, remote};
use crate::engine::code::{self, Processors};
use crate::guest::artifact::Artifact;
use crate::guest::compiler::{NoCode, process};
use crate::guest::{self, cache, compiled};
use crate::loading::engine_size;
use crate::observe::{log, machine::Machine, startup};
use crate::package::Package;
use clap::{Parser, Subcommand};
use output::{Ended, print};
use reqwest::Url;
use std::ffi::OsString;
use std::io::Write as _;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

const AFTER_HELP: &str = "\
Without a subcommand flexwasm serves the app in FUNCTIONS_APP_ROOT_PATH, or in the working directory: host.json and one \
folder with a function.json for each function. The Functions host starts it this way and names the port in \
FUNCTIONS_CUSTOMHANDLER_PORT; without that variable it runs stand-alone on 127.0.0.1:7071 and reads local.settings.json.

Every setting of ours stands in the \"flexwasm\" section of host.json or function.json, or in an app setting such as \
flexwasm__pool__size=64. `flexwasm check` shows what is set.";

const DOCTOR_HELP: &str = "\
Without a URL it looks at the app in FUNCTIONS_APP_ROOT_PATH, or in the working directory, and at its dist/flexwasm.zip: \
configuration, package, deadlines, and whether the pool fits into an instance.

With a URL it sends the deployed app four requests, and then twice as many at once as its pool has slots, of two seconds each. \
It reports the instance, the cold start, and whether the platform sends an instance as many requests as its pool has slots. A \
function key is read from the variable FUNCTION_KEY.

The exit status is 1 if something has to change.";

/// Serves WebAssembly components as Azure Functions: every concurrent request in a pooled instance of its own.
#[derive(Debug, Parser)]
#[command(name = "flexwasm", version, after_help = AFTER_HELP, args_conflicts_with_subcommands = true)]
pub struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,

    /// Stand-alone: address to listen on, 127.0.0.1:7071 unless given; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS", value_parser = address)]
    listen: Option<SocketAddr>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve one component on every path, without an app
    #[command(after_help = "Example:\n  flexwasm serve guest.wasm --pool 100 --timeout 10s --env GREETING=hello")]
    Serve {
        /// The component: a .wasm file that exports wasi:http/incoming-handler@0.2 or wasi:http/handler@0.3
        guest: PathBuf,
        /// Address to listen on; port 0 takes a free one
        #[arg(long, value_name = "ADDRESS", value_parser = address, default_value_t = config::DEFAULT_LISTEN)]
        listen: SocketAddr,
        /// Instances that run at the same time
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_POOL_SIZE)))]
        pool: Option<u32>,
        /// Requests that one instance may serve; above 1 its memory outlives a request [default: 1]
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_REUSE)))]
        reuse: Option<u32>,
        /// Longest time for one request, such as 30s [default: 220s]
        #[arg(long, value_name = "DURATION", value_parser = config::units::duration)]
        timeout: Option<std::time::Duration>,
        /// Most memory of one instance, such as 64MiB [default: 128MiB]
        #[arg(long, value_name = "SIZE", value_parser = config::settings::memory)]
        memory: Option<u64>,
        /// What reaches the log: error, warn, info or debug [default: info]
        #[arg(long, value_name = "LEVEL", value_parser = config::settings::log_level)]
        log_level: Option<tracing::Level>,
        /// An environment variable for the guest; may be repeated
        #[arg(long, value_name = "NAME=VALUE", value_parser = environment_variable)]
        env: Vec<(String, String)>,
        /// A folder below the working directory that the guest may read, as /FOLDER; may be repeated
        #[arg(long, value_name = "FOLDER")]
        dir: Vec<String>,
        /// A server that the guest may send requests to, as scheme://host or scheme://host:port; `*.` in front of the host
        /// means what is below it; may be repeated
        #[arg(long, value_name = "SERVER")]
        allow_host: Vec<String>,
    },
    /// Validate an app without serving it: configuration, routes, guests and the compiled files beside them
    Check {
        /// The app root: the folder with host.json [default: FUNCTIONS_APP_ROOT_PATH, else the working directory]
        root: Option<PathBuf>,
        /// Validate a deployment package in its place: modes, executable, functions, and guests compiled for every processor
        #[arg(long, value_name = "ZIP", conflicts_with = "root")]
        package: Option<PathBuf>,
    },
    /// Show what guests ask for, what they get, and what their limits are, without running them
    #[command(after_help = "\
The app is that of FUNCTIONS_APP_ROOT_PATH, else of the working directory. What a guest asks for stands in its file; what it \
gets is decided by the grants of its function.")]
    Explain {
        /// The function, which is the name of its folder [default: all of them]
        function: Option<String>,
    },
    /// Diagnose this app, or a deployed one, for the Flex Consumption plan, and say what to change
    #[command(after_help = DOCTOR_HELP)]
    Doctor {
        /// The demonstration's function where it is deployed, as deploy.sh printed it
        url: Option<Url>,
        /// MB of one instance there, as deploy.sh was told
        #[arg(long, value_name = "MB", default_value = "2048", value_parser = ["512", "2048", "4096"], conflicts_with = "url")]
        instance_memory: String,
    },
    /// Compile a component ahead of time, so that the host only has to map it
    #[command(after_help = "\
The host uses the compiled file beside a guest (guest.cwasm beside guest.wasm) if it was made from that very guest by this \
version of flexwasm, for processors like its own; otherwise it says why and compiles. It is trusted like the executable.

Example:
  flexwasm compile --portable http_trigger/guest.wasm")]
    Compile {
        /// The component: a .wasm file
        guest: PathBuf,
        /// Where to write it [default: beside the guest, with the extension .cwasm]
        #[arg(short, long, value_name = "FILE")]
        output: Option<PathBuf>,
        /// For every processor of this architecture, not only for those like this machine's
        #[arg(long)]
        portable: bool,
    },
    /// Let a running host serve another guest, without restarting it
    #[command(after_help = "\
The host checks the guest first: it has to be a component that fits, to start, and to answer guest.smoke, if that is set. If it \
does not, the old one goes on serving, and the exit status is 1. Requests that are running end on the old one. The host \
forgets the new one when it is restarted.

Example:
  flexwasm swap http_trigger new.wasm")]
    Swap {
        /// The function, which is the name of its folder; `serve` for `flexwasm serve`
        function: String,
        /// The component: a .wasm file
        guest: PathBuf,
        #[command(flatten)]
        running: Running,
    },
    /// Let a running host serve the guest that it served before the present one
    #[command(
        after_help = "A second rollback undoes the first one. A source that is watched takes effect again when it changes."
    )]
    Rollback {
        /// The function, which is the name of its folder; `serve` for `flexwasm serve`
        function: String,
        #[command(flatten)]
        running: Running,
    },
    /// What the host starts to compile a guest, from stdin to stdout
    #[command(name = process::SUBCOMMAND, hide = true)]
    CompileForHost {
        /// Bytes of memory that it may use
        memory: u64,
        /// How long it may take
        seconds: u64,
    },
}

/// Which running host to speak to.
#[derive(Debug, clap::Args)]
struct Running {
    /// The app root of the running host; for `flexwasm serve` the folder that it was started in [default:
    /// FUNCTIONS_APP_ROOT_PATH, else the working directory]
    #[arg(long, value_name = "FOLDER")]
    app: Option<PathBuf>,
}

/// Runs the command to its end.
pub fn run(arguments: Arguments) -> ExitCode {
    let result = match arguments.command {
        Some(Command::Compile { guest, output, portable }) => compile(&guest, output, portable),
        Some(Command::CompileForHost { memory, seconds }) => compile_for_host(memory, seconds),
        Some(Command::Swap { function, guest, running }) => swap(&function, &guest, running),
        Some(Command::Doctor { url, instance_memory }) => examine(url, &instance_memory),
        Some(Command::Rollback { function, running }) => told(running, &format!("/rollback/{function}"), Vec::new()),
        command => configure(command, arguments.listen),
    };
    result.unwrap_or_else(Ended::report)
}

/// What a configuration is needed for.
enum Purpose {
    Serve,
    Check,
    /// One function's guest, or all.
    Explain(Option<String>),
}

/// Runs one of the commands that need a configuration.
fn configure(command: Option<Command>, listen: Option<SocketAddr>) -> Result<ExitCode, Ended> {
    let begun = Instant::now();
    let settings = environment();
    let machine = Arc::new(Machine::read(config::azure_instance(&settings)));
    let machine_read = begun.elapsed();
    let cache_folders = cache::candidates(|name| settings.get(name).cloned());
    let root = || app_root(&settings);
    let served = if matches!(command, Some(Command::Serve { .. })) { ".".into() } else { root() };
    // A folder that is not there is reported with what is missing in it.
    let control_sockets = control::sockets(&served, &settings).unwrap_or_default();
    let given = Circumstances { machine_memory: machine.memory_total, listen, cache_folders, control_sockets };

    let begun = Instant::now();
    // Unpacked until the end of the command.
    let package;
    let configured = match command {
        Some(Command::Check { package: Some(zip), .. }) => {
            package = Package::unpack(&zip).map_err(|problems| listed(&problems))?;
            print(format_args!("{}\n{}\n", zip.display(), package.listing()))?;
            // So that every file is called as in the package.
            std::env::set_current_dir(package.folder())
                .map_err(|error| format!("cannot enter the package ({error})"))?;
            package.load(Path::new("."), settings.clone(), &given).map(|config| (config, Purpose::Check))
        }
        Some(Command::Check { root: named, package: None }) => {
            config::load(&named.unwrap_or_else(root), settings.clone(), &given).map(|config| (config, Purpose::Check))
        }
        Some(Command::Explain { function }) => {
            config::load(&root(), settings.clone(), &given).map(|config| (config, Purpose::Explain(function)))
        }
        Some(Command::Serve { guest, listen, pool, reuse, timeout, memory, log_level, env, dir, allow_host }) => {
            let mut host = HostPatch { pool_size: pool, log_level, ..HostPatch::default() };
            host.function.reuse = reuse;
            host.function.timeout = timeout;
            host.function.memory = memory;
            let given = Circumstances { listen: Some(listen), ..given };
            let mut problems = Problems::default();
            let dirs = config::dirs::find(Path::new("."), &dir).unwrap_or_else(|refused| {
                for (entry, remedy) in refused {
                    problems.add("command line", "--dir", Some(&entry.into()), remedy);
                }
                Vec::new()
            });
            let hosts = config::hosts::parse(&allow_host).unwrap_or_else(|refused| {
                for Refused { shown, remedy, .. } in refused {
                    problems.add("command line", "--allow-host", Some(&shown.into()), remedy);
                }
                Vec::new()
            });
            if problems.0.is_empty() {
                Ok((config::serve(guest, &host, Grants { env, dirs, hosts }, &given), Purpose::Serve))
            } else {
                Err(problems.0)
            }
        }
        _ => config::load(&root(), settings.clone(), &given).map(|config| (config, Purpose::Serve)),
    };
    let (config, purpose) = configured.map_err(|problems| listed(&problems))?;
    let phases = [("machine", machine_read), ("configuration", begun.elapsed())];
    // A runtime by hand, because its settings are measured (docs/speed.md).
    let runtime = runtime().map_err(|error| format!("cannot start threads: {error}"))?;
    let outcome = runtime.block_on(async {
        match purpose {
            Purpose::Serve => serve(config, machine, phases).await,
            Purpose::Check => check(config, machine).await,
            Purpose::Explain(function) => explain_guests(&config, function.as_deref()),
        }
    });
    // Compilations that nobody waits for any more must not hold the process.
    runtime.shutdown_background();
    outcome
}

async fn serve(config: Config, machine: Arc<Machine>, phases: [(&str, Duration); 2]) -> Result<ExitCode, Ended> {
    let log = log::start(log::Shape {
        level: config.log_level,
        timestamps: config.log_timestamps,
        split: config.role == config::Role::CustomHandler,
    });
    for (name, took) in phases {
        startup::measured(name, took);
    }
    let app = App::build(config, machine).await?;
    let status = app.run().await?;
    drop(log);
    Ok(ExitCode::from(status))
}

async fn check(config: Config, machine: Arc<Machine>) -> Result<ExitCode, Ended> {
    print(format_args!("{}\n", describe::settings(&config)))?;
    print(format_args!("{}\n\n", describe::residency(&engine_size(&config, &machine), &machine.kernel)))?;
    for note in &config.notes {
        print(format_args!("note: {note}\n"))?;
    }
    let mut wrong: Vec<String> = config.objections.iter().map(Problem::to_string).collect();
    let Checked { compiled, broken, .. } = App::check(config, machine).await?;
    wrong.extend(broken);
    for line in compiled {
        print(format_args!("{line}\n"))?;
    }
    if wrong.is_empty() {
        print(format_args!("everything is in order\n"))?;
        return Ok(ExitCode::SUCCESS);
    }
    Err(wrong.join("\nflexwasm: ").into())
}

fn explain_guests(config: &Config, named: Option<&str>) -> Result<ExitCode, Ended> {
    let functions: Vec<&Function> =
        config.functions.iter().filter(|function| named.is_none_or(|name| *function.name == *name)).collect();
    if functions.is_empty() {
        let names: Vec<&str> = config.functions.iter().map(|function| &*function.name).collect();
        return Err(
            format!("there is no function {}: name one of {}", named.unwrap_or_default(), names.join(", ")).into()
        );
    }
    let mut broken = Vec::new();
    for function in functions {
        match describe::guest(function) {
            Ok(text) => print(format_args!("{text}\n"))?,
            Err(error) => {
                broken.push(format!("function {}: {} {error}", function.name, function.script_file.display()))
            }
        }
    }
    if broken.is_empty() { Ok(ExitCode::SUCCESS) } else { Err(broken.join("\nflexwasm: ").into()) }
}

fn compile(guest: &Path, output: Option<PathBuf>, portable: bool) -> Result<ExitCode, Ended> {
    let begun = Instant::now();
    let output = output.unwrap_or_else(|| compiled::beside(guest));
    let shown = guest.display();
    let artifact = Artifact::read(guest, MAX_GUEST).map_err(|error| format!("{shown} {error}"))?;
    let Artifact { wasm, interfaces, .. } = artifact;
    let processors = if portable { Processors::EveryKind } else { Processors::ThisKind };
    let content = code::compiler(interfaces.wasi, processors).and_then(|engine| compiled::compile(&engine, &wasm));
    let content = content.map_err(|error| format!("{shown} {}", NoCode::Invalid(guest::chain(&error))))?;
    compiled::write(&output, &content).map_err(|error| format!("cannot write {}: {error}", output.display()))?;
    print(format_args!(
        "{} ({:.1} MB) compiled from {shown} ({:.1} MB) in {:.1} s, for {}\n",
        output.display(),
        content.len() as f64 / 1e6,
        wasm.len() as f64 / 1e6,
        begun.elapsed().as_secs_f64(),
        if portable { "every processor of this architecture" } else { "processors like this one" },
    ))?;
    Ok(ExitCode::SUCCESS)
}

/// Prints what the doctor finds; the status is 1 where something has to change.
fn examine(url: Option<Url>, instance_memory: &str) -> Result<ExitCode, Ended> {
    let settings = environment();
    let runtime = runtime().map_err(|error| format!("cannot start threads: {error}"))?;
    let findings = match url {
        Some(url) => runtime.block_on(remote::examine(&url, settings.get(remote::KEY).cloned()))?,
        None => {
            let memory = instance_memory.parse::<u64>().map_err(|error| error.to_string())? << 20;
            let machine = Arc::new(Machine::read(None));
            let given = Circumstances {
                machine_memory: memory,
                listen: None,
                cache_folders: cache::candidates(|name| settings.get(name).cloned()),
                control_sockets: Vec::new(),
            };
            runtime.block_on(local::examine(&app_root(&settings), settings.clone(), &given, machine))
        }
    };
    runtime.shutdown_background();
    for finding in &findings {
        print(format_args!("{finding}\n"))?;
    }
    let sick = findings.iter().any(|finding| matches!(finding, Finding::Change(_)));
    Ok(if sick { ExitCode::from(1) } else { ExitCode::SUCCESS })
}

/// Lets a running host take the guest in the file.
fn swap(function: &str, guest: &Path, running: Running) -> Result<ExitCode, Ended> {
    let artifact = Artifact::read(guest, MAX_GUEST).map_err(|error| format!("{} {error}", guest.display()))?;
    told(running, &format!("/swap/{function}"), artifact.wasm)
}

/// Tells a running host what to do, and prints what came of it.
fn told(running: Running, path: &str, body: Vec<u8>) -> Result<ExitCode, Ended> {
    let settings = environment();
    let root = running.app.unwrap_or_else(|| app_root(&settings));
    let sockets = control::sockets(&root, &settings);
    let sockets =
        sockets.map_err(|error| format!("{} cannot be read ({error}): name the app's folder", root.display()))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| format!("cannot start: {error}"))?;
    print(format_args!("{}\n", runtime.block_on(client::ask(&sockets, path, body))?))?;
    Ok(ExitCode::SUCCESS)
}

fn compile_for_host(memory: u64, seconds: u64) -> Result<ExitCode, Ended> {
    // The host reads the bare reason.
    match process::compile_for_host(memory, seconds) {
        Ok(()) => Ok(ExitCode::SUCCESS),
        Err(why) => {
            // One that nobody waits for is not heard.
            let _ = writeln!(std::io::stderr().lock(), "{why}");
            Ok(ExitCode::from(1))
        }
    }
}

/// Threads that run guests are named and as many as there are processors: guests that wait need none.
fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    let next = std::sync::atomic::AtomicUsize::new(0);
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name_fn(move || format!("worker-{}", next.fetch_add(1, std::sync::atomic::Ordering::Relaxed)))
        // Looking at the sockets after every poll would starve connections under load: whoever has become ready last runs
        // first. Measured with 64 connections: 1 costs 15 % of throughput, and its p99 is five times that of 16. Guests that
        // compute need no smaller number, because they yield behind the sockets (`Guest::store`).
        .event_interval(16)
        .build()
}

fn environment() -> AppSettings {
    let text = |(name, value): (OsString, OsString)| Some((name.into_string().ok()?, value.into_string().ok()?));
    std::env::vars_os().filter_map(text).collect()
}

/// Where the app is, unless the command line says so.
fn app_root(settings: &AppSettings) -> PathBuf {
    settings.get("FUNCTIONS_APP_ROOT_PATH").map_or_else(|| PathBuf::from("."), PathBuf::from)
}

fn listed(problems: &[Problem]) -> String {
    let list: Vec<String> = problems.iter().map(Problem::to_string).collect();
    list.join("\nflexwasm: ")
}

/// An address to listen on. A name counts only if it means this machine alone, such as `localhost`: which of the addresses
/// of any other name would be meant?
fn address(text: &str) -> Result<SocketAddr, String> {
    const EXPECTED: &str = "write an address and a port, such as 127.0.0.1:8080, [::1]:8080 or localhost:8080";
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    if !text.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok()) {
        return Err(EXPECTED.to_owned());
    }
    let named = text.to_socket_addrs().map_err(|error| format!("the name cannot be resolved ({error}): {EXPECTED}"))?;
    let (loopback, other): (Vec<_>, Vec<_>) = named.partition(|address| address.ip().is_loopback());
    let first = loopback.iter().find(|address| address.is_ipv4()).or(loopback.first());
    match first {
        Some(address) if other.is_empty() => Ok(*address),
        _ => Err(format!("the name does not mean this machine alone: {EXPECTED}")),
    }
}

fn environment_variable(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("write NAME=VALUE".to_owned()),
    }
}
