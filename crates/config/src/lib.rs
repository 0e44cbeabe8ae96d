//! The configuration: `host.json`, every `function.json` and the app settings, resolved into what the program uses.
//!
//! Weak to strong: defaults, `host.json`, `function.json`, app settings. [`load`] reports every mistake at once, each
//! with file, key, value and remedy. Nothing here knows WebAssembly or opens a socket.

pub mod bindings;
pub mod builtin;
pub mod connections;
pub mod constraint;
pub mod credentials;
pub mod digest;
pub mod dirs;
pub mod event;
pub mod file;
pub mod function_json;
pub mod host_json;
pub mod hosts;
pub mod keyvalue;
pub mod kind;
pub mod local_settings;
pub mod middleware;
pub mod narrow;
#[cfg(test)]
mod properties;
pub mod route;
pub mod section;
pub mod settings;
pub mod source;
pub mod storage;
pub mod telemetry;
#[cfg(test)]
mod tests;
pub mod triggers;
pub mod units;

use builtin::Builtin;
use dirs::Folder;
use event::Event;
use file::{MAX_SETTINGS, Unread};
use function_json::{AuthLevel, FunctionFile, Trigger};
use host_json::AzureHost;
use hosts::{Grant, Server};
use http::Method;
use jsonc_parser::{CollectOptions, ParseOptions};
use local_settings::{Cors, LocalSettings};
use middleware::{Middleware, Written};
use section::{APP_SETTINGS, Problem, Problems, Section};
use serde_json::Value;
use settings::{
    FunctionPatch, Granted, Headers, HostPatch, HostSettings, Instances, Limits, LogRequests, Reuse, Share,
};
use source::{Ask, GuestSettings, Smoke};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use telemetry::{Surroundings, Telemetry};
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

/// The largest pool that `extensions.http.maxConcurrentRequests` makes by itself: both engines with so many slots fit into a
/// process of Linux with its defaults.
const MAX_DEFAULT_POOL_SIZE: u32 = 6000;

/// What the Functions host and its tools accept beyond JSON, because Json.NET reads their files.
const AS_AZURE_READS: ParseOptions = ParseOptions {
    allow_comments: true,
    allow_trailing_commas: true,
    allow_single_quoted_strings: true,
    allow_loose_object_property_names: false,
    allow_missing_commas: false,
    allow_hexadecimal_numbers: false,
    allow_unary_plus_numbers: false,
    allow_bare_decimal_point_numbers: false,
    allow_non_finite_numbers: false,
    allow_extended_string_escapes: false,
};

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
    /// Linear memories that one component may have.
    pub memories: u32,
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
    /// Whether telemetry goes to Application Insights.
    pub application_insights: bool,
    /// Where telemetry goes.
    pub telemetry: Telemetry,
    /// After how long the host listens, though guests are still being loaded; see [`READY_WITHIN`].
    pub ready_within: Duration,
    /// The executable that compiles guests: flexwasm itself.
    pub compiler: PathBuf,
    /// Bytes of memory that one compilation may use; see [`compiler_memory`].
    pub compiler_memory: u64,
    /// Where compiled guests may be kept, best first.
    pub cache_folders: Vec<PathBuf>,
    /// Where people may reach the running host, best first.
    pub control_sockets: Vec<PathBuf>,
    /// Where they may reach it as well, on this machine, if `--operate` asks for it.
    pub operate: Option<SocketAddr>,
    /// First segments of every route; empty for none.
    pub route_prefix: String,
    /// Pages of other origins that may call the functions; stand-alone only.
    pub cors: Option<Cors>,
    /// The functions in the order in which their routes are tried, which is that of their names, as in the Functions host.
    pub functions: Vec<Function>,
    /// Functions that an app setting switches off, with its name; stand-alone only.
    pub disabled: Vec<(Arc<str>, String)>,
    /// What `flexwasm check` refuses, though the rest of the app can serve.
    pub objections: Vec<Problem>,
    /// What is right, but good to know.
    pub notes: Vec<String>,
}

