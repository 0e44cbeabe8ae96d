//! Load: a closed loop on each connection, from one thread that never sleeps.
//!
//! A client that waits for answers in the kernel has to be woken for each of them, and the waking is charged to the server: 5 of
//! 30 µs on a virtual machine, and only while the server is slower than the client, so that the faster of two servers looks better
//! than it is. This client reads its sockets in turn until an answer is there.

use super::servers::{BODY, Cores, Running};
use crate::process;
use anyhow::{Context as _, Result, ensure};
use serde::Serialize;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

/// No answer takes longer.
const PATIENCE: Duration = Duration::from_secs(10);

/// What one server did in one window.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Window {
    pub requests_per_second: f64,
    pub p50_us: f64,
    pub p99_us: f64,
    /// Time on a processor of all threads of the server, for each request.
    pub cpu_us: f64,
    /// Resident memory of the server at the end of the window.
    pub rss_kib: f64,
}

/// Sends requests for as long as `length`.
///
/// # Errors
/// When an answer was not 200 with the body that every server gives, or a socket failed: such a window is void.
pub fn run(server: &Running, cores: Cores, connections: u32, length: Duration) -> Result<Window> {
    let address = server.address();
    let before = process::cpu_time(server.process())?;
    // A thread of its own, because the processor that it is bound to stays bound.
    let client = thread::spawn(move || {
        process::bind_to(cores.client)?;
        ask(address, connections, length)
    });
    let (mut latencies, took) = client.join().expect("the client does not panic")?;
    let spent = process::cpu_time(server.process())? - before;
    let requests = latencies.len() as f64;
    latencies.sort_unstable();
    let percentile = |share: usize| latencies[latencies.len() * share / 100].as_nanos() as f64 / 1e3;
    Ok(Window {
        requests_per_second: requests / took.as_secs_f64(),
        p50_us: percentile(50),
        p99_us: percentile(99),
        cpu_us: spent as f64 / 1e3 / requests,
        rss_kib: process::status(server.process(), "VmRSS") as f64,
    })
}

/// The latency of every request, and how long all of them took.
fn ask(address: SocketAddr, connections: u32, length: Duration) -> Result<(Vec<Duration>, Duration)> {
    let request = format!("GET / HTTP/1.1\r\nHost: {address}\r\n\r\n");
    let mut clients = (0..connections).map(|_| Client::connect(address)).collect::<Result<Vec<_>>>()?;
    let mut latencies = Vec::new();
    let begun = Instant::now();
    for client in &mut clients {
        client.send(&request)?;
    }
    let mut open = clients.len();
    while open > 0 {
        for client in clients.iter_mut().filter(|client| client.asked.is_some()) {
            let Some(latency) = client.answered()? else { continue };
            latencies.push(latency);
            if begun.elapsed() < length {
                client.send(&request)?;
            } else {
                open -= 1;
            }
        }
        ensure!(begun.elapsed() < length + PATIENCE, "{open} requests had no answer");
    }
    Ok((latencies, begun.elapsed()))
}

struct Client {
    stream: TcpStream,
    answer: Vec<u8>,
    /// When the request left that is not answered yet.
    asked: Option<Instant>,
}

impl Client {
    fn connect(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(address).context("cannot connect")?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        Ok(Self { stream, answer: Vec::new(), asked: None })
    }

    fn send(&mut self, request: &str) -> Result<()> {
        self.asked = Some(Instant::now());
        self.stream.write_all(request.as_bytes()).context("cannot send a request")
    }

    /// How long the answer took, if all of it is there.
    fn answered(&mut self) -> Result<Option<Duration>> {
        let mut buffer = [0; 4096];
        match self.stream.read(&mut buffer) {
            Ok(0) => anyhow::bail!("the server closed a connection"),
            Ok(read) => self.answer.extend_from_slice(&buffer[..read]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
            Err(error) => return Err(error).context("cannot read an answer"),
        }
        if !is_whole(&self.answer)? {
            return Ok(None);
        }
        self.answer.clear();
        Ok(self.asked.take().map(|asked| asked.elapsed()))
    }
}

/// Whether `answer` is all of the one answer that is right.
fn is_whole(answer: &[u8]) -> Result<bool> {
    let Some(head) = answer.windows(4).position(|four| four == b"\r\n\r\n") else { return Ok(false) };
    let shown = || String::from_utf8_lossy(answer).into_owned();
    ensure!(answer.starts_with(b"HTTP/1.1 200 "), "not a 200: {}", shown());
    let body = &answer[head + 4..];
    ensure!(BODY.starts_with(body), "another body: {}", shown());
    Ok(body.len() == BODY.len())
}

#[cfg(test)]
mod tests {
    use super::{BODY, is_whole};

    fn answer(status: u32, body: &[u8]) -> Vec<u8> {
        [format!("HTTP/1.1 {status} X\r\ncontent-length: 460\r\n\r\n").as_bytes(), body].concat()
    }

    #[test]
    fn an_answer_is_whole_with_its_last_byte() {
        let whole = answer(200, BODY);
        for length in [0, 10, whole.len() - 1] {
            assert!(!is_whole(&whole[..length]).expect("a part of the right answer"));
        }
        assert!(is_whole(&whole).expect("the right answer"));
    }

    #[test]
    fn any_other_answer_voids_the_window() {
        assert!(is_whole(&answer(503, BODY)).is_err());
        assert!(is_whole(&answer(200, b"something else")).is_err());
        assert!(is_whole(&answer(200, &[BODY, b"more"].concat())).is_err());
    }
}
