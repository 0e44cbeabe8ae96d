//! The configuration: `host.json`, every `function.json` and the app settings, resolved into what the program uses.
//!
//! Weak to strong: defaults, `host.json`, `function.json`, app settings. [`load`] reports every mistake at once, each
//! with file, key, value and remedy. Nothing here knows WebAssembly or opens a socket.

pub mod dirs;
pub mod function_json;
pub mod host_json;
pub mod hosts;
#[cfg(test)]
mod properties;
pub mod route;
pub mod section;
pub mod settings;
pub mod source;
pub mod units;

use dirs::Folder;
use function_json::{FunctionFile, Trigger};
use host_json::AzureHost;
use hosts::Grant;
use section::{Problems, Section};
use serde_json::Value;
use settings::{Headers, HostPatch, Limits, LogRequests, Reuse};
use source::GuestSettings;
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tracing::Level;

/// App settings by name: the process environment and, stand-alone, `local.settings.json`.
pub type AppSettings = BTreeMap<String, String>;

/// Where the host listens when nothing says otherwise, as `func start` does.
pub const DEFAULT_LISTEN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 7071);

/// How long a connection may take to send a request head, which is also how long it may stay idle. Longer than the 60
/// seconds after which the Functions host's own HTTP client drops an idle connection, so that we never race it.
pub const HEAD_TIMEOUT: Duration = Duration::from_secs(75);

/// After how long the host listens, though guests are still being loaded. The Functions host gives a process 30 seconds to
/// answer (azure-contract.md §1.6); a third of them leaves room for a machine that is slow to start it.
pub const READY_WITHIN: Duration = Duration::from_secs(10);

/// The running executable, also after another file has taken its name.
pub const OWN_EXECUTABLE: &str = "/proc/self/exe";

/// The app setting with the port that the Functions host chose (azure-contract.md, S1).
const CUSTOM_HANDLER_PORT: &str = "FUNCTIONS_CUSTOMHANDLER_PORT";

/// Who started the process, which decides whom it trusts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The Functions host did: its headers are trusted and a bare `GET /` is its ping.
    CustomHandler,
    /// A person did, with an app root.
    StandAlone,
    /// A person did, with one component that gets every path.
    Serve,
}

/// Everything the program needs to know, with no value left open.
#[derive(Debug, Clone)]
pub struct Config {
    /// Who started the process.
    pub role: Role,
    /// Address to listen on.
    pub listen: SocketAddr,
    /// Slots, which is the number of concurrent invocations.
    pub pool_size: u32,
    /// Whether that is the default for the machine's memory.
    pub pool_size_by_memory: bool,
    /// Invocations that may wait for a slot.
    pub queue_length: u32,
    /// How long one may wait for a slot.
    pub queue_timeout: Duration,
    /// Guest memory of all instances together, in bytes.
    pub total_memory: u64,
    /// Core instances that one component may consist of.
    pub core_instances: u32,
    /// Bytes of request bodies that are read ahead of their guests; none for what the temporary folder can bear.
    pub spool: Option<u64>,
    /// Bytes of a request head.
    pub request_head: u64,
    /// Connections at the same time.
    pub connections: u32,
    /// For running invocations after SIGTERM.
    pub drain_timeout: Duration,
    /// Diagnostic headers.
    pub headers: Headers,
    /// For a request head, and between requests; see [`HEAD_TIMEOUT`].
    pub head_timeout: Duration,
    /// What reaches the log.
    pub log_level: Level,
    /// Which invocations write a closing line.
    pub log_requests: LogRequests,
    /// From how long on an invocation is slow.
    pub log_slow: Option<Duration>,
    /// Whether each record of the log begins with its time.
    pub log_timestamps: bool,
    /// After how long the host listens, though guests are still being loaded; see [`READY_WITHIN`].
    pub ready_within: Duration,
    /// The executable that compiles guests: flexwasm itself.
    pub compiler: PathBuf,
    /// Where compiled guests may be kept, best first.
    pub cache_folders: Vec<PathBuf>,
    /// Where people may reach the running host, best first.
    pub control_sockets: Vec<PathBuf>,
    /// First segments of every route; empty for none.
    pub route_prefix: String,
    /// What works, but less well than it could, for a person.
    pub notes: Vec<String>,
    /// The functions, by name.
    pub functions: Vec<Function>,
}

/// One function: a folder with a `function.json`.
#[derive(Debug, Clone)]
pub struct Function {
    /// The folder's name.
    pub name: Arc<str>,
    /// How it is called.
    pub trigger: Trigger,
    /// The guest's file in the app.
    pub script_file: PathBuf,
    /// Where else guests come from, and what it takes to be published.
    pub guest: GuestSettings,
    /// What one invocation may use.
    pub limits: Limits,
    /// How many requests an instance may serve.
    pub reuse: Reuse,
    /// What its guest may use.
    pub grants: Grants,
}

