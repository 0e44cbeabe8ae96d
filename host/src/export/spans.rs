//! Finished invocations as spans: one for the invocation, and its children.
//!
//! | span | kind | from | to |
//! |---|---|---|---|
//! | the invocation | `SERVER`, or `INTERNAL` behind the Functions host, which has counted the request | arrival of the head | last byte of the response |
//! | `queue` | `INTERNAL` | arrival of the head | a slot |
//! | `instantiate` | `INTERNAL` | a slot | an instance |
//! | `guest` | `INTERNAL` | an instance | last byte of the response |
//! | each request of the guest | `CLIENT` | its begin | last byte of the answer, or until nobody reads on |
//!
//! Attributes are those of OpenTelemetry's conventions (HTTP spans, FaaS spans); ours begin with `flexwasm.`. No query is told, no
//! header and no body.

use super::otlp::{flag, int, nanos, text};
use super::outbox::Outbox;
use crate::config::{Config, Role};
use crate::observe::metrics;
use crate::observe::record::{Outcome, Ran, Record, Sink};
use crate::observe::trace::{Call, Calls, Came, TraceContext};
use http::StatusCode;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode as Code;
use opentelemetry_proto::tonic::trace::v1::{Span, Status};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

/// The flag of a span whose trace is recorded.
const SAMPLED: u32 = 1;

/// Makes spans of the invocations whose trace is exported.
pub struct Spans {
    kind: SpanKind,
    /// What calls each function, in a word of the conventions.
    triggers: BTreeMap<Arc<str>, &'static str>,
    /// Of everybody who gets them.
    outboxes: Vec<Outbox<Span>>,
}

impl Spans {
    /// For the functions of this configuration, and for these outboxes.
    pub fn new(config: &Config, outboxes: Vec<Outbox<Span>>) -> Self {
        // The Functions host has counted the request already.
        let kind = if config.role == Role::CustomHandler { SpanKind::Internal } else { SpanKind::Server };
        let triggers = config.functions.iter().map(|it| (Arc::clone(&it.name), metrics::trigger(it))).collect();
        Self { kind, triggers, outboxes }
    }
}

impl Sink for Spans {
    fn take(&self, record: &Record) {
        let Some(trace) = &record.trace else { return };
        if let Some(story) = trace.story() {
            let spans = self.spans(record, trace, story.take(), SystemTime::now());
            for outbox in &self.outboxes {
                outbox.put(spans.clone());
            }
        }
    }
}

impl Spans {
    fn spans(&self, record: &Record, trace: &TraceContext, calls: Calls, end: SystemTime) -> Vec<Span> {
        let began = end.checked_sub(record.total).unwrap_or(end);
        let admitted = began + record.queued;
        let mut spans = vec![self.invocation(record, trace, calls.left_out, began, end)];
        let child = |name: &str, from, to| {
            span(trace, fastrand::u64(1..), Some(trace.span()), name.to_owned(), SpanKind::Internal, from, to)
        };
        if record.ran.is_some() || !record.queued.is_zero() {
            spans.push(child("queue", began, admitted));
        }
        if let Some(Ran { instantiate, .. }) = record.ran {
            spans.push(child("instantiate", admitted, admitted + instantiate));
            spans.push(child("guest", admitted + instantiate, end));
        } else if let Outcome::Faulted(_) = record.outcome {
            // It failed before anybody could say how long what took.
            let name = if record.kind == Some("instantiate") { "instantiate" } else { "guest" };
            spans.push(child(name, admitted, end));
        }
        spans.extend(calls.calls.into_iter().map(|call| request(trace, call)));
        spans
    }

    fn invocation(
        &self,
        record: &Record,
        trace: &TraceContext,
        left_out: u32,
        from: SystemTime,
        to: SystemTime,
    ) -> Span {
        let method = metrics::method(record.known_method());
        let name = match (self.kind, &record.function, &record.route) {
            (SpanKind::Internal, Some(function), _) => function.to_string(),
            (_, _, Some(route)) => format!("{method} {route}"),
            _ => method.to_owned(),
        };
        let mut attributes = attributes(record);
        let trigger = record.function.as_ref().and_then(|function| self.triggers.get(function));
        attributes.extend(trigger.map(|trigger| text("faas.trigger", *trigger)));
        if left_out > 0 {
            attributes.push(int("flexwasm.requests_left_out", left_out.into()));
        }
        let mut span = span(trace, trace.span(), trace.parent(), name, self.kind, from, to);
        if failure(record).is_some() {
            span.status = Some(failed(record.outcome.reason().unwrap_or_default()));
        }
        Span { attributes, ..span }
    }
}

