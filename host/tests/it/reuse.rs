//! Instances that serve several requests, one after the other, and what keeps one from being used again.

use crate::support::{App, Host, eventually, flexwasm, get, guests, output};
use std::time::Duration;

/// An app with the counter at `/api/counter`.
fn counter(pool: &str) -> Host {
    App::new(&format!(r#"{{"pool": {pool}, "queue": {{"length": 8}}}}"#)).function("counter", guests::COUNTER).start()
}

fn counts(host: &Host, paths: &[&str]) -> Vec<String> {
    paths.iter().map(|query| host.get(&format!("/api/counter{query}")).text()).collect()
}

#[test]
fn by_default_every_request_gets_memory_of_its_own() {
    assert_eq!(counts(&counter("{}"), &["", "", ""]), ["1", "1", "1"]);
}

#[test]
fn an_instance_serves_as_many_requests_as_reuse_allows() {
    let expected =
        [("1", "1"), ("1", "2"), ("1", "3"), ("2", "1")].map(|(id, served)| (id.to_owned(), served.to_owned()));
    for guest in [guests::COUNTER, guests::P3_COUNTER] {
        let host = App::new(r#"{"pool": {"reuse": 3}}"#).function("counter", guest).start();
        let answers: Vec<_> = (0..4).map(|_| host.get("/api/counter")).collect();
        let texts: Vec<_> = answers.iter().map(super::support::Response::text).collect();
        assert_eq!(texts, ["1", "2", "3", "1"], "{guest}");
        let told = answers.iter().map(|answer| (answer.instance()["id"].clone(), answer.instance()["served"].clone()));
        assert_eq!(told.collect::<Vec<_>>(), expected, "{guest}");
    }
}

#[test]
fn requests_at_the_same_time_never_meet_in_an_instance() {
    let host = App::new(r#"{"pool": {"size": 4, "reuse": 100}}"#).function("counter", guests::P3_COUNTER).start();
    let mut clients: Vec<_> = (0..4).map(|_| host.connect()).collect();
    for client in &mut clients {
        client.write(get("/api/counter?ms=500"));
    }
    assert!(clients.iter_mut().all(|client| client.response(false).text() == "1"));
}

#[test]
fn the_guest_itself_is_told() {
    let app = App::new(r#"{"pool": {"reuse": 2}}"#).function("demonstration", guests::DEMONSTRATION);
    let host = app.start();
    let served = |_| {
        let receipt: serde_json::Value = serde_json::from_slice(&host.get("/api/demonstration").body).unwrap();
        (receipt["guest"]["instance_id"].as_u64().unwrap(), receipt["guest"]["requests_served"].as_u64().unwrap())
    };
    assert_eq!([0, 1, 2].map(served), [(1, 1), (1, 2), (2, 1)]);
}

#[test]
fn a_function_may_override_the_host() {
    let app = App::new(r#"{"pool": {"reuse": 5}}"#).function("warm", guests::COUNTER).routed(
        "fresh",
        guests::COUNTER,
        r#""authLevel": "anonymous""#,
        r#"{"pool": {"reuse": 1}}"#,
    );
    let host = app.start();
    let ask = |path: &str| host.get(path).text();
    assert_eq!([ask("/api/warm"), ask("/api/warm")], ["1", "2"]);
    assert_eq!([ask("/api/fresh"), ask("/api/fresh")], ["1", "1"]);
}

#[test]
fn an_instance_that_failed_or_kept_something_is_not_used_again() {
    let host = counter(r#"{"reuse": 100}"#);
    // After each misbehaviour the count begins anew; without it the fourth count would be 4.
    for misbehave in ["?trap=1", "?grow=1100", "?sleep=700"] {
        assert_eq!(counts(&host, &["", ""]), ["1", "2"], "before {misbehave}");
        match misbehave {
            "?trap=1" => assert_eq!(host.get("/api/counter?trap=1").status, 500),
            // The client leaves while the guest runs.
            "?sleep=700" => {
                let mut leaving = host.connect();
                leaving.write(crate::support::get("/api/counter?sleep=700"));
                assert!(leaving.stays_silent(Duration::from_millis(100)));
                drop(leaving);
                host.closing_line("client-gone");
            }
            _ => assert_eq!(counts(&host, &[misbehave]), ["3"]),
        }
    }
}

#[test]
fn an_instance_that_holds_more_than_after_its_first_request_is_not_used_again() {
    let host = counter(r#"{"reuse": 100}"#);
    // What the first request leaves is the guest's way; what a later one adds is a leak.
    assert_eq!(counts(&host, &["?hoard=2", "", "?hoard=1", ""]), ["1", "2", "3", "1"]);
    host.line(&["served=3", "not_parked=handles"]);
}

/// A host with the guest that drops its handles late, at `/api/collector`.
fn collector(settings: &str) -> impl FnMut(&str) -> (u16, String) {
    let host = App::new(settings).function("collector", guests::COLLECTOR).start();
    move |query| {
        let answer = host.get(&format!("/api/collector{query}"));
        (answer.status, answer.text())
    }
}

#[test]
fn an_instance_is_used_again_though_it_still_holds_finished_requests() {
    let mut ask = collector(r#"{"pool": {"reuse": 100}}"#);
    for expected in 1..=20 {
        // Now and then the garbage goes, all of it late.
        let query = if expected % 7 == 0 { "?collect=1" } else { "" };
        assert_eq!(ask(query), (200, expected.to_string()));
    }
}

#[test]
fn what_belongs_to_a_finished_request_can_only_be_dropped() {
    let app = App::new(r#"{"pool": {"reuse": 100}}"#).function("collector", guests::COLLECTOR);
    let host = app.start();
    // An instance has answered a second request, so it is not the reuse that is taken for the fault.
    assert_eq!([1, 2].map(|_| host.get("/api/collector").text()), ["1", "2"]);
    for touch in ["?touch=1", "?read=1", "?fields=1"] {
        assert_eq!(host.get("/api/collector").status, 200);
        assert_eq!(host.get(&format!("/api/collector{touch}")).status, 500, "{touch}");
        assert_eq!(host.get("/api/collector").text(), "1", "after {touch}");
    }
    host.line(&["outcome=\"faulted\"", "resource is of another type"]);
}

#[test]
fn an_instance_that_would_fill_its_handles_with_finished_requests_is_not_used_again() {
    let app =
        App::new(r#"{"pool": {"reuse": 100}, "limits": {"handles": 40}}"#).function("collector", guests::COLLECTOR);
    let host = app.start();
    // Five each: with the fifth request there are more than half of the forty.
    let answers: Vec<_> = (0..6).map(|_| host.get("/api/collector").text()).collect();
    assert_eq!(answers, ["1", "2", "3", "4", "5", "1"]);
    host.line(&["served=5", "not_parked=handles"]);
}

#[test]
fn what_may_not_outlive_its_request_keeps_an_instance_from_being_used_again() {
    let app = App::new(r#"{"pool": {"reuse": 1000}}"#).function("collector", guests::COLLECTOR);
    let host = app.start();
    let mut client = host.connect();
    for _ in 0..101 {
        assert_eq!(client.get("/api/collector?dangling=1").text(), "1");
    }
    host.line(&["served=1", "not_parked=resource"]);
    host.line(&[
        "WARN",
        "collector",
        "pool.reuse is without effect: of 100 instances none",
        "a body that it has not finished",
    ]);
    assert_eq!(host.log().iter().filter(|line| line.contains("pool.reuse is without effect")).count(), 1);
}

#[test]
fn a_guest_that_fails_its_second_request_is_given_no_third() {
    let app = App::new(r#"{"pool": {"reuse": 1000}}"#).function("once", guests::ONCE);
    let host = app.start();
    let statuses: Vec<_> = (0..6).map(|_| host.get("/api/once").status).collect();
    assert_eq!(statuses, [200, 500, 200, 200, 200, 200]);
    host.line(&["WARN", "once", "pool.reuse is without effect", "from now on each request gets a fresh instance"]);
    assert_eq!(host.log().iter().filter(|line| line.contains("pool.reuse is without effect")).count(), 1);
}

#[test]
fn a_deadline_ends_the_instance() {
    let app =
        App::new(r#"{"pool": {"reuse": 100}, "limits": {"timeout": "400ms"}}"#).function("counter", guests::COUNTER);
    let host = app.start();
    assert_eq!(counts(&host, &["", ""]), ["1", "2"]);
    assert_eq!(host.get("/api/counter?sleep=2000").status, 504);
    assert_eq!(counts(&host, &["", ""]), ["1", "2"]);
}

#[test]
fn an_instance_that_nobody_asks_is_dropped() {
    let host = counter(r#"{"reuse": 100, "idleTimeout": "50ms"}"#);
    assert_eq!(counts(&host, &[""]), ["1"]);
    eventually("the parked instance is dropped", || {
        std::thread::sleep(Duration::from_millis(200));
        counts(&host, &[""]) == ["1"]
    });
}

#[test]
fn parked_instances_give_way_to_other_functions() {
    let app = App::new(r#"{"pool": {"size": 1, "reuse": 100}}"#);
    let host = app.function("a", guests::COUNTER).function("b", guests::COUNTER).start();
    let ask = |name: &str| host.get(&format!("/api/{name}")).text();
    assert_eq!(["a", "a", "b", "a"].map(ask), ["1", "2", "1", "1"]);
}

#[test]
fn parked_memory_gives_way_when_another_function_needs_it() {
    // Two instances of at least 128 KiB each do not fit.
    let app = App::new(r#"{"pool": {"size": 2, "reuse": 100}, "limits": {"totalMemory": "255KiB"}}"#);
    let host = app.function("a", guests::COUNTER).function("b", guests::COUNTER).start();
    let ask = |name: &str| host.get(&format!("/api/{name}")).text();
    assert_eq!(["a", "b", "a"].map(ask), ["1", "1", "1"]);
}

#[test]
fn each_request_has_its_own_log() {
    let app = App::new(r#"{"pool": {"reuse": 100}, "limits": {"log": "60B"}}"#).function("print", guests::PRINT);
    let host = app.start();
    let ids = ["00000000-0000-4000-8000-000000000001", "00000000-0000-4000-8000-000000000002"];
    for id in ids {
        let request = format!("GET /api/print HTTP/1.1\r\nHost: a\r\nX-Azure-Functions-InvocationId: {id}\r\n\r\n");
        let answer = host.connect().ask(request);
        assert_eq!(answer.instance()["id"], "1");
    }
    for id in ids {
        // The budget is spent, and the tag changes, for each request anew.
        host.line(&[" guest: ", id, "LanguageWorkerConsoleLog imitation"]);
        host.line(&[" guest: ", id, "beyond limits.log (60 bytes)"]);
    }
}

#[test]
fn a_reuse_that_cannot_be_is_refused() {
    for (value, shown) in [("0", "0"), ("-1", "-1"), ("1.5", "1.5"), ("1000001", "1000001"), ("\"many\"", "\"many\"")] {
        let app = App::new(&format!(r#"{{"pool": {{"reuse": {value}}}}}"#)).function("counter", guests::COUNTER);
        let mut command = flexwasm();
        command.arg("check").arg(app.path());
        let (status, _, stderr) = output(command);
        assert_eq!(status.code(), Some(1));
        let line = format!("host.json: flexwasm.pool.reuse = {shown}: must be a whole number from 1 to 1000000");
        assert!(stderr.contains(&line), "{stderr}");
    }
}

#[test]
fn the_key_by_which_requests_shared_an_instance_is_refused_from_every_source() {
    let app = App::new(r#"{"pool": {"concurrentPerInstance": 4}}"#).routed(
        "counter",
        guests::P3_COUNTER,
        r#""authLevel": "anonymous""#,
        r#"{"pool": {"concurrentPerInstance": 4}}"#,
    );
    let mut command = flexwasm();
    command.arg("check").arg(app.path()).env("flexwasm__pool__concurrentPerInstance", "4");
    let (status, _, stderr) = output(command);
    assert_eq!(status.code(), Some(1));
    for place in [
        "host.json: flexwasm.pool.concurrentPerInstance",
        "counter/function.json: flexwasm.pool.concurrentPerInstance",
        "app settings: flexwasm__pool__concurrentPerInstance",
    ] {
        let line = format!("{place}: unknown key: sharing an instance was removed; remove the key, each request has");
        assert!(stderr.contains(&line), "{stderr}");
    }
}
