//! Somebody who calls the host, one request after the other, and sees how each of them ends.

use crate::client::{Arrived, Client};
use crate::gallery::SECRET;
use anyhow::{Context as _, Result, bail};
use memchr::memmem;
use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

/// Headers of one answer.
const HEADERS: usize = 256;
/// A body in chunks that has become longer is forgotten up to there.
const BODY: usize = 64 << 10;

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Got {
    /// An answer with this status, to its last byte.
    Whole(u16),
    /// An answer with this status that visibly broke off.
    Cut(u16),
    /// The connection ended without an answer.
    Nothing,
    /// What is no answer, or bytes behind one.
    Garbage,
}

impl fmt::Display for Got {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Whole(status) => write!(out, "{status}"),
            Self::Cut(status) => write!(out, "{status}, broken off"),
            Self::Nothing => write!(out, "no answer"),
            Self::Garbage => write!(out, "garbage"),
        }
    }
}

/// A call that is over.
pub struct Call {
    pub got: Got,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    /// All of a short body, the end of a long one.
    pub body: Vec<u8>,
    pub took: Duration,
    /// Whether the planted secret was among the bytes.
    pub leaked: bool,
}

/// See the module's documentation.
pub struct Caller {
    address: SocketAddr,
    client: Option<Client>,
    answer: Option<Answer>,
    /// The last bytes that were searched, for a secret that arrives in two pieces.
    searched: Vec<u8>,
    leaked: bool,
}

impl Caller {
    pub fn new(address: SocketAddr) -> Self {
        Self { address, client: None, answer: None, searched: Vec::new(), leaked: false }
    }

    pub fn is_idle(&self) -> bool {
        self.client.as_ref().is_none_or(|client| client.asked.is_none())
    }

    /// Sends a request, on the connection of the one before if that is still open.
    pub fn ask(&mut self, target: &str) -> Result<()> {
        self.send("GET", target, "", 0)
    }

    /// Posts so many bytes, and reads nothing before all of them have left.
    pub fn post(&mut self, target: &str, length: usize) -> Result<()> {
        self.send("POST", target, &format!("Content-Length: {length}\r\n"), length)
    }

    fn send(&mut self, method: &str, target: &str, headers: &str, length: usize) -> Result<()> {
        let request = format!("{method} {target} HTTP/1.1\r\nHost: {}\r\n{headers}\r\n", self.address);
        let client = match self.client.take() {
            Some(client) => client,
            None => Client::connect(self.address)?,
        };
        let client = self.client.insert(client);
        client.send(&request)?;
        client.send_body(length);
        Ok(())
    }

    /// Looks once; answers a call when it is over.
    pub fn look(&mut self) -> Option<Call> {
        let client = self.client.as_mut()?;
        let asked = client.asked?;
        let known = client.received.len();
        let ended = match client.receive() {
            Ok(Arrived::Nothing) => return None,
            Ok(Arrived::Bytes) => None,
            Ok(Arrived::End) => Some(true),
            Err(_) => Some(false),
        };
        self.searched.extend_from_slice(&client.received[known..]);
        self.leaked |= memmem::find(&self.searched, SECRET.as_bytes()).is_some();
        let rest = self.searched.len().saturating_sub(SECRET.len());
        self.searched.drain(..rest);

        let mut take = || {
            if self.answer.is_none() {
                self.answer = Answer::begin(&mut client.received)?;
            }
            self.answer.as_mut().map_or(Ok(false), |answer| answer.take(&mut client.received, ended == Some(true)))
        };
        let got = match (take(), ended) {
            (Ok(false), None) => return None,
            (Ok(true), _) if client.received.is_empty() => Got::Whole(self.answer.as_ref()?.status),
            (Ok(true) | Err(_), _) => Got::Garbage,
            (Ok(false), Some(_)) => self.answer.as_ref().map_or(Got::Nothing, |answer| Got::Cut(answer.status)),
        };
        client.asked = None;
        let (headers, body) = self.answer.take().map(|answer| (answer.headers, answer.body)).unwrap_or_default();
        let closes = headers.iter().any(|(name, value)| name == "connection" && value == "close");
        if ended.is_some() || closes || !matches!(got, Got::Whole(_)) {
            self.client = None;
        }
        Some(Call { got, headers, body, took: asked.elapsed(), leaked: std::mem::take(&mut self.leaked) })
    }
}

