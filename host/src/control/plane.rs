//! What operators see of a running host, and what they change: one answer for each row of the table in [`control`](super).

use super::openmetrics::{self, Format};
use crate::config::{Config, Function, settings};
use crate::describe;
use crate::guest::Keep;
use crate::guest::artifact::{Artifact, NoArtifact};
use crate::guest::composition::Part;
use crate::live::Live;
use crate::observe::log;
use crate::observe::metrics::Metrics;
use crate::pool::{Occupant, Slot, Snapshot};
use crate::run::Pool;
use crate::swap::{Publication, Swap, Version};
use bytes::Bytes;
use http::request::Parts;
use http::{Method, StatusCode};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::body::Incoming;
use percent_encoding::percent_decode_str;
use serde_json::{Value, json};
use std::fmt::Display;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;

/// For a body to arrive, however large it is.
const BODY_TIMEOUT: Duration = Duration::from_secs(5 * 60);
/// Bytes of a body that is a setting.
const MAX_SETTING: usize = 1024;

/// The parts of a host that operators see and change.
pub struct Plane {
    swaps: Arc<[Arc<Swap>]>,
    /// Functions without a guest to ask, their states, and why.
    idle: Vec<(Arc<str>, &'static str, String)>,
    pool: Pool,
    /// Where the host listens.
    local: SocketAddr,
    metrics: Arc<Metrics>,
    live: Arc<Live>,
}

/// What a request is answered with.
pub enum Answer {
    /// In JSON.
    Document(Value),
    /// In JSON, as text already.
    Report(String),
    /// Numbers for a machine that gathers them.
    Metrics {
        /// How they are spelled.
        format: Format,
        /// All of them.
        text: String,
    },
}

/// Why a request is not answered with what it asks for.
pub struct Refused {
    /// The status of the answer.
    pub status: StatusCode,
    /// For a person.
    pub why: String,
    /// The methods that the path has, where it has another.
    pub allow: Option<&'static str>,
}

impl Refused {
    fn new(status: StatusCode, why: impl Into<String>) -> Self {
        Self { status, why: why.into(), allow: None }
    }
}

impl Plane {
    /// Sees the functions of this configuration, which are called at `local`.
    pub fn new(
        config: &Config,
        swaps: Arc<[Arc<Swap>]>,
        pool: Pool,
        metrics: Arc<Metrics>,
        live: Arc<Live>,
        local: SocketAddr,
    ) -> Self {
        Self { swaps, idle: describe::idle(config), pool, metrics, live, local }
    }

    /// Does what is asked. What is left of the body is the caller's to read.
    ///
    /// # Errors
    /// [`Refused`]; nothing has changed.
    pub async fn answer(&self, head: &Parts, body: &mut Incoming) -> Result<Answer, Refused> {
        if (&head.method, head.uri.path()) == (&Method::GET, "/metrics") {
            let format = Format::asked(&head.headers);
            let text = openmetrics::text(&self.metrics.families(self.pool.levels()), format);
            return Ok(Answer::Metrics { format, text });
        }
        if (&head.method, head.uri.path()) == (&Method::GET, "/live") {
            let since = head.uri.query().and_then(|query| query.strip_prefix("since=")).unwrap_or_default();
            return Ok(Answer::Report(self.live.report(self.live.cursor(since)).text));
        }
        self.document(head, body).await.map(Answer::Document)
    }

    async fn document(&self, head: &Parts, body: &mut Incoming) -> Result<Value, Refused> {
        let path = head.uri.path();
        let path = path.strip_prefix('/').unwrap_or(path);
        let (first, rest) = path.split_once('/').unwrap_or((path, ""));
        match (first, rest, &head.method) {
            ("pool", "", &Method::GET) => Ok(pool(&self.pool.snapshot())),
            ("functions", "", &Method::GET) => Ok(self.functions()),
            ("log-level", "", &Method::GET) => Ok(level()),
            ("log-level", "", &Method::PUT) => set_level(&collect(body, MAX_SETTING).await?),
            ("swap", name, &Method::POST) => {
                let swap = self.find(name)?;
                self.swap(swap, part(swap, head.uri.query())?, body).await
            }
            ("rollback", name, &Method::POST) => {
                let why = |why: &str| Refused::new(StatusCode::CONFLICT, format!("function {name} {why}"));
                self.find(name)?.rollback().map(|published| described(published, "rolled-back")).map_err(why)
            }
            ("pool" | "functions" | "metrics" | "live", "", _) => Err(other("GET")),
            ("log-level", "", _) => Err(other("GET, PUT")),
            ("swap" | "rollback", _, _) => Err(other("POST")),
            _ => {
                let why = "the host does not know this request: use the same version of flexwasm";
                Err(Refused::new(StatusCode::NOT_FOUND, why))
            }
        }
    }