/// What a guest may use beyond its own request: nothing by default.
#[derive(Debug, Default, Clone)]
pub struct Grants {
    /// Environment variables.
    pub env: Vec<(String, String)>,
    /// Folders to read.
    pub dirs: Vec<Folder>,
    /// Servers to send requests to.
    pub hosts: Vec<Grant>,
}

/// What the command line and the machine contribute.
#[derive(Debug, Clone)]
pub struct Circumstances {
    /// Memory of the machine or control group, in bytes; sizes the defaults.
    pub machine_memory: u64,
    /// `--listen`, if given.
    pub listen: Option<SocketAddr>,
    /// Where compiled guests may be kept, best first.
    pub cache_folders: Vec<PathBuf>,
    /// Where people may reach the running host, best first.
    pub control_sockets: Vec<PathBuf>,
}

/// Reads the app root.
///
/// # Errors
/// Every mistake found, never an empty list.
pub fn load(root: &Path, mut settings: AppSettings, given: &Circumstances) -> Result<Config, Vec<section::Problem>> {
    let mut problems = Problems::default();
    let port = custom_handler_port(&settings, &mut problems);
    let role = if port.is_some() { Role::CustomHandler } else { Role::StandAlone };
    if role == Role::CustomHandler && given.listen.is_some() {
        let remedy = "leave it out: the Functions host has chosen the port (FUNCTIONS_CUSTOMHANDLER_PORT)";
        problems.add("command line", "--listen", None, remedy);
    }
    if role == Role::StandAlone {
        add_local_settings(root, &mut settings, &mut problems);
    }

    let document = read_json(root, Path::new(host_json::FILE), &mut problems).unwrap_or(Value::Null);
    if document.is_null() {
        // Without it nothing else can be judged: a wrong folder would list a dozen follow-up mistakes.
        return Err(problems.0);
    }
    let azure = AzureHost::read(&document, &settings, &mut problems);
    let host = HostPatch::read(Section::of_file(host_json::FILE, &document, &mut problems));
    let pairs = settings.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let overrides = HostPatch::read(Section::of_app_settings(pairs, &mut problems));

    let mut functions = Vec::new();
    for name in function_names(root, &mut problems) {
        let file = format!("{name}/function.json");
        let Some(document) = read_json(root, Path::new(&file), &mut problems) else { continue };
        let Some(FunctionFile { trigger, script_file, patch, guest }) =
            FunctionFile::read(&name, &file, &document, &settings, &mut problems)
        else {
            continue;
        };
        let patch = overrides.function.over(&patch.over(&host.function));
        let limits = patch.limits();
        if let Some(most) = azure.function_timeout.filter(|most| limits.timeout >= *most) {
            let remedy = format!(
                "is {}s, but must be below functionTimeout ({}s), at which the Functions host kills every invocation",
                limits.timeout.as_secs_f64(),
                most.as_secs()
            );
            problems.add(&file, "limits.timeout", None, remedy);
        }
        let reuse = patch.reuse();
        let mut env = Vec::new();
        for granted in patch.env.clone().unwrap_or_default() {
            match settings.get(&granted) {
                Some(value) => env.push((granted, value.clone())),
                None => problems.add(
                    &file,
                    "grants.env",
                    Some(&granted.clone().into()),
                    "there is no app setting of this name: set it, or remove the grant",
                ),
            }
        }
        let dirs = dirs::find(root, &patch.dirs.unwrap_or_default()).unwrap_or_else(|refused| {
            for (entry, remedy) in refused {
                problems.add(&file, "grants.dirs", Some(&entry.into()), remedy);
            }
            Vec::new()
        });
        // Without a forwarding flag the Functions host wraps every request in a JSON envelope.
        let trigger = if role == Role::CustomHandler && !azure.raw_http { Trigger::Envelope } else { trigger };
        functions.push(Function {
            script_file: root.join(&name).join(script_file),
            guest,
            name: name.into(),
            trigger,
            limits,
            reuse,
            grants: Grants { env, dirs, hosts: patch.hosts.unwrap_or_default() },
        });
    }
    if functions.is_empty() && problems.0.is_empty() {
        let remedy = "no function found: add a folder with a function.json, such as http_trigger/function.json";
        problems.add(&root.display().to_string(), "", None, remedy);
    }
    note_equal_routes(&functions, &mut problems);

    let host = overrides.over(&host);
    let listen = match port {
        Some(port) => SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
        None => given.listen.unwrap_or(DEFAULT_LISTEN),
    };
    let (named, most) = (azure.max_concurrent_requests, settings::MAX_POOL_SIZE);
    if let Some(size) = named.filter(|size| host.pool_size.is_none() && *size > most) {
        let remedy = format!("is the default of pool.size, which is at most {most}");
        problems.add(host_json::FILE, "extensions.http.maxConcurrentRequests", Some(&size.into()), remedy);
    }
    let mut config = resolve(role, listen, &host, named, given, azure.route_prefix, functions);
    if role == Role::CustomHandler && !azure.proxying {
        config.notes.push(
            "host.json: customHandler.enableProxyingHttpRequest is not true: answers do not stream, requests without a length \
             are refused by the Functions host, and a client that leaves is not noticed"
                .to_owned(),
        );
    }
    if problems.0.is_empty() { Ok(config) } else { Err(problems.0) }
}

