//! What an event costs beside a request with the same body, and what a burst of them does to the callers of an HTTP function.

use super::load::{self, Exchange, Meanwhile, Window};
use crate::app;
use crate::server::{BODY, Cores, Running};
use anyhow::Result;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use serde_json::{Value, json};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;
use testkit::App;

/// Answers as the body of its request says.
pub const ANSWER: &str = "target/guests/wasm32-wasip2/guest/answer.wasm";
/// Waits as the query of its request says.
pub const SLEEP: &str = "target/guests/wasm32-wasip2/guest/sleep.wasm";

/// Rounds, in each of which both take a turn.
const ROUNDS: usize = 25;
const CONNECTIONS: u32 = 16;

/// Messages that the listener of a queue has under way, and slots.
const AT_ONCE: u32 = 24;
const SLOTS: u32 = 24;
/// Callers of the HTTP function, each with one request after the other.
const CALLERS: u32 = 8;
/// How long both kinds of guests wait.
const WAIT: &str = "10";

#[derive(Serialize)]
pub struct Events {
    /// By round: a `POST`, and an event with the same body.
    pub turns: Vec<[Window; 2]>,
    pub events: usize,
    /// The callers alone, beside a burst that may take half of the slots, and beside one that may take all.
    pub callers: [Window; 3],
}

pub fn measure(cores: Cores, smoke: bool) -> Result<Events> {
    let rounds = if smoke { 1 } else { ROUNDS };
    let events = if smoke { 200 } else { 5_000 };
    println!("events beside requests");
    let turns = turns(rounds, cores, smoke)?;
    println!("{events} events beside {CALLERS} callers");
    let alone = callers("100%", 0, cores, smoke)?;
    let callers = [alone, callers("50%", events, cores, smoke)?, callers("100%", events, cores, smoke)?];
    Ok(Events { turns, events, callers })
}

/// One process with a function of each kind, which have the same guest.
fn turns(rounds: usize, cores: Cores, smoke: bool) -> Result<Vec<[Window; 2]>> {
    let (_app, running) = start(ANSWER, &json!({}), cores, smoke)?;
    let body = String::from_utf8_lossy(BODY);
    // What the guest answers, and how.
    let payload = format!("200\ncontent-length: {}\n\n{body}", body.len());
    let post = post("/quick", "text/plain", &payload, BODY.to_vec());
    let event = event(&payload, BODY);
    load::in_turns([(&running, &post), (&running, &event)], cores, CONNECTIONS, Meanwhile::Looks, rounds)
}

/// What callers of an HTTP function see while so many events arrive, whose function may hold `share` of the slots. Both guests wait, as for
/// a database; without events the callers ask for some seconds.
fn callers(share: &str, events: usize, cores: Cores, smoke: bool) -> Result<Window> {
    let settings = json!({"pool": {"share": share}, "event": {"path": format!("/?ms={WAIT}")}});
    let (_app, running) = start(SLEEP, &settings, cores, smoke)?;
    let get = format!("GET /quick?ms={WAIT} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n");
    let get = Exchange::new(get, b"slept".to_vec());
    let alone = if smoke { Duration::from_millis(200) } else { Duration::from_secs(3) };
    let is_over = AtomicBool::new(events == 0);
    thread::scope(|scope| {
        let burst = scope.spawn(|| {
            if events > 0 {
                let event = event("x", b"slept");
                let burst =
                    load::exchange(&running, cores, AT_ONCE, &event, Meanwhile::Sleeps, |sent, _| sent < events);
                is_over.store(true, Ordering::Release);
                burst?;
            }
            anyhow::Ok(())
        });
        let more = |_, elapsed| if events > 0 { !is_over.load(Ordering::Acquire) } else { elapsed < alone };
        let window = load::exchange(&running, cores, CALLERS, &get, Meanwhile::Sleeps, more);
        burst.join().expect("the burst does not panic")?;
        window
    })
}

/// An app of two functions with one guest: `/quick` is HTTP, `OnMessage` has a queue and these settings.
fn start(guest: &str, settings: &Value, cores: Cores, smoke: bool) -> Result<(App, Running)> {
    let host = json!({
        "version": "2.0", "extensions": {"http": {"routePrefix": ""}}, "flexwasm": {"pool": {"size": SLOTS}},
        "customHandler": {"enableForwardingHttpRequest": true},
    });
    let bytes = app::read(guest)?;
    let app = app::add_function(App::with_host_json(&host.to_string()), "quick", "quick", &bytes, &json!({}));
    let app = app::add_queue(app, "OnMessage", &bytes, settings);
    let app = app::compiled(app::compiled(app, "quick", guest)?, "OnMessage", guest)?;
    let (command, address) = app::host(&app, smoke);
    Ok((app, Running::start(command, address, "/", &[cores.server])?))
}

fn post(path: &str, kind: &str, body: &str, answer: Vec<u8>) -> Exchange {
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    Exchange::new(head + body, answer)
}

/// A message of a queue as the Functions host wraps it; the guest answers `answer`.
fn event(payload: &str, answer: &[u8]) -> Exchange {
    let metadata = json!({
        "DequeueCount": "1", "Id": "\"5a4fa53d-0c9b-4f0c-8a06-5f6d4ba0cf2d\"", "InsertionTime": "2026-01-01T00:00:00+00:00",
        "ExpirationTime": "2026-01-08T00:00:00+00:00", "NextVisibleTime": "2026-01-01T00:10:00+00:00", "PopReceipt": "\"AgAAAAMAAAA\"",
        "sys": {"MethodName": "OnMessage", "UtcNow": "2026-01-01T00:00:00.0000000Z", "RandGuid": "5a4fa53d-0c9b-4f0c-8a06-5f6d4ba0cf2d"},
    });
    let envelope = json!({"Data": {"message": Value::from(payload).to_string()}, "Metadata": metadata}).to_string();
    let told = format!(r#"{{"Outputs":{{"reached":"{}"}},"Logs":[]}}"#, STANDARD.encode(answer));
    post("/OnMessage", "application/json; charset=utf-8", &envelope, told.into_bytes())
}
