//! Where the bytes of requests lie that were read ahead of their guests: the first ones in memory, the others in temporary
//! files that have no name, so that nothing is left of them however the process ends.

use crate::config::units::spell_size;
use bytes::{Bytes, BytesMut};
use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use tokio::task::{JoinHandle, spawn_blocking};

/// Bytes of one request that stay in memory, and of all requests.
const IN_MEMORY: u64 = 1 << 20;
const ALL_IN_MEMORY: u64 = 16 << 20;
/// Bytes that go to a file, or come from it, at a time. Smaller frames are put together: each would cost a note of its own, and
/// may hold much more memory than it has bytes.
const PIECE: usize = 64 << 10;
/// The most that `limits.spool` is by default.
const DEFAULT: u64 = 512 << 20;
/// What part of the free space of the temporary folder it is at the most, by default.
const PART_OF_FREE: u64 = 2;

/// The room that all requests share (`limits.spool`).
pub struct Room {
    all: Share,
    memory: Share,
}

/// A bound, and what has been taken of it.
struct Share {
    limit: u64,
    taken: AtomicU64,
}

impl Share {
    fn new(limit: u64) -> Self {
        Self { limit, taken: AtomicU64::new(0) }
    }

    fn take(&self, bytes: u64) -> bool {
        let take = |taken: u64| taken.checked_add(bytes).filter(|sum| *sum <= self.limit);
        self.taken.try_update(Ordering::AcqRel, Ordering::Acquire, take).is_ok()
    }

    fn give_back(&self, bytes: u64) {
        self.taken.fetch_sub(bytes, Ordering::AcqRel);
    }
}

impl Room {
    /// Room for `limit` bytes, or for what the temporary folder can bear. Says so in the log where less, or nothing, can be kept
    /// there.
    pub fn new(limit: Option<u64>) -> Arc<Self> {
        let folder = std::env::temp_dir();
        let free = rustix::fs::statvfs(&folder).map(|found| found.f_bavail.saturating_mul(found.f_frsize)).ok();
        if let (Some(limit), Some(free)) = (limit, free)
            && limit > free
        {
            tracing::warn!(
                folder = %folder.display(), free = spell_size(free),
                "limits.spool of {} is more than the temporary folder has free: lower it, or set TMPDIR to a folder with more room",
                spell_size(limit)
            );
        }
        let limit = limit.unwrap_or_else(|| default_limit(free));
        if limit > 0
            && let Err(error) = tempfile::tempfile()
        {
            tracing::warn!(
                folder = %folder.display(), %error,
                "the temporary folder takes no file: a request whose client reads nothing before it has sent everything, and \
                 whose guest answers before it has read everything, is ended; set TMPDIR to a folder that can be written to"
            );
        }
        Arc::new(Self { all: Share::new(limit), memory: Share::new(ALL_IN_MEMORY) })
    }

    /// Whether anything may be read ahead at all.
    pub fn is_open(&self) -> bool {
        self.all.limit > 0
    }
}

/// What `limits.spool` is where nobody says it, by the free space of the temporary folder. It is never so little that a request
/// would not get to the folder, whose own error says more.
fn default_limit(free: Option<u64>) -> u64 {
    free.map_or(DEFAULT, |free| DEFAULT.min(free / PART_OF_FREE)).max(2 * IN_MEMORY)
}

/// Why bytes could not be kept, for an operator.
pub type Full = String;

/// The bytes of one request, first in, first out. Dropping it gives room and file back.
pub struct Spool {
    room: Arc<Room>,
    /// Bytes that it has taken of the room.
    share: u64,
    /// The first of them, and how many bytes they are.
    memory: VecDeque<Bytes>,
    in_memory: u64,
    /// What follows the memory.
    file: Option<Overflow>,
    /// What follows the file: less than a [`PIECE`].
    gathering: BytesMut,
}

/// A file without a name.
struct Overflow {
    file: Arc<File>,
    read: u64,
    written: u64,
    writing: Option<(u64, JoinHandle<io::Result<()>>)>,
    reading: Option<JoinHandle<io::Result<Bytes>>>,
}

