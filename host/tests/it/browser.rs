//! The pages in a real browser: Chromium without a window, told what to do over its DevTools protocol.

use crate::support::{App, Host, PATIENCE, eventually, flexwasm, guests, output, repository};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex};
use std::thread;

/// Writes what a test saw into this folder, for people to look at.
const PICTURES: &str = "FLEXWASM_PICTURES";

/// A browser with one page.
struct Browser {
    child: Child,
    commands: ChildStdin,
    said: Receiver<Value>,
    /// What came while an answer was waited for.
    events: Vec<Value>,
    session: String,
    count: u64,
    _profile: tempfile::TempDir,
}

impl Browser {
    /// Starts it, on an empty page.
    fn start() -> Self {
        let profile = tempfile::tempdir().unwrap();
        // It reads commands from file 3 and writes to file 4, each ended by a zero byte.
        let script = r#"exec 3<&0 4>&1; exec chromium --headless=new --no-sandbox --disable-gpu --disable-dev-shm-usage --no-first-run \
            --disable-background-networking --disable-component-update --window-size=1280,900 --user-data-dir="$1" \
            --remote-debugging-pipe about:blank </dev/null >/dev/null 2>&1"#;
        let mut command = Command::new("sh");
        command.args(["-c", script, "sh"]).arg(profile.path()).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.env("HOME", profile.path()).spawn().unwrap();
        let (tell, said) = mpsc::channel();
        let mut from = BufReader::new(child.stdout.take().unwrap());
        thread::spawn(move || {
            let mut message = Vec::new();
            while from.read_until(0, &mut message).is_ok_and(|length| length > 0) {
                message.pop();
                // Nobody listens any more at the end of the test.
                let _ = tell.send(serde_json::from_slice(&message).unwrap());
                message.clear();
            }
        });
        let commands = child.stdin.take().unwrap();
        let (events, session, count) = Default::default();
        let mut browser = Self { child, commands, said, events, session, count, _profile: profile };
        let target = browser.call("Target.createTarget", json!({ "url": "about:blank" }))["targetId"].clone();
        let attached = browser.call("Target.attachToTarget", json!({ "targetId": target, "flatten": true }));
        browser.session = attached["sessionId"].as_str().unwrap().to_owned();
        for domain in ["Page", "Runtime", "Log", "Network"] {
            browser.call(&format!("{domain}.enable"), json!({}));
        }
        browser
    }

    fn call(&mut self, method: &str, parameters: Value) -> Value {
        self.count += 1;
        let mut message = json!({ "id": self.count, "method": method, "params": parameters });
        if !self.session.is_empty() {
            message["sessionId"] = json!(self.session);
        }
        self.commands.write_all(format!("{message}\0").as_bytes()).unwrap();
        loop {
            let said = self.said.recv_timeout(PATIENCE).expect("chromium, of Debian's package chromium, answers");
            if said["id"] == self.count {
                assert!(said.get("error").is_none(), "{method}: {said}");
                return said["result"].clone();
            }
            self.events.push(said);
        }
    }

    fn open(&mut self, url: &str) {
        self.events.clear();
        let opened = self.call("Page.navigate", json!({ "url": url }));
        assert!(opened.get("errorText").is_none(), "{opened}");
    }

    /// The value of an expression.
    fn value(&mut self, expression: &str) -> Value {
        let parameters = json!({ "expression": expression, "returnByValue": true, "awaitPromise": true });
        let answer = self.call("Runtime.evaluate", parameters);
        assert!(answer.get("exceptionDetails").is_none(), "{expression}: {answer}");
        answer["result"]["value"].clone()
    }

    /// Waits until an expression has this value.
    fn until(&mut self, expression: &str, wanted: impl Into<Value>) {
        let wanted = wanted.into();
        let mut last = Value::Null;
        eventually(&format!("{expression} is {wanted}"), || {
            last = self.value(expression);
            last == wanted
        });
    }

    fn count(&mut self, selector: &str) -> u64 {
        self.value(&format!("document.querySelectorAll({selector:?}).length")).as_u64().unwrap()
    }

