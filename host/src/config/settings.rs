//! Our own settings: what a source may say ([`HostPatch`], [`FunctionPatch`]) and what the program uses ([`Limits`]).
//!
//! With [`super::source`], which has the keys that stand only in a `function.json`, this file is the complete list of keys,
//! defaults and ranges; a test compares the table in docs/settings.md with it.

use super::hosts::Grant;
use super::section::Section;
use super::source::GUEST_KEYS;
use super::units;
use serde_json::Value;
use std::fmt;
use std::time::Duration;
use tracing::Level;

/// Keys of the whole host.
pub const HOST_KEYS: [&str; 14] = [
    "pool.size",
    "queue.length",
    "queue.timeout",
    "limits.totalMemory",
    "limits.coreInstances",
    "limits.requestHead",
    "limits.connections",
    "limits.spool",
    "drain.timeout",
    "headers",
    "log.level",
    "log.requests",
    "log.slow",
    "log.timestamps",
];

/// Keys that `function.json` may override.
pub const FUNCTION_KEYS: [&str; 21] = [
    "pool.share",
    "pool.reuse",
    "pool.idleTimeout",
    "limits.timeout",
    "limits.cpu",
    "limits.memory",
    "limits.tableElements",
    "limits.handles",
    "limits.hostCall",
    "limits.random",
    "limits.requestBody",
    "limits.responseHeaders",
    "limits.responseHead",
    "limits.responseBody",
    "limits.log",
    "limits.logRate",
    "limits.outgoing",
    "limits.outgoingConcurrent",
    "grants.env",
    "grants.dirs",
    "grants.hosts",
];

/// Keys that once existed, and what to do now. They are refused as unknown.
pub const RETIRED_KEYS: [(&str, &str); 1] = [(
    "pool.concurrentPerInstance",
    "unknown key: sharing an instance was removed; remove the key, each request has an instance of its own",
)];

/// The largest pool that any machine has room for, by its address space; what this one has room for is checked at the start.
pub const MAX_POOL_SIZE: u32 = 32_000;

/// A wasm32 memory cannot be larger.
const MAX_MEMORY: u64 = 4 << 30;

/// What one invocation of a function may use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// From the arrival of the request head to the last byte of the answer, waiting included.
    pub timeout: Duration,
    /// Time on a thread, apart from all waiting.
    pub cpu: Duration,
    /// Bytes of linear memory of one instance.
    pub memory: u64,
    /// Elements of all tables of one instance.
    pub table_elements: u32,
    /// Handles, and entries of the resource table on the host's side, of one instance.
    pub handles: u32,
    /// Bytes that the guest may hand to the host in one call.
    pub host_call: u64,
    /// Random bytes in one call.
    pub random: u64,
    /// Bytes of a request body.
    pub request_body: u64,
    /// Header lines of a response.
    pub response_headers: u32,
    /// Bytes of those lines.
    pub response_head: u64,
    /// Bytes of a response body; none is bounded by the timeout alone.
    pub response_body: Option<u64>,
    /// Bytes of standard output and error that reach the log, per invocation.
    pub log: u64,
    /// Bytes of the log that all invocations of the function together may write in a second.
    pub log_rate: u64,
    /// Requests that one invocation may send.
    pub outgoing: u32,
    /// Of these, under way at the same time.
    pub outgoing_concurrent: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(220),
            cpu: Duration::from_secs(60),
            memory: 128 << 20,
            table_elements: 20_000,
            handles: 1024,
            host_call: 2 << 20,
            random: 64 << 10,
            request_body: 100 << 20,
            response_headers: 100,
            response_head: 64 << 10,
            response_body: None,
            log: 64 << 10,
            log_rate: 1 << 20,
            outgoing: 1000,
            outgoing_concurrent: 32,
        }
    }
}

/// The most requests that one instance may be given: beyond it a count bounds nothing any more.
pub const MAX_REUSE: u32 = 1_000_000;

/// How many requests of a function one instance may serve, one after the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reuse {
    /// Requests in the life of an instance; 1 is a fresh instance for every request.
    pub requests: u32,
    /// How long an instance may wait for the next one.
    pub idle_timeout: Duration,
}

impl Default for Reuse {
    fn default() -> Self {
        Self { requests: 1, idle_timeout: Duration::from_secs(60) }
    }
}

/// `pool.share`: the most slots of the pool that one function may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Share {
    /// That many.
    Slots(u32),
    /// Percent of `pool.size`, 1 to 100.
    Percent(u32),
}

impl Share {
    /// The share in a pool of `size` slots, or of a queue in proportion: rounded up, so at least 1 of a pool that has any.
    pub fn of(self, size: u32) -> u32 {
        match self {
            Self::Slots(slots) => slots.min(size),
            Self::Percent(percent) => {
                u32::try_from((u64::from(size) * u64::from(percent)).div_ceil(100)).expect("no more than size")
            }
        }
    }
}

