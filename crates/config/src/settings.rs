//! Our own settings. Each key stands once in the tables below, with its kind, range and default; everything else follows: what a
//! source may say ([`HostPatch`], [`FunctionPatch`]), which of two sources prevails, what the program uses ([`Limits`]), and what
//! `flexwasm check` lists. To add a key, add its line, and its row in the page of settings, which a test compares with the tables.
//!
//! The keys that stand only in a `function.json` are in [`super::source`].

use super::builtin::BUILTIN_KEYS;
use super::event::EVENT_KEYS;
use super::hosts::Grant;
use super::keyvalue;
use super::kind::{Count, Flag, Hosts, Kind, List, Memory, Setting, Size, SizeOrZero, SizeWithin, Time, Word};
use super::section::Section;
use super::source::GUEST_KEYS;
use serde_json::Value;
use std::fmt;
use std::time::Duration;
use tracing::Level;

/// The largest pool that any machine has room for, by its address space; what this one has room for is checked at the start.
pub const MAX_POOL_SIZE: u32 = 32_000;

/// The most requests that one instance may be given: beyond it a count bounds nothing any more.
pub const MAX_REUSE: u32 = 1_000_000;

/// The type of a setting once every source has been heard: `default` has a value in any case; what is `computed` from other facts
/// is left open, and what is `none` may stay away.
macro_rules! resolved {
    (default, $type:ty) => { $type };
    ($how:ident, $type:ty) => { Option<$type> };
}

macro_rules! resolve {
    ($written:expr, default($value:expr)) => {
        or_else(&$written, || $value)
    };
    ($written:expr, $how:ident($words:expr)) => {
        $written.clone()
    };
}

macro_rules! default_in_words {
    ($kind:expr, default($value:expr)) => {
        $kind.spell(&$value)
    };
    ($kind:expr, $how:ident($words:expr)) => {
        $words.to_owned()
    };
}

macro_rules! shown {
    ($kind:expr, $value:expr, none($words:expr)) => {
        $value.as_ref().map_or_else(|| $words.to_owned(), |value| $kind.spell(value))
    };
    ($kind:expr, $value:expr, $how:ident($default:expr)) => {
        $kind.spell(&$value)
    };
}

