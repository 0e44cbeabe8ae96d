//! Telemetry that leaves: spans, numbers and records of the log, as OTLP over HTTP with protobuf (OpenTelemetry Protocol
//! Specification), and spans to Application Insights. OpenTelemetry's messages are the one form that everything has until then.
//!
//! ```text
//! an invocation ─► Spans ─┬─► Outbox ─► batches ─► Courier ─► collector
//! the log ───────► Logs ──┘     │ no room             │ gone, slow, unwilling
//!                               └───────► Losses ◄────┘
//! ```
//!
//! Nobody who serves waits for any of it: [`outbox`] is bounded, and whatever finds no room in it or no taker is counted and told by
//! [`losses`]. [`courier`] sends, [`otlp`] and [`insights`] know the messages, [`spans`], [`metrics`] and [`logs`] what is in them.
//!
//! The messages are OpenTelemetry's own crate; its SDK and exporter are not used: their queues drop without a word, and their flush
//! waits on a thread of its own for a client that needs ours.

mod courier;
mod insights;
mod logs;
mod losses;
mod metrics;
mod otlp;
mod outbox;
mod spans;

use crate::config::Config;
use crate::config::telemetry::Collector;
use crate::observe::log;
use crate::observe::metrics::Metrics;
use crate::observe::record::Sink;
use crate::run::Pool;
use courier::{Clients, Courier};
use insights::Writer;
use logs::Logs;
use losses::Losses;
use otlp::Source;
use spans::Spans;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Sends what the configuration asks for, for as long as the host lives.
pub struct Exporter {
    spans: Option<Arc<dyn Sink>>,
    logs: Option<Arc<dyn Sink>>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Exporter {
    /// Begins, on tasks of its own. What is wrong with a collector shows later, and in the log only.
    pub fn start(config: &Config, counted: &Arc<Metrics>, pool: &Pool) -> Self {
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let telemetry = &config.telemetry;
        let (source, mut clients) = (Source::new(telemetry), Clients::default());
        let losses = |signal, to: &Collector| Arc::new(Losses::new(signal, to.to_string(), Arc::clone(counted)));
        let mut outboxes = Vec::new();
        if let Some(to) = &telemetry.traces {
            let losses = losses("traces", to);
            let (outbox, inbox) = outbox::new(telemetry.spans, &losses);
            outboxes.push(outbox);
            let (courier, source) = (Courier::new(&mut clients, to, otlp::MANNER, &losses, &stop), source.clone());
            tasks.spawn(inbox.send(courier, move |spans| source.spans(spans)));
        }
        if let Some(insights) = &telemetry.insights {
            let losses = losses("applicationInsights", &insights.to);
            let (outbox, inbox) = outbox::new(telemetry.spans, &losses);
            outboxes.push(outbox);
            let courier = Courier::new(&mut clients, &insights.to, insights::MANNER, &losses, &stop);
            let writer = Writer::new(telemetry, insights);
            tasks.spawn(inbox.send(courier, move |spans| writer.spans(spans)));
        }
        let spans = (!outboxes.is_empty()).then(|| Arc::new(Spans::new(config, outboxes)) as Arc<dyn Sink>);
        let logs = telemetry.logs.as_ref().map(|to| {
            let losses = losses("logs", to);
            let (outbox, inbox) = outbox::new(telemetry.records, &losses);
            let (courier, source) = (Courier::new(&mut clients, to, otlp::MANNER, &losses, &stop), source.clone());
            tasks.spawn(inbox.send(courier, move |records| source.records(records)));
            let logs = Arc::new(Logs::new(outbox, spans.is_some()));
            let follower = Arc::clone(&logs);
            log::follow(move |event| follower.event(event));
            logs as Arc<dyn Sink>
        });
        if let Some(to) = &telemetry.metrics {
            let courier = Courier::new(&mut clients, to, otlp::MANNER, &losses("metrics", to), &stop);
            let (counted, pool) = (Arc::clone(counted), pool.clone());
            let families = move || counted.families(pool.levels());
            tasks.spawn(metrics::send(courier, source.clone(), families, telemetry.metrics_interval));
        }
        Self { spans, logs, tasks, stop }
    }

    /// Whom every finished invocation is to be told.
    pub fn spans(&self) -> Option<Arc<dyn Sink>> {
        self.spans.clone()
    }

    /// Whom every invocation is to be told whose line is in the log.
    pub fn logs(&self) -> Option<Arc<dyn Sink>> {
        self.logs.clone()
    }

    /// Sends what is left, for so long at the most.
    pub async fn finish(&self, within: Duration) {
        self.stop.cancel();
        self.tasks.close();
        if tokio::time::timeout(within, self.tasks.wait()).await.is_err() {
            tracing::warn!(target: "telemetry", ?within, "the last of it could not be sent in time");
        }
    }
}