/// One function: a folder with a `function.json`.
#[derive(Debug, Clone)]
pub struct Function {
    /// The folder's name.
    pub name: Arc<str>,
    /// How it is called.
    pub trigger: Trigger,
    /// Its bindings, as they are written.
    pub bindings: Arc<[Value]>,
    /// How its envelopes are read and answered, where it gets any.
    pub event: Arc<Event>,
    /// What the host answers in place of a guest, if so.
    pub builtin: Option<Builtin>,
    /// The guest's file in the app.
    pub script_file: PathBuf,
    /// Where else guests come from, and what it takes to be published.
    pub guest: GuestSettings,
    /// What stands in front of its guest, the outermost first.
    pub middleware: Vec<Middleware>,
    /// What one invocation may use.
    pub limits: Limits,
    /// The most slots that it may hold.
    pub share: Share,
    /// How many requests an instance may serve.
    pub reuse: Reuse,
    /// What its guest may use.
    pub grants: Grants,
    /// Why it answers nobody, if so: its route is none that Azure accepts.
    pub refused: Option<Arc<str>>,
}

impl Function {
    /// Whether its guest is ever asked.
    pub fn runs(&self) -> bool {
        self.refused.is_none() && self.builtin.is_none()
    }
}

/// What a guest may use beyond its own request: nothing by default.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Grants {
    /// Environment variables.
    pub env: Vec<(String, String)>,
    /// What it finds in `wasi:config/store`.
    pub config: Vec<(String, String)>,
    /// Folders to read.
    pub dirs: Vec<Folder>,
    /// Servers to send requests to.
    pub hosts: Vec<Server>,
    /// Stores to open.
    pub keyvalue: Vec<keyvalue::Granted>,
}

impl Grants {
    /// Names of the variables, never their values.
    pub fn variables(&self) -> Vec<String> {
        names(&self.env)
    }

    /// Names of what it finds in `wasi:config/store`, never the values.
    pub fn configured(&self) -> Vec<String> {
        names(&self.config)
    }

    /// Where the guest finds the folders.
    pub fn folders(&self) -> Vec<String> {
        self.dirs.iter().map(|dir| dir.guest_path.clone()).collect()
    }

    /// The servers as they are written.
    pub fn servers(&self) -> Vec<String> {
        self.hosts.iter().map(|server| server.grant.to_string()).collect()
    }

    /// The stores as they are written.
    pub fn stores(&self) -> Vec<String> {
        self.keyvalue.iter().map(|store| store.written.to_string()).collect()
    }
}