/// What a finished invocation is described by.
pub fn attributes(record: &Record) -> Vec<KeyValue> {
    let mut attributes = vec![
        text("http.request.method", metrics::method(record.known_method())),
        text("url.path", record.path()),
        text("flexwasm.outcome", record.outcome.word()),
    ];
    attributes.extend(record.id.as_deref().map(|id| text("faas.invocation_id", id)));
    attributes.extend(record.route.as_deref().map(|route| text("http.route", route)));
    attributes.extend(record.status.map(|status| int("http.response.status_code", status.as_u16().into())));
    attributes.extend(record.function.as_deref().map(|function| text("faas.name", function)));
    if let Some(Ran { instance, slot, served, generation, digest, .. }) = record.ran {
        attributes.push(flag("faas.coldstart", record.is_cold()));
        attributes.extend([
            int("flexwasm.instance", instance),
            int("flexwasm.slot", slot.into()),
            int("flexwasm.served", served),
            int("flexwasm.generation", generation),
            text("flexwasm.digest", digest.short().to_string()),
        ]);
    }
    attributes.extend(failure(record).map(|kind| text("error.type", kind)));
    attributes
}

/// How the invocation failed, in a word; none where the host and the guest did what they should.
fn failure(record: &Record) -> Option<String> {
    let status = record.status.filter(StatusCode::is_server_error);
    let failed =
        matches!(record.outcome, Outcome::Faulted(_) | Outcome::Deadline(_) | Outcome::Stalled(_) | Outcome::CutOff);
    if !failed && status.is_none() {
        return None;
    }
    let status = || Some(status?.as_str().to_owned());
    record.kind.map(str::to_owned).or_else(status).or_else(|| Some(record.outcome.word().to_owned()))
}

/// A request that a guest has sent.
fn request(trace: &TraceContext, Call { span: id, method, target, begun, took, came }: Call) -> Span {
    let method = metrics::method(&method);
    let mut attributes: Vec<KeyValue> = vec![
        text("http.request.method", method),
        text("server.address", target.name.to_string()),
        int("server.port", target.port.into()),
        text("url.scheme", if target.tls { "https" } else { "http" }),
    ];
    let error = match came {
        Came::Answer(status) => {
            attributes.push(int("http.response.status_code", status.as_u16().into()));
            (status.is_client_error() || status.is_server_error()).then(|| status.as_str().to_owned())
        }
        Came::Error(name) => Some(name),
        Came::Nothing => None,
    };
    let mut span = span(trace, id, Some(trace.span()), method.to_owned(), SpanKind::Client, begun, begun + took);
    if let Some(error) = error {
        attributes.push(text("error.type", error));
        span.status = Some(failed(""));
    }
    Span { attributes, ..span }
}

fn span(
    trace: &TraceContext,
    id: u64,
    parent: Option<u64>,
    name: String,
    kind: SpanKind,
    from: SystemTime,
    to: SystemTime,
) -> Span {
    let state = trace.state().and_then(|state| state.to_str().ok());
    Span {
        trace_id: trace.trace().to_be_bytes().to_vec(),
        span_id: id.to_be_bytes().to_vec(),
        parent_span_id: parent.map(|parent| parent.to_be_bytes().to_vec()).unwrap_or_default(),
        trace_state: state.unwrap_or_default().to_owned(),
        flags: SAMPLED,
        name,
        kind: kind.into(),
        start_time_unix_nano: nanos(from),
        end_time_unix_nano: nanos(to),
        ..Span::default()
    }
}

fn failed(message: &str) -> Status {
    Status { message: message.to_owned(), code: Code::Error.into() }
}
