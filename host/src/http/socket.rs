//! A TCP stream that hyper owns and that its connection can still look at.

use rustix::event::{PollFd, PollFlags, poll};
use socket2::SockRef;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;

/// Bytes that may wait in the kernel, unsent, before it tells of no room. Without this bound a client that reads steadily but
/// slowly looks for seconds like one that does not read (measured on loopback: 3 s at 512 KiB/s, 0.3 s with it).
pub const UNSENT: u32 = 128 << 10;

/// Clones share one stream.
#[derive(Clone)]
pub struct Socket(Arc<Shared>);

struct Shared {
    stream: TcpStream,
    /// Counts the writes that the peer had room for, and, where the last had none, half a one more. Only hyper's connection
    /// writes it.
    written: AtomicU64,
}

impl Socket {
    /// Answers leave at once: server-sent events must not wait for a full segment.
    pub fn new(stream: TcpStream) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        SockRef::from(&stream).set_tcp_notsent_lowat(UNSENT)?;
        Ok(Self(Arc::new(Shared { stream, written: AtomicU64::new(0) })))
    }

    /// Whether the peer has closed its side. Sees it even behind bytes that nobody has read, where hyper cannot.
    pub fn is_peer_gone(&self) -> bool {
        let mut watched = [PollFd::new(&self.0.stream, PollFlags::RDHUP)];
        let gone = PollFlags::RDHUP | PollFlags::HUP | PollFlags::ERR;
        poll(&mut watched, Some(&rustix::time::Timespec::default())).is_ok() && watched[0].revents().intersects(gone)
    }

    /// Reads and forgets what the peer sends, until it closes its side.
    pub async fn discard_input(&self) {
        let mut buffer = vec![0; 16 << 10];
        while self.0.stream.readable().await.is_ok() {
            match self.0.stream.try_read(&mut buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Ok(0) | Err(_) => return,
                Ok(_) => {}
            }
        }
    }

    /// Whether the peer had no room for what was written last; and a number that is another after every write for which it had.
    pub fn blocked(&self) -> (bool, u64) {
        let written = self.0.written.load(Ordering::Relaxed);
        (written % 2 == 1, written / 2)
    }

    /// Makes closing the stream a reset, so that the peer cannot take what it got for the whole.
    pub fn reset_on_close(&self) {
        // A stream that is gone already needs no reset.
        let _ = rustix::net::sockopt::set_socket_linger(&self.0.stream, Some(std::time::Duration::ZERO));
    }
}

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let room = buffer.remaining();
        loop {
            ready!(self.0.stream.poll_read_ready(cx))?;
            let mut read = None;
            // A read that does not fill the buffer has emptied the socket. Said so, the next read waits to be woken, where it
            // would ask the kernel in vain, once for each request; tokio's own stream does the same.
            let tried = self.0.stream.try_io(Interest::READABLE, || {
                let length = *read.insert(self.0.stream.try_read_buf(buffer)?);
                if (1..room).contains(&length) { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(()) }
            });
            match tried {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock && read.is_none() => {}
                Err(error) if read.is_none() => return Poll::Ready(Err(error)),
                _ => return Poll::Ready(Ok(())),
            }
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[io::IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let Shared { stream, written } = &*self.0;
        let before = written.load(Ordering::Relaxed) / 2 * 2;
        loop {
            let Poll::Ready(room) = stream.poll_write_ready(cx) else {
                written.store(before + 1, Ordering::Relaxed);
                return Poll::Pending;
            };
            room?;
            match stream.try_write_vectored(bytes) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => {
                    written.store(before + 2, Ordering::Relaxed);
                    return Poll::Ready(result);
                }
            }
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // A peer that has gone already needs no farewell.
        let _ = rustix::net::shutdown(&self.0.stream, rustix::net::Shutdown::Write);
        Poll::Ready(Ok(()))
    }
}