fn names(pairs: &[(String, String)]) -> Vec<String> {
    pairs.iter().map(|(name, _)| name.clone()).collect()
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
    let LocalSettings { port: local_port, cors, mut notes } = match role {
        Role::StandAlone => local_settings::read(root, &mut settings, &mut problems),
        _ => LocalSettings::default(),
    };

    let document = read_json(root, Path::new(host_json::FILE), &mut problems).unwrap_or(Value::Null);
    if document.is_null() {
        // Without it nothing else can be judged: a wrong folder would list a dozen follow-up mistakes.
        return Err(problems.0);
    }
    let azure = AzureHost::read(&document, &settings, &mut problems);
    let mut section = Section::of_file(host_json::FILE, &document, &mut problems);
    let in_front = middleware::take(&mut section).unwrap_or_default();
    let of_file = HostPatch::read(section);
    let in_front = middleware::read(host_json::FILE, in_front, &settings, &mut problems);
    let pairs = settings.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let overrides = HostPatch::read(Section::of_app_settings(pairs, &mut problems));
    let host = overrides.over(&of_file);
    let total_memory = total_memory(role, &host, given.machine_memory);
    let timeout = Timeout { kill: azure.function_timeout, default: default_timeout(azure.function_timeout) };
    // One that every function inherits is one mistake.
    let whole = [
        (host_json::FILE, "flexwasm.limits.timeout", &of_file),
        (APP_SETTINGS, "flexwasm__limits__timeout", &overrides),
    ];
    for (file, key, patch) in whole {
        timeout.check(file, key, patch.function.timeout, &mut problems);
    }
    if host.function.timeout.is_none() && timeout.default < Limits::default().timeout {
        notes.push(format!(
            "limits.timeout is {} where nothing else is set: it has to end before functionTimeout ({}), at which the \
             Functions host kills every invocation",
            units::spell_duration(timeout.default),
            units::spell_duration(timeout.kill.unwrap_or_default())
        ));
    }

    // Where each was written: they are compared with the size of the pool, once that is known.
    let mut shares = vec![(host_json::FILE.to_owned(), of_file.function.share)];
    let (mut functions, mut disabled, mut objections, mut found) = (Vec::new(), Vec::new(), Vec::new(), false);
    let mut declared = Vec::new();
    for name in function_names(root, &mut problems) {
        found = true;
        let file = format!("{name}/function.json");
        let Some(document) = read_json(root, Path::new(&file), &mut problems) else { continue };
        let Some(FunctionFile { trigger, objection, builtin, script_file, event, patch, mut guest, middleware }) =
            FunctionFile::read(&name, &file, &document, &settings, &azure.route_prefix, &mut problems)
        else {
            continue;
        };
        if let Some(setting) = disabled_by(&name, &settings).filter(|_| role == Role::StandAlone) {
            notes.push(format!("function {name} is disabled by the app setting {setting}: its path answers 404"));
            disabled.push((name.as_str().into(), setting.to_owned()));
            continue;
        }
        shares.push((file.clone(), patch.share));
        timeout.check(&file, "flexwasm.limits.timeout", patch.timeout, &mut problems);
        let patch = overrides.function.over(&patch.over(&of_file.function));
        let limits = limits(&patch, timeout.default, total_memory);
        let instances = Instances::from(&patch);
        let own_grants = grants(Granted::from(&patch), &name, root, &settings, (&file, ""), &mut problems);
        let (middleware, written_in, folder) = match middleware {
            _ if builtin.is_some() => (Vec::new(), &*file, root.to_owned()),
            Some(own) => (own, &*file, root.join(&name)),
            None => (in_front.clone(), host_json::FILE, root.to_owned()),
        };
        let stand_in_front = |Written { key, file, source, sha256, granted }: Written| {
            // Its stores are its own: no function has a slash in its name, and what is quoted has an end.
            let owner = format!("{name}/{file:?}");
            let at = (written_in, &*format!("{key}."));
            Middleware {
                path: folder.join(&file),
                source,
                sha256,
                grants: grants(granted, &owner, root, &settings, at, &mut problems),
                file: file.into(),
            }
        };
        let middleware = middleware.into_iter().map(stand_in_front).collect();
        let refused = objection.as_ref().map(|objection| objection.to_string().into());
        objections.extend(objection);
        if let Some(Smoke { ask: Ask::Event(payload), .. }) = &mut guest.smoke {
            *payload = root.join(&name).join(&*payload);
        }
        if azure.raw_http() && matches!(trigger, Trigger::Http { .. }) {
            let of_event = document.get("flexwasm").and_then(|own| own.get("event")).and_then(Value::as_object);
            for key in of_event.into_iter().flat_map(|event| event.keys()) {
                let remedy = "is for events, but a function that is called by HTTP alone gets none: remove it";
                problems.add(&file, &format!("flexwasm.event.{key}"), None, remedy);
            }
        }
        // Without a forwarding flag the Functions host wraps every request in a JSON envelope.
        let trigger = if role == Role::CustomHandler && !azure.raw_http() { Trigger::Envelope } else { trigger };
        if builtin.is_some() && trigger == Trigger::Envelope {
            let remedy = format!("must be true, because function {name} answers requests as they are");
            problems.add(host_json::FILE, "customHandler.enableForwardingHttpRequest", None, remedy);
        }
        functions.push(Function {
            builtin,
            script_file: root.join(&name).join(script_file),
            guest,
            middleware,
            name: name.as_str().into(),
            trigger,
            bindings: bindings::of(&document).into(),
            event: Arc::new(event),
            limits,
            share: instances.share,
            reuse: Reuse::from(&instances),
            grants: own_grants,
            refused,
        });
        declared.push((name, document));
    }
    if !found && problems.0.is_empty() {
        let remedy = "no function found: add a folder with a function.json, such as http_trigger/function.json";
        problems.add(&root.display().to_string(), "", None, remedy);
    }
    objections.extend(overlaps(&functions));
    objections.extend(swallowed(&functions, &azure.route_prefix));
    if role == Role::CustomHandler && !azure.proxying {
        notes.push(
            "host.json: customHandler.enableProxyingHttpRequest is not true: answers do not stream, requests without a length \
             are refused by the Functions host, and a client that leaves is not noticed"
                .to_owned(),
        );
    }

    let listen = match port {
        Some(port) => SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
        None => {
            let local = local_port.map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
            given.listen.or(local).unwrap_or(DEFAULT_LISTEN)
        }
    };
    // What Azure may send at the same time is no promise that the process has room for it.
    let named = azure.max_concurrent_requests;
    if let Some(more) = named.filter(|named| host.pool_size.is_none() && *named > MAX_DEFAULT_POOL_SIZE) {
        notes.push(format!(
            "pool.size is {MAX_DEFAULT_POOL_SIZE}, though extensions.http.maxConcurrentRequests is {more}: set pool.size to have more"
        ));
    }
    let named = named.map(|named| named.min(MAX_DEFAULT_POOL_SIZE));
    let app =
        App { role, listen, host: &host, max_concurrent_requests: named, route_prefix: azure.route_prefix, functions };
    let config = app.resolve(given);
    let own_extensions = root.join("bin/extensions.json").exists();
    let facts = triggers::App { host: &document, settings: &settings, own_extensions, pool_size: config.pool_size };
    for (name, document) in &declared {
        let declared = triggers::Declared::new(name, document);
        objections.extend(declared.problems(&facts));
        notes.extend(declared.notes(&facts));
    }
    let surroundings = Surroundings { role, insights: config.application_insights, host_exports: azure.exports };
    let telemetry = telemetry::read(&settings, surroundings, &mut objections);
    note_large_shares(&shares, overrides.function.share, config.pool_size, &mut problems);
    if problems.0.is_empty() {
        return Ok(Config { cors, telemetry, disabled, objections, notes, ..config });
    }
    problems.0.extend(objections);
    Err(problems.0)
}

