use super::*;

/// An answer that a machine gave from `start` to `end` by its own clock.
fn receipt(machine: &str, instance: u64, slot: u64, start: f64, end: f64) -> Receipt {
    Receipt {
        machine: machine.to_owned(),
        process: 7,
        threads: Some([1, 2]),
        instance,
        slot,
        pool: 2,
        served: 1,
        generation: 1,
        start,
        end,
        on_azure: false,
        memory: 0.0,
        processors: 0,
    }
}

fn burst(requests: Vec<Request>) -> Timeline {
    let source = Source::Burst { url: "http://127.0.0.1/api/http_trigger".to_owned(), delay: 1.0 };
    Timeline { source, total: 2.1, requests }
}

/// Two machines whose clocks are an hour apart; the second request of `a` waits for its slot.
fn two_machines() -> Timeline {
    let (a, b) = (1_000_000.0, 4_600_000.0);
    burst(vec![
        Request { sent: 0.0, answered: 1020.0, receipt: Ok(receipt("a", 1, 0, a, a + 1000.0)), fault: None },
        Request { sent: 1.0, answered: 2050.0, receipt: Ok(receipt("a", 2, 0, a + 1000.0, a + 2000.0)), fault: None },
        Request { sent: 2.0, answered: 1060.0, receipt: Ok(receipt("b", 1, 1, b, b + 1000.0)), fault: None },
    ])
}

#[test]
fn each_machine_is_moved_by_one_offset_onto_the_clients_clock() {
    let spans: Vec<Span> = two_machines().spans().into_iter().flatten().collect();
    // The first answer of `a` took least on its way back, so both begin and end by it.
    assert_eq!(spans[0], Span { start: 20.0, end: 1020.0 });
    assert_eq!(spans[1], Span { start: 1020.0, end: 2020.0 });
    assert_eq!(spans[2], Span { start: 60.0, end: 1060.0 });
}

#[test]
fn machines_with_the_same_process_id_are_told_apart() {
    let facts = two_machines().facts();
    let expected = Facts {
        requests: 3,
        failed: 0,
        peak: 2,
        capacity: 4,
        instances: 3,
        slots: 2,
        threads: 4,
        processes: 2,
        machines: 2,
    };
    assert_eq!(facts, expected);
}

#[test]
fn the_verdict_asks_for_as_many_at_once_as_the_pools_have_slots() {
    let facts = |requests, failed, peak, instances| Facts {
        requests,
        failed,
        peak,
        capacity: 4,
        instances,
        slots: 4,
        threads: 2,
        processes: 1,
        machines: 1,
    };
    let verdict = |facts: Facts| (facts.passed(), facts.verdict());
    assert_eq!(verdict(facts(10, 1, 4, 9)), (false, "❌ RESULT: 1 of 10 requests failed.".to_owned()));
    let few = "❌ RESULT: only 3 requests ran at the same time, 4 should have.";
    assert_eq!(verdict(facts(10, 0, 3, 10)), (false, few.to_owned()));
    let works = "✅ RESULT: Concurrency is working! 10 requests processed, 4 in parallel";
    assert_eq!(verdict(facts(10, 0, 4, 10)), (true, format!("{works}, each in an instance of its own.")));
    assert_eq!(verdict(facts(10, 0, 4, 4)), (true, format!("{works}.")));
}

#[test]
fn a_failed_request_has_its_reason_and_no_span() {
    let mut timeline = two_machines();
    timeline.requests[1].receipt = Err("got HTTP 503: full".to_owned());
    let json = timeline.json();
    assert_eq!(json["requests"][1]["error"], "got HTTP 503: full");
    assert!(json["requests"][1].get("startMs").is_none());
    assert_eq!((&json["facts"]["failed"], &json["passed"]), (&1.into(), &false.into()));
}

#[test]
fn each_reason_is_told_once_and_only_the_most_frequent() {
    let failed = |why: &str| Request { sent: 0.0, answered: 1.0, receipt: Err(why.to_owned()), fault: None };
    let mut requests: Vec<_> = ["e", "c", "d", "b", "a", "b", "c", "b"].map(failed).into();
    let first = Request { receipt: Ok(receipt("a", 1, 0, 0.0, 1.0)), ..failed("") };
    requests.push(Request { fault: Some("c".to_owned()), ..first });
    let told = burst(requests).reasons();
    assert_eq!(told, "3 failed: b\n3 failed: c\n1 failed: a\n2 failed for other reasons: 2\n");
    assert_eq!(two_machines().reasons(), "");
}

#[test]
fn a_receipt_that_ends_before_it_begins_took_no_time() {
    let backwards = |slot| Request {
        sent: 0.0,
        answered: 1.0,
        receipt: Ok(receipt("a", 1, slot, 5000.0 + slot as f64, 0.0)),
        fault: None,
    };
    let timeline = burst((0..4).map(backwards).collect());
    assert_eq!(timeline.facts().peak, 0);
    assert!(timeline.spans().into_iter().flatten().all(|span| span.start == span.end));
}

#[test]
fn the_trace_has_a_track_for_each_slot_of_each_process() {
    let trace = trace(&two_machines());
    let events = trace["traceEvents"].as_array().expect("a list");
    let runs: Vec<_> = events.iter().filter(|event| event["ph"] == "X").collect();
    let track = |event: &Value| (event["pid"].as_u64(), event["tid"].as_u64());
    assert_eq!(runs.iter().map(|run| track(run)).collect::<BTreeSet<_>>().len(), 2);
    assert_eq!((&runs[0]["ts"], &runs[0]["dur"]), (&20_000.0.into(), &1_000_000.0.into()));
    let waits = events.iter().filter(|event| event["cat"] == "wait");
    assert_eq!(waits.count(), 6, "each begins and ends");
}

#[test]
fn nothing_that_a_machine_calls_itself_ends_the_pages_data() {
    let mut timeline = two_machines();
    timeline.requests[0].receipt = Ok(receipt("</script><script>alert(1)</script>", 1, 0, 0.0, 1.0));
    let page = page(&timeline);
    assert!(!page.contains("<script>alert"), "{page}");
    assert!(page.contains("\\u003c/script>\\u003cscript>alert(1)"), "{page}");
}

#[test]
fn a_receipt_is_read_from_the_demonstrations_answer_alone() {
    let answer = json!({
        "host": { "process_id": 7, "thread_start": { "id": 1, "name": "worker-0" }, "thread_end": { "id": 2, "name": "worker-1" } },
        "guest": { "instance_id": 3, "slot": 4, "pool_size": 5, "requests_served": 6, "generation": 8 },
        "timing": { "start": "1970-01-01T00:00:01.250Z", "end": "1970-01-01T00:00:02.500Z" },
        "machine": "m",
    });
    let read = Receipt::read(answer.to_string().as_bytes()).expect("a receipt");
    assert_eq!((read.process, read.threads, read.instance, read.slot), (7, Some([1, 2]), 3, 4));
    assert_eq!((read.pool, read.served, read.generation), (5, 6, 8));
    assert_eq!((read.start, read.end), (1250.0, 2500.0));
    assert_eq!(Receipt::read(b"{}"), None);
    assert_eq!(Receipt::read(b"hello"), None);
}
