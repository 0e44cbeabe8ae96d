//! Ports for hosts, which no two processes of this machine that test at the same time are given.

use std::fs::File;
use std::net::TcpStream;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU16, Ordering};

/// Below Linux's ephemeral ports, so that no client socket gets one by chance.
const FIRST: u16 = 20_000;
/// Ports of one process.
const COUNT: u16 = 1_000;
/// Processes at the same time.
const PROCESSES: u16 = 12;

/// The first port of this process, for as long as the file is open.
static OWN: LazyLock<(File, u16)> = LazyLock::new(|| {
    let claim = |number: u16| {
        let file = File::create(std::env::temp_dir().join(format!("flexwasm-test-ports-{number}"))).ok()?;
        file.try_lock().ok()?;
        Some((file, FIRST + number * COUNT))
    };
    (0..PROCESSES).find_map(claim).expect("ports for another process that tests")
});

/// A port that nobody listens on.
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    loop {
        let port = OWN.1 + NEXT.fetch_add(1, Ordering::Relaxed) % COUNT;
        // Not by listening on it: a process that a test beside this one forks would keep the listener for a moment, and
        // take the first connections.
        if TcpStream::connect(("127.0.0.1", port)).is_err() {
            return port;
        }
    }
}
