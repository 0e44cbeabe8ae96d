//! The same burst in Chrome's trace-event format, which ui.perfetto.dev and chrome://tracing open ("Trace Event Format", Google).

use super::Timeline;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// One track for each slot, grouped by process. A wait is an asynchronous event, because it may lie beside an earlier
/// request of the slot.
pub fn trace(timeline: &Timeline) -> Value {
    // Processes of two machines may have the same id, so they are numbered.
    let mut groups = BTreeMap::new();
    for (_, receipt) in timeline.answered() {
        let next = groups.len() + 1;
        groups.entry((&receipt.machine, receipt.process)).or_insert(next);
    }
    let mut events: Vec<Value> = groups
        .iter()
        .map(|((machine, process), group)| {
            let name = format!("{machine}, process {process}");
            json!({ "ph": "M", "name": "process_name", "pid": group, "args": { "name": name } })
        })
        .collect();
    for (index, (request, span)) in timeline.requests.iter().zip(timeline.spans()).enumerate() {
        let (Ok(receipt), Some(span)) = (&request.receipt, span) else { continue };
        let (number, group) = (index + 1, groups[&(&receipt.machine, receipt.process)]);
        let lane = json!({ "name": format!("slot {}", receipt.slot) });
        events.push(json!({ "ph": "M", "name": "thread_name", "pid": group, "tid": receipt.slot, "args": lane }));
        let wait = |phase: &str, ms: f64| {
            json!({
                "ph": phase, "cat": "wait", "name": "wait", "id": number, "pid": group, "tid": receipt.slot, "ts": ms * 1e3,
            })
        };
        events.extend([wait("b", request.sent), wait("e", span.start)]);
        events.push(json!({
            "ph": "X", "cat": "request", "name": format!("request {number}, instance #{}", receipt.instance), "pid": group,
            "tid": receipt.slot, "ts": span.start * 1e3, "dur": (span.end - span.start) * 1e3, "args": receipt.json(),
        }));
    }
    json!({ "displayTimeUnit": "ms", "traceEvents": events })
}
