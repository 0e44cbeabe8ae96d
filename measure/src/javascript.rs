//! A guest with a whole language engine in it, 12 MB of component: how long does the host take until it answers?
//!
//! The guest is `examples/guest-js`.

use crate::languages::{self, Language};
use crate::server::{self, Program};
use crate::{cargo, execute};
use anyhow::{Context as _, Result, bail};
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// A slow machine compiles this guest for a minute.
const PATIENCE: Duration = Duration::from_secs(300);
/// Starts from the cache.
const STARTS: usize = 5;

pub fn run() -> Result<()> {
    let guest = languages::build(Language::Js)?;
    execute(&mut cargo(&["build", "--package", "flexwasm"]))?;
    let cache = tempfile::tempdir()?;
    println!("guest: {:.1} MB; development build; from exec to the guest's first answer", megabytes(&guest)?);
    println!("  compiling   {:7.0} ms", ready(&guest, cache.path())?.as_secs_f64() * 1e3);
    let mut mapped = (0..STARTS).map(|_| ready(&guest, cache.path())).collect::<Result<Vec<_>>>()?;
    mapped.sort();
    println!("  from cache  {:7.0} ms (median of {STARTS})", mapped[STARTS / 2].as_secs_f64() * 1e3);
    Ok(())
}

/// How long the host takes from its start until the guest answers.
fn ready(guest: &Path, cache: &Path) -> Result<Duration> {
    let begun = Instant::now();
    let mut command = Program::Flexwasm.command(true);
    command.args(["serve", "--listen", "127.0.0.1:0"]).arg(guest).env("XDG_CACHE_HOME", cache).stdout(Stdio::piped());
    let mut host = Killed(command.spawn().context("cannot start the host")?);
    let mut lines = BufReader::new(host.0.stdout.take().expect("it was asked for just now")).lines();
    let url = lines.find_map(|line| Some(line.ok()?.split_once("http://")?.1.trim_end_matches('/').to_owned()));
    let address = url.context("the host did not say where it listens")?.parse()?;
    // Whatever else it says must not fill the pipe.
    thread::spawn(move || lines.for_each(drop));
    while begun.elapsed() < PATIENCE {
        let answer = server::ask(address, "/")?;
        match answer.status {
            200 => return Ok(begun.elapsed()),
            503 => thread::sleep(Duration::from_millis(20)),
            status => bail!("the guest failed: {status} {}", answer.text()),
        }
    }
    bail!("the guest was not ready within {} s", PATIENCE.as_secs())
}

fn megabytes(file: &Path) -> Result<f64> {
    Ok(fs::metadata(file)?.len() as f64 / 1e6)
}

/// Ends the process when it is dropped.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
