//! What a request may ask for and what the answer says.

use crate::bindings::flexwasm::host::diagnostics::{Description, Thread};
use serde_json::{Value, json};
use std::time::{Duration, SystemTime};

/// One answered request, in words that a person and `test_concurrency.sh` can read.
pub struct Receipt {
    pub name: Option<String>,
    pub delay: Duration,
    pub started: SystemTime,
    pub elapsed: Duration,
    /// What the host said when the request began.
    pub before: Description,
    pub thread_at_end: Thread,
}

impl Receipt {
    pub fn to_json(&self) -> String {
        let Description { process, instance, invocation, machine } = &self.before;
        let thread = |thread: &Thread| json!({ "id": thread.id, "name": thread.name });
        let time = |time: SystemTime| humantime::format_rfc3339_millis(time).to_string();
        json!({
            "message": format!("Hello, {}!", self.name.as_deref().unwrap_or("World")),
            "request": { "name": self.name, "invocation_id": invocation.id },
            "host": {
                "process_id": process.id,
                "thread_start": thread(&process.thread),
                "thread_end": thread(&self.thread_at_end),
                "azure_instance": machine.azure_instance,
            },
            "guest": {
                "instance_id": instance.id,
                "slot": instance.slot,
                "pool_size": instance.pool_size,
                "requests_served": instance.served,
                "generation": instance.generation,
                "digest": instance.digest,
            },
            "timing": {
                "start": time(self.started),
                "end": time(self.started + self.elapsed),
                "requested_delay_seconds": self.delay.as_secs_f64(),
                "elapsed_ms": round(self.elapsed.as_secs_f64() * 1e3),
            },
            "machine": machine.azure_instance.as_ref().unwrap_or(&machine.host_name),
            "system": {
                "cpu_count": machine.cpu_count,
                "cpu_model": machine.cpu_model,
                "memory_total_gb": gigabytes(machine.memory_total),
                "memory_available_gb": gigabytes(machine.memory_available),
                "platform": machine.platform,
            },
        })
        .to_string()
    }
}

/// Why a request is refused: which parameter, what it said, and what would be right.
pub struct BadRequest {
    parameter: &'static str,
    value: String,
    expected: String,
}

impl BadRequest {
    pub fn body(problem: &str) -> Self {
        let expected = "a JSON object such as {\"name\": \"Ada\"}, at most 64 KiB".to_owned();
        Self { parameter: "body", value: problem.to_owned(), expected }
    }

    pub fn to_json(&self) -> String {
        json!({ "error": {
            "message": format!("{}: {:?} is not accepted; expected {}", self.parameter, self.value, self.expected),
            "parameter": self.parameter,
            "value": self.value,
            "expected": self.expected,
        }})
        .to_string()
    }
}

/// Seconds to sleep, from `delay=`. Absent means none.
///
/// The deadline itself is out of range: a guest that slept for all of it could not answer any more.
pub fn delay(query: &str, deadline: Duration) -> Result<Duration, BadRequest> {
    let Some(text) = parameter(query, "delay") else {
        return Ok(Duration::ZERO);
    };
    match seconds(&text) {
        Some(delay) if delay < deadline => Ok(delay),
        _ => Err(BadRequest {
            parameter: "delay",
            value: text,
            expected: format!(
                "a number of seconds from 0 up to, but not including, {} (the function's deadline)",
                deadline.as_secs_f64()
            ),
        }),
    }
}

/// Seconds as decimal digits, such as `5` or `0.25`. The standard library's way over floating point would add tables of 10
/// kilobytes to the memory of every instance.
fn seconds(text: &str) -> Option<Duration> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let nanoseconds = format!("{fraction:0<9}").get(..9)?.parse().ok()?;
    let plain = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    plain.then_some(Duration::new(whole.parse().ok()?, nanoseconds))
}

pub fn name_in_query(query: &str) -> Option<String> {
    parameter(query, "name").filter(|name| !name.is_empty())
}

/// The name in a JSON body; a body that is empty, or has no name, asks for none.
pub fn name_in_body(body: &[u8]) -> Result<Option<String>, BadRequest> {
    if body.is_empty() {
        return Ok(None);
    }
    let body: Value = serde_json::from_slice(body).map_err(|problem| BadRequest::body(&problem.to_string()))?;
    match body.get("name") {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(name)) => Ok(Some(name.clone())),
        Some(_) => Err(BadRequest::body("has a name that is not a string")),
    }
}

fn parameter(query: &str, name: &str) -> Option<String> {
    form_urlencoded::parse(query.as_bytes()).find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
}

/// Bytes as gigabytes (2^30, as the original demonstration counted), two decimals.
fn gigabytes(bytes: u64) -> f64 {
    round(bytes as f64 / f64::from(1 << 30))
}

fn round(number: f64) -> f64 {
    (number * 100.0).round() / 100.0
}