/// What is granted as it is used by `owner`, a function or a part of one. What cannot be granted is noted for the file that is named
/// first in `at`; keys begin with what is named second.
fn grants(
    granted: Granted,
    owner: &str,
    root: &Path,
    settings: &AppSettings,
    (file, section): (&str, &str),
    problems: &mut Problems,
) -> Grants {
    let Granted { env, config, dirs, hosts, keyvalue } = granted;
    let mut refuse = |key: &str, value: &str, remedy: &str| {
        problems.add(file, &format!("{section}grants.{key}"), Some(&value.into()), remedy);
    };
    let [env, config] = [("env", env), ("config", config)].map(|(key, names)| {
        let value = |name: String| {
            let value = settings.get(&name).cloned();
            if value.is_none() {
                refuse(key, &name, "there is no app setting of this name: set it, or remove the grant");
            }
            Some((name, value?))
        };
        names.into_iter().filter_map(value).collect()
    });
    let server = |grant: Grant| {
        let shown = grant.to_string();
        let server = Server::new(grant, settings);
        server.map_err(|remedy| refuse("hosts", &shown, &remedy)).ok()
    };
    let hosts = hosts.into_iter().filter_map(server).collect();
    let store = |written: keyvalue::Written| {
        let shown = written.name().to_owned();
        let found = written.find(owner, root, settings);
        found.map_err(|remedy| refuse("keyvalue", &shown, &remedy)).ok()
    };
    let keyvalue = keyvalue.into_iter().filter_map(store).collect();
    let dirs = dirs::find(root, &dirs).unwrap_or_else(|refused| {
        for (entry, remedy) in refused {
            refuse("dirs", &entry, &remedy);
        }
        Vec::new()
    });
    Grants { env, config, dirs, hosts, keyvalue }
}

/// When the Functions host kills the process, and what is allowed by default because of it.
struct Timeout {
    kill: Option<Duration>,
    default: Duration,
}

impl Timeout {
    /// Notes a `limits.timeout` that somebody has written and that cannot come first.
    fn check(&self, file: &str, key: &str, written: Option<Duration>, problems: &mut Problems) {
        let (Some(written), Some(kill)) = (written, self.kill) else { return };
        if written >= kill {
            let remedy = format!(
                "is {}, but must be below functionTimeout ({}), at which the Functions host kills every invocation",
                units::spell_duration(written),
                units::spell_duration(kill)
            );
            problems.add(file, key, None, remedy);
        }
    }
}

