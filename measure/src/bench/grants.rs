//! What the host's part in grants costs: a value of a store in memory, and a token that is added to a request.

use super::load::{self, Exchange, Meanwhile, Window};
use crate::app;
use crate::server::{self, BODY, Cores, Program, Running};
use anyhow::Result;
use serde::Serialize;
use serde_json::json;
use testkit::App;

/// Does what its path says with a store, as often as its query says.
pub const STORE: &str = "target/guests/wasm32-wasip2/guest/keyvalue.wasm";
/// Sends its request on to the URL that a header says.
pub const FETCH: &str = "target/guests/wasm32-wasip2/guest/fetch.wasm";

/// Rounds, in each of which both take a turn.
const ROUNDS: usize = 60;
/// So many that the host always has something to do: waking up costs more than what is measured.
const CONNECTIONS: u32 = 16;
/// Values that an invocation reads more than the one that it is compared with.
pub const READS: u32 = 100;

#[derive(Serialize)]
pub struct Grants {
    /// By round: an invocation that reads one value of a store in memory, and one that reads [`READS`] more.
    pub reads: Vec<[Window; 2]>,
    /// By round: an invocation that sends a request without a token, and one whose request gets it.
    pub requests: Vec<[Window; 2]>,
}

pub fn measure(cores: Cores, smoke: bool) -> Result<Grants> {
    println!("stores and tokens");
    let rounds = if smoke { 1 } else { ROUNDS };
    // A server that does next to nothing, beside the client.
    let address = server::free_address();
    let mut command = Program::Raw.command(smoke);
    command.args(["--current-thread", &address.port().to_string()]);
    let upstream = Running::start(command, address, "/", &[cores.client])?;
    let url = format!("http://{address}");

    let host = json!({"version": "2.0", "extensions": {"http": {"routePrefix": ""}}, "flexwasm": {"pool": {"size": CONNECTIONS}}});
    let mut app = App::with_host_json(&host.to_string());
    let token = json!({"url": url, "identity": "https://api.example", "token": "%TOKEN%"});
    for (name, route, guest, grants) in [
        ("store", "store/{operation}/{key}", STORE, json!({"keyvalue": {"default": "memory"}})),
        ("plain", "plain", FETCH, json!({"hosts": [url]})),
        ("token", "token", FETCH, json!({"hosts": [token]})),
    ] {
        app = app::add_function(app, name, route, &app::read(guest)?, &json!({"grants": grants}));
        app = app::compiled(app, name, guest)?;
    }
    let (mut command, address) = app::host(&app, smoke);
    command.env_remove("IDENTITY_ENDPOINT").env("TOKEN", "t".repeat(1500));
    let running = Running::start(command, address, "/store/increment/n", &[cores.server])?;

    let get = |target: &str, headers: &str, answer: &[u8]| {
        let request = format!("GET {target} HTTP/1.1\r\nHost: {address}\r\n{headers}\r\n");
        Exchange::new(request, answer.to_vec())
    };
    let read = |times: u32| get(&format!("/store/read/n?times={times}"), "", b"read");
    let send = |function: &str| get(&format!("/{function}"), &format!("x-url: {url}/\r\n"), BODY);
    let turns = |pair: [Exchange; 2], meanwhile| {
        let asked = pair.each_ref().map(|exchange| (&running, exchange));
        load::in_turns(asked, cores, CONNECTIONS, meanwhile, rounds)
    };
    let reads = turns([read(1), read(1 + READS)], Meanwhile::Looks)?;
    // The upstream server has the client's processor as well.
    let requests = turns([send("plain"), send("token")], Meanwhile::Sleeps)?;
    drop(upstream);
    Ok(Grants { reads, requests })
}