/// An answer that is on its way.
struct Answer {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    framing: Framing,
}

enum Framing {
    /// So many bytes are still missing.
    Length(u64),
    /// The size of a chunk comes next.
    Chunk,
    /// So many bytes of a chunk and its line end are still missing.
    InChunk { left: u64, last: bool },
    /// The end of the connection ends it.
    Connection,
}

impl Answer {
    /// Takes the head, once all of it is there.
    fn begin(received: &mut Vec<u8>) -> Result<Option<Self>> {
        let mut headers = [httparse::EMPTY_HEADER; HEADERS];
        let mut head = httparse::Response::new(&mut headers);
        let httparse::Status::Complete(length) = head.parse(received)? else { return Ok(None) };
        let status = head.code.context("a head without a status")?;
        let spelled = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
        let headers: Vec<_> =
            head.headers.iter().map(|header| (header.name.to_ascii_lowercase(), spelled(header.value))).collect();
        received.drain(..length);
        let mut framing = Framing::Connection;
        for (name, value) in &headers {
            match (name.as_str(), &framing) {
                ("content-length", Framing::Connection) => framing = Framing::Length(value.parse()?),
                ("transfer-encoding", Framing::Connection) if value == "chunked" => framing = Framing::Chunk,
                ("content-length" | "transfer-encoding", _) => bail!("two framings"),
                _ => {}
            }
        }
        Ok(Some(Self { status, headers, body: Vec::new(), framing }))
    }

    /// Takes what has arrived of the body; true when that was all of it.
    fn take(&mut self, received: &mut Vec<u8>, ended: bool) -> Result<bool> {
        loop {
            match &mut self.framing {
                Framing::Length(0) => return Ok(true),
                Framing::InChunk { left: 0, last } => {
                    let last = *last;
                    self.body.truncate(self.body.len() - 2);
                    self.framing = Framing::Chunk;
                    if last {
                        return Ok(true);
                    }
                }
                Framing::Length(left) | Framing::InChunk { left, .. } if !received.is_empty() => {
                    let taken = usize::try_from(*left).unwrap_or(usize::MAX).min(received.len());
                    self.body.extend(received.drain(..taken));
                    *left -= taken as u64;
                }
                Framing::Chunk => match httparse::parse_chunk_size(received) {
                    Ok(httparse::Status::Complete((length, size))) => {
                        received.drain(..length);
                        if self.body.len() > BODY {
                            self.body.clear();
                        }
                        self.framing = Framing::InChunk { left: size + 2, last: size == 0 };
                    }
                    Ok(httparse::Status::Partial) => return Ok(false),
                    Err(_) => bail!("not the size of a chunk"),
                },
                Framing::Connection => {
                    self.body.append(received);
                    return Ok(ended);
                }
                Framing::Length(_) | Framing::InChunk { .. } => return Ok(false),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Answer;

    /// What is left, the body, and whether it is whole.
    fn take(bytes: &str) -> (Vec<u8>, Vec<u8>, bool) {
        let (mut received, mut answer, mut whole) = (Vec::new(), None, false);
        // One byte at a time, as it may arrive.
        for byte in bytes.bytes() {
            received.push(byte);
            if answer.is_none() {
                answer = Answer::begin(&mut received).expect("a head");
            }
            if let Some(answer) = answer.as_mut().filter(|_| !whole) {
                whole = answer.take(&mut received, false).expect("a body");
            }
        }
        (received, answer.expect("a head").body, whole)
    }

    #[test]
    fn a_body_of_announced_length() {
        let answer = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nbody";
        assert_eq!(take(answer), (vec![], b"body".to_vec(), true));
        assert_eq!(take(&answer[..answer.len() - 1]), (vec![], b"bod".to_vec(), false));
        assert_eq!(take(&format!("{answer}+")), (vec![b'+'], b"body".to_vec(), true));
    }

    #[test]
    fn a_body_in_chunks() {
        let answer = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nbo\r\n2\r\ndy\r\n0\r\n\r\n";
        assert_eq!(take(answer), (vec![], b"body".to_vec(), true));
        assert!(!take(&answer[..answer.len() - 1]).2);
    }

    #[test]
    fn two_framings_are_none() {
        let head = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n";
        assert!(Answer::begin(&mut head.as_bytes().to_vec()).is_err());
    }
}
