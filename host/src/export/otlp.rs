//! OpenTelemetry's messages: what all of them have in common, and what is in a request.

use super::courier::Manner;
use crate::config::telemetry::Telemetry;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::metrics::v1::{Metric, ResourceMetrics, ScopeMetrics};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use prost::Message as _;
use std::time::{SystemTime, UNIX_EPOCH};

/// How collectors are talked to.
pub const MANNER: Manner = Manner { content_type: "application/x-protobuf", rejected };

/// Who sends.
#[derive(Clone)]
pub struct Source {
    resource: Resource,
    scope: InstrumentationScope,
}

impl Source {
    /// This process, with the attributes of the configuration.
    pub fn new(telemetry: &Telemetry) -> Self {
        let version = env!("CARGO_PKG_VERSION");
        let configured = telemetry.resource.iter().map(|(name, value)| text(name, value));
        let own = [
            int("process.pid", std::process::id().into()),
            text("telemetry.sdk.name", "flexwasm"),
            text("telemetry.sdk.language", "rust"),
            text("telemetry.sdk.version", version),
        ];
        Self {
            resource: Resource { attributes: configured.chain(own).collect(), ..Resource::default() },
            scope: InstrumentationScope {
                name: "flexwasm".to_owned(),
                version: version.to_owned(),
                ..InstrumentationScope::default()
            },
        }
    }

    /// A request with spans.
    pub fn spans(&self, spans: Vec<Span>) -> Vec<u8> {
        let Self { resource, scope } = self.clone();
        let scope_spans = vec![ScopeSpans { scope: Some(scope), spans, ..ScopeSpans::default() }];
        let resource_spans = vec![ResourceSpans { resource: Some(resource), scope_spans, ..ResourceSpans::default() }];
        ExportTraceServiceRequest { resource_spans }.encode_to_vec()
    }

    /// A request with records of the log.
    pub fn records(&self, log_records: Vec<LogRecord>) -> Vec<u8> {
        let Self { resource, scope } = self.clone();
        let scope_logs = vec![ScopeLogs { scope: Some(scope), log_records, ..ScopeLogs::default() }];
        let resource_logs = vec![ResourceLogs { resource: Some(resource), scope_logs, ..ResourceLogs::default() }];
        ExportLogsServiceRequest { resource_logs }.encode_to_vec()
    }

    /// A request with metrics.
    pub fn metrics(&self, metrics: Vec<Metric>) -> Vec<u8> {
        let Self { resource, scope } = self.clone();
        let scope_metrics = vec![ScopeMetrics { scope: Some(scope), metrics, ..ScopeMetrics::default() }];
        let resource_metrics =
            vec![ResourceMetrics { resource: Some(resource), scope_metrics, ..ResourceMetrics::default() }];
        ExportMetricsServiceRequest { resource_metrics }.encode_to_vec()
    }
}

/// The answers of all signals are alike in this.
fn rejected(answer: &[u8]) -> u64 {
    let partial = ExportTraceServiceResponse::decode(answer).ok().and_then(|answer| answer.partial_success);
    partial.and_then(|partial| partial.rejected_spans.try_into().ok()).unwrap_or_default()
}

/// An attribute.
pub fn text(key: &str, value: impl Into<String>) -> KeyValue {
    attribute(key, Value::StringValue(value.into()))
}

/// An attribute. A number beyond what the protocol can hold is cut.
pub fn int(key: &str, value: u64) -> KeyValue {
    attribute(key, Value::IntValue(value.try_into().unwrap_or(i64::MAX)))
}

/// An attribute.
pub fn flag(key: &str, value: bool) -> KeyValue {
    attribute(key, Value::BoolValue(value))
}

/// An attribute.
pub fn attribute(key: &str, value: Value) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(any(value)), ..KeyValue::default() }
}

/// A value as messages have it.
pub fn any(value: Value) -> AnyValue {
    AnyValue { value: Some(value) }
}

/// Nanoseconds since 1970.
pub fn nanos(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    since.as_nanos().try_into().unwrap_or(u64::MAX)
}
