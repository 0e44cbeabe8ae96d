//! The Functions host's HTTP/1.1 client. It is half duplex: it reads no byte of an answer before it has sent the whole request.

use super::{Body, Request};
use crate::support::{Client, Response};
use std::io;
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

/// How often a request without a body is sent again in proxying.
pub const TIMES_AGAIN: u32 = 10;

/// For how long .NET waits for `100 Continue` before it sends the body anyway.
const CONTINUE: Duration = Duration::from_secs(1);

/// Connections to the handler, kept alive between requests.
pub struct Pool {
    pub port: u16,
    pub idle: Mutex<Vec<Client>>,
}

impl Pool {
    pub fn new(port: u16) -> Self {
        Self { port, idle: Mutex::default() }
    }

    /// Forgets the connections to a process that has ended.
    pub fn clear(&self) {
        self.idle.lock().unwrap().clear();
    }

    fn take(&self) -> io::Result<Client> {
        let kept = || self.idle.lock().unwrap().pop();
        while let Some(client) = kept() {
            if !client.is_stale() {
                return Ok(client);
            }
        }
        Client::try_connect(self.port)
    }

    /// Takes back a connection whose answer was read to the end.
    pub fn put(&self, client: Client, answer: &Response) {
        let closes = answer.header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"));
        if answer.complete && !closes {
            self.idle.lock().unwrap().push(client);
        }
    }

    /// Sends a request once; gives the head of the answer too if that has come already, to `Expect`.
    ///
    /// # Errors
    /// Whether any of it was sent.
    pub fn send(&self, request: &Request) -> Result<(Client, Option<Response>), Sent> {
        let mut client = self.take().map_err(|_| Sent(false))?;
        let early = send(&mut client, request).map_err(|_| Sent(true))?;
        Ok((client, early))
    }

    /// Sends a request once and waits for the head of its answer.
    ///
    /// # Errors
    /// Whether any of it was sent.
    pub fn once(&self, request: &Request) -> Result<(Client, Response), Sent> {
        let (mut client, early) = self.send(request)?;
        let head = early.unwrap_or_else(|| client.response_head());
        if head.status == 0 { Err(Sent(true)) } else { Ok((client, head)) }
    }

    /// As proxying does: sends again what could not be sent at all, and what has no body. `ready` is asked before each try,
    /// and waits for a handler that is being started.
    pub fn again(&self, request: &Request, ready: impl Fn() -> bool) -> Option<(Client, Response)> {
        for time in 0..=TIMES_AGAIN {
            if time > 0 {
                thread::sleep(Duration::from_millis(250).min(Duration::from_millis(50) * time));
            }
            if !ready() {
                return None;
            }
            match self.once(request) {
                Ok(answered) => return Some(answered),
                Err(Sent(sent)) if sent && request.has_body() => return None,
                Err(_) => {}
            }
        }
        None
    }
}

/// Whether a request that failed had left.
pub struct Sent(pub bool);

/// Sends all of a request; gives the head of the answer if `Expect: 100-continue` was answered by a refusal.
fn send(client: &mut Client, request: &Request) -> io::Result<Option<Response>> {
    client.try_write(request.head())?;
    if request.header("expect").is_some() && !client.stays_silent(CONTINUE) {
        let head = client.response_head();
        if head.status != 100 {
            return Ok(Some(head));
        }
    }
    match &request.body {
        Body::Sized(bytes) => client.try_write(bytes)?,
        Body::Chunked(chunks) => {
            for chunk in chunks {
                client.try_write(format!("{:X}\r\n", chunk.len()))?;
                client.try_write(chunk)?;
                client.try_write("\r\n")?;
            }
            client.try_write("0\r\n\r\n")?;
        }
    }
    Ok(None)
}
