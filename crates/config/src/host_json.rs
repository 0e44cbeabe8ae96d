//! `host.json`: what we read of Azure's own keys, and where our section stands.
//!
//! Azure's keys are read forgivingly (unknown ones are Azure's business) and may be overridden by app settings
//! `AzureFunctionsJobHost__a__b`, as the Functions host does (azure-contract.md §4.1).

use super::section::{APP_SETTINGS, Problems};
use super::{AppSettings, member, misspelt, text};
use serde_json::Value;
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
    /// `customHandler.enableForwardingHttpRequest`.
    pub forwarding: bool,
    /// `customHandler.enableProxyingHttpRequest`.
    pub proxying: bool,
    /// `telemetryMode` is `OpenTelemetry`: the Functions host exports its telemetry by itself.
    pub exports: bool,
}

impl AzureHost {
    /// Reads `document`, with the app settings laid over it.
    pub fn read(document: &Value, settings: &AppSettings, problems: &mut Problems) -> Self {
        let setting = |key: &str| setting(settings, key);
        let look = |key: &str| look(document, settings, key);
        // Where a value stands is part of what is said about it.
        let mut wrong = |key: &str, value: &Value, remedy: &str| match setting(key) {
            Some((name, _)) => problems.add(APP_SETTINGS, name, None, remedy),
            None => problems.add(FILE, key, Some(value), remedy),
        };

        // The Functions host looks for this one in the file, as it is written here, before there is any configuration.
        let version = setting("version").map(|(_, text)| Value::String(text.clone()));
        let version = version.or_else(|| document.get("version").cloned()).unwrap_or(Value::Null);
        match misspelt(document, "version").filter(|_| version.is_null()) {
            Some((near, value)) => wrong(near, value, "Azure does not know this key; did you mean version?"),
            None if version != "2.0" => wrong("version", &version, "must be \"2.0\""),
            None => {}
        }
        let route_prefix = look("extensions.http.routePrefix").map_or("api".to_owned(), |value| {
            let prefix = text(&value).map(|prefix| prefix.trim_matches('/').to_owned());
            prefix.unwrap_or_else(|| {
                wrong("extensions.http.routePrefix", &value, "must be text, such as \"api\", or \"\" for none");
                String::new()
            })
        });
        let max_concurrent_requests = look("extensions.http.maxConcurrentRequests").and_then(|value| {
            let number = text(&value).and_then(|number| number.trim().parse::<i32>().ok());
            if number.is_none_or(|number| number < -1 || number == 0) {
                wrong(
                    "extensions.http.maxConcurrentRequests",
                    &value,
                    "must be a whole number above 0, or -1 for no bound",
                );
            }
            number.and_then(|number| u32::try_from(number).ok())
        });
        let function_timeout = look("functionTimeout").map_or(Some(DEFAULT_FUNCTION_TIMEOUT), |value| {
            let text = text(&value).unwrap_or_default();
            let timeout = time_span(&text);
            if timeout.is_none() && text != "-1" {
                wrong("functionTimeout", &value, "must be \"hh:mm:ss\", such as \"00:05:00\", or \"-1\"");
            }
            timeout
        });
        let flag = |key| look(key).and_then(|value| text(&value)).is_some_and(|text| text.eq_ignore_ascii_case("true"));
        let forwarding = flag("customHandler.enableForwardingHttpRequest");
        let proxying = flag("customHandler.enableProxyingHttpRequest");
        let mode = look("telemetryMode").and_then(|value| text(&value));
        let exports = mode.is_some_and(|mode| mode.eq_ignore_ascii_case("OpenTelemetry"));
        Self { route_prefix, max_concurrent_requests, function_timeout, forwarding, proxying, exports }
    }

    /// Whether plain HTTP functions receive the original request.
    pub fn raw_http(&self) -> bool {
        self.forwarding || self.proxying
    }
}

/// The app setting that stands in for a dotted key. Azure does not tell upper from lower case in its name.
fn setting<'s>(settings: &'s AppSettings, key: &str) -> Option<(&'s String, &'s String)> {
    let name = format!("AzureFunctionsJobHost__{}", key.replace('.', "__"));
    settings.iter().find(|(spelled, _)| spelled.eq_ignore_ascii_case(&name))
}

/// What Azure reads under a dotted key. Configuration of .NET is text under keys that may be written in any case; null counts as absent.
pub fn look(document: &Value, settings: &AppSettings, key: &str) -> Option<Value> {
    match setting(settings, key) {
        Some((_, text)) => Some(Value::String(text.clone())),
        None => key.split('.').try_fold(document, member).filter(|value| !value.is_null()).cloned(),
    }
}

/// `[d.]hh:mm[:ss[.f]]` as .NET writes it.
fn time_span(text: &str) -> Option<Duration> {
    let (days, clock) = match text.split_once('.') {
        Some((days, clock)) if !days.contains(':') => (days.parse().ok().filter(|days| *days < 10_000)?, clock),
        _ => (0_u64, text),
    };
    let (clock, fraction) = clock.split_once('.').unwrap_or((clock, "0"));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let parts =
        clock.split(':').map(|part| part.parse().ok().filter(|_| digits(part))).collect::<Option<Vec<u64>>>()?;
    let (hours, minutes, seconds) = match parts[..] {
        [hours, minutes] if fraction == "0" => (hours, minutes, 0),
        [hours, minutes, seconds] => (hours, minutes, seconds),
        _ => return None,
    };
    if hours > 23 || minutes > 59 || seconds > 59 || !digits(fraction) || fraction.len() > 7 {
        return None;
    }
    // .NET counts in tenths of a microsecond.
    let ticks: u64 = format!("{fraction:0<7}").parse().ok()?;
    let span =
        Duration::from_secs(((days * 24 + hours) * 60 + minutes) * 60 + seconds) + Duration::from_nanos(ticks * 100);
    Some(span).filter(|span| !span.is_zero())
}
