//! Load: a closed loop on each connection, from one thread.

use crate::client::{self, Arrived, Client};
use crate::process;
use crate::server::{BODY, Cores, Running};
use crate::stats::percentile;
use anyhow::{Context as _, Result, bail, ensure};
use serde::Serialize;
use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};
use testkit::http;

/// No answer takes longer.
const PATIENCE: Duration = Duration::from_secs(10);

/// What the client does while it has nothing to read.
#[derive(Clone, Copy, PartialEq)]
pub enum Meanwhile {
    /// Looks again: it has its processor for itself, and nobody has to wake it (`client`).
    Looks,
    /// Sleeps until something arrives: the server may use that processor, too.
    Sleeps,
}

/// A request, and the only answer that is right.
pub struct Exchange {
    /// With its body.
    pub request: String,
    /// The body of the answer, whose status has to be 200, as it may be sent: plain, or in a chunk.
    answers: Vec<Vec<u8>>,
}

impl Exchange {
    /// What every server of the comparison is asked.
    pub fn get(address: SocketAddr) -> Self {
        Self { request: format!("GET / HTTP/1.1\r\nHost: {address}\r\n\r\n"), answers: vec![BODY.to_vec()] }
    }

    /// One whose short answer may come in a chunk.
    pub fn new(request: String, answer: Vec<u8>) -> Self {
        let head = format!("{:X}\r\n", answer.len()).into_bytes();
        let chunk = [&head[..], &answer, b"\r\n0\r\n\r\n"].concat();
        Self { request, answers: vec![answer, chunk] }
    }
}

/// What one server did in one window.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Window {
    pub requests: usize,
    pub requests_per_second: f64,
    pub p50_us: f64,
    pub p99_us: f64,
    /// Time on a processor of all threads of the server, for each request.
    pub cpu_us: f64,
    /// Resident memory of the server at the end of the window.
    pub rss_kib: f64,
}

/// Sends `GET /` for as long as `length`.
///
/// # Errors
/// As [`exchange`].
pub fn run(server: &Running, cores: Cores, connections: u32, length: Duration, meanwhile: Meanwhile) -> Result<Window> {
    exchange(server, cores, connections, &Exchange::get(server.address()), meanwhile, |_, elapsed| elapsed < length)
}

/// How long each of those that are compared is asked at once. The machine changes its speed within seconds, so turns are short.
const TURN: Duration = Duration::from_millis(200);

/// Sends each of these servers its request in turns, for as many rounds, every second of which goes the other way round. A first round
/// warms up and does not count.
///
/// # Errors
/// As [`exchange`].
pub fn in_turns<const N: usize>(
    asked: [(&Running, &Exchange); N],
    cores: Cores,
    connections: u32,
    meanwhile: Meanwhile,
    rounds: usize,
) -> Result<Vec<[Window; N]>> {
    let mut all = Vec::new();
    for round in 0..=rounds {
        let mut windows = [None; N];
        for place in 0..N {
            let place = if round % 2 == 0 { place } else { N - 1 - place };
            let (server, exchange) = asked[place];
            let window = self::exchange(server, cores, connections, exchange, meanwhile, |_, elapsed| elapsed < TURN)?;
            windows[place] = Some(window);
        }
        all.push(windows.map(|window| window.expect("each has had its turn")));
    }
    Ok(all.split_off(1))
}

/// Sends the same request again and again, as long as `more` says after so many answers and so much time.
///
/// # Errors
/// When an answer was not the one that is right, or a socket failed: such a window is void.
pub fn exchange(
    server: &Running,
    cores: Cores,
    connections: u32,
    exchange: &Exchange,
    meanwhile: Meanwhile,
    more: impl Fn(usize, Duration) -> bool + Send,
) -> Result<Window> {
    let address = server.address();
    let before = process::cpu_time(server.process())?;
    // A thread of its own, because the processor that it is bound to stays bound.
    let asked = thread::scope(|scope| {
        let client = scope.spawn(|| {
            process::bind_to(cores.client)?;
            ask(address, connections, exchange, meanwhile, more)
        });
        client.join().expect("the client does not panic")
    });
    let (mut latencies, took) = asked?;
    let spent = process::cpu_time(server.process())? - before;
    let requests = latencies.len();
    latencies.sort_unstable();
    Ok(Window {
        requests,
        requests_per_second: requests as f64 / took.as_secs_f64(),
        p50_us: percentile(&latencies, 50),
        p99_us: percentile(&latencies, 99),
        cpu_us: spent as f64 / 1e3 / requests as f64,
        rss_kib: process::status(server.process(), "VmRSS") as f64,
    })
}