impl Spool {
    /// Holds nothing yet.
    pub fn new(room: &Arc<Room>) -> Self {
        let (memory, gathering) = (VecDeque::new(), BytesMut::new());
        Self { room: Arc::clone(room), share: 0, memory, in_memory: 0, file: None, gathering }
    }

    /// Keeps `bytes` behind those that it has. Only when [`Self::poll_ready`] says so.
    ///
    /// # Errors
    /// [`Full`]; it holds what it held.
    pub fn push(&mut self, bytes: &Bytes) -> Result<(), Full> {
        let length = bytes.len() as u64;
        if !self.room.all.take(length) {
            let limit = spell_size(self.room.all.limit);
            return Err(format!("limits.spool of {limit}, shared by all requests, reached: raise it, or"));
        }
        self.share += length;
        if self.gathering.len() + bytes.len() < PIECE {
            self.gathering.extend_from_slice(bytes);
            return Ok(());
        }
        let piece = (self.gathering.len() + bytes.len()) as u64;
        if self.file.is_none() && self.in_memory + piece <= IN_MEMORY && self.room.memory.take(piece) {
            self.in_memory += piece;
        } else if self.file.is_none() {
            let overflow = Overflow::open().map_err(|error| {
                self.give_back(length);
                format!("the temporary folder takes no file ({error}): set TMPDIR to a folder that does, or")
            })?;
            self.file = Some(overflow);
        }
        let piece = if self.gathering.is_empty() {
            bytes.clone()
        } else {
            self.gathering.extend_from_slice(bytes);
            self.gathering.split().freeze()
        };
        match &mut self.file {
            Some(overflow) => overflow.write(piece),
            None => self.memory.push_back(piece),
        }
        Ok(())
    }

    /// Waits until what was pushed last is written. It is not known before whether the disk has room for it.
    ///
    /// # Errors
    /// [`Full`]; what could not be written is lost, so the request has to end.
    pub fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Full>> {
        let Some(overflow) = &mut self.file else { return Poll::Ready(Ok(())) };
        let written = ready!(overflow.poll_written(cx));
        Poll::Ready(written.map_err(|error| {
            format!("the temporary folder took no more ({error}): set TMPDIR to a folder with more room, or")
        }))
    }

    /// The next bytes; none when it is empty, and then it holds no room any more.
    ///
    /// # Errors
    /// They cannot be read back.
    pub fn poll_pop(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        if let Some(bytes) = self.memory.pop_front() {
            let length = bytes.len() as u64;
            self.in_memory -= length;
            self.room.memory.give_back(length);
            self.give_back(length);
            return Poll::Ready(Some(Ok(bytes)));
        }
        if let Some(overflow) = &mut self.file {
            match ready!(overflow.poll_read(cx)) {
                None => {
                    self.file = None;
                    self.give_back(self.share - self.gathering.len() as u64);
                }
                some => return Poll::Ready(some),
            }
        }
        if self.gathering.is_empty() {
            return Poll::Ready(None);
        }
        let bytes = self.gathering.split().freeze();
        self.give_back(bytes.len() as u64);
        Poll::Ready(Some(Ok(bytes)))
    }

    /// Bytes that it holds.
    pub fn len(&self) -> u64 {
        self.in_memory + self.file.as_ref().map_or(0, Overflow::len) + self.gathering.len() as u64
    }

    fn give_back(&mut self, bytes: u64) {
        self.share -= bytes;
        self.room.all.give_back(bytes);
    }
}

impl Drop for Spool {
    fn drop(&mut self) {
        self.room.memory.give_back(self.in_memory);
        self.give_back(self.share);
    }
}

impl Overflow {
    fn open() -> io::Result<Self> {
        let file = Arc::new(tempfile::tempfile()?);
        Ok(Self { file, read: 0, written: 0, writing: None, reading: None })
    }

    fn len(&self) -> u64 {
        self.written + self.writing.as_ref().map_or(0, |(length, _)| *length) - self.read
    }

    /// Elsewhere than on a thread that runs guests: a disk may let it wait.
    fn write(&mut self, bytes: Bytes) {
        debug_assert!(self.writing.is_none(), "one at a time");
        let (file, at) = (Arc::clone(&self.file), self.written);
        self.writing = Some((bytes.len() as u64, spawn_blocking(move || file.write_all_at(&bytes, at))));
    }

