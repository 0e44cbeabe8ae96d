//! The demonstration: the repository's own app, guest and scripts.

use crate::support::{Host, flexwasm, guests, output, post, repository};
use serde_json::Value;
use std::fs;
use std::path::Path;
use std::process::Command;

/// The repository's host.json and http_trigger, with the guest that was just built.
fn app() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("http_trigger")).unwrap();
    for file in ["host.json", "local.settings.json", "http_trigger/function.json"] {
        fs::copy(repository().join(file), folder.path().join(file)).unwrap();
    }
    fs::copy(guests::DEMONSTRATION, folder.path().join("http_trigger/guest.wasm")).unwrap();
    folder
}

fn start(folder: &tempfile::TempDir, settings: &[(&str, &str)]) -> Host {
    let mut command = flexwasm();
    command.current_dir(folder.path()).args(["--listen", "127.0.0.1:0"]).envs(settings.iter().copied());
    Host::announced(command)
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[test]
fn the_receipt_tells_who_ran_the_request() {
    let folder = app();
    let host = start(&folder, &[("WEBSITE_SITE_NAME", "app"), ("CONTAINER_NAME", "0--abc")]);
    let answer = host.get("/api/http_trigger?name=Ada%20L&delay=0.25");
    let receipt = json(&answer.text());
    assert_eq!(receipt["message"], "Hello, Ada L!");
    assert_eq!(receipt["request"]["name"], "Ada L");
    assert_eq!(receipt["host"]["process_id"], host.id());
    for thread in ["thread_start", "thread_end"] {
        assert!(receipt["host"][thread]["id"].as_u64().unwrap() > 0);
        assert!(receipt["host"][thread]["name"].as_str().unwrap().starts_with("worker-"));
    }
    assert_eq!((&receipt["machine"], &receipt["host"]["azure_instance"]), (&"0--abc".into(), &"0--abc".into()));
    let instance = answer.instance();
    let guest = &receipt["guest"];
    for (field, parameter) in [
        ("instance_id", "id"),
        ("slot", "slot"),
        ("pool_size", "pool"),
        ("requests_served", "served"),
        ("generation", "generation"),
    ] {
        assert_eq!(guest[field].to_string(), instance[parameter], "{field}");
    }
    assert_eq!(guest["pool_size"], 32);
    assert_eq!(guest["digest"].as_str().unwrap().len(), 64);
    assert!(guest["digest"].as_str().unwrap().starts_with(&instance["digest"]));
    let timing = &receipt["timing"];
    assert_eq!(timing["requested_delay_seconds"], 0.25);
    assert!(timing["elapsed_ms"].as_f64().unwrap() >= 250.0);
    for end in ["start", "end"] {
        let text = timing[end].as_str().unwrap();
        assert!(text.len() == 24 && text.ends_with('Z') && &text[10..11] == "T", "{text}");
    }
    let system = &receipt["system"];
    assert!(system["cpu_count"].as_u64().unwrap() >= 1);
    assert!(system["memory_total_gb"].as_f64().unwrap() >= system["memory_available_gb"].as_f64().unwrap());
    assert!(system["platform"].as_str().unwrap().contains(std::env::consts::ARCH));
    // The closing line and the receipt speak of the same invocation.
    let id = receipt["request"]["invocation_id"].as_str().unwrap();
    assert!(host.closing_line("answered").contains(id));
}

#[test]
fn the_name_may_come_in_a_json_body() {
    let folder = app();
    let host = start(&folder, &[]);
    let ask = |body| json(&host.connect().ask(post("/api/http_trigger", body)).text());
    assert_eq!(ask(r#"{"name": "Grace"}"#)["message"], "Hello, Grace!");
    assert_eq!(ask("")["message"], "Hello, World!");
    assert_eq!(ask("{}")["message"], "Hello, World!");
    for bad in ["{", r#"{"name": 7}"#] {
        let answer = host.connect().ask(post("/api/http_trigger", bad));
        assert_eq!(answer.status, 400);
        assert_eq!(json(&answer.text())["error"]["parameter"], "body");
    }
}

#[test]
fn a_delay_that_cannot_work_is_explained() {
    let folder = app();
    let host = start(&folder, &[("flexwasm__limits__timeout", "5s")]);
    for value in ["x", "", "-1", "NaN", "inf", "5", "1e300"] {
        let answer = host.get(&format!("/api/http_trigger?delay={value}"));
        assert_eq!(answer.status, 400, "{value}");
        let error = &json(&answer.text())["error"];
        assert_eq!((&error["parameter"], &error["value"]), (&"delay".into(), &value.into()));
        assert!(error["expected"].as_str().unwrap().contains("from 0 up to, but not including, 5 "), "{error}");
    }
}

#[test]
fn test_concurrency_sh_passes_when_all_overlap() {
    let folder = app();
    let host = start(&folder, &[]);
    let (status, stdout, stderr) = output(test_concurrency(&host, &["20", "2"]));
    assert_eq!((status.code(), stderr.as_str()), (Some(0), ""), "{stdout}");
    for line in [
        "Peak overlap:            20 requests at the same time",
        "Unique processes:        1 (PIDs: ",
        "Unique instances:        20",
        "Unique slots:            20 of 32",
        "Unique machines:         1",
        "✅ RESULT: Concurrency is working! 20 requests processed, 20 in parallel, each in an instance of its own.",
    ] {
        assert!(stdout.contains(line), "{line:?} is not in\n{stdout}");
    }
}

#[test]
fn test_concurrency_sh_counts_waves_of_a_smaller_pool() {
    let folder = app();
    let host = start(&folder, &[("flexwasm__pool__size", "4")]);
    let (status, stdout, _) = output(test_concurrency(&host, &["10", "1"]));
    assert!(stdout.contains("Waves:                   3 (the pool of 4 is smaller than 10 requests)"), "{stdout}");
    assert!(stdout.contains("Peak overlap:            4 requests"), "{stdout}");
    assert_eq!(status.code(), Some(0));
}

#[test]
fn test_concurrency_sh_fails_when_a_request_fails() {
    let folder = app();
    let host = start(&folder, &[("flexwasm__pool__size", "2"), ("flexwasm__queue__length", "0")]);
    let (status, stdout, _) = output(test_concurrency(&host, &["5", "1"]));
    assert_eq!(status.code(), Some(1));
    assert!(stdout.contains("FAILED: HTTP 503 all 2 instances are busy"), "{stdout}");
    assert!(stdout.contains("❌ RESULT: 3 of 5 requests failed."), "{stdout}");
    drop(host);
    for arguments in [
        &["http://127.0.0.1:9", "0"][..],
        &["http://127.0.0.1:9", "301"],
        &["http://127.0.0.1:9", "x"],
        &["http://127.0.0.1:9", "1", "-1"],
        &["http://127.0.0.1:9", "1", "1", "--html"],
        &["ftp://x"],
        &[],
    ] {
        let mut command = Command::new("bash");
        command.arg(repository().join("test_concurrency.sh")).args(arguments);
        assert_eq!(output(command).0.code(), Some(2), "{arguments:?}");
    }
}

#[test]
fn a_burst_is_drawn_and_judged_even_where_requests_wait() {
    let folder = app();
    let host = start(&folder, &[("flexwasm__pool__size", "4")]);
    let (page, trace) = (folder.path().join("burst.html"), folder.path().join("burst.json"));
    let mut command = flexwasm();
    command.args(["burst", &format!("http://127.0.0.1:{}/api/http_trigger?code=secret", host.port), "10", "0.5"]);
    command.arg("--json").arg("--html").arg(&page).arg("--trace").arg(&trace);
    let (status, stdout, stderr) = output(command);
    assert!(status.success(), "{stdout}{stderr}");
    let burst = json(&stdout);
    let facts = &burst["facts"];
    for (fact, expected) in [("requests", 10), ("failed", 0), ("peak", 4), ("capacity", 4), ("instances", 10)] {
        assert_eq!(facts[fact], expected, "{fact}: {facts}");
    }
    for request in burst["requests"].as_array().unwrap() {
        let times = ["sentMs", "startMs", "endMs", "answeredMs"].map(|time| request[time].as_f64().unwrap());
        // The receipt's clock counts in milliseconds, the client's is finer.
        assert!(times.windows(2).all(|pair| pair[0] <= pair[1] + 1.0), "{request}");
    }
    let (page, trace) = (fs::read_to_string(page).unwrap(), fs::read_to_string(trace).unwrap());
    let runs = json(&trace)["traceEvents"].as_array().unwrap().iter().filter(|event| event["ph"] == "X").count();
    assert_eq!(runs, 10);
    for text in [&stdout, &page, &trace] {
        assert!(!text.contains("secret"), "a key: {text}");
    }
}

#[test]
fn the_log_of_a_burst_becomes_the_same_picture() {
    let folder = app();
    let host = start(&folder, &[("flexwasm__pool__size", "4"), ("flexwasm__log__requests", "all")]);
    let url = format!("http://127.0.0.1:{}/api/http_trigger", host.port);
    let mut command = flexwasm();
    command.args(["burst", &url, "10", "0.2"]);
    assert!(output(command).0.success());
    let closing = || host.stdout().iter().filter(|line| line.contains(" invocation: ")).count();
    // With the first one, which wakes an app that sleeps.
    crate::support::eventually("everything is written", || closing() == 11);
    let log = folder.path().join("flexwasm.log");
    fs::write(&log, host.stdout().join("\n")).unwrap();
    let page = folder.path().join("log.html");
    let mut command = flexwasm();
    command.args(["timeline", "--json", "--html"]).arg(&page).stdin(fs::File::open(log).unwrap());
    let told = command.output().unwrap();
    let told = json(std::str::from_utf8(&told.stdout).unwrap());
    for (fact, expected) in [("requests", 11), ("failed", 0), ("peak", 4), ("capacity", 4), ("instances", 11)] {
        assert_eq!(told["facts"][fact], expected, "{fact}: {told}");
    }
    assert!(fs::read_to_string(page).unwrap().contains("11 requests, 0 failed, 4 at the same time"));
}

#[test]
fn test_concurrency_sh_draws_where_the_executable_is() {
    let folder = app();
    let host = start(&folder, &[]);
    let page = folder.path().join("burst.html");
    let mut command = test_concurrency(&host, &["4", "0.5", "--html"]);
    let executables = Path::new(env!("CARGO_BIN_EXE_flexwasm")).parent().unwrap();
    command.arg(&page).env("PATH", format!("{}:{}", executables.display(), std::env::var("PATH").unwrap()));
    let (status, stdout, stderr) = output(command);
    assert!(status.success(), "{stdout}{stderr}");
    assert!(stdout.contains("✅ RESULT: Concurrency is working! 4 requests processed, 4 in parallel"), "{stdout}");
    assert!(fs::read_to_string(page).unwrap().contains("4 requests processed"));
}

#[test]
fn a_burst_that_fails_says_why() {
    let folder = app();
    let host = start(&folder, &[("flexwasm__pool__size", "2"), ("flexwasm__queue__length", "0")]);
    let [url, nowhere] = ["http_trigger", "nothing"].map(|name| format!("http://127.0.0.1:{}/api/{name}", host.port));
    let url = url.as_str();
    let burst = |arguments: &[&str]| {
        let mut command = flexwasm();
        command.arg("burst").args(arguments);
        output(command)
    };
    let (status, stdout, _) = burst(&[url, "5", "1"]);
    assert_eq!(status.code(), Some(1));
    assert!(stdout.contains("❌ RESULT: 3 of 5 requests failed."), "{stdout}");
    let (status, _, stderr) = burst(&[&nowhere, "5", "1"]);
    assert_eq!(status.code(), Some(1));
    assert!(stderr.contains("/api/nothing got HTTP 404"), "{stderr}");
    for arguments in [&["ftp://x", "1", "1"][..], &[url, "0", "1"], &[url, "1", "-1"], &[url, "1"]] {
        assert_eq!(burst(arguments).0.code(), Some(2), "{arguments:?}");
    }
}

#[test]
fn a_burst_of_a_thousand_needs_a_thousand_instances_and_few_threads() {
    let folder = app();
    let host = start(&folder, &[("flexwasm__pool__size", "1000")]);
    let mut burst = flexwasm();
    burst.args(["burst", &format!("http://127.0.0.1:{}/api/http_trigger", host.port), "1000", "5"]);
    let (status, stdout, stderr) = output(burst);
    assert!(status.success(), "{stderr}\n{}", stdout.lines().rev().take(30).collect::<Vec<_>>().join("\n"));
    for line in [
        "Peak overlap:            1000 requests",
        "Unique instances:        1000",
        "Unique slots:            1000 of 1000",
    ] {
        assert!(stdout.contains(line), "{line:?} is not in\n{stdout}");
    }
    let threads = stdout.lines().find_map(|line| line.strip_prefix("Unique threads:")).unwrap();
    assert!(threads.trim().parse::<usize>().unwrap() <= std::thread::available_parallelism().unwrap().get());
}

fn test_concurrency(host: &Host, arguments: &[&str]) -> Command {
    let mut command = Command::new("bash");
    command.arg(repository().join("test_concurrency.sh"));
    command.arg(format!("http://127.0.0.1:{}/api/http_trigger", host.port)).args(arguments);
    command
}

#[test]
fn x1_x2_the_files_are_what_the_functions_host_wants() {
    let read = |file| json(&fs::read_to_string(repository().join(file)).unwrap());
    let host = read("host.json");
    assert_eq!(host["version"], "2.0");
    assert_eq!(host["extensions"]["http"]["routePrefix"], "api");
    assert_eq!(host["extensions"]["http"]["maxConcurrentRequests"], 32);
    let handler = &host["customHandler"];
    // A bare name: with "./" in front, `func publish` would not mark the file as executable.
    assert_eq!(handler["description"]["defaultExecutablePath"], "flexwasm");
    assert_eq!(
        (&handler["enableForwardingHttpRequest"], &handler["enableProxyingHttpRequest"]),
        (&true.into(), &true.into())
    );
    assert_eq!(handler["initializationTimeout"], "00:00:30");
    assert_eq!(read("http_trigger/function.json")["scriptFile"], "guest.wasm");
    let leaves_out = func_ignores(&repository());
    for published in
        ["host.json", "flexwasm", "http_trigger/function.json", "http_trigger/guest.wasm", "http_trigger/guest.cwasm"]
    {
        assert!(!leaves_out(published), "{published} in .funcignore");
    }
    for entry in fs::read_dir(repository()).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        let name = if entry.path().is_dir() { format!("{name}/") } else { name };
        let published = ["host.json", "http_trigger/", "flexwasm"].contains(&name.as_str());
        // In a worktree .git is a file.
        assert_eq!(leaves_out(&name) || name == ".git", !published, "{name} in .funcignore");
    }
}

/// Which paths `func azure functionapp publish` leaves out of an app: it holds the start of each path to each pattern.
fn func_ignores(app: &Path) -> impl Fn(&str) -> bool + use<> {
    let text = fs::read_to_string(app.join(".funcignore")).unwrap();
    let patterns: Vec<_> = text.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect();
    move |path| patterns.iter().any(|pattern| path.starts_with(pattern))
}

#[test]
fn func_publishes_of_a_new_app_what_the_host_needs() {
    for language in ["rust", "javascript", "python"] {
        let folder = tempfile::tempdir().unwrap();
        let mut command = flexwasm();
        command.current_dir(folder.path()).args(["new", "hello", "--language", language, "--trigger", "queue"]);
        assert!(output(command).0.success());
        let app = folder.path().join("hello");
        let leaves_out = func_ignores(&app);
        let needed = ["host.json", "hello/function.json", "hello/guest.wasm", "hello/guest.cwasm", "flexwasm"];
        let built =
            ["dist/hello.zip", "hello/target/x", "hello/node_modules/x", "hello/.venv/x", "hello/package-lock.json"];
        let mut folders = vec![app.clone()];
        let mut paths: Vec<_> = needed.into_iter().chain(built).map(str::to_owned).collect();
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    paths.push(path.strip_prefix(&app).unwrap().to_str().unwrap().to_owned());
                }
            }
        }
        for path in paths {
            assert_eq!(leaves_out(&path), !needed.contains(&&*path), "{language}: {path}");
        }
    }
}