    fn text(&mut self, selector: &str) -> String {
        self.value(&format!("document.querySelector({selector:?})?.textContent ?? ''")).as_str().unwrap().to_owned()
    }

    /// Pictures of the whole page, dark and light, where somebody wants to look at it.
    fn picture(&mut self, name: &str) {
        let Some(folder) = std::env::var_os(PICTURES).map(PathBuf::from) else { return };
        for scheme in ["dark", "light"] {
            let feature = json!([{ "name": "prefers-color-scheme", "value": scheme }]);
            self.call("Emulation.setEmulatedMedia", json!({ "features": feature }));
            self.call("Emulation.setScrollbarsHidden", json!({ "hidden": true }));
            // A window of the page's height: in a lower one, what sticks to its foot lies over the middle.
            let mut height = json!(100);
            for _ in 0..2 {
                let window = json!({ "width": 1100, "height": height, "deviceScaleFactor": 0.8, "mobile": false });
                self.call("Emulation.setDeviceMetricsOverride", window);
                height = self.value("document.documentElement.scrollHeight");
            }
            let shot = self.call("Page.captureScreenshot", json!({ "format": "png" }));
            self.call("Emulation.clearDeviceMetricsOverride", json!({}));
            let png = BASE64_STANDARD.decode(shot["data"].as_str().unwrap()).unwrap();
            fs::write(folder.join(format!("{name}-{scheme}.png")), png).unwrap();
        }
    }

