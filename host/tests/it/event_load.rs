//! Events by the thousand, as the listener of a queue sends them.

use crate::functions_host::queue::Processed;
use crate::functions_host::{FunctionsHost, Mode, deliver};
use crate::support::{App, Response, flexwasm, guests, output, repository};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use flexwasm::send::envelope::Function;
use flexwasm::send::verdict::queue_messages;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::thread;

const EVENTS: u32 = 5000;

fn bindings() -> [Value; 2] {
    [
        json!({"type": "queueTrigger", "direction": "in", "name": "message", "queueName": "in", "dataType": "binary"}),
        json!({"type": "queue", "direction": "out", "name": "copy", "queueName": "out"}),
    ]
}

fn app(guest: &Path) -> App {
    let file = json!({"scriptFile": "guest.wasm", "bindings": bindings()}).to_string();
    let app = App::new(r#"{"pool": {"size": 24}}"#).function_json("OnMessage", &file);
    app.file("OnMessage/guest.wasm", &fs::read(guest).unwrap())
}

/// The number of an event, and bytes that are no text.
fn payload(number: u32) -> Vec<u8> {
    let random = number.wrapping_mul(2_654_435_761).to_le_bytes();
    [format!("{number} ").into_bytes(), random.repeat(number as usize % 50), vec![0xff, 0]].concat()
}

/// What became of each event, by its payload; every one was processed once.
fn by_payload(processed: Vec<Processed>) -> BTreeMap<Vec<u8>, Processed> {
    assert_eq!(processed.len(), EVENTS as usize);
    let found: BTreeMap<_, _> = processed.into_iter().map(|event| (event.payload.clone(), event)).collect();
    assert_eq!(found.len(), EVENTS as usize);
    found
}

/// The event is done, and its output has its very bytes.
fn assert_copied(event: &Processed) {
    let answer = event.answer.as_ref().unwrap();
    assert_eq!(queue_messages(&answer.outputs["copy"], None).unwrap(), [&*event.payload]);
}

#[test]
fn five_thousand_events_reach_a_guest_in_rust_once_each() {
    let (app, bindings) = (app(Path::new(guests::ECHO)), bindings());
    let host = FunctionsHost::start(&app, Mode::Proxying);
    let function = Function::new("OnMessage", &bindings).unwrap();
    let found = by_payload(host.process(&function, (0..EVENTS).map(payload), 1));
    found.values().for_each(assert_copied);
    assert_eq!(host.starts(), 1);
}

#[test]
#[ignore = "needs target/examples: cargo xtask test"]
fn five_thousand_events_reach_a_guest_in_javascript_once_each() {
    let (app, bindings) = (app(&repository().join("target/examples/orders-js.wasm")), bindings());
    // An event that comes while the guest is compiled fails, as it should.
    let mut compile = flexwasm();
    compile.arg("compile").arg(app.path().join("OnMessage/guest.wasm"));
    assert!(output(compile).0.success());
    let host = FunctionsHost::start(&app, Mode::Proxying);
    let function = Function::new("OnMessage", &bindings).unwrap();
    let order = |number: u32| format!("{number} loaves, très frais").into_bytes();
    for (order, event) in by_payload(host.process(&function, (0..EVENTS).map(order), 1)) {
        let receipts = queue_messages(&event.answer.unwrap().outputs["copy"], None).unwrap();
        let end = [b"\n", &order[..], b"\n"].concat();
        assert!(receipts.len() == 1 && receipts[0].ends_with(&end), "{receipts:?}");
    }
    assert_eq!(host.starts(), 1);
}

#[test]
fn of_a_guest_that_traps_on_every_tenth_event_exactly_these_fail() {
    let (app, bindings) = (app(Path::new(guests::TRAP_TENTH)), bindings());
    let host = FunctionsHost::start(&app, Mode::Proxying);
    let function = Function::new("OnMessage", &bindings).unwrap();
    let found = by_payload(host.process(&function, (0..EVENTS).map(payload), 1));
    for number in 0..EVENTS {
        let event = &found[&payload(number)];
        match number % 10 {
            0 => assert!(event.answer.is_none(), "{number}"),
            _ => assert_copied(event),
        }
    }
    assert_eq!(host.starts(), 1);
}

#[test]
fn large_envelopes_that_come_at_once_wait_for_each_other_in_bounded_memory() {
    const BLOB: usize = 24 << 20;
    const AT_ONCE: usize = 12;
    let file = json!({"scriptFile": "guest.wasm", "bindings": [
        {"type": "blobTrigger", "direction": "in", "name": "blob", "path": "in/{name}"},
        {"type": "queue", "direction": "out", "name": "copy", "queueName": "out"},
    ]});
    let app = App::new(r#"{"pool": {"size": 12}, "limits": {"totalMemory": "128MiB"}}"#);
    let app = app.function_json("OnBlob", &file.to_string());
    let host = app.file("OnBlob/guest.wasm", &fs::read(guests::SINK).unwrap()).start();
    let envelope = |blob| json!({"Data": {"blob": STANDARD.encode(vec![7; blob])}, "Metadata": {}}).to_string();
    let is_taken = |answer: Response, blob: usize| {
        let told: Value = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!(told["Outputs"]["copy"], json!(STANDARD.encode(blob.to_string())));
    };
    let several = envelope(BLOB);
    thread::scope(|scope| {
        let asked: Vec<_> = (0..AT_ONCE).map(|_| scope.spawn(|| deliver(&host, "OnBlob", &several))).collect();
        asked.into_iter().for_each(|answer| is_taken(answer.join().unwrap(), BLOB));
    });
    // As large as a body may be by default, and a little larger.
    is_taken(deliver(&host, "OnBlob", &envelope(74 << 20)), 74 << 20);
    assert_eq!(deliver(&host, "OnBlob", &envelope(76 << 20)).status, 413);
    // All of them at once would have twice as much in memory.
    let most = host.most_resident() >> 20;
    assert!(most < 400, "{most} MiB");
}

#[test]
fn no_event_is_acknowledged_and_lost_when_the_process_is_killed() {
    let (app, bindings) = (app(Path::new(guests::ECHO)), bindings());
    let host = FunctionsHost::start(&app, Mode::Proxying);
    let function = Function::new("OnMessage", &bindings).unwrap();
    let first = host.handler();
    let processed = thread::scope(|scope| {
        let killer = scope.spawn(|| {
            // In the middle: the line of an event that was answered shows that others are running.
            first.closing_line("answered");
            first.signal("KILL");
        });
        let processed = host.process(&function, (0..EVENTS).map(payload), 5);
        killer.join().unwrap();
        processed
    });
    let found = by_payload(processed);
    found.values().for_each(assert_copied);
    assert!(found.values().any(|event| event.runs > 1), "the kill came too late");
    assert_eq!(host.starts(), 2);
}
