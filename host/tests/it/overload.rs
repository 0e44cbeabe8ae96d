//! The pool under more than it can take.

use crate::support::{App, get, guests};
use std::collections::BTreeSet;
use std::sync::Mutex;
use std::thread;

#[test]
fn every_concurrent_request_has_an_instance_and_a_slot_of_its_own() {
    let app = App::new(r#"{"pool": {"size": 20}}"#).function("sleep", guests::SLEEP);
    let host = app.start();
    let (instances, slots) = (Mutex::new(BTreeSet::new()), Mutex::new(BTreeSet::new()));
    thread::scope(|scope| {
        for _ in 0..20 {
            scope.spawn(|| {
                let instance = host.get("/api/sleep?ms=1000").instance();
                instances.lock().unwrap().insert(instance["id"].clone());
                slots.lock().unwrap().insert(instance["slot"].clone());
            });
        }
    });
    assert_eq!((instances.into_inner().unwrap().len(), slots.into_inner().unwrap().len()), (20, 20));
}

#[test]
fn a_fresh_instance_for_every_request() {
    let host = App::new(r#"{"pool": {"size": 1}}"#).function("counter", guests::COUNTER).start();
    let mut client = host.connect();
    let answers: Vec<_> = (0..3).map(|_| client.get("/api/counter")).collect();
    assert!(answers.iter().all(|answer| answer.text() == "1"));
    let ids: Vec<_> = answers.iter().map(|answer| answer.instance()["id"].clone()).collect();
    assert_eq!(ids, ["1", "2", "3"]);
}

#[test]
fn a_request_that_waits_for_the_memory_of_an_unfinished_answer_gets_it() {
    // Two instances of at least 128 KiB each do not fit.
    let settings = r#"{"pool": {"size": 2}, "queue": {"timeout": "10s"}, "limits": {"totalMemory": "255KiB"}}"#;
    let app = App::new(settings).function("unfinished", guests::UNFINISHED).function("counter", guests::COUNTER);
    let host = app.start();
    let mut first = host.connect();
    first.write(get("/api/unfinished?ms=1000"));
    let head = first.response_head();
    assert_eq!(host.get("/api/counter").text(), "1");
    assert!(!first.body(head, false).complete);
}

#[test]
fn more_than_the_pool_and_the_queue_hold_is_answered_too() {
    let app = App::new(r#"{"pool": {"size": 4}, "queue": {"length": 4}}"#).function("sleep", guests::SLEEP);
    let host = app.start();
    let statuses = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..100 {
            scope.spawn(|| {
                let status = host.get("/api/sleep?ms=1000").status;
                statuses.lock().unwrap().push(status);
            });
        }
    });
    let statuses = statuses.into_inner().unwrap();
    assert_eq!(statuses.len(), 100);
    assert!(statuses.iter().all(|status| matches!(status, 200 | 503)), "{statuses:?}");
    // The pool's four and the queue's four, and as many again if the last of a hundred is a second late.
    let served = statuses.iter().filter(|status| **status == 200).count();
    assert!((8..=16).contains(&served), "{served}");
    assert_eq!(host.get("/api/sleep").status, 200);
}
