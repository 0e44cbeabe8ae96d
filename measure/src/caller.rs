//! Somebody who calls the host, one request after the other, and sees how each of them ends.

use crate::client::{Arrived, Client};
use anyhow::Result;
use memchr::memmem;
use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;
use testkit::http::Answer;
use testkit::{Response, SECRET};

/// A body that has become longer is forgotten up to there.
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
    /// With all of a short body, the end of a long one.
    pub response: Response,
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
        self.send("GET", target, "", 0, "")
    }

    /// Posts so many bytes, and reads nothing before all of them have left.
    pub fn post(&mut self, target: &str, length: usize) -> Result<()> {
        self.send("POST", target, &format!("Content-Length: {length}\r\n"), length, "")
    }

    /// Posts an envelope to a function, as the Functions host does.
    pub fn post_event(&mut self, function: &str, envelope: &str) -> Result<()> {
        let headers = format!("Content-Type: application/json\r\nContent-Length: {}\r\n", envelope.len());
        self.send("POST", &format!("/{function}"), &headers, 0, envelope)
    }

    fn send(&mut self, method: &str, target: &str, headers: &str, length: usize, body: &str) -> Result<()> {
        let request = format!("{method} {target} HTTP/1.1\r\nHost: {}\r\n{headers}\r\n{body}", self.address);
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
            let Some(answer) = &mut self.answer else { return Ok(false) };
            if answer.response.body.len() > BODY {
                answer.response.body.clear();
            }
            answer.take(&mut client.received, ended == Some(true))
        };
        let got = match (take(), ended) {
            (Ok(false), None) => return None,
            (Ok(true), _) if client.received.is_empty() => Got::Whole(self.answer.as_ref()?.response.status),
            (Ok(true) | Err(_), _) => Got::Garbage,
            (Ok(false), Some(_)) => {
                self.answer.as_ref().map_or(Got::Nothing, |answer| Got::Cut(answer.response.status))
            }
        };
        client.asked = None;
        let response = self.answer.take().map(|answer| answer.response).unwrap_or_default();
        let closes = response.header("connection") == Some("close");
        if ended.is_some() || closes || !matches!(got, Got::Whole(_)) {
            self.client = None;
        }
        Some(Call { got, response, took: asked.elapsed(), leaked: std::mem::take(&mut self.leaked) })
    }
}