    fn poll_written(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some((length, writing)) = &mut self.writing else { return Poll::Ready(Ok(())) };
        let result = ready!(Pin::new(writing).poll(cx)).unwrap_or_else(|error| Err(io::Error::other(error)));
        if result.is_ok() {
            self.written += *length;
        }
        self.writing = None;
        Poll::Ready(result)
    }

    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        if self.reading.is_none() {
            if self.read == self.written {
                if let Err(error) = ready!(self.poll_written(cx)) {
                    return Poll::Ready(Some(Err(error)));
                }
                if self.read == self.written {
                    return Poll::Ready(None);
                }
            }
            let (file, at) = (Arc::clone(&self.file), self.read);
            let length = usize::try_from(self.written - at).map_or(PIECE, |left| left.min(PIECE));
            self.reading = Some(spawn_blocking(move || {
                let mut piece = vec![0; length];
                file.read_exact_at(&mut piece, at).map(|()| piece.into())
            }));
        }
        let reading = self.reading.as_mut().expect("begun just now");
        let piece = ready!(Pin::new(reading).poll(cx)).unwrap_or_else(|error| Err(io::Error::other(error)));
        self.reading = None;
        self.read += piece.as_ref().map_or(0, Bytes::len) as u64;
        Poll::Ready(Some(piece))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;

    fn room(limit: u64) -> Arc<Room> {
        Arc::new(Room { all: Share::new(limit), memory: Share::new(ALL_IN_MEMORY) })
    }

    fn taken(room: &Room) -> (u64, u64) {
        (room.all.taken.load(Ordering::Acquire), room.memory.taken.load(Ordering::Acquire))
    }

    async fn push(spool: &mut Spool, bytes: Vec<u8>) -> Result<(), Full> {
        poll_fn(|cx| spool.poll_ready(cx)).await?;
        spool.push(&bytes.into())
    }

    #[test]
    fn by_default_half_of_what_is_free_may_be_used() {
        let free = [None, Some(1 << 40), Some(1 << 30), Some(100 << 20), Some(0)];
        assert_eq!(free.map(default_limit), [DEFAULT, DEFAULT, DEFAULT, 50 << 20, 2 * IN_MEMORY]);
    }

    #[tokio::test]
    async fn bytes_come_back_in_order_from_memory_and_file_and_the_room_is_given_back() {
        let room = room(8 << 20);
        let mut spool = Spool::new(&room);
        // Whatever the frames' sizes are, and more than once.
        for sizes in [&[100_000, 1, 70_000, 10][..], &[65_536], &[1_000, 64_000, 600], &[3]] {
            let mut given = Vec::new();
            for number in 0..40_u8 {
                let piece = vec![number; sizes[usize::from(number) % sizes.len()]];
                given.extend_from_slice(&piece);
                push(&mut spool, piece).await.expect("there is room");
            }
            assert_eq!(spool.len(), given.len() as u64);
            assert_eq!(spool.file.is_some(), given.len() > 1 << 20);
            let mut read = Vec::new();
            while let Some(bytes) = poll_fn(|cx| spool.poll_pop(cx)).await {
                read.extend(bytes.expect("a file can be read"));
            }
            assert!(read == given, "the bytes are others: {sizes:?}");
            assert_eq!(taken(&room), (0, 0));
        }
    }

    #[tokio::test]
    async fn the_room_is_shared_and_never_overdrawn() {
        let room = room(150_000);
        let (mut first, mut second) = (Spool::new(&room), Spool::new(&room));
        push(&mut first, vec![1; 100_000]).await.expect("there is room");
        let full = push(&mut second, vec![2; 60_000]).await.expect_err("only 50,000 are left");
        assert!(full.starts_with("limits.spool of 150000B, shared by all requests, reached: raise it"), "{full}");
        drop(first);
        assert_eq!(taken(&room), (0, 0));
        push(&mut second, vec![2; 60_000]).await.expect("there is room again");
    }

    #[tokio::test]
    async fn small_frames_are_put_together() {
        let room = room(8 << 20);
        let mut spool = Spool::new(&room);
        for _ in 0..200_000 {
            push(&mut spool, vec![7]).await.expect("there is room");
        }
        assert_eq!(spool.memory.len(), 200_000 / PIECE);
    }
}
