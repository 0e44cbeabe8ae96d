//! What it costs a host to be seen: alone, with its page open, and with what it does exported to a collector.

use super::collector::Collector;
use super::load::{self, Exchange, Meanwhile, Window};
use super::onlooker;
use crate::server::{self, Cores, GUEST, Program, Running};
use anyhow::{Result, ensure};
use serde::Serialize;

/// How often all of them are started anew: two processes of the same program differ by what lies where in their memory.
const STARTS: usize = 6;
/// Rounds after each start, in each of which all of them take a turn.
const ROUNDS: usize = 40;
const CONNECTIONS: u32 = 64;

#[derive(Serialize)]
pub struct Seen {
    /// By round: alone, alone once more, with the page open, and with 1 % of traces exported.
    pub turns: Vec<[Window; 4]>,
}

pub fn measure(cores: Cores, smoke: bool) -> Result<Seen> {
    println!("looked at, and exporting");
    let (starts, rounds) = if smoke { (1, 1) } else { (STARTS, ROUNDS) };
    let turns: Vec<_> = (0..starts).map(|_| take_turns(cores, smoke, rounds)).collect::<Result<_>>()?;
    Ok(Seen { turns: turns.concat() })
}

/// Instances are warm: what is added weighs most beside little work.
fn take_turns(cores: Cores, smoke: bool, rounds: usize) -> Result<Vec<[Window; 4]>> {
    let start = |environment: Vec<(&'static str, String)>| {
        let address = server::free_address();
        let mut command = Program::Flexwasm.command(smoke);
        command.args(["serve", GUEST, "--listen", &address.to_string(), "--reuse", "1000000"]).envs(environment);
        let sockets = server::own_sockets(&mut command)?;
        anyhow::Ok((Running::start(command, address, "/", &[cores.server])?, sockets))
    };
    let collector = Collector::start()?;
    let ((alone, _own), (again, _too), (looked_at, sockets), (exporting, _its)) =
        (start(Vec::new())?, start(Vec::new())?, start(Vec::new())?, start(collector.environment())?);
    onlooker::begin(sockets.path())?;
    let hosts = [&alone, &again, &looked_at, &exporting];
    let requests = hosts.map(|host| Exchange::get(host.address()));
    let asked = [0, 1, 2, 3].map(|index| (hosts[index], &requests[index]));
    let turns = load::in_turns(asked, cores, CONNECTIONS, Meanwhile::Looks, rounds)?;
    // What waits leaves at the end.
    exporting.stop()?;
    ensure!(collector.requests() > 0, "nothing was exported");
    Ok(turns)
}
