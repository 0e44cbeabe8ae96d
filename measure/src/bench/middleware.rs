//! What a component that does nothing costs in front of a guest: the same guest alone and behind it, fresh instances of both.

use super::load::{self, Exchange, Meanwhile, Window};
use super::servers::GUEST_P3;
use crate::app;
use crate::server::{BODY, Cores, Running};
use crate::stats::Spread;
use anyhow::{Context as _, Result};
use serde::Serialize;
use serde_json::json;
use testkit::{App, Client};

/// Passes every request on.
const PART: &str = "target/guests/wasm32-wasip2/guest/bench_part_p3.wasm";

/// Rounds, in each of which both take a turn.
const ROUNDS: usize = 25;
const CONNECTIONS: u32 = 16;
/// Requests, one after the other, whose phases the host tells.
const TOLD: usize = 500;

/// The functions, which have the same guest.
const FUNCTIONS: [&str; 2] = ["alone", "behind"];

/// What an answer's `server-timing` tells of a request.
pub const PHASES: [&str; 2] = ["instantiate", "guest"];

#[derive(Serialize)]
pub struct Middleware {
    /// By round: alone, and behind the part.
    pub turns: Vec<[Window; 2]>,
    /// The same, each by phase in microseconds.
    pub phases_us: [[Spread; PHASES.len()]; 2],
}

pub fn measure(cores: Cores, smoke: bool) -> Result<Middleware> {
    println!("a component in front of a guest");
    let host =
        json!({ "version": "2.0", "extensions": {"http": {"routePrefix": ""}}, "flexwasm": {"headers": "full"} });
    let (guest, part) = (app::read(GUEST_P3)?, app::read(PART)?);
    let [alone, behind] = FUNCTIONS;
    let app = app::add_function(App::with_host_json(&host.to_string()), alone, alone, &guest, &json!({}));
    let settings = json!({"guest": {"middleware": ["part.wasm"]}});
    let app = app::add_function(app, behind, behind, &guest, &settings).file(&format!("{behind}/part.wasm"), &part);
    let (mut command, address) = app::host(&app, smoke);
    command.env("XDG_CACHE_HOME", app.path());
    // The one that takes longer to compile.
    let running = Running::start(command, address, "/behind", &[cores.server])?;

    let exchanges = FUNCTIONS
        .map(|function| Exchange::new(format!("GET /{function} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"), BODY.to_vec()));
    let rounds = if smoke { 1 } else { ROUNDS };
    let asked = exchanges.each_ref().map(|exchange| (&running, exchange));
    let turns = load::in_turns(asked, cores, CONNECTIONS, Meanwhile::Looks, rounds)?;
    let mut client = Client::connect(address.port());
    let [alone, behind] = FUNCTIONS.map(|function| phases(&mut client, function));
    Ok(Middleware { turns, phases_us: [alone?, behind?] })
}

/// What the host tells of requests of one function.
fn phases(client: &mut Client, function: &str) -> Result<[Spread; PHASES.len()]> {
    let mut told: [Vec<f64>; PHASES.len()] = Default::default();
    for _ in 0..TOLD {
        let answer = client.get(&format!("/{function}"));
        let timing = answer.header("server-timing").context("an answer without its timing")?;
        for (phase, told) in PHASES.into_iter().zip(&mut told) {
            let of_phase = |entry: &str| entry.trim().strip_prefix(phase)?.strip_prefix(";dur=")?.parse::<f64>().ok();
            told.push(timing.split(',').find_map(of_phase).context("no such phase")? * 1e3);
        }
    }
    let [instantiate, guest] = told.map(Spread::of);
    Ok([instantiate.context("no request")?, guest.context("no request")?])
}