/// Reads the app root as the process does that the Functions host starts, on whichever port.
///
/// # Errors
/// As [`load`].
pub fn load_as_deployed(
    root: &Path,
    mut settings: AppSettings,
    given: &Circumstances,
) -> Result<Config, Vec<section::Problem>> {
    settings.insert(CUSTOM_HANDLER_PORT.to_owned(), DEFAULT_LISTEN.port().to_string());
    load(root, settings, given)
}

/// The configuration of `flexwasm serve`: one component, every path, no files.
pub fn serve(guest: PathBuf, host: &HostPatch, grants: Grants, given: &Circumstances) -> Config {
    let (limits, reuse) = (host.function.limits(), host.function.reuse());
    let trigger = Trigger::Http { route: route::Template::everything(), methods: None, keyed: false };
    let (script_file, guest) = (guest, GuestSettings::default());
    let function = Function { name: "serve".into(), trigger, script_file, guest, limits, reuse, grants };
    let listen = given.listen.unwrap_or(DEFAULT_LISTEN);
    resolve(Role::Serve, listen, host, None, given, String::new(), vec![function])
}

fn resolve(
    role: Role,
    listen: SocketAddr,
    host: &HostPatch,
    max_concurrent_requests: Option<u32>,
    given: &Circumstances,
    route_prefix: String,
    functions: Vec<Function>,
) -> Config {
    let set = host.pool_size.or(max_concurrent_requests);
    let pool_size = set.unwrap_or_else(|| default_pool_size(given.machine_memory));
    let queue_length = host.queue_length.unwrap_or(pool_size.saturating_mul(2));
    // The Functions host writes a record of every invocation, and stamps every line of ours.
    let under_host = role == Role::CustomHandler;
    Config {
        role,
        listen,
        pool_size,
        pool_size_by_memory: set.is_none(),
        queue_length,
        queue_timeout: host.queue_timeout.unwrap_or(Duration::from_secs(30)),
        total_memory: host.total_memory.unwrap_or(given.machine_memory / 10 * 6),
        core_instances: host.core_instances.unwrap_or(32),
        spool: host.spool,
        request_head: host.request_head.unwrap_or(64 << 10),
        connections: host
            .connections
            .unwrap_or(pool_size.saturating_add(queue_length).saturating_mul(4).saturating_add(256)),
        drain_timeout: host.drain_timeout.unwrap_or(Duration::from_secs(30)),
        headers: host.headers.unwrap_or(match role {
            // Everybody may read the answers of a public app.
            Role::CustomHandler => Headers::Off,
            Role::StandAlone | Role::Serve => Headers::Full,
        }),
        head_timeout: HEAD_TIMEOUT,
        log_level: host.log_level.unwrap_or(Level::INFO),
        log_requests: host.log_requests.unwrap_or(if under_host { LogRequests::Problems } else { LogRequests::All }),
        log_slow: host.log_slow,
        log_timestamps: host.log_timestamps.unwrap_or(!under_host),
        ready_within: READY_WITHIN,
        compiler: OWN_EXECUTABLE.into(),
        cache_folders: given.cache_folders.clone(),
        control_sockets: given.control_sockets.clone(),
        route_prefix,
        notes: Vec::new(),
        functions,
    }
}

/// The instance's name on the Flex Consumption plan. Other container platforms set `CONTAINER_NAME` too, so it counts
/// only beside a variable that Azure sets (flex-deploy.md §3.4).
pub fn azure_instance(settings: &AppSettings) -> Option<String> {
    let on_azure =
        ["WEBSITE_SITE_NAME", "WEBSITE_SKU", "LEGION_SERVICE_HOST"].iter().any(|name| settings.contains_key(*name));
    let name = ["CONTAINER_NAME", "WEBSITE_POD_NAME"].into_iter().find_map(|name| settings.get(name));
    name.filter(|_| on_azure).cloned()
}

/// What the Flex Consumption plan sets by itself for its three instance sizes (flex-deploy.md §2).
fn default_pool_size(machine_memory: u64) -> u32 {
    match machine_memory {
        bytes if bytes <= 1 << 30 => 4,
        bytes if bytes <= 3 << 30 => 16,
        _ => 32,
    }
}

