//! A short request while other guests compute: does it have to wait for them?

use super::load::{self, Meanwhile, Window};
use crate::server::{Cores, GUEST, Running};
use crate::{app, process};
use anyhow::{Result, ensure};
use serde::Serialize;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};
use testkit::App;

/// Never answers, always computes. Below the project's folder.
pub const SPIN: &str = "target/guests/wasm32-wasip2/guest/spin.wasm";
/// The server has one processor, so one worker.
pub const SPINNERS: usize = 2;
/// How long the short requests go on, one after the other; and how often.
const LENGTH: Duration = Duration::from_secs(1);
const WINDOWS: usize = 5;
/// Processor time that shows that guests spin: a request takes a thousandth of it.
const SPUN: Duration = Duration::from_millis(100);
/// How long they may take to get it.
const SPIN_LIMIT: Duration = Duration::from_secs(10);

#[derive(Serialize)]
pub struct Neighbours {
    pub spinners: usize,
    pub windows: Vec<Window>,
}

/// One connection to a guest that answers at once, beside guests that spin in the same process.
pub fn measure(cores: Cores, smoke: bool) -> Result<Neighbours> {
    println!("one connection beside {SPINNERS} guests that spin");
    let app = app()?;
    let (command, address) = app::host(&app, smoke);
    let running = Running::start(command, address, "/", &[cores.server])?;
    let spinners: Vec<TcpStream> = (0..SPINNERS).map(|_| spin(address)).collect::<Result<_>>()?;
    await_spinning(&running)?;
    let windows =
        (0..WINDOWS).map(|_| load::run(&running, cores, 1, LENGTH, Meanwhile::Looks)).collect::<Result<_>>()?;
    for spinner in spinners {
        ensure!(is_unanswered(spinner)?, "a guest that should spin has answered");
    }
    Ok(Neighbours { spinners: SPINNERS, windows })
}

/// An app of two functions: `/` answers, `/spin` spins.
fn app() -> Result<App> {
    let host = r#"{ "version": "2.0", "extensions": { "http": { "routePrefix": "" } } }"#;
    let mut app = App::with_host_json(host);
    for (name, route, guest) in [("quick", "/", GUEST), ("spin", "spin", SPIN)] {
        app = app::add_function(app, name, route, &app::read(guest)?, &serde_json::json!({}));
        app = app::compiled(app, name, guest)?;
    }
    Ok(app)
}

fn spin(address: SocketAddr) -> Result<TcpStream> {
    let mut stream = TcpStream::connect(address)?;
    stream.write_all(format!("GET /spin HTTP/1.1\r\nhost: {address}\r\n\r\n").as_bytes())?;
    Ok(stream)
}

/// Returns once the server has computed for as long as only guests that spin would.
fn await_spinning(running: &Running) -> Result<()> {
    let (started, before) = (Instant::now(), process::cpu_time(running.process())?);
    while Duration::from_nanos(process::cpu_time(running.process())? - before) < SPUN {
        ensure!(started.elapsed() < SPIN_LIMIT, "the guests that should spin leave the processor idle");
        std::thread::sleep(SPUN / 10);
    }
    Ok(())
}

fn is_unanswered(mut stream: TcpStream) -> Result<bool> {
    stream.set_nonblocking(true)?;
    match stream.read(&mut [0]) {
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(true),
        Err(error) => Err(error.into()),
        Ok(_) => Ok(false),
    }
}
