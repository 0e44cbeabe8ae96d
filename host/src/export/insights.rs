//! Spans as Application Insights has them: a dependency for each, a request where nobody else has counted it, and a trace for the
//! reason of a failure. The operation is the trace, so they stand under the row that the Functions host writes.
//!
//! A crate for it brings an OpenTelemetry SDK and threads of its own, for the few fields below (`Microsoft.ApplicationInsights`
//! telemetry schema, version 2; ingestion API `v2.1/track`).

use super::courier::Manner;
use crate::config::telemetry::{Insights, Telemetry};
use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use serde_json::{Map, Value, json};
use std::time::{Duration, UNIX_EPOCH};

/// How it is talked to.
pub const MANNER: Manner = Manner { content_type: "application/json", rejected };

/// `severityLevel` of an error.
const ERROR: u32 = 3;

/// Who sends to which resource.
pub struct Writer {
    key: String,
    role: Option<String>,
    instance: Option<String>,
}

impl Writer {
    /// With the resource attributes of the configuration.
    pub fn new(telemetry: &Telemetry, insights: &Insights) -> Self {
        let find = |name: &str| telemetry.resource.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone());
        Self { key: insights.key.clone(), role: find("service.name"), instance: find("faas.instance") }
    }

    /// A request with these spans.
    pub fn spans(&self, spans: Vec<Span>) -> Vec<u8> {
        let items: Vec<Value> = spans.iter().flat_map(|span| self.items(span)).collect();
        Value::from(items).to_string().into_bytes()
    }

    fn items(&self, span: &Span) -> impl Iterator<Item = Value> {
        let (id, parent) = (hex(&span.span_id), hex(&span.parent_span_id));
        let status = span.status.as_ref();
        let properties: Map<String, Value> = span
            .attributes
            .iter()
            .filter_map(|it| Some((it.key.clone(), shown(it.value.as_ref()?.value.as_ref()?))))
            .collect();
        let property = |name: &str| properties.get(name).and_then(Value::as_str).unwrap_or_default();
        let duration = Duration::from_nanos(span.end_time_unix_nano.saturating_sub(span.start_time_unix_nano));
        let code = property("http.response.status_code");
        let success = status.is_none_or(|status| status.code() != StatusCode::Error);
        let why = status.map(|status| status.message.as_str()).filter(|why| !why.is_empty());
        let failure = why.map(|why| {
            let message = json!({"ver": 2, "message": why, "severityLevel": ERROR, "properties": properties});
            self.envelope(span, &id, "Message", "MessageData", message)
        });
        let mut data = json!({"ver": 2, "id": id, "name": span.name, "duration": time_span(duration), "success": success,
            "properties": properties});
        let item = if span.kind() == SpanKind::Server {
            data["responseCode"] = code.into();
            self.envelope(span, &parent, "Request", "RequestData", data)
        } else {
            let called = span.kind() == SpanKind::Client;
            data["resultCode"] = code.into();
            data["type"] = if called { "Http" } else { "InProc" }.into();
            if called {
                data["target"] = format!("{}:{}", property("server.address"), property("server.port")).into();
            }
            self.envelope(span, &parent, "RemoteDependency", "RemoteDependencyData", data)
        };
        [item].into_iter().chain(failure)
    }

    fn envelope(&self, span: &Span, parent: &str, name: &str, kind: &str, data: Value) -> Value {
        let time = UNIX_EPOCH + Duration::from_nanos(span.start_time_unix_nano);
        let mut tags = Map::new();
        let mut tag = |name: &str, value: Option<&str>| {
            tags.extend(value.filter(|value| !value.is_empty()).map(|value| (name.to_owned(), value.into())));
        };
        tag("ai.operation.id", Some(&hex(&span.trace_id)));
        tag("ai.operation.parentId", Some(parent));
        tag("ai.cloud.role", self.role.as_deref());
        tag("ai.cloud.roleInstance", self.instance.as_deref());
        tag("ai.internal.sdkVersion", Some(concat!("flexwasm:", env!("CARGO_PKG_VERSION"))));
        json!({
            "name": format!("Microsoft.ApplicationInsights.{name}"),
            "time": humantime::format_rfc3339_micros(time).to_string(),
            "iKey": self.key,
            "tags": tags,
            "data": {"baseType": kind, "baseData": data},
        })
    }
}

/// Of an answer with a part that was not accepted, how many that are.
fn rejected(answer: &[u8]) -> u64 {
    let answer: Value = serde_json::from_slice(answer).unwrap_or_default();
    let number = |name: &str| answer[name].as_u64().unwrap_or_default();
    number("itemsReceived").saturating_sub(number("itemsAccepted"))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Properties are text.
fn shown(value: &Any) -> Value {
    match value {
        Any::StringValue(text) => text.clone().into(),
        Any::IntValue(number) => number.to_string().into(),
        Any::BoolValue(flag) => flag.to_string().into(),
        // No attribute of ours is any other.
        _ => Value::Null,
    }
}

/// `d.hh:mm:ss.fffffff`, as .NET writes it.
fn time_span(duration: Duration) -> String {
    let (seconds, ticks) = (duration.as_secs(), duration.subsec_nanos() / 100);
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    format!("{days}.{hours:02}:{minutes:02}:{:02}.{ticks:07}", seconds % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_dot_nets() {
        assert_eq!(time_span(Duration::from_nanos(1_234_567_890)), "0.00:00:01.2345678");
        assert_eq!(time_span(Duration::from_secs(90_061)), "1.01:01:01.0000000");
    }

    #[test]
    fn what_is_not_accepted_is_counted() {
        assert_eq!(rejected(br#"{"itemsReceived": 3, "itemsAccepted": 1, "errors": []}"#), 2);
        assert_eq!([rejected(b"{}"), rejected(b"no JSON")], [0, 0]);
    }
}