/// `limits.timeout` where nobody has written one: early enough that the Functions host does not kill the process.
fn default_timeout(function_timeout: Option<Duration>) -> Duration {
    let usual = Limits::default().timeout;
    function_timeout.map_or(usual, |kill| usual.min(kill - Duration::from_secs(2).min(kill / 10)))
}

/// The limits, with defaults that do not contradict what is set for the host.
fn limits(patch: &FunctionPatch, timeout: Duration, total_memory: u64) -> Limits {
    let limits = Limits::from(patch);
    Limits {
        timeout: patch.timeout.unwrap_or(timeout),
        memory: patch.memory.unwrap_or(limits.memory.min(total_memory)),
        ..limits
    }
}

/// What the Functions host and this process need of an instance's memory beside the guests, in bytes: the former was seen with
/// 215 MB (docs/azure.md).
pub const BESIDE_GUESTS: u64 = 300 << 20;

/// Memory of all guests together.
fn total_memory(role: Role, host: &HostPatch, machine: u64) -> u64 {
    let default = if role == Role::CustomHandler { for_guests(machine) } else { most_for_guests(machine) };
    host.total_memory.unwrap_or(default)
}

fn most_for_guests(machine: u64) -> u64 {
    machine / 10 * 6
}

/// What guests get together, unless told otherwise, on an instance of the plan with this memory, all in bytes.
pub fn for_guests(instance: u64) -> u64 {
    // A machine that is smaller than any instance of the plan still serves.
    most_for_guests(instance).min(instance.saturating_sub(BESIDE_GUESTS).max(instance / 4))
}

/// The app setting that switches the function off, in one of the spellings of Azure and its tools.
fn disabled_by<'s>(function: &str, settings: &'s AppSettings) -> Option<&'s str> {
    let spellings = [".", "_", "__"].map(|dot| format!("AzureWebJobs{dot}{function}{dot}Disabled"));
    let disables = |(name, value): &(&String, &String)| {
        spellings.iter().any(|spelling| spelling.eq_ignore_ascii_case(name))
            && (value.eq_ignore_ascii_case("true") || *value == "1")
    };
    settings.iter().find(disables).map(|(name, _)| name.as_str())
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

/// The configuration of `flexwasm serve`: one component, every path, no files; of the environment only what says where telemetry goes.
pub fn serve(
    guest: PathBuf,
    host: &HostPatch,
    grants: Grants,
    settings: &AppSettings,
    given: &Circumstances,
) -> Config {
    let total_memory = total_memory(Role::Serve, host, given.machine_memory);
    let limits = limits(&host.function, Limits::default().timeout, total_memory);
    let instances = Instances::from(&host.function);
    let (share, reuse) = (instances.share, Reuse::from(&instances));
    let trigger = Trigger::Http { route: route::Template::everything(), methods: None, auth: AuthLevel::Anonymous };
    let (script_file, guest) = (guest, GuestSettings::default());
    let function = Function {
        name: "serve".into(),
        trigger,
        bindings: Arc::default(),
        event: Arc::default(),
        builtin: None,
        script_file,
        guest,
        middleware: Vec::new(),
        limits,
        share,
        reuse,
        grants,
        refused: None,
    };
    let listen = given.listen.unwrap_or(DEFAULT_LISTEN);
    let (route_prefix, functions) = (String::new(), vec![function]);
    let app = App { role: Role::Serve, listen, host, max_concurrent_requests: None, route_prefix, functions };
    let mut config = app.resolve(given);
    let surroundings = Surroundings { role: Role::Serve, insights: config.application_insights, host_exports: false };
    config.telemetry = telemetry::read(settings, surroundings, &mut config.objections);
    config
}

/// An app as its sources describe it.
struct App<'a> {
    role: Role,
    listen: SocketAddr,
    host: &'a HostPatch,
    /// What Azure may send at the same time, as far as a pool may have that size by default.
    max_concurrent_requests: Option<u32>,
    route_prefix: String,
    functions: Vec<Function>,
}

