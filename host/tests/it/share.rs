//! `pool.share`: how much of the pool one function may hold.

use crate::support::{App, eventually, flexwasm, get, guests, output};

#[test]
fn a_function_that_takes_all_it_can_get_leaves_the_rest_to_its_neighbours() {
    let app = App::new(r#"{"pool": {"size": 4}, "queue": {"length": 4, "timeout": "25s"}}"#)
        .routed("greedy", guests::SLEEP, r#""authLevel": "anonymous""#, r#"{"pool": {"share": "50%"}}"#)
        .function("modest", guests::COUNTER);
    let host = app.start();
    // Two run, two wait; nobody else is let in.
    let mut callers: Vec<_> = (0..4).map(|_| host.connect()).collect();
    for caller in &mut callers {
        caller.write(get("/api/greedy?ms=20000"));
    }
    let mut refused = String::new();
    eventually("its part of the queue is full", || {
        let mut caller = host.connect();
        caller.write(get("/api/greedy?ms=20000"));
        let there = !caller.stays_silent(std::time::Duration::from_millis(300));
        if there {
            refused = caller.response(false).text();
        } else {
            callers.push(caller);
        }
        there
    });
    let words =
        "all 2 instances that this function may have at once (pool.share) are busy and 2 of its requests are waiting";
    assert!(refused.contains(words) && refused.contains("queue-full"), "{refused}");
    host.line(&["function=greedy", "outcome=\"refused\"", words]);
    assert!((0..20).all(|_| host.get("/api/modest").status == 200));
}

#[test]
fn one_that_waits_for_its_share_is_told_so() {
    let app = App::new(r#"{"pool": {"size": 2, "share": 1}, "queue": {"timeout": "300ms"}}"#);
    let host = app.function("sleep", guests::SLEEP).start();
    let mut holder = host.connect();
    holder.write(get("/api/sleep?ms=20000"));
    eventually("the share is held", || host.get("/api/sleep").status == 503);
    let refused = host.get("/api/sleep").text();
    let words = "none of the 1 instances that this function may have at once (pool.share) became free within";
    assert!(refused.contains(words) && refused.contains("waited-too-long"), "{refused}");
}

#[test]
fn a_share_that_cannot_be_is_refused() {
    let remedy = "must be a whole number from 1 to 32000, or a percentage of pool.size from \"1%\" to \"100%\"";
    let larger = "is more than pool.size (4): lower it, leave it out, or raise pool.size";
    for (value, remedy) in [
        ("0", remedy),
        ("\"0%\"", remedy),
        ("\"101%\"", remedy),
        ("\"half\"", remedy),
        ("\"+5%\"", remedy),
        ("1.5", remedy),
        ("5", larger),
    ] {
        let app = App::new(&format!(r#"{{"pool": {{"size": 4, "share": {value}}}}}"#)).routed(
            "a",
            guests::COUNTER,
            r#""authLevel": "anonymous""#,
            &format!(r#"{{"pool": {{"share": {value}}}}}"#),
        );
        let mut command = flexwasm();
        command.arg("check").arg(app.path()).env("flexwasm__pool__share", value.trim_matches('"'));
        let (status, _, stderr) = output(command);
        assert_eq!(status.code(), Some(1));
        for place in ["host.json", "a/function.json"] {
            assert!(stderr.contains(&format!("{place}: flexwasm.pool.share = {value}: {remedy}")), "{stderr}");
        }
        assert!(stderr.contains(&format!("app settings: flexwasm__pool__share: {remedy}")), "{stderr}");
    }
}
