//! A client that blocks, and that can also misbehave.

use crate::http::{self, Answer, Response};
use crate::{PATIENCE, get};
use anyhow::{Result, ensure};
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

/// A connection to a server of this machine.
pub struct Client {
    stream: TcpStream,
    /// What has arrived and was not taken yet.
    received: Vec<u8>,
}

impl Client {
    /// Connects to this port of the loopback address.
    pub fn connect(port: u16) -> Self {
        Self::try_connect(port).unwrap()
    }

    /// As [`connect`](Self::connect).
    ///
    /// # Errors
    /// When nobody listens.
    pub fn try_connect(port: u16) -> io::Result<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, received: Vec::new() })
    }

    /// Sends bytes as they are.
    pub fn write(&mut self, bytes: impl AsRef<[u8]>) {
        self.try_write(bytes).unwrap();
    }

    /// Sends bytes as they are.
    ///
    /// # Errors
    /// When the connection takes no more.
    pub fn try_write(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.stream.write_all(bytes.as_ref())
    }

    /// Sends a request and reads its answer.
    pub fn ask(&mut self, request: impl AsRef<[u8]>) -> Response {
        self.write(request);
        self.response(false)
    }

    /// A request as the Functions host forwards it.
    pub fn get(&mut self, path: &str) -> Response {
        self.ask(get(path))
    }

    /// The same with HEAD.
    pub fn head(&mut self, path: &str) -> Response {
        self.write(get(path).replacen("GET", "HEAD", 1));
        self.response(true)
    }

    /// Reads the head of an answer; status 0 when the connection ends without one.
    pub fn response_head(&mut self) -> Response {
        let head = self.await_whole(Response::head);
        assert!(head.is_some() || self.received.is_empty(), "the head of an answer broke off");
        head.unwrap_or_default()
    }

    /// Reads an answer; one to HEAD has no body.
    pub fn response(&mut self, to_head: bool) -> Response {
        let head = self.response_head();
        self.body(head, to_head)
    }

    /// Reads the rest of an answer whose head is read.
    pub fn body(&mut self, head: Response, to_head: bool) -> Response {
        if head.status == 0 {
            return head;
        }
        Answer::of(head, to_head).unwrap().finish(&mut self.stream, &mut self.received).unwrap()
    }

    /// One chunk of a chunked body; an empty one ends it, none means that the connection ended first.
    pub fn chunk(&mut self) -> Option<Vec<u8>> {
        let size = usize::try_from(self.await_whole(http::chunk_size)?).unwrap();
        self.await_whole(|received| {
            if received.len() < size + 2 {
                return Ok(None);
            }
            ensure!(received[size..].starts_with(b"\r\n"), "a chunk is longer than its size");
            Ok(Some(received.drain(..size + 2).take(size).collect()))
        })
    }

    /// The last chunk of a chunked body and what follows it: trailers, a line each.
    pub fn last_chunk_and_trailers(&mut self) -> Vec<String> {
        assert_eq!(self.await_whole(http::chunk_size), Some(0));
        let trailers = self.await_whole(http::trailers).expect("the end of the body");
        trailers.into_iter().map(|(name, value)| format!("{name}: {value}")).collect()
    }

    /// Whether a connection that waits for its next request is of no use: it was closed, or holds something nobody asked for.
    pub fn is_stale(&self) -> bool {
        self.stream.set_nonblocking(true).unwrap();
        let silent = self.is_silent();
        self.stream.set_nonblocking(false).unwrap();
        !silent
    }

    /// Whether nothing at all arrives for `time`.
    pub fn stays_silent(&self, time: Duration) -> bool {
        self.stream.set_read_timeout(Some(time)).unwrap();
        let silent = self.is_silent();
        self.stream.set_read_timeout(Some(PATIENCE)).unwrap();
        silent
    }

    fn is_silent(&self) -> bool {
        let looked = self.stream.peek(&mut [0]);
        self.received.is_empty() && looked.is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
    }

    /// Whether the host has closed the connection, with nothing left to read.
    pub fn is_closed(&mut self) -> bool {
        match self.stream.read_to_end(&mut self.received) {
            Ok(_) => self.received.is_empty(),
            Err(error) => error.kind() == ErrorKind::ConnectionReset,
        }
    }

    /// Whether the connection ends in a reset, whatever comes before.
    pub fn is_reset(&mut self) -> bool {
        self.stream.read_to_end(&mut self.received).is_err_and(|error| error.kind() == ErrorKind::ConnectionReset)
    }

    /// What `take` takes, once enough has arrived; none when the connection ends or fails first.
    fn await_whole<T>(&mut self, mut take: impl FnMut(&mut Vec<u8>) -> Result<Option<T>>) -> Option<T> {
        loop {
            if let Some(taken) = take(&mut self.received).unwrap() {
                return Some(taken);
            }
            http::fill(&mut self.stream, &mut self.received).ok().filter(|more| *more)?;
        }
    }
}
