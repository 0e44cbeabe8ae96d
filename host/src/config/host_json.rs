//! `host.json`: what we read of Azure's own keys, and where our section stands.
//!
//! Azure's keys are read forgivingly (unknown ones are Azure's business) and may be overridden by app settings
//! `AzureFunctionsJobHost__a__b`, as the Functions host does (azure-contract.md §4.1).

use super::section::{APP_SETTINGS, Problems};
use serde_json::Value;
use std::collections::BTreeMap;
use std::time::Duration;

/// The name that every message uses.
pub const FILE: &str = "host.json";

/// The Functions host's own limit where `functionTimeout` is not set: 30 minutes on Flex Consumption.
const DEFAULT_FUNCTION_TIMEOUT: Duration = Duration::from_secs(30 * 60);

/// What the program uses of Azure's part of `host.json`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AzureHost {
    /// First segments of every route, `api` unless set; empty for none.
    pub route_prefix: String,
    /// `extensions.http.maxConcurrentRequests`, if it sets a bound.
    pub max_concurrent_requests: Option<u32>,
    /// When the Functions host would kill the process; none where it is switched off with -1.
    pub function_timeout: Option<Duration>,
    /// Whether plain HTTP functions receive the original request, by forwarding or by proxying.
    pub raw_http: bool,
    /// Whether they receive it by proxying, which alone streams.
    pub proxying: bool,
}

impl AzureHost {
    /// Reads `document`, with the app settings laid over it.
    pub fn read(document: &Value, settings: &BTreeMap<String, String>, problems: &mut Problems) -> Self {
        // Azure does not tell upper from lower case in a setting's name.
        let setting = |key: &str| {
            let name = format!("AzureFunctionsJobHost__{}", key.replace('.', "__"));
            settings.iter().find(|(spelled, _)| spelled.eq_ignore_ascii_case(&name))
        };
        let look = |key: &str| match setting(key) {
            Some((_, text)) => Some(serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.clone()))),
            None => key.split('.').try_fold(document, |value, part| value.get(part)).cloned(),
        };
        // Where a value stands is part of what is said about it.
        let mut wrong = |key: &str, value: &Value, remedy: &str| match setting(key) {
            Some((name, _)) => problems.add(APP_SETTINGS, name, None, remedy),
            None => problems.add(FILE, key, Some(value), remedy),
        };

        match look("version") {
            Some(Value::String(version)) if version == "2.0" => {}
            other => wrong("version", &other.unwrap_or(Value::Null), "must be \"2.0\""),
        }
        let route_prefix = match look("extensions.http.routePrefix") {
            None => "api".to_owned(),
            Some(Value::String(prefix)) => prefix.trim_matches('/').to_owned(),
            Some(other) => {
                wrong("extensions.http.routePrefix", &other, "must be text, such as \"api\", or \"\" for none");
                String::new()
            }
        };
        let max_concurrent_requests = look("extensions.http.maxConcurrentRequests").and_then(|value| {
            let number = value.as_i64().and_then(|number| i32::try_from(number).ok());
            if number.is_none_or(|number| number < -1 || number == 0) {
                wrong(
                    "extensions.http.maxConcurrentRequests",
                    &value,
                    "must be a whole number above 0, or -1 for no bound",
                );
            }
            number.and_then(|number| u32::try_from(number).ok())
        });
        let function_timeout = match look("functionTimeout") {
            None => Some(DEFAULT_FUNCTION_TIMEOUT),
            Some(value) => {
                let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                if text == "-1" {
                    None
                } else {
                    let timeout = time_span(&text);
                    if timeout.is_none() {
                        wrong("functionTimeout", &value, "must be \"hh:mm:ss\", such as \"00:05:00\", or \"-1\"");
                    }
                    timeout
                }
            }
        };
        let flag = |value: Option<Value>| match value {
            Some(Value::Bool(flag)) => flag,
            Some(Value::String(text)) => text.eq_ignore_ascii_case("true"),
            _ => false,
        };
        let proxying = flag(look("customHandler.enableProxyingHttpRequest"));
        let raw_http = proxying || flag(look("customHandler.enableForwardingHttpRequest"));
        Self { route_prefix, max_concurrent_requests, function_timeout, raw_http, proxying }
    }
}

/// `[d.]hh:mm:ss` as .NET writes it.
fn time_span(text: &str) -> Option<Duration> {
    let (days, clock) = text.split_once('.').map_or(("0", text), |(days, clock)| (days, clock));
    let mut parts = clock.split(':').map(|part| part.parse::<u64>().ok());
    let (hours, minutes, seconds) = (parts.next()??, parts.next()??, parts.next()??);
    let days: u64 = days.parse().ok()?;
    (parts.next().is_none() && hours < 24 && minutes < 60 && seconds < 60 && days < 10_000)
        .then(|| Duration::from_secs(((days * 24 + hours) * 60 + minutes) * 60 + seconds))
        .filter(|span| !span.is_zero())
}