    fn find(&self, name: &str) -> Result<&Swap, Refused> {
        self.swaps.iter().find(|swap| *swap.function.name == *name).map(|swap| &**swap).ok_or_else(|| {
            let why = self.idle.iter().find(|(idle, ..)| **idle == *name).map(|(.., why)| why.clone());
            let names =
                self.swaps.iter().map(|swap| &*swap.function.name).chain(self.idle.iter().map(|(name, ..)| &**name));
            let unknown = || describe::unknown(name, &names.collect::<Vec<_>>());
            Refused::new(StatusCode::NOT_FOUND, why.unwrap_or_else(unknown))
        })
    }

    fn functions(&self) -> Value {
        let running = self.swaps.iter().map(|swap| {
            let (version, problem) = (swap.serving(), swap.problem());
            let state = match (&version, &problem) {
                (Some(_), _) => "serving",
                (None, Some(_)) => "broken",
                (None, None) => "loading",
            };
            json!({
                "name": &*swap.function.name,
                "state": state,
                "generation": version.as_ref().map(|version| version.generation),
                "digest": version.map(|version| version.digest.to_string()),
                "share": swap.function.share.to_string(),
                "problem": problem,
            })
        });
        let idle = self.idle.iter().map(|(name, state, why)| {
            json!({
                "name": &**name, "state": state, "generation": null, "digest": null, "share": null, "problem": why,
            })
        });
        json!({ "address": self.local.to_string(), "functions": running.chain(idle).collect::<Vec<_>>() })
    }