impl Default for Share {
    fn default() -> Self {
        Self::Percent(100)
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Slots(slots) => slots.fmt(f),
            Self::Percent(percent) => write!(f, "{percent}%"),
        }
    }
}

/// Which diagnostic headers an answer carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Headers {
    /// Instance, host and timing.
    Full,
    /// The instance only.
    Id,
    /// None.
    Off,
}

/// Which invocations write a closing line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogRequests {
    /// Every one.
    All,
    /// Those that do not end in an answer below 500, and slow ones.
    Problems,
    /// None.
    None,
}

/// What one source says about one function, or about all of them.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct FunctionPatch {
    /// `pool.share`.
    pub share: Option<Share>,
    /// `pool.reuse`.
    pub reuse: Option<u32>,
    idle_timeout: Option<Duration>,
    /// `limits.timeout`.
    pub timeout: Option<Duration>,
    cpu: Option<Duration>,
    /// `limits.memory`, in bytes.
    pub memory: Option<u64>,
    table_elements: Option<u32>,
    handles: Option<u32>,
    host_call: Option<u64>,
    random: Option<u64>,
    request_body: Option<u64>,
    response_headers: Option<u32>,
    response_head: Option<u64>,
    response_body: Option<u64>,
    log: Option<u64>,
    log_rate: Option<u64>,
    outgoing: Option<u32>,
    outgoing_concurrent: Option<u32>,
    /// App settings by name that the guest may see.
    pub env: Option<Vec<String>>,
    /// Folders of the app that the guest may read.
    pub dirs: Option<Vec<String>>,
    /// Servers that the guest may send requests to.
    pub hosts: Option<Vec<Grant>>,
}

impl FunctionPatch {
    /// Takes the keys that belong to a function.
    pub fn read(section: &mut Section<'_>) -> Self {
        Self {
            share: section.take("pool.share", share),
            reuse: section.take("pool.reuse", |value| count(value, 1, MAX_REUSE)),
            idle_timeout: section.take("pool.idleTimeout", duration),
            timeout: section.take("limits.timeout", duration),
            cpu: section.take("limits.cpu", duration),
            memory: section.take("limits.memory", |value| memory(value.as_str().unwrap_or_default())),
            table_elements: section.take("limits.tableElements", |value| count(value, 1, 10_000_000)),
            handles: section.take("limits.handles", |value| count(value, 16, 100_000)),
            // The least is one write of WASI 0.2.
            host_call: section.take("limits.hostCall", |value| size_within(value, 4 << 10, 1 << 30)),
            // The least is what seeds a generator; much more than the most would hold a thread.
            random: section.take("limits.random", |value| size_within(value, 32, 16 << 20)),
            request_body: section.take("limits.requestBody", size),
            response_headers: section.take("limits.responseHeaders", |value| count(value, 1, 10_000)),
            response_head: section.take("limits.responseHead", |value| size_within(value, 1 << 10, 1 << 20)),
            response_body: section.take("limits.responseBody", size),
            log: section.take("limits.log", size),
            // The longest line takes more than half of the least.
            log_rate: section.take("limits.logRate", |value| size_within(value, 16 << 10, 1 << 30)),
            outgoing: section.take("limits.outgoing", |value| count(value, 1, 1_000_000)),
            outgoing_concurrent: section.take("limits.outgoingConcurrent", |value| count(value, 1, 1000)),
            hosts: section
                .take_hosts("grants.hosts", |value| list(value, "servers, such as [\"https://api.example.com\"]")),
            env: section.take("grants.env", |value| list(value, "app setting names, such as [\"GREETING\"]")),
            dirs: section
                .take("grants.dirs", |value| list(value, "folders in the app, such as [\"http_trigger/data\"]")),
        }
    }

    /// This source's word where it says something, else the weaker one's.
    pub fn over(&self, weaker: &Self) -> Self {
        Self {
            share: self.share.or(weaker.share),
            reuse: self.reuse.or(weaker.reuse),
            idle_timeout: self.idle_timeout.or(weaker.idle_timeout),
            timeout: self.timeout.or(weaker.timeout),
            cpu: self.cpu.or(weaker.cpu),
            memory: self.memory.or(weaker.memory),
            table_elements: self.table_elements.or(weaker.table_elements),
            handles: self.handles.or(weaker.handles),
            host_call: self.host_call.or(weaker.host_call),
            random: self.random.or(weaker.random),
            request_body: self.request_body.or(weaker.request_body),
            response_headers: self.response_headers.or(weaker.response_headers),
            response_head: self.response_head.or(weaker.response_head),
            response_body: self.response_body.or(weaker.response_body),
            log: self.log.or(weaker.log),
            log_rate: self.log_rate.or(weaker.log_rate),
            outgoing: self.outgoing.or(weaker.outgoing),
            outgoing_concurrent: self.outgoing_concurrent.or(weaker.outgoing_concurrent),
            env: self.env.clone().or_else(|| weaker.env.clone()),
            dirs: self.dirs.clone().or_else(|| weaker.dirs.clone()),
            hosts: self.hosts.clone().or_else(|| weaker.hosts.clone()),
        }
    }