    /// Nothing was said on the console, and nothing was asked of anybody but `origin`.
    fn is_content(&mut self, origin: &str) {
        // Everything that was sent before this answer is there with it.
        self.value("1");
        for event in std::mem::take(&mut self.events) {
            let method = event["method"].as_str().unwrap_or_default();
            assert!(
                !matches!(method, "Runtime.exceptionThrown" | "Runtime.consoleAPICalled" | "Log.entryAdded"),
                "{event}"
            );
            if method == "Network.requestWillBeSent" {
                let url = event["params"]["request"]["url"].as_str().unwrap();
                assert!(url.starts_with(origin) || url.starts_with("data:"), "{url}");
            }
        }
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn demonstration(slots: &str) -> (App, Host) {
    let settings = fs::read_to_string(repository().join("http_trigger/function.json")).unwrap();
    let app = App::with_host_json(r#"{"version": "2.0"}"#)
        .function_json("http_trigger", &settings)
        .file("http_trigger/guest.wasm", &fs::read(guests::DEMONSTRATION).unwrap())
        .function("counter", guests::COUNTER)
        .function("traps", guests::TRAP_BEFORE);
    let mut command = flexwasm();
    command.current_dir(app.path()).args(["--listen", "127.0.0.1:0"]).env("flexwasm__pool__size", slots);
    command.env("flexwasm__queue__length", "2000");
    let host = Host::announced(command);
    (app, host)
}

/// How long so many guests sleep: longer than two slow processors take to start all of them.
fn delay(count: u64) -> &'static str {
    if count < 100 { "4" } else { "20" }
}

/// Sends a burst, and draws it.
fn burst(host: &Host, count: &str, delay: &str, page: &Path) -> std::process::ExitStatus {
    let mut command = flexwasm();
    command.args(["burst", &format!("http://127.0.0.1:{}/api/http_trigger", host.port), count, delay]);
    output({
        command.arg("--html").arg(page);
        command
    })
    .0
}

#[test]
#[ignore = "needs chromium: cargo xtask test"]
fn a_timeline_has_a_lane_for_each_slot_and_a_bar_for_each_request() {
    let mut browser = Browser::start();
    for (count, slots) in [(20, 20), (20, 4), (1000, 1000)] {
        let (app, host) = demonstration(&slots.to_string());
        let page = app.path().join("burst.html");
        assert!(burst(&host, &count.to_string(), delay(count), &page).success());
        let url = format!("file://{}", page.display());
        browser.open(&url);
        browser.until("document.readyState", "complete");
        assert_eq!((browser.count("svg .bar"), browser.count("svg .lane")), (count, slots));
        let facts = browser.text("#facts");
        assert!(
            facts.starts_with(&format!("{count} requests · {count} instances · {slots} of {slots} slots")),
            "{facts}"
        );
        // Names stand between the lanes' begin and the left edge, however many there are, and none lies over another.
        let names =
            "[...document.querySelectorAll('.lane text[text-anchor]')].map(text => text.getBoundingClientRect())";
        assert!(browser.value(&format!("{names}.length")).as_u64().unwrap() >= slots.min(50), "names of {slots}");
        let apart = format!("{names}.every((box, at, all) => at === 0 || box.top >= all[at - 1].top + 8)");
        assert_eq!(browser.value(&apart), true, "names of {slots}");
        let inside = "[...document.querySelectorAll('svg text')].every(text => \
            text.getBoundingClientRect().right <= document.querySelector('svg').getBoundingClientRect().right + 1)";
        assert_eq!(browser.value(inside), true, "a text is cut off");
        browser.value("document.querySelector('svg').focus()");
        for (event, kind) in [("rawKeyDown", "ArrowRight"), ("keyUp", "ArrowRight")] {
            browser.call("Input.dispatchKeyEvent", json!({ "type": event, "key": kind, "code": kind }));
        }
        let told = browser.text("#receipt");
        assert!(told.starts_with("request ") && told.contains(" · slot 0 of "), "{told}");
        browser.picture(&format!("timeline-{count}-{slots}"));
        browser.is_content(&url);
    }
}

#[test]
#[ignore = "needs chromium: cargo xtask test"]
fn the_live_page_shows_what_runs_and_what_ran() {
    let (app, host) = demonstration("1000");
    let page = app.path().join("burst.html");
    let mut browser = Browser::start();
    let origin = format!("http://127.0.0.1:{}/", host.port);
    browser.open(&origin);
    browser.until("document.querySelectorAll('#functions tr').length", 4);
    browser.until("document.querySelectorAll('#functions td:nth-child(4)')[1].textContent", "1");
    let state = |browser: &mut Browser| browser.text("#state");
    eventually("the page is connected", || state(&mut browser).contains("0 of 1000 slots running"));

    for count in [20, 1000] {
        thread::scope(|scope| {
            let sent = scope.spawn(|| burst(&host, &count.to_string(), delay(count), &page).success());
            // A slot keeps its lane, whether the page has drawn it at the moment when all of them ran or not.
            browser.until("document.querySelectorAll('svg .lane:has(.bar)').length", count);
            browser.picture(&format!("live-{count}"));
            assert!(sent.join().unwrap());
        });
        eventually("they are over", || state(&mut browser).contains("0 of 1000 slots running"));
        browser.until("document.querySelectorAll('svg .lane').length", count);
    }
    assert_eq!(host.get("/api/traps").status, 500);
    browser.until("document.querySelector('#news b')?.textContent", "traps: faulted ");
    assert_eq!(browser.count("#charts figure"), 6);
    assert!(browser.count("#charts path.line") > 6);
    browser.picture("live-after");
    browser.is_content(&origin);
}

#[test]
#[ignore = "needs chromium: cargo xtask test"]
fn the_live_page_shows_who_waits_beside_what_runs() {
    let (app, host) = demonstration("32");
    let pages = [1, 2, 3].map(|number| app.path().join(format!("burst-{number}.html")));
    let mut browser = Browser::start();
    let origin = format!("http://127.0.0.1:{}/", host.port);
    browser.open(&origin);
    eventually("the page is connected", || browser.text("#state").contains("0 of 32 slots running"));
    assert_eq!(host.get("/api/traps").status, 500);
    browser.until("document.querySelector('#news b')?.textContent", "traps: faulted ");
    thread::scope(|scope| {
        let host = &host;
        for (page, delay) in pages.iter().zip(["1", "3", "7"]) {
            scope.spawn(move || burst(host, "40", delay, page));
        }
        eventually("some run and the others wait", || {
            let state = browser.text("#state");
            state.contains(" 32 of 32 slots running, 0 parked, ") && !state.contains(", 0 waiting")
        });
        browser.until("document.querySelectorAll('svg .lane:has(.bar)').length", 32);
        eventually("the last wave runs", || browser.count("svg .bar") >= 110);
        browser.picture("live-32");
    });
    browser.is_content(&origin);
}

/// Hands each request to the next of these hosts, as the platform may.
fn spread(ports: [u16; 2]) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let next = Arc::new(Mutex::new(ports.into_iter().cycle()));
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let next = Arc::clone(&next);
            // The browser also opens connections that it asks nothing on.
            thread::spawn(move || {
                let mut client = BufReader::new(stream);
                let mut head = String::new();
                while client.read_line(&mut head).is_ok_and(|length| length > 2) {}
                if head.is_empty() {
                    return;
                }
                let port = next.lock().unwrap().next().unwrap();
                let mut host = TcpStream::connect(("127.0.0.1", port)).unwrap();
                let head = head.replace("Connection: keep-alive\r\n", "Connection: close\r\n");
                host.write_all(head.as_bytes()).unwrap();
                // The browser may have left.
                let _ = std::io::copy(&mut host, client.get_mut());
            });
        }
    });
    port
}