    async fn swap(&self, swap: &Swap, part: Option<usize>, body: &mut Incoming) -> Result<Value, Refused> {
        let Function { name, guest, middleware, .. } = &swap.function;
        let most = usize::try_from(guest.max_size).expect("1 GiB at the most");
        let origin = format!("the new {}", part.map_or("guest", |part| &middleware[part].file));
        let no_good = |why: &dyn Display| format!("function {name}: {origin} {why}");
        let wasm = collect(body, most).await.map_err(|refused| match refused.status {
            StatusCode::PAYLOAD_TOO_LARGE => Refused { why: no_good(&NoArtifact::TooLarge(most as u64)), ..refused },
            _ => Refused { why: no_good(&format_args!("did not arrive ({})", refused.why)), ..refused },
        })?;
        let from = origin.clone();
        let artifact = tokio::task::spawn_blocking(move || Artifact::new(from, wasm.into()));
        let artifact = artifact.await.expect("a digest is taken without panic").map_err(Into::into);
        let published = match artifact {
            Ok(artifact) => swap.publish_part(part, artifact, Keep::Always).await,
            Err(why) => Err(why),
        };
        published.map(|published| described(published, "swapped")).map_err(|why| {
            swap.refuse(&origin, &why);
            Refused::new(StatusCode::UNPROCESSABLE_ENTITY, no_good(&why))
        })
    }
}

/// The component of `guest.middleware` that a query such as `part=auth.wasm` names; none without a query.
fn part(swap: &Swap, query: Option<&str>) -> Result<Option<usize>, Refused> {
    let Some(query) = query else { return Ok(None) };
    let named = query.strip_prefix("part=").map(|name| percent_decode_str(name).decode_utf8_lossy());
    let middleware = &swap.function.middleware;
    let found = named.as_ref().and_then(|named| middleware.iter().position(|part| *part.file == **named));
    found.map(Some).ok_or_else(|| {
        let names: Vec<&str> = middleware.iter().map(|part| &*part.file).collect();
        let (function, names) = (&swap.function.name, names.join(", "));
        let why = match (named, middleware.is_empty()) {
            (_, true) => format!("function {function} has no guest.middleware: leave out the part"),
            (Some(named), false) => format!("function {function} has no part {named}: name one of {names}"),
            (None, false) => format!("the query must be part= and one of {names}"),
        };
        Refused::new(StatusCode::NOT_FOUND, why)
    })
}

/// The whole body.
async fn collect(body: &mut Incoming, most: usize) -> Result<Bytes, Refused> {
    let Ok(collected) = timeout(BODY_TIMEOUT, Limited::new(body, most).collect()).await else {
        let why = format!("the body took longer than {} s", BODY_TIMEOUT.as_secs());
        return Err(Refused::new(StatusCode::REQUEST_TIMEOUT, why));
    };
    collected.map(|body| body.to_bytes()).map_err(|error| match error.downcast_ref::<LengthLimitError>() {
        Some(_) => Refused::new(StatusCode::PAYLOAD_TOO_LARGE, format!("the body is larger than {most} bytes")),
        None => Refused::new(StatusCode::BAD_REQUEST, error.to_string()),
    })
}

fn other(methods: &'static str) -> Refused {
    let why = format!("this path answers {methods}");
    Refused { allow: Some(methods), ..Refused::new(StatusCode::METHOD_NOT_ALLOWED, why) }
}

fn pool(Snapshot { slots, waiting, .. }: &Snapshot) -> Value {
    let count = |is: fn(&Slot) -> bool| slots.iter().filter(|slot| is(slot)).count();
    let busy = count(|slot| matches!(slot, Slot::Admitted { .. } | Slot::Running { .. }));
    let parked = count(|slot| matches!(slot, Slot::Parked { .. }));
    let taken: Vec<Value> = slots.iter().enumerate().filter_map(|(number, slot)| taken(number, slot)).collect();
    json!({ "size": slots.len(), "busy": busy, "parked": parked, "waiting": waiting, "slots": taken })
}

/// What is in a slot, if anything is.
fn taken(number: usize, slot: &Slot) -> Option<Value> {
    let described = |state: &str, guest: &Occupant, instance: Option<u64>, age: Option<&Duration>| {
        let age = age.map(|age| age.as_secs_f64() * 1e3);
        json!({
            "slot": number, "state": state, "function": &*guest.function, "generation": guest.generation,
            "instance": instance, "age_ms": age,
        })
    };
    match slot {
        Slot::Free => None,
        Slot::Parked { guest, instance, age } => Some(described("parked", guest, Some(*instance), Some(age))),
        Slot::Admitted { guest } => Some(described("admitted", guest, None, None)),
        Slot::Running { guest, instance, phase, age } => {
            Some(described(phase.word(), guest, Some(*instance), Some(age)))
        }
    }
}

fn level() -> Value {
    json!({ "level": log::level().to_string().to_lowercase() })
}

fn set_level(body: &[u8]) -> Result<Value, Refused> {
    let wanted =
        serde_json::from_slice(body).ok().and_then(|body: Value| Some(body.get("level")?.as_str()?.to_owned()));
    let why =
        |why: String| Refused::new(StatusCode::BAD_REQUEST, format!("level {why}, as in {{\"level\": \"debug\"}}"));
    log::set_level(settings::log_level(&wanted.unwrap_or_default()).map_err(why)?);
    Ok(level())
}

fn described(published: Publication, outcome: &str) -> Value {
    let version = |Version { generation, digest, parts }: Version| {
        let mut version = json!({ "generation": generation, "digest": digest.to_string() });
        if !parts.is_empty() {
            let part = |part: &Part| json!({ "file": &*part.name, "digest": part.digest.to_string() });
            version["parts"] = parts.iter().map(part).collect();
        }
        version
    };
    match published {
        Publication::Swapped { old, new, took, notes } => json!({
            "outcome": outcome,
            "old": old.map(version),
            "new": version(new),
            "took_ms": took.as_secs_f64() * 1e3,
            "notes": notes,
        }),
        Publication::Unchanged(same) => json!({ "unchanged": version(same) }),
    }
}