impl App<'_> {
    /// Decides what the sources leave open.
    fn resolve(self, given: &Circumstances) -> Config {
        let Self { role, listen, host, max_concurrent_requests, route_prefix, functions } = self;
        let set = HostSettings::from(host);
        let named = set.pool_size.or(max_concurrent_requests);
        let pool_size = named.unwrap_or_else(|| default_pool_size(given.machine_memory));
        let queue_length = set.queue_length.unwrap_or(pool_size.saturating_mul(2));
        let connections = || pool_size.saturating_add(queue_length).saturating_mul(4).saturating_add(256);
        // The Functions host writes a record of every invocation, and stamps every line of ours.
        let under_host = role == Role::CustomHandler;
        Config {
            role,
            listen,
            pool_size,
            pool_size_by_memory: named.is_none(),
            queue_length,
            queue_timeout: set.queue_timeout,
            total_memory: total_memory(role, host, given.machine_memory),
            memories: set.memories,
            core_instances: set.core_instances,
            spool: set.spool,
            request_head: set.request_head,
            connections: set.connections.unwrap_or_else(connections),
            drain_timeout: set.drain_timeout,
            headers: set.headers.unwrap_or(match role {
                // Everybody may read the answers of a public app.
                Role::CustomHandler => Headers::Off,
                Role::StandAlone | Role::Serve => Headers::Full,
            }),
            head_timeout: HEAD_TIMEOUT,
            log_level: set.log_level,
            log_requests: set.log_requests.unwrap_or(if under_host { LogRequests::Problems } else { LogRequests::All }),
            log_slow: set.log_slow,
            log_timestamps: set.log_timestamps.unwrap_or(!under_host),
            application_insights: set.application_insights,
            telemetry: Telemetry::default(),
            ready_within: READY_WITHIN,
            compiler: OWN_EXECUTABLE.into(),
            compiler_memory: compiler_memory(given.machine_memory),
            cache_folders: given.cache_folders.clone(),
            control_sockets: given.control_sockets.clone(),
            operate: None,
            route_prefix,
            cors: None,
            functions,
            disabled: Vec::new(),
            objections: Vec::new(),
            notes: Vec::new(),
        }
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

/// Half of the machine's: 1 GiB on the plan's usual instance, which is enough for the 19 MB Python guest. The least is for a small
/// machine, where guests in Rust take less than 100 MB.
fn compiler_memory(machine_memory: u64) -> u64 {
    (machine_memory / 2).max(256 << 20)
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

/// The member of this name, in any case, as Azure's readers look for it.
pub fn member<'d>(document: &'d Value, name: &str) -> Option<&'d Value> {
    let members = document.as_object()?;
    let other_case = || Some(members.iter().find(|(key, _)| key.eq_ignore_ascii_case(name))?.1);
    members.get(name).or_else(other_case)
}

/// The member that has this name in another case only.
fn misspelt<'d>(document: &'d Value, name: &str) -> Option<(&'d String, &'d Value)> {
    document.as_object()?.iter().find(|(key, _)| key.eq_ignore_ascii_case(name) && *key != name)
}