/// The latency of every request, and how long all of them took.
fn ask(
    address: SocketAddr,
    connections: u32,
    exchange: &Exchange,
    meanwhile: Meanwhile,
    more: impl Fn(usize, Duration) -> bool,
) -> Result<(Vec<Duration>, Duration)> {
    let Exchange { request, answers } = exchange;
    let mut clients = (0..connections).map(|_| Client::connect(address)).collect::<Result<Vec<_>>>()?;
    let mut latencies = Vec::new();
    let begun = Instant::now();
    let mut last = begun;
    for client in &mut clients {
        client.send(request)?;
    }
    let mut open = clients.len();
    let mut ready = vec![true; clients.len()];
    while open > 0 {
        if meanwhile == Meanwhile::Sleeps {
            ready = client::sleep_until_one_arrives(&clients, PATIENCE)?;
        }
        let ready = clients.iter_mut().zip(&ready).filter(|(client, ready)| **ready && client.asked.is_some());
        for (client, _) in ready {
            let Some(latency) = answered(client, answers)? else { continue };
            latencies.push(latency);
            last = Instant::now();
            if more(latencies.len() + open - 1, begun.elapsed()) {
                client.send(request)?;
            } else {
                open -= 1;
            }
        }
        ensure!(last.elapsed() < PATIENCE, "{open} requests had no answer");
    }
    Ok((latencies, begun.elapsed()))
}

/// How long the answer took, if all of it is there.
fn answered(client: &mut Client, expected: &[Vec<u8>]) -> Result<Option<Duration>> {
    match client.receive().context("cannot read an answer")? {
        Arrived::Nothing => return Ok(None),
        Arrived::Bytes => {}
        Arrived::End => bail!("the server closed a connection"),
    }
    if !is_whole(&client.received, expected)? {
        return Ok(None);
    }
    client.received.clear();
    Ok(client.asked.take().map(|asked| asked.elapsed()))
}

/// Whether `answer` is all of the one answer that is right.
fn is_whole(answer: &[u8], expected: &[Vec<u8>]) -> Result<bool> {
    let Some((status, head)) = http::glance(answer)? else { return Ok(false) };
    let shown = || String::from_utf8_lossy(answer).into_owned();
    ensure!(status == 200, "not a 200: {}", shown());
    let body = &answer[head..];
    let expected = expected.iter().find(|expected| expected.starts_with(body));
    let expected = expected.with_context(|| format!("another body: {}", shown()))?;
    Ok(body.len() == expected.len())
}

#[cfg(test)]
mod tests {
    use super::{BODY, Exchange, is_whole};

    fn answer(status: u32, body: &[u8]) -> Vec<u8> {
        [format!("HTTP/1.1 {status} X\r\ncontent-length: 460\r\n\r\n").as_bytes(), body].concat()
    }

    fn expected() -> Vec<Vec<u8>> {
        Exchange::new(String::new(), BODY.to_vec()).answers
    }

    #[test]
    fn an_answer_may_come_in_a_chunk() {
        let chunk = [b"1CC\r\n", BODY, b"\r\n0\r\n\r\n"].concat();
        assert!(is_whole(&answer(200, &chunk), &expected()).expect("the right answer"));
        assert!(!is_whole(&answer(200, &chunk[..chunk.len() - 1]), &expected()).expect("a part of it"));
    }

    #[test]
    fn an_answer_is_whole_with_its_last_byte() {
        let whole = answer(200, BODY);
        for length in [0, 10, whole.len() - 1] {
            assert!(!is_whole(&whole[..length], &expected()).expect("a part of the right answer"));
        }
        assert!(is_whole(&whole, &expected()).expect("the right answer"));
    }

    #[test]
    fn any_other_answer_voids_the_window() {
        assert!(is_whole(&answer(503, BODY), &expected()).is_err());
        assert!(is_whole(&answer(200, b"something else"), &expected()).is_err());
        assert!(is_whole(&answer(200, &[BODY, b"more"].concat()), &expected()).is_err());
    }
}
