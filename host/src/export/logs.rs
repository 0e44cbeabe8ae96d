//! What the log says, as OpenTelemetry's records: the closing lines of invocations, what guests print, and what the host says of itself.
//!
//! | in the log | in a record |
//! |---|---|
//! | level | severity |
//! | what stands behind the target; of a guest's line the text alone | body |
//! | `trace_id`, `span_id` | the record's own fields |
//! | `function`, `id`, `stream` | `faas.name`, `faas.invocation_id`, `log.iostream` |
//! | the target and all other fields | attributes that begin with `flexwasm.` |
//!
//! A closing line has the attributes of the invocation's span. That of an invocation without a problem goes the way of its trace: where
//! traces are exported and this one is not sampled, it stays in the log (`trace_based` of OpenTelemetry's LoggerConfig).

use super::otlp::{any, attribute, nanos, text};
use super::outbox::Outbox;
use super::spans;
use crate::observe::line;
use crate::observe::record::{Record, Sink};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::logs::v1::{LogRecord, SeverityNumber};
use std::fmt::Debug;
use std::time::SystemTime;
use tracing::field::{Field, Visit};
use tracing::{Event, Level};

/// Makes records of what the log says.
pub struct Logs {
    outbox: Outbox<LogRecord>,
    /// Lines without a problem go the way of their trace.
    traced: bool,
}

impl Logs {
    /// For this outbox; `traced` where traces are exported, too.
    pub fn new(outbox: Outbox<LogRecord>, traced: bool) -> Self {
        Self { outbox, traced }
    }

    /// Takes what the log says, unless it tells of the export itself: that would make more to tell of.
    pub fn event(&self, event: &Event<'_>) {
        let target = event.metadata().target();
        // Modules of both crates, and targets that have no path.
        if target.starts_with("flexwasm") || [line::TARGET, "guest"].contains(&target) {
            self.outbox.put_one(|| {
                let record = record(*event.metadata().level(), target);
                let mut fields = Fields(record);
                event.record(&mut fields);
                fields.0
            });
        }
    }
}

impl Sink for Logs {
    fn take(&self, record: &Record) {
        let level = line::level(record);
        let is_sampled = record.trace.as_ref().is_some_and(|trace| trace.story().is_some());
        if level == Level::INFO && self.traced && !is_sampled {
            return;
        }
        self.outbox.put_one(|| {
            let mut told = self::record(level, line::TARGET);
            told.body = Some(any(Value::StringValue(line::text(record))));
            told.attributes.extend(spans::attributes(record));
            if let Some(trace) = &record.trace {
                told.trace_id = trace.trace().to_be_bytes().to_vec();
                told.span_id = trace.span().to_be_bytes().to_vec();
            }
            told
        });
    }
}

/// One of now, without a text.
fn record(level: Level, target: &str) -> LogRecord {
    let severity = match level {
        Level::ERROR => SeverityNumber::Error,
        Level::WARN => SeverityNumber::Warn,
        Level::INFO => SeverityNumber::Info,
        Level::DEBUG => SeverityNumber::Debug,
        Level::TRACE => SeverityNumber::Trace,
    };
    let now = nanos(SystemTime::now());
    LogRecord {
        time_unix_nano: now,
        observed_time_unix_nano: now,
        severity_number: severity.into(),
        severity_text: level.as_str().to_owned(),
        attributes: vec![text("flexwasm.target", target)],
        ..LogRecord::default()
    }
}

/// Puts the fields of an event where a record has them.
struct Fields(LogRecord);

impl Fields {
    fn add(&mut self, name: &str, value: Value) {
        let id = |value: &Value| match value {
            Value::StringValue(digits) => u128::from_str_radix(digits, 16).unwrap_or_default().to_be_bytes(),
            _ => [0; 16],
        };
        match name {
            "message" | "text" => self.0.body = Some(any(value)),
            "trace_id" => self.0.trace_id = id(&value).to_vec(),
            "span_id" => self.0.span_id = id(&value)[8..].to_vec(),
            "function" => self.push("faas.name", value),
            "id" => self.push("faas.invocation_id", value),
            "stream" => self.push("log.iostream", value),
            _ => self.push(&format!("flexwasm.{name}"), value),
        }
    }

    fn push(&mut self, key: &str, value: Value) {
        self.0.attributes.push(attribute(key, value));
    }
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field.name(), Value::StringValue(value.to_owned()));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.add(field.name(), Value::IntValue(value.try_into().unwrap_or(i64::MAX)));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.add(field.name(), Value::IntValue(value));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.add(field.name(), Value::StringValue(format!("{value:?}")));
    }
}