/// What .NET makes of a value that is no object, no list and not null: all configuration is text.
fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Bool(true) => Some("True".to_owned()),
        Value::Bool(false) => Some("False".to_owned()),
        Value::Number(number) => Some(number.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

/// Reads one JSON object of the app; None when there is none, with the mistake noted.
pub fn read_json(root: &Path, file: &Path, problems: &mut Problems) -> Option<Value> {
    let shown = file.display().to_string();
    let bytes = match file::read(&root.join(file), MAX_SETTINGS) {
        Ok(bytes) => bytes,
        Err(Unread::Io(error)) if error.kind() == io::ErrorKind::NotFound => {
            let remedy = format!(
                "not found in {}: run flexwasm in the folder of your app, or make one with `flexwasm new NAME`",
                root.display()
            );
            problems.add(&shown, "", None, remedy);
            return None;
        }
        Err(Unread::Io(error)) => {
            problems.add(&shown, "", None, format!("cannot be read ({error}): check that it is a readable file"));
            return None;
        }
        Err(why) => {
            problems.add(&shown, "", None, why.to_string());
            return None;
        }
    };
    let Ok(text) = std::str::from_utf8(&bytes) else {
        problems.add(&shown, "", None, "is not valid JSON (it is no UTF-8): save it as UTF-8");
        return None;
    };
    // Editors on Windows put a byte-order mark in front.
    let text = text.trim_start_matches('\u{feff}');
    let parsed = jsonc_parser::parse_to_ast(text, &CollectOptions::default(), &AS_AZURE_READS);
    match parsed.map(|parsed| parsed.value.map_or(Value::Null, Value::from)) {
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

/// Names of the folders that hold a `function.json`, sorted, ignoring case.
pub fn function_names(root: &Path, problems: &mut Problems) -> Vec<String> {
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
    // As the Functions host sorts them, which decides whose route wins.
    names.sort_by_cached_key(|name| name.to_ascii_uppercase());
    names
}

/// Whether a function may have this name (azure-contract.md §5).
pub fn valid_name(name: &str) -> bool {
    name.len() <= 128
        && name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-')
        && !name.eq_ignore_ascii_case("host")
}

/// Pairs of functions whose routes may fit one path for one method, so that the first of them decides about a request that was
/// meant for the second.
fn overlaps(functions: &[Function]) -> impl Iterator<Item = Problem> {
    let common = |ours: &Option<Vec<Method>>, theirs: &Option<Vec<Method>>| match (ours, theirs) {
        (Some(ours), Some(theirs)) => ours.iter().any(|method| theirs.contains(method)),
        _ => true,
    };
    let clash = move |(at, function): (usize, &Function)| {
        let Trigger::Http { route, methods, auth } = &function.trigger else { return None };
        functions[..at].iter().filter(|first| first.refused.is_none()).find_map(|first| {
            let Trigger::Http { route: taken, methods: theirs, auth: their_auth } = &first.trigger else { return None };
            let differs = match (auth == their_auth, function.grants == first.grants) {
                _ if !common(methods, theirs) || !route.overlaps(taken) => return None,
                (false, _) => "another authLevel",
                (_, false) => "other grants",
                (true, true) if route.same_paths(taken) => "the same paths, so this one is never asked",
                (true, true) => return None,
            };
            let remedy = format!(
                "fits paths that function {} ({taken}) answers too, with {differs}: Azure tries functions in the order of their \
                 names, so {} gets these requests; give one of the two another route or methods, or make them equal",
                first.name, first.name
            );
            let (file, value) = (format!("{}/function.json", function.name), Value::from(route.to_string()).to_string());
            Some(Problem { file, key: "bindings.route".to_owned(), value: Some(value), remedy })
        })
    };
    functions.iter().enumerate().filter(|(_, function)| function.refused.is_none()).filter_map(clash)
}

/// Routes that take the envelopes of other functions, which come as `POST /NAME` and never below a prefix.
fn swallowed(functions: &[Function], prefix: &str) -> impl Iterator<Item = Problem> {
    let exposed = functions.iter().filter(|function| function.trigger == Trigger::Envelope && prefix.is_empty());
    let clash = move |Function { name, .. }: &Function| {
        let takes = functions.iter().filter(|function| function.refused.is_none()).find_map(|function| {
            let Trigger::Http { route, methods, .. } = &function.trigger else { return None };
            let posts = methods.as_ref().is_none_or(|methods| methods.contains(&Method::POST));
            (posts && route.matches(&[Cow::Borrowed(&**name)])).then_some((function, route))
        });
        let (function, route) = takes?;
        let remedy = format!(
            "takes POST /{name}, by which Azure calls function {name}, so its events would go to {}: set extensions.http.routePrefix in \
             host.json, or give {} another route or no \"post\"",
            function.name, function.name
        );
        let (file, value) = (format!("{}/function.json", function.name), Value::from(route.to_string()).to_string());
        Some(Problem { file, key: "bindings.route".to_owned(), value: Some(value), remedy })
    };
    exposed.filter_map(clash)
}

/// Notes each share that is written in a file, or in an app setting, and is larger than the pool.
fn note_large_shares(files: &[(String, Option<Share>)], setting: Option<Share>, pool: u32, problems: &mut Problems) {
    let remedy = format!("is more than pool.size ({pool}): lower it, leave it out, or raise pool.size");
    let larger = |share: Option<Share>| match share {
        Some(Share::Slots(slots)) if slots > pool => Some(slots),
        _ => None,
    };
    for (file, slots) in files.iter().filter_map(|(file, share)| Some((file, larger(*share)?))) {
        problems.add(file, "flexwasm.pool.share", Some(&slots.into()), &*remedy);
    }
    if larger(setting).is_some() {
        problems.add(section::APP_SETTINGS, "flexwasm__pool__share", None, remedy);
    }
}
