//! What is told of the instance that ran a request, as the demonstration's answer tells it, or the headers of any other.

use http::HeaderMap;
use serde_json::{Value, json};
use std::time::SystemTime;

/// Of one request.
#[derive(Debug, Clone, PartialEq)]
pub struct Receipt {
    /// The machine's name, or that of the instance of the plan.
    pub machine: String,
    /// The host's process id.
    pub process: u64,
    /// Ids of the threads that the guest began and ended on, where they are told.
    pub threads: Option<[u64; 2]>,
    /// Counts instances over the life of the process.
    pub instance: u64,
    /// Where it ran.
    pub slot: u64,
    /// Slots of that process.
    pub pool: u64,
    /// Requests that the instance had been given, with this one.
    pub served: u64,
    /// Counts the guests of the function.
    pub generation: u64,
    /// Begin by the machine's clock, in milliseconds since 1970.
    pub start: f64,
    /// End by the machine's clock.
    pub end: f64,
    /// Whether the machine is an instance of the plan, which has a name.
    pub on_azure: bool,
    /// Memory of the machine in GB, 0 where it is not told.
    pub memory: f64,
    /// Its processors, 0 where they are not told.
    pub processors: u64,
}

impl Receipt {
    /// Reads an answer; `None` where it is not the demonstration's.
    pub fn read(body: &[u8]) -> Option<Self> {
        let answer: Value = serde_json::from_slice(body).ok()?;
        let (host, guest) = (&answer["host"], &answer["guest"]);
        let time = |name: &str| {
            let time = humantime::parse_rfc3339(answer["timing"][name].as_str()?).ok()?;
            Some(time.duration_since(SystemTime::UNIX_EPOCH).ok()?.as_secs_f64() * 1e3)
        };
        Some(Self {
            machine: answer["machine"].as_str()?.to_owned(),
            process: host["process_id"].as_u64()?,
            threads: Some([host["thread_start"]["id"].as_u64()?, host["thread_end"]["id"].as_u64()?]),
            instance: guest["instance_id"].as_u64()?,
            slot: guest["slot"].as_u64()?,
            pool: guest["pool_size"].as_u64()?,
            served: guest["requests_served"].as_u64()?,
            generation: guest["generation"].as_u64()?,
            start: time("start")?,
            end: time("end")?,
            on_azure: host["azure_instance"].is_string(),
            memory: answer["system"]["memory_total_gb"].as_f64().unwrap_or(0.0),
            processors: answer["system"]["cpu_count"].as_u64().unwrap_or(0),
        })
    }

    /// Reads the headers of an answer (docs/promises.md); `None` where the setting `headers` is `off`. They tell no time of day, so the
    /// times are the client's: the guest ran to the end, for as long as `full` tells, else from the begin.
    pub fn of_headers(headers: &HeaderMap, sent: f64, answered: f64) -> Option<Self> {
        let text = |name: &str| headers.get(name)?.to_str().ok();
        let instance = text("x-flexwasm-instance")?;
        let host = text("x-flexwasm-host").unwrap_or_default();
        let ran = text("server-timing").and_then(|timing| timing.split("guest;dur=").nth(1)?.parse::<f64>().ok());
        let number = |text: &str, name: &str| {
            text.split("; ").find_map(|part| part.strip_prefix(name)?.strip_prefix('=')?.parse().ok())
        };
        Some(Self {
            machine: host.split('"').nth(1).unwrap_or_default().to_owned(),
            process: number(host, "pid").unwrap_or(0),
            threads: None,
            instance: instance.split("; ").next()?.parse().ok()?,
            slot: number(instance, "slot")?,
            pool: number(instance, "pool")?,
            served: number(instance, "served")?,
            generation: number(instance, "generation")?,
            start: ran.map_or(sent, |ran| (answered - ran).max(sent)),
            end: answered,
            on_azure: false,
            memory: 0.0,
            processors: 0,
        })
    }

    /// For programs; times by the machine's clock stay out, because they cannot be compared.
    pub fn json(&self) -> Value {
        json!({
            "machine": self.machine, "process": self.process, "threads": self.threads, "instance": self.instance,
            "slot": self.slot, "pool": self.pool, "served": self.served, "generation": self.generation,
        })
    }
}
