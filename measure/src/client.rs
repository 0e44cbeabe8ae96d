//! A connection whose answers are read without waiting for them.
//!
//! A client that waits for answers in the kernel has to be woken for each of them, and the waking is charged to the server: 5 of
//! 30 µs on a virtual machine, and only while the server is slower than the client, so that the faster of two servers looks better
//! than it is. Whoever measures reads its sockets in turn until an answer is there.

use anyhow::{Context as _, Result};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// See the module's documentation.
pub struct Client {
    stream: TcpStream,
    /// What has arrived and nobody has taken yet.
    pub received: Vec<u8>,
    /// When the request left that is not answered yet.
    pub asked: Option<Instant>,
    /// Bytes of its body that have not left yet.
    unsent: usize,
}

/// What a look at the socket found.
pub enum Arrived {
    Nothing,
    /// They are in [`Client::received`].
    Bytes,
    /// The server has closed the connection.
    End,
}

impl Client {
    pub fn connect(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(address).context("cannot connect")?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        Ok(Self { stream, received: Vec::new(), asked: None, unsent: 0 })
    }

    pub fn send(&mut self, request: &str) -> Result<()> {
        self.asked = Some(Instant::now());
        self.stream.write_all(request.as_bytes()).context("cannot send a request")
    }

    /// The request just sent has a body of `length` bytes. Nothing is received before all of it has left, as by the Functions host.
    pub fn send_body(&mut self, length: usize) {
        self.unsent = length;
    }

    /// Looks once.
    pub fn receive(&mut self) -> io::Result<Arrived> {
        while self.unsent > 0 {
            let piece = [b'x'; 65_536];
            match self.stream.write(&piece[..self.unsent.min(piece.len())]) {
                Ok(written) => self.unsent -= written,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(Arrived::Nothing),
                Err(error) => return Err(error),
            }
        }
        let mut buffer = [0; 4096];
        match self.stream.read(&mut buffer) {
            Ok(0) => Ok(Arrived::End),
            Ok(read) => {
                self.received.extend_from_slice(&buffer[..read]);
                Ok(Arrived::Bytes)
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(Arrived::Nothing),
            Err(error) => Err(error),
        }
    }
}

/// Sleeps until an answer, or a part of one, arrives for any of those that have asked, and no longer than `most`. Returns for each of
/// `clients` whether there is something to receive: whoever looks at the others as well takes time from a server beside it.
pub fn sleep_until_one_arrives(clients: &[Client], most: Duration) -> io::Result<Vec<bool>> {
    // Of a socket that it is not asked about the kernel reports nothing but its end.
    let wanted = |client: &Client| if client.asked.is_some() { PollFlags::IN } else { PollFlags::empty() };
    let mut sockets: Vec<PollFd<'_>> =
        clients.iter().map(|client| PollFd::new(&client.stream, wanted(client))).collect();
    let most = Timespec::try_from(most).map_err(io::Error::other)?;
    match poll(&mut sockets, Some(&most)) {
        Ok(_) | Err(Errno::INTR) => Ok(sockets.iter().map(|socket| !socket.revents().is_empty()).collect()),
        Err(error) => Err(error.into()),
    }
}
