//! `flexwasm doctor` on apps that are well and on apps that are not.

use crate::support::{App, PACKAGE, flexwasm, guests, output, repository};

/// Exit code and everything said.
fn doctor(app: &App, arguments: &[&str], environment: &[(&str, &str)]) -> (Option<i32>, String) {
    let mut command = flexwasm();
    command.current_dir(app.path()).arg("doctor").args(arguments).envs(environment.iter().copied());
    let (status, stdout, stderr) = output(command);
    (status.code(), stdout + &stderr)
}

fn app(settings: &str) -> App {
    App::new(settings).function("quick", guests::COUNTER)
}

#[test]
fn an_app_that_fits_the_plan_is_well() {
    let (code, said) = doctor(&app(r#"{"pool": {"size": 20}}"#), &[], &[]);
    assert_eq!(code, Some(0), "{said}");
    for line in [
        "note    package: there is no dist/flexwasm.zip; make it with `flexwasm package`",
        "ok      configuration: functions 1, pool.size 20",
        "ok      concurrency: deploy.sh sets perInstanceConcurrency to 20, as many as the pool has",
        "ok      deadline of quick: 220s, below functionTimeout and Azure's 230 s",
        "ok      bodies: 1 of 100MiB at once fit into the Functions host, which holds each four times",
        "ok      memory: 20 instances start within limits.totalMemory, 1228MiB of an instance's 2GiB",
        "note    memory: guests that take all of limits.memory (128MiB) leave room for 9 of them: lower it for functions that you do not trust",
        "ok      address space: the pool fits into a process of Linux with its defaults",
    ] {
        assert!(said.lines().any(|told| told == line), "{line} is not in {said}");
    }
    let slots =
        "note    memory of slots: between two requests each of 21 slots keeps up to 14MiB of what guests write, ";
    assert!(said.contains(slots), "{said}");
}

#[test]
fn an_app_without_an_executable_has_to_change() {
    let raw = r#"{"version": "2.0", "customHandler": {"enableForwardingHttpRequest": true, "enableProxyingHttpRequest": true}}"#;
    let (code, said) = doctor(&App::with_host_json(raw).function("quick", guests::COUNTER), &[], &[]);
    assert_eq!(code, Some(1), "{said}");
    let line = "change  host.json: customHandler.description.defaultExecutablePath: must be the bare name";
    assert!(said.lines().any(|told| told.starts_with(line)), "{said}");
    let (_, said) = doctor(&App::with_host_json("{}").function("quick", guests::COUNTER), &[], &[]);
    assert_eq!(said.matches("change  host.json: ").count(), 1, "what is wrong with the file is told once: {said}");
}

#[test]
fn bodies_are_held_to_what_the_functions_host_takes_in() {
    let app = app(r#"{"pool": {"size": 8}, "limits": {"requestBody": "8MiB"}}"#);
    for (limit, code, line) in [
        ("8388608", 0, "ok      bodies: 19 of 8MiB at once fit"),
        ("1000", 0, "note    FUNCTIONS_REQUEST_BODY_SIZE_LIMIT 1000: the Functions host refuses bodies that"),
        (
            "104857600",
            1,
            "change  FUNCTIONS_REQUEST_BODY_SIZE_LIMIT 104857600: the Functions host takes bodies into memory",
        ),
        ("8MiB", 1, "change  FUNCTIONS_REQUEST_BODY_SIZE_LIMIT is not a number of bytes: set it to 8388608"),
    ] {
        let (exit, said) = doctor(&app, &[], &[("FUNCTIONS_REQUEST_BODY_SIZE_LIMIT", limit)]);
        assert_eq!(exit, Some(code), "{said}");
        assert!(said.lines().any(|told| told.starts_with(line)), "{line} is not in {said}");
    }
    let large = self::app(r#"{"pool": {"size": 8}}"#);
    let (exit, said) = doctor(&large, &["--instance-memory", "512"], &[]);
    assert!(
        exit == Some(0) && said.contains("note    bodies: the Functions host holds one of 100MiB four times"),
        "{said}"
    );
}

#[test]
fn what_has_to_change_is_told_and_fails() {
    let cases: [(&str, &[&str], &str); 7] = [
        ("{}", &[], "change  host.json: extensions.http.maxConcurrentRequests is not set"),
        (r#"{"pool": {"size": 2000}}"#, &[], "change  pool.size 2000 is more than deploy.sh lets the platform send"),
        (r#"{"pool": {"size": 8}, "limits": {"totalMemory": "1900MiB"}}"#, &[], "set at most 1228MiB"),
        (
            r#"{"pool": {"size": 8}, "limits": {"totalMemory": "500MiB"}}"#,
            &["--instance-memory", "512"],
            "set at most 212MiB",
        ),
        (r#"{"pool": {"size": 900}, "limits": {"totalMemory": "64MiB"}}"#, &[], "set pool.size to "),
        (r#"{"pool": {"size": 8}, "limits": {"timeout": "40m"}}"#, &[], "must be below functionTimeout (1800s)"),
        (r#"{"pool": {"sise": 8}}"#, &[], "change  host.json: flexwasm.pool.sise: unknown key"),
    ];
    for (settings, arguments, words) in cases {
        let (code, said) = doctor(&app(settings), arguments, &[]);
        assert_eq!(code, Some(1), "{settings}: {said}");
        let line = said.lines().find(|line| line.contains(words));
        assert!(line.is_some_and(|line| line.starts_with("change  ")), "{settings}: {words} is not in {said}");
    }
    let broken = app(r#"{"pool": {"size": 8}}"#).file("quick/guest.wasm", b"no wasm");
    let (code, said) = doctor(&broken, &[], &[]);
    assert!(code == Some(1) && said.contains("change  function quick: "), "{said}");
    let slow = app(r#"{"pool": {"size": 8}, "limits": {"timeout": "5m"}}"#);
    let (code, said) = doctor(&slow, &[], &[]);
    assert!(code == Some(0) && said.contains("note    deadline of quick: 300s, but"), "{said}");
}

#[test]
#[ignore = "needs target/package-test/flexwasm.zip: cargo xtask test"]
fn the_package_is_held_to_the_app() {
    let package = std::fs::read(repository().join(PACKAGE)).unwrap();
    let (code, said) = doctor(&app(r#"{"pool": {"size": 8}}"#).file("dist/flexwasm.zip", &package), &[], &[]);
    let words = "change  package: dist/flexwasm.zip is not of this app (host.json, http_trigger/function.json, http_trigger/guest.wasm)";
    assert!(code == Some(1) && said.contains(words), "{said}");
    let (code, said) = doctor(&app(r#"{"pool": {"size": 8}}"#).file("dist/flexwasm.zip", b"no zip"), &[], &[]);
    assert!(code == Some(1) && said.contains("is no zip"), "{said}");
}

#[test]
fn a_deployed_app_is_asked_for_receipts() {
    let demonstration = App::new(r#"{"pool": {"size": 4}}"#).function("http_trigger", guests::DEMONSTRATION);
    let host = demonstration.start_with(&[("WEBSITE_SKU", "FlexConsumption"), ("CONTAINER_NAME", "0--container")]);
    let url = |path: &str| format!("http://127.0.0.1:{}{path}", host.port);
    let (code, said) = doctor(&demonstration, &[&url("/api/http_trigger")], &[("FUNCTION_KEY", "secret")]);
    assert_eq!(code, Some(1), "{said}");
    for words in [
        " processors, 4 slots\n",
        "ok      cold start: none seen",
        "ok      burst: 8 requests with delay=2 at once: instances 1, ",
        "change  concurrency: one instance was sent 8 requests and has 4 slots, so some waited",
        "perInstanceConcurrency=4\n",
    ] {
        assert!(said.contains(words), "{words} is not in {said}");
    }
    for (url, words) in [
        (url("/api/nothing?code=secret"), "got HTTP 404"),
        (url("/"), "got no receipt: set headers to \"full\""),
        ("http://127.0.0.1:1/api/http_trigger?code=secret".to_owned(), "had no answer (Connection refused"),
        ("http://app.example/api/http_trigger?code=secret".to_owned(), "is not encrypted: begin the URL with https://"),
    ] {
        let (code, said) = doctor(&demonstration, &[&url], &[]);
        assert_eq!((code, said.lines().count()), (Some(1), 1), "{said}");
        assert!(said.contains(words) && !said.contains("secret"), "{said}");
    }
}

#[test]
fn any_app_is_judged_by_its_receipts() {
    let app = App::new(r#"{"pool": {"size": 4}}"#).function("counter", guests::COUNTER);
    for headers in ["full", "id"] {
        let host = app.start_with(&[("WEBSITE_SKU", "FlexConsumption"), ("flexwasm__headers", headers)]);
        let url = format!("http://127.0.0.1:{}/api/counter", host.port);
        let (code, said) = doctor(&app, &[&url], &[]);
        assert_eq!(code, Some(0), "{said}");
        for words in ["ok      instance: 4 slots; ", "ok      burst: 8 requests ", "instances 1, ", "concurrency: "] {
            assert!(said.contains(words), "{words} is not in {said}");
        }
    }
    let host = app.start_with(&[("WEBSITE_SKU", "FlexConsumption"), ("flexwasm__headers", "off")]);
    let (code, said) = doctor(&app, &[&format!("http://127.0.0.1:{}/api/counter", host.port)], &[]);
    assert!(code == Some(1) && said.contains("app setting flexwasm__headers"), "{said}");
}