/// Makes, of a table of settings: the list of its keys, what one source may say about them, and for each group what the program
/// uses, with a function that lists the group's values. A line is
/// `field: type = key, kind, default(value)`, with `computed(words)` or `none(words)` where there is no value to name.
macro_rules! settings {
    (
        $(#[$doc:meta])*
        $patch:ident $(and $(#[$part_doc:meta])* $part:ident: $part_type:ty)?, $keys:ident, $scope:literal;
        $(
            $(#[$group_doc:meta])*
            $group:ident listed from $place:ident: $place_type:ty {
                $(
                    $(#[$field_doc:meta])*
                    $field:ident: $type:ty = $key:literal, $kind:expr, $how:ident($default:expr);
                )+
            }
        )+
    ) => {
        #[doc = concat!("Keys of the scope `", $scope, "`.")]
        pub const $keys: [&str; [$($($key),+),+].len()] = [$($($key),+),+];

        $(#[$doc])*
        #[derive(Debug, Default, Clone, PartialEq, Eq)]
        pub struct $patch {
            $($($(#[$field_doc])* pub $field: Option<$type>,)+)+
            $($(#[$part_doc])* pub $part: $part_type,)?
        }

        impl $patch {
            /// Takes the keys of this table from a source.
            pub(super) fn take(section: &mut Section<'_>) -> Self {
                Self {
                    $($($field: $kind.take($key, section),)+)+
                    $($part: <$part_type>::take(section),)?
                }
            }

            /// This source's word where it says something, else the weaker one's.
            pub fn over(&self, weaker: &Self) -> Self {
                Self {
                    $($($field: over(&self.$field, &weaker.$field),)+)+
                    $($part: self.$part.over(&weaker.$part),)?
                }
            }

            /// The table as the page of settings has to present it.
            pub fn table() -> Vec<Setting> {
                vec![$($(Setting {
                    key: $key,
                    scope: $scope,
                    range: $kind.range(),
                    default: default_in_words!($kind, $how($default)),
                },)+)+]
            }
        }

        $(
            $(#[$group_doc])*
            #[derive(Debug, Clone, PartialEq, Eq)]
            pub struct $group {
                $($(#[$field_doc])* pub $field: resolved!($how, $type),)+
            }

            impl From<&$patch> for $group {
                fn from(patch: &$patch) -> Self {
                    Self { $($field: resolve!(patch.$field, $how($default)),)+ }
                }
            }

            impl Default for $group {
                fn default() -> Self {
                    Self::from(&$patch::default())
                }
            }

            impl $group {
                /// Key and value of each setting of this group, for a person.
                pub fn list($place: &$place_type) -> Vec<(&'static str, String)> {
                    vec![$(($key, shown!($kind, $place.$field, $how($default))),)+]
                }
            }
        )+
    };
}

fn over<T: Clone>(written: &Option<T>, weaker: &Option<T>) -> Option<T> {
    written.as_ref().or(weaker.as_ref()).cloned()
}

fn or_else<T: Clone>(written: &Option<T>, default: impl FnOnce() -> T) -> T {
    written.clone().unwrap_or_else(default)
}

settings! {
    /// What one source says about the host as a whole.
    HostPatch and
        /// What holds for every function that does not say otherwise.
        function: FunctionPatch,
    HOST_KEYS, "host";

    /// What is written about the host as a whole.
    HostSettings listed from config: super::Config {
        /// Slots.
        pool_size: u32 = "pool.size", Count(1, MAX_POOL_SIZE),
            computed("`extensions.http.maxConcurrentRequests` up to 6000, else 4, 16 or 32 by memory");
        /// Invocations that may wait for a slot.
        queue_length: u32 = "queue.length", Count(0, 1_000_000), computed("twice the pool size");
        /// How long one may wait.
        queue_timeout: Duration = "queue.timeout", Time, default(Duration::from_secs(30));
        /// Guest memory of all instances together, in bytes.
        total_memory: u64 = "limits.totalMemory", Size, computed(
            "60 % of the control group's limit, else of RAM; as custom handler at most that limit less 300MiB, which the Functions host needs"
        );
        /// Linear memories of one component. Room for them is made when a guest has so many.
        memories: u32 = "limits.memories", Count(1, 16), default(16);
        /// Core instances of one component.
        core_instances: u32 = "limits.coreInstances", Count(1, 1000), default(32);
        /// Bytes of a request head. hyper's buffer holds no more than 408 KiB.
        request_head: u64 = "limits.requestHead", SizeWithin(1 << 10, 256 << 10), default(64 << 10);
        /// Bytes of request bodies that are read ahead of their guests; 0 switches it off.
        spool: u64 = "limits.spool", SizeOrZero(SizeWithin(1 << 20, 1 << 40)),
            none("half of the temporary folder's free space, at most 512MiB");
        /// Connections at the same time.
        connections: u32 = "limits.connections", Count(16, 1_000_000),
            computed("4 × (`pool.size` + `queue.length`) + 256");
        /// For running invocations after SIGTERM.
        drain_timeout: Duration = "drain.timeout", Time, default(Duration::from_secs(30));
        /// Diagnostic headers.
        headers: Headers = "headers", HEADERS, computed("`off` as custom handler, `full` stand-alone");
        /// What reaches the log.
        log_level: Level = "log.level", LOG_LEVEL, default(Level::INFO);
        /// Which invocations write a closing line.
        log_requests: LogRequests = "log.requests", LOG_REQUESTS,
            computed("`problems` as custom handler, `all` stand-alone");
        /// From how long on an invocation is slow.
        log_slow: Duration = "log.slow", Time, none("off");
        /// Whether each record of the log begins with its time.
        log_timestamps: bool = "log.timestamps", Flag, computed("`false` as custom handler, `true` stand-alone");
        /// Whether telemetry goes to Application Insights.
        application_insights: bool = "telemetry.applicationInsights", Flag, default(false);
    }
}

settings! {
    /// What one source says about one function, or about all of them.
    FunctionPatch, FUNCTION_KEYS, "both";

    /// How the slots of the pool are used for a function.
    Instances listed from instances: Self {
        /// The most slots that it may hold.
        share: Share = "pool.share", PoolShare, default(Share::Percent(100));
        /// Requests in the life of an instance; 1 is a fresh instance for every request.
        reuse: u32 = "pool.reuse", Count(1, MAX_REUSE), default(1);
        /// How long an instance may wait for the next one.
        idle_timeout: Duration = "pool.idleTimeout", Time, default(Duration::from_secs(60));
    }

    /// What one invocation of a function may use.
    Limits listed from limits: Self {
        /// From the arrival of the request head to the last byte of the answer, waiting included.
        timeout: Duration = "limits.timeout", Time, default(Duration::from_secs(220));
        /// Time on a thread, apart from all waiting.
        cpu: Duration = "limits.cpu", Time, default(Duration::from_secs(60));
        /// Bytes of linear memory of one instance.
        memory: u64 = "limits.memory", Memory, default(128 << 20);
        /// Elements of all tables of one instance.
        table_elements: u32 = "limits.tableElements", Count(1, 10_000_000), default(20_000);
        /// Handles, and entries of the resource table on the host's side, of one instance.
        handles: u32 = "limits.handles", Count(16, 100_000), default(1024);
        /// Bytes that the guest may hand to the host in one call. The least is one write of WASI 0.2.
        host_call: u64 = "limits.hostCall", SizeWithin(4 << 10, 1 << 30), default(2 << 20);
        /// Random bytes in one call. The least is what seeds a generator; much more than the most would hold a thread.
        random: u64 = "limits.random", SizeWithin(32, 16 << 20), default(64 << 10);
        /// Bytes of a request body.
        request_body: u64 = "limits.requestBody", Size, default(100 << 20);
        /// Header lines of a response.
        response_headers: u32 = "limits.responseHeaders", Count(1, 10_000), default(100);
        /// Bytes of those lines.
        response_head: u64 = "limits.responseHead", SizeWithin(1 << 10, 1 << 20), default(64 << 10);
        /// Bytes of a response body; none is bounded by the timeout alone.
        response_body: u64 = "limits.responseBody", Size, none("none");
        /// Bytes of standard output and error that reach the log, per invocation.
        log: u64 = "limits.log", Size, default(64 << 10);
        /// Bytes of the log that all invocations of the function together may write in a second. The longest line takes more
        /// than half of the least.
        log_rate: u64 = "limits.logRate", SizeWithin(16 << 10, 1 << 30), default(1 << 20);
        /// Requests that one invocation may send.
        outgoing: u32 = "limits.outgoing", Count(1, 1_000_000), default(1000);
        /// Of these, under way at the same time.
        outgoing_concurrent: u32 = "limits.outgoingConcurrent", Count(1, 1000), default(32);
    }

    /// What is granted, as it is written.
    Granted listed from granted: Self {
        /// App settings by name that the guest may see.
        env: Vec<String> = "grants.env", List("app setting names, such as [\"GREETING\"]"), default(Vec::new());
        /// App settings by name that the guest finds in `wasi:config/store`.
        config: Vec<String> = "grants.config", List("app setting names, such as [\"GREETING\"]"), default(Vec::new());
        /// Folders of the app that the guest may read.
        dirs: Vec<String> = "grants.dirs", List("folders in the app, such as [\"http_trigger/data\"]"), default(Vec::new());
        /// Servers that the guest may send requests to.
        hosts: Vec<Grant> = "grants.hosts", Hosts, default(Vec::new());
        /// Stores that the guest may open.
        keyvalue: Vec<keyvalue::Written> = "grants.keyvalue", keyvalue::Stores, default(Vec::new());
    }
}

impl HostPatch {
    /// Reads a whole source and notes the keys that nobody knows.
    pub fn read(mut section: Section<'_>) -> Self {
        let patch = Self::take(&mut section);
        let elsewhere = "applies to one function: move it to the flexwasm section of its function.json";
        let of_function = [&GUEST_KEYS[..], &EVENT_KEYS[..], &BUILTIN_KEYS].concat();
        section.finish(&[&HOST_KEYS[..], &FUNCTION_KEYS[..]].concat(), (&of_function, elsewhere));
        patch
    }
}

/// How many requests of a function one instance may serve, one after the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reuse {
    /// Requests in the life of an instance; 1 is a fresh instance for every request.
    pub requests: u32,
    /// How long an instance may wait for the next one.
    pub idle_timeout: Duration,
}

impl From<&Instances> for Reuse {
    fn from(instances: &Instances) -> Self {
        Self { requests: instances.reuse, idle_timeout: instances.idle_timeout }
    }
}

impl Default for Reuse {
    fn default() -> Self {
        Self::from(&Instances::default())
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
        Instances::default().share
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

/// A number of slots, or a percentage of the pool.
struct PoolShare;

impl Kind for PoolShare {
    type Value = Share;

    fn read(&self, value: &Value) -> Result<Share, String> {
        let digits = value.as_str().and_then(|text| text.strip_suffix('%')).unwrap_or_default();
        let percent = || digits.parse().ok().filter(|percent| (1..=100).contains(percent) && !digits.starts_with('+'));
        match (Count(1, MAX_POOL_SIZE).read(value), percent()) {
            (Ok(slots), _) => Ok(Share::Slots(slots)),
            (_, Some(percent)) => Ok(Share::Percent(percent)),
            (Err(words), None) => Err(format!("{words}, or a percentage of pool.size from \"1%\" to \"100%\"")),
        }
    }

    fn spell(&self, value: &Share) -> String {
        value.to_string()
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

const HEADERS: Word<Headers> = Word(&[("full", Headers::Full), ("id", Headers::Id), ("off", Headers::Off)]);

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

const LOG_REQUESTS: Word<LogRequests> =
    Word(&[("all", LogRequests::All), ("problems", LogRequests::Problems), ("none", LogRequests::None)]);

const LOG_LEVEL: Word<Level> =
    Word(&[("error", Level::ERROR), ("warn", Level::WARN), ("info", Level::INFO), ("debug", Level::DEBUG)]);

/// Reads `log.level`.
///
/// # Errors
/// What to write instead, for a person.
pub fn log_level(text: &str) -> Result<Level, String> {
    LOG_LEVEL.read(&text.into())
}

/// Reads `limits.memory`, in bytes.
///
/// # Errors
/// What to write instead, for a person.
pub fn memory(text: &str) -> Result<u64, String> {
    Memory.read(&text.into())
}
