//! What it costs a client that reads while it sends that the host would read ahead for one that does not: the same echo with
//! `limits.spool` as it comes, and with `0`.

use crate::app;
use crate::process;
use crate::server::{Cores, Running};
use anyhow::{Result, ensure};
use serde::Serialize;
use serde_json::json;
use std::io::Write as _;
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};
use testkit::http::{self, Answer};
use testkit::{App, PATIENCE};

/// Sends its request back as it comes.
pub const ECHO: &str = "target/guests/wasm32-wasip2/guest/echo.wasm";

/// Rounds, in each of which both take a turn.
const ROUNDS: usize = 15;
/// How long a turn takes.
const TURN: Duration = Duration::from_millis(500);
/// Bytes of a body. It is more than fits into the sockets between client and guest.
pub const BODY: usize = 8 << 20;

/// What one host did in a turn.
#[derive(Clone, Copy, Serialize)]
pub struct Echoes {
    pub mebibytes_per_second: f64,
    /// Time on a processor of all threads of the server, for each request.
    pub cpu_ms: f64,
}

/// By round: without reading ahead, and with it.
pub fn measure(cores: Cores, smoke: bool) -> Result<Vec<[Echoes; 2]>> {
    println!("bodies that are read while they are sent");
    let hosts = [start(&json!({"limits": {"spool": "0"}}), cores, smoke)?, start(&json!({}), cores, smoke)?];
    let round = || Ok([echoes(&hosts[0].1, cores)?, echoes(&hosts[1].1, cores)?]);
    round()?;
    (0..if smoke { 1 } else { ROUNDS }).map(|_| round()).collect()
}

fn start(settings: &serde_json::Value, cores: Cores, smoke: bool) -> Result<(App, Running)> {
    let host = json!({"version": "2.0", "extensions": {"http": {"routePrefix": ""}}, "flexwasm": settings});
    let app = app::add_function(App::with_host_json(&host.to_string()), "echo", "echo", &app::read(ECHO)?, &json!({}));
    let app = app::compiled(app, "echo", ECHO)?;
    let (command, address) = app::host(&app, smoke);
    Ok((app, Running::start(command, address, "/echo", &[cores.server])?))
}

fn echoes(running: &Running, cores: Cores) -> Result<Echoes> {
    let address = running.address();
    let (begun, before) = (Instant::now(), process::cpu_time(running.process())?);
    // A thread of its own, because the processor that it is bound to stays bound.
    let asked = thread::scope(|scope| {
        let client = scope.spawn(|| -> Result<u32> {
            process::bind_to(cores.client)?;
            let mut requests = 0;
            while begun.elapsed() < TURN {
                echo(address)?;
                requests += 1;
            }
            Ok(requests)
        });
        client.join().expect("the client does not panic")
    });
    let requests = f64::from(asked?);
    let spent = process::cpu_time(running.process())? - before;
    let mebibytes = requests * (BODY >> 20) as f64;
    Ok(Echoes {
        mebibytes_per_second: mebibytes / begun.elapsed().as_secs_f64(),
        cpu_ms: spent as f64 / 1e6 / requests,
    })
}

/// Sends a body from one thread and reads it from another.
fn echo(address: SocketAddr) -> Result<()> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut sending = stream.try_clone()?;
    thread::scope(|scope| {
        let sender = scope.spawn(move || {
            write!(sending, "POST /echo HTTP/1.1\r\nHost: {address}\r\nContent-Length: {BODY}\r\n\r\n")?;
            sending.write_all(&vec![b'x'; BODY])
        });
        let mut received = Vec::new();
        let answer = loop {
            if let Some(answer) = Answer::begin(&mut received)? {
                break answer;
            }
            ensure!(http::fill(&mut stream, &mut received)?, "the server closed a connection");
        };
        let answer = answer.finish(&mut stream, &mut received)?;
        ensure!(answer.status == 200 && answer.body.len() == BODY, "a wrong echo: {}", answer.status);
        sender.join().expect("the sender does not panic")?;
        Ok(())
    })
}