    /// How instances are reused, with defaults where no source said anything.
    pub fn reuse(&self) -> Reuse {
        let default = Reuse::default();
        Reuse {
            requests: self.reuse.unwrap_or(default.requests),
            idle_timeout: self.idle_timeout.unwrap_or(default.idle_timeout),
        }
    }

    /// The limits, with defaults where no source said anything.
    pub fn limits(&self) -> Limits {
        let default = Limits::default();
        Limits {
            timeout: self.timeout.unwrap_or(default.timeout),
            cpu: self.cpu.unwrap_or(default.cpu),
            memory: self.memory.unwrap_or(default.memory),
            table_elements: self.table_elements.unwrap_or(default.table_elements),
            handles: self.handles.unwrap_or(default.handles),
            host_call: self.host_call.unwrap_or(default.host_call),
            random: self.random.unwrap_or(default.random),
            request_body: self.request_body.unwrap_or(default.request_body),
            response_headers: self.response_headers.unwrap_or(default.response_headers),
            response_head: self.response_head.unwrap_or(default.response_head),
            response_body: self.response_body.or(default.response_body),
            log: self.log.unwrap_or(default.log),
            log_rate: self.log_rate.unwrap_or(default.log_rate),
            outgoing: self.outgoing.unwrap_or(default.outgoing),
            outgoing_concurrent: self.outgoing_concurrent.unwrap_or(default.outgoing_concurrent),
        }
    }
}

/// What one source says about the host as a whole.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct HostPatch {
    /// Slots.
    pub pool_size: Option<u32>,
    /// Invocations that may wait for a slot.
    pub queue_length: Option<u32>,
    /// How long one may wait.
    pub queue_timeout: Option<Duration>,
    /// Guest memory of all instances together, in bytes.
    pub total_memory: Option<u64>,
    /// Core instances of one component.
    pub core_instances: Option<u32>,
    /// Bytes of a request head.
    pub request_head: Option<u64>,
    /// For running invocations after SIGTERM.
    pub drain_timeout: Option<Duration>,
    /// Diagnostic headers.
    pub headers: Option<Headers>,
    /// What reaches the log.
    pub log_level: Option<Level>,
    /// `limits.spool`, in bytes; 0 switches it off.
    pub spool: Option<u64>,
    /// `limits.connections`.
    pub connections: Option<u32>,
    /// `log.requests`.
    pub log_requests: Option<LogRequests>,
    /// `log.slow`.
    pub log_slow: Option<Duration>,
    /// `log.timestamps`.
    pub log_timestamps: Option<bool>,
    /// What holds for every function that does not say otherwise.
    pub function: FunctionPatch,
}

impl HostPatch {
    /// Reads a whole source and notes the keys that nobody knows.
    pub fn read(mut section: Section<'_>) -> Self {
        let patch = Self {
            pool_size: section.take("pool.size", |value| count(value, 1, MAX_POOL_SIZE)),
            queue_length: section.take("queue.length", |value| count(value, 0, 1_000_000)),
            queue_timeout: section.take("queue.timeout", duration),
            total_memory: section.take("limits.totalMemory", size),
            core_instances: section.take("limits.coreInstances", |value| count(value, 1, 1000)),
            // hyper's buffer holds no more than 408 KiB.
            request_head: section.take("limits.requestHead", |value| size_within(value, 1 << 10, 256 << 10)),
            drain_timeout: section.take("drain.timeout", duration),
            headers: section.take("headers", |value| match value.as_str() {
                Some("full") => Ok(Headers::Full),
                Some("id") => Ok(Headers::Id),
                Some("off") => Ok(Headers::Off),
                _ => Err("must be \"full\", \"id\" or \"off\"".to_owned()),
            }),
            log_level: section.take("log.level", |value| log_level(value.as_str().unwrap_or_default())),
            spool: section.take("limits.spool", |value| match value {
                value if value.as_u64() == Some(0) || value.as_str() == Some("0") => Ok(0),
                value => size_within(value, 1 << 20, 1 << 40).map_err(|remedy| format!("{remedy}, or 0 for none")),
            }),
            connections: section.take("limits.connections", |value| count(value, 16, 1_000_000)),
            log_requests: section.take("log.requests", |value| match value.as_str() {
                Some("all") => Ok(LogRequests::All),
                Some("problems") => Ok(LogRequests::Problems),
                Some("none") => Ok(LogRequests::None),
                _ => Err("must be \"all\", \"problems\" or \"none\"".to_owned()),
            }),
            log_slow: section.take("log.slow", duration),
            // An app setting is text.
            log_timestamps: section.take("log.timestamps", |value| match (value, value.as_str()) {
                (Value::Bool(on), _) => Ok(*on),
                (_, Some("true")) => Ok(true),
                (_, Some("false")) => Ok(false),
                _ => Err("must be true or false".to_owned()),
            }),
            function: FunctionPatch::read(&mut section),
        };
        let elsewhere = "applies to one function: move it to the flexwasm section of its function.json";
        section.finish(&[&HOST_KEYS[..], &FUNCTION_KEYS[..]].concat(), (&GUEST_KEYS, elsewhere));
        patch
    }