/// The port that the Functions host chose; the newer name wins (azure-contract.md, S1).
fn custom_handler_port(settings: &AppSettings, problems: &mut Problems) -> Option<u16> {
    let names = [CUSTOM_HANDLER_PORT, "FUNCTIONS_HTTPWORKER_PORT"];
    let (name, text) = names.into_iter().find_map(|name| Some((name, settings.get(name)?)))?;
    let port = text.parse().ok().filter(|port| *port != 0);
    if port.is_none() {
        let remedy = "must be a port from 1 to 65535; the Functions host sets it, or leave it out to run stand-alone";
        problems.add("environment", name, Some(&text.as_str().into()), remedy);
    }
    // A wrong port still means that the Functions host is the caller.
    Some(port.unwrap_or(1))
}

/// The `Values` of `local.settings.json`, as `func start` reads them: a variable that exists wins.
fn add_local_settings(root: &Path, settings: &mut AppSettings, problems: &mut Problems) {
    const FILE: &str = "local.settings.json";
    if !root.join(FILE).exists() {
        return;
    }
    let Some(document) = read_json(root, Path::new(FILE), problems) else { return };
    if document.get("IsEncrypted") == Some(&Value::Bool(true)) {
        problems.add(FILE, "IsEncrypted", None, "only func can read it encrypted: run `func settings decrypt`");
        return;
    }
    for (name, value) in document.get("Values").and_then(Value::as_object).into_iter().flatten() {
        match value {
            Value::String(text) => drop(settings.entry(name.clone()).or_insert_with(|| text.clone())),
            _ => problems.add(FILE, &format!("Values.{name}"), None, "must be text: app settings are strings"),
        }
    }
}

/// Reads one JSON object of the app; None when there is none, with the mistake noted.
pub(crate) fn read_json(root: &Path, file: &Path, problems: &mut Problems) -> Option<Value> {
    let shown = file.display().to_string();
    let bytes = match fs::read(root.join(file)) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let remedy = format!("not found in {}: run flexwasm in the folder of your app", root.display());
            problems.add(&shown, "", None, remedy);
            return None;
        }
        Err(error) => {
            problems.add(&shown, "", None, format!("cannot be read ({error}): check that it is a readable file"));
            return None;
        }
    };
    // Editors on Windows put a byte-order mark in front.
    let text = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes);
    match serde_json::from_slice(text) {
        Ok(document @ Value::Object(_)) => Some(document),
        Ok(_) => {
            problems.add(&shown, "", None, "must be a JSON object");
            None
        }
        Err(error) => {
            problems.add(&shown, "", None, format!("is not valid JSON ({error}): mend it there"));
            None
        }
    }
}

/// Names of the folders that hold a `function.json`, sorted.
fn function_names(root: &Path, problems: &mut Problems) -> Vec<String> {
    let entries = match fs::read_dir(root) {
        Ok(entries) => entries,
        Err(error) => {
            problems.add(&root.display().to_string(), "", None, format!("cannot list the app root ({error})"));
            return Vec::new();
        }
    };
    let mut names = Vec::new();
    for entry in entries.filter_map(Result::ok).filter(|entry| entry.path().is_dir()) {
        let name = entry.file_name().to_string_lossy().into_owned();
        match fs::metadata(entry.path().join("function.json")) {
            Ok(_) if valid_name(&name) => names.push(name),
            Ok(_) => {
                let remedy =
                    "is no valid function name: letters, digits, - and _, a letter first, at most 128, not \"host\"";
                problems.add(&name, "", None, remedy);
            }
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                problems.add(
                    &name,
                    "",
                    None,
                    "this folder cannot be read: give the user that runs flexwasm access to it",
                );
            }
            Err(_) => {}
        }
    }
    names.sort();
    names
}

/// azure-contract.md §5.
fn valid_name(name: &str) -> bool {
    name.len() <= 128
        && name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-')
        && !name.eq_ignore_ascii_case("host")
}

fn note_equal_routes(functions: &[Function], problems: &mut Problems) {
    for (at, function) in functions.iter().enumerate() {
        let Trigger::Http { route, methods, .. } = &function.trigger else { continue };
        let clash = functions[..at].iter().find(|other| match &other.trigger {
            Trigger::Http { route: taken, methods: theirs, .. } => {
                let common = match (methods, theirs) {
                    (Some(ours), Some(theirs)) => ours.iter().any(|method| theirs.contains(method)),
                    _ => true,
                };
                common && route.same_paths(taken)
            }
            Trigger::Envelope => false,
        });
        if let Some(other) = clash {
            let file = format!("{}/function.json", function.name);
            let remedy =
                format!("answers the same paths and methods as function {}: give one another route", other.name);
            problems.add(&file, "bindings.route", Some(&route.to_string().into()), remedy);
        }
    }
}
