use super::*;
use crate::config::digest::Digest;
use crate::config::settings::HostPatch;
use crate::config::{AppSettings, Circumstances, Grants, Role, serve};
use crate::observe::record::Ran;
use crate::pool::Capacity;
use std::future::poll_fn;

fn live(slots: u32) -> Arc<Live> {
    let (cache_folders, control_sockets) = (Vec::new(), Vec::new());
    let given = Circumstances { machine_memory: 1 << 30, listen: None, cache_folders, control_sockets };
    let mut config = serve("x.wasm".into(), &HostPatch::default(), Grants::default(), &AppSettings::new(), &given);
    (config.role, config.pool_size) = (Role::StandAlone, slots);
    let pool = Pool::new(Capacity { slots, queue_length: 1, queue_timeout: SECOND, total_memory: 1 << 20 });
    let guests: Vec<_> = config.functions.iter().map(|_| Arc::default()).collect();
    let mut live = Live::new(&config, &Machine::read(None), pool, &guests);
    // The process has lived for a while.
    live.made -= Duration::from_secs(60);
    Arc::new(live)
}

fn record(outcome: Outcome, instance: u64) -> Record {
    let request = http::Request::get("/secret?code=key").body(()).expect("a request");
    let mut record = Record::new(&request.into_parts().0);
    let (instantiate, head) = (Duration::from_millis(1), Duration::from_millis(2));
    (record.function, record.outcome) = (Some("serve".into()), outcome);
    (record.queued, record.total) = (Duration::from_millis(3), Duration::from_millis(10));
    record.ran = Some(Ran { instance, slot: 5, served: 1, generation: 2, digest: Digest::of(b""), instantiate, head });
    record
}

fn read(report: &Report) -> Value {
    serde_json::from_str(&report.text).expect("JSON")
}

#[tokio::test]
async fn a_report_has_what_is_new_and_no_more() {
    let live = live(4);
    live.take(&record(Outcome::Answered, 1));
    live.history.note(live.now(), live.pool.levels(), live.counters.take());
    let first = live.report(Cursor::default());
    let said = read(&first);
    assert_eq!((&said["running"], &said["waiting"], &said["slots"]), (&json!(0), &json!(0), &json!([])));
    let ended = &said["ended"][0];
    assert_eq!(
        (&ended[0], &ended[1], &ended[2], &ended[3], &ended[7]),
        (&json!(5), &json!("serve"), &json!(2), &json!(1), &json!("answered"))
    );
    let took = ended[6].as_f64().expect("ended") - ended[5].as_f64().expect("began");
    assert!((took - 7.0).abs() < 0.11, "{ended}");
    assert_eq!(said["seconds"][0]["ended"], json!({ "answered": 1 }));
    assert_eq!((&said["about"]["slots"], &said["functions"][0]["name"]), (&json!(4), &json!("serve")));
    assert!(!first.text.contains("secret") && !first.text.contains("key"), "{}", first.text);

    let next = said["next"].as_str().expect("a cursor");
    assert_eq!(live.cursor(&format!("other.1-7-7_{next}")), first.cursor);
    assert_eq!(live.cursor("other.1-7-7"), Cursor::default());
    let second = read(&live.report(first.cursor));
    assert_eq!((&second["ended"], second.get("about")), (&json!([]), None));
    live.take(&record(Outcome::Faulted("it \"broke\"".to_owned()), 2));
    let third = live.report(first.cursor);
    assert_eq!((&read(&third)["ended"][0][3], &read(&third)["ended"][1]), (&json!(2), &Value::Null));
    live.history.note(live.now(), live.pool.levels(), live.counters.take());
    let fourth = read(&live.report(third.cursor));
    assert_eq!((&fourth["news"][0]["kind"], &fourth["news"][0]["text"]), (&json!("faulted"), &json!("it \"broke\"")));
    assert_eq!(fourth["seconds"].as_array().map(Vec::len), Some(1));
}

#[tokio::test]
async fn more_than_is_kept_is_counted_and_left_out() {
    let live = live(4);
    for instance in 0..1500 {
        live.take(&record(Outcome::Answered, instance));
    }
    let said = read(&live.report(Cursor::default()));
    assert_eq!((&said["left"], said["ended"].as_array().map(Vec::len)), (&json!(500), Some(1000)));
    for failure in 0..100 {
        live.take(&record(Outcome::Deadline("x".repeat(failure * 100)), 1));
    }
    live.swapped(Kind::Swap("swapped"), &"serve".into(), "generation 2".to_owned());
    let news = live.news.json();
    assert_eq!((news.as_array().map(Vec::len), &news[20]["kind"]), (Some(21), &json!("swapped")));
    assert!(news.to_string().len() < 20 * 1000, "{news}");
}

#[tokio::test]
async fn a_stream_says_something_when_something_changes() {
    let (live, stop) = (live(4), CancellationToken::new());
    let mut stream = live.stream(Cursor::default(), stop.clone()).expect("a seat");
    let next = async |stream: &mut Stream| poll_fn(|cx| stream.poll_event(cx)).await;
    let first = next(&mut stream).await.expect("the state at the begin");
    assert!(first.starts_with(b"data: {") && first.ends_with(b"}\n\n"), "{first:?}");
    let nothing = tokio::time::timeout(3 * frame::PERIOD, next(&mut stream)).await;
    assert!(nothing.is_err(), "{nothing:?}");
    live.take(&record(Outcome::Answered, 1));
    assert!(next(&mut stream).await.is_some());
    let seats: Vec<_> = (1..STREAMS).map(|_| live.stream(Cursor::default(), stop.clone()).expect("a seat")).collect();
    assert!(live.stream(Cursor::default(), stop.clone()).is_none());
    drop(seats);
    stop.cancel();
    assert_eq!(next(&mut stream).await, None);
}

/// 1 % of a processor, at ten looks in a second, would be a millisecond each; the pool may be as large as it can be.
#[tokio::test]
async fn whoever_looks_again_at_once_gets_the_same() {
    let live = live(32_000);
    let first = live.report(Cursor::default()).frame;
    assert!(Arc::ptr_eq(&first, &live.report(Cursor::default()).frame));
}