    /// This source's word where it says something, else the weaker one's.
    pub fn over(&self, weaker: &Self) -> Self {
        Self {
            pool_size: self.pool_size.or(weaker.pool_size),
            queue_length: self.queue_length.or(weaker.queue_length),
            queue_timeout: self.queue_timeout.or(weaker.queue_timeout),
            total_memory: self.total_memory.or(weaker.total_memory),
            core_instances: self.core_instances.or(weaker.core_instances),
            request_head: self.request_head.or(weaker.request_head),
            drain_timeout: self.drain_timeout.or(weaker.drain_timeout),
            headers: self.headers.or(weaker.headers),
            log_level: self.log_level.or(weaker.log_level),
            connections: self.connections.or(weaker.connections),
            spool: self.spool.or(weaker.spool),
            log_requests: self.log_requests.or(weaker.log_requests),
            log_slow: self.log_slow.or(weaker.log_slow),
            log_timestamps: self.log_timestamps.or(weaker.log_timestamps),
            function: self.function.over(&weaker.function),
        }
    }
}

/// Reads `log.level`.
///
/// # Errors
/// What to write instead, for a person.
pub fn log_level(text: &str) -> Result<Level, String> {
    match text {
        "error" => Ok(Level::ERROR),
        "warn" => Ok(Level::WARN),
        "info" => Ok(Level::INFO),
        "debug" => Ok(Level::DEBUG),
        _ => Err("must be \"error\", \"warn\", \"info\" or \"debug\"".to_owned()),
    }
}

/// Reads `limits.memory`, in bytes.
///
/// # Errors
/// What to write instead, for a person.
pub fn memory(text: &str) -> Result<u64, String> {
    match units::size(text)? {
        bytes if bytes > MAX_MEMORY => Err("must be at most 4GiB, the most that a wasm32 memory can hold".to_owned()),
        bytes if bytes < 64 << 10 => Err("must be at least 64KiB, one WebAssembly page".to_owned()),
        bytes => Ok(bytes),
    }
}

fn duration(value: &Value) -> Result<Duration, String> {
    units::duration(value.as_str().unwrap_or_default())
}

fn size(value: &Value) -> Result<u64, String> {
    units::size(value.as_str().unwrap_or_default())
}

/// Reads a size in a range, in bytes.
///
/// # Errors
/// What to write instead, for a person.
pub(super) fn size_within(value: &Value, least: u64, most: u64) -> Result<u64, String> {
    let bytes = size(value)?;
    let spell = units::spell_size;
    let fits = (least..=most).contains(&bytes).then_some(bytes);
    fits.ok_or_else(|| format!("must be a size from {} to {}", spell(least), spell(most)))
}

fn count(value: &Value, least: u32, most: u32) -> Result<u32, String> {
    let number = value.as_u64().and_then(|number| u32::try_from(number).ok());
    number
        .filter(|number| (least..=most).contains(number))
        .ok_or_else(|| format!("must be a whole number from {least} to {most}"))
}

fn share(value: &Value) -> Result<Share, String> {
    let digits = value.as_str().and_then(|text| text.strip_suffix('%')).unwrap_or_default();
    let percent = || digits.parse().ok().filter(|percent| (1..=100).contains(percent) && !digits.starts_with('+'));
    match (count(value, 1, MAX_POOL_SIZE), percent()) {
        (Ok(slots), _) => Ok(Share::Slots(slots)),
        (_, Some(percent)) => Ok(Share::Percent(percent)),
        (Err(words), None) => Err(format!("{words}, or a percentage of pool.size from \"1%\" to \"100%\"")),
    }
}

/// A list of texts; `what` they are is said where it is anything else.
fn list(value: &Value, what: &str) -> Result<Vec<String>, String> {
    let text = |value: &Value| value.as_str().filter(|text| !text.is_empty()).map(str::to_owned);
    let list = value.as_array().and_then(|values| values.iter().map(text).collect());
    list.ok_or_else(|| format!("must be a list of {what}"))
}