#[test]
#[ignore = "needs chromium: cargo xtask test"]
fn the_view_adds_up_the_machines_that_answer() {
    let apps = [(); 2].map(|()| crate::operate::viewed());
    let hosts = ["one", "two"].map(|name| {
        let app = &apps[usize::from(name == "two")];
        app.start_with(&[("WEBSITE_SKU", "FlexConsumption"), ("CONTAINER_NAME", name)])
    });
    let slots: u64 = 2 * crate::operate::pool(&apps[0])["size"].as_u64().unwrap();
    let mut browser = Browser::start();
    let origin = format!("http://127.0.0.1:{}/", spread([hosts[0].port, hosts[1].port]));
    browser.open(&format!("{origin}api/view?code=secret"));
    eventually("both are met", || browser.text("#state").contains(&format!("2 processes · 0 of {slots} slots")));
    assert_eq!(browser.value("location.search"), "");
    for host in &hosts {
        assert_eq!(host.get("/api/counter").status, 200);
    }
    browser.until("document.querySelectorAll('svg .bar').length", 2);
    let machines = "[...document.querySelectorAll('main > svg > text')].map(text => text.textContent.split(',')[0])";
    let named = format!("{machines}.filter(name => ['one', 'two'].includes(name)).join()");
    assert_eq!(browser.value(&named), "one,two");
    let asked =
        |browser: &mut Browser| browser.value("performance.getEntriesByType('resource').length").as_u64().unwrap();
    let before = asked(&mut browser);
    eventually("both are asked again", || asked(&mut browser) >= before + 3);
    assert!(browser.count("svg .bar") <= 2, "each request is told once");
    browser.picture("view");
    browser.is_content(&origin);

    // Who is not looked at asks nothing.
    browser.value(
        "Object.defineProperty(document, 'hidden', { value: true }); document.dispatchEvent(new Event('visibilitychange'))",
    );
    let before = asked(&mut browser);
    thread::sleep(std::time::Duration::from_secs(5));
    assert!(asked(&mut browser) <= before + 1, "one was under way");
}

#[test]
#[ignore = "needs chromium: cargo xtask test"]
fn the_live_page_goes_on_after_the_host_was_started_again() {
    let app = App::new("{}").function("counter", guests::COUNTER);
    let port = crate::support::free_port().to_string();
    let start = || {
        let mut command = flexwasm();
        command.current_dir(app.path()).args(["--listen", &format!("127.0.0.1:{port}")]);
        Host::announced(command)
    };
    let mut host = start();
    let mut browser = Browser::start();
    browser.open(&format!("http://127.0.0.1:{port}/"));
    let process = |host: &Host| format!("process {}", host.id());
    eventually("it is shown", || browser.text("#state").contains(&process(&host)));
    host.signal("TERM");
    assert_eq!(host.exit_code(), 0, "a page that is open holds nothing up");
    eventually("the page says so", || browser.text("#state").starts_with("not connected"));
    let host = start();
    eventually("it is shown", || browser.text("#state").contains(&process(&host)));
}
