//! The memory that all events together take in the host, beside that of their guests.
//!
//! Small envelopes and answers are bounded by the number of slots. Those above [`SMALL`] wait here for each other, first come first
//! served. An event takes of one room after the other, in the order of [`EventRoom`], and once of each, so there is always one that goes
//! on. Nobody knows how long an envelope gets that comes in chunks, so it may have the first room to itself; but a guest that takes its
//! time holds only what its payload needs.

use bytes::Bytes;
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Bytes that an envelope or an answer may have without taking room.
pub const SMALL: usize = 1 << 20;
/// What part of `limits.totalMemory` each room may take besides.
const PART: u64 = 8;
/// Bytes that are counted as one.
const UNIT: u64 = 1 << 10;

/// What all events share.
pub struct EventRoom {
    /// For envelopes while they are read and taken apart.
    pub envelopes: Room,
    /// For payloads while a guest has them.
    pub payloads: Room,
    /// For answers while they are put together and sent.
    pub answers: Room,
}

impl EventRoom {
    /// As much as goes well with so many bytes for guests.
    pub fn new(total_memory: u64) -> Self {
        let room = || Room::new(total_memory / PART);
        Self { envelopes: room(), payloads: room(), answers: room() }
    }
}

/// A bound on what all hold together.
pub struct Room {
    free: Arc<Semaphore>,
    units: u32,
}

impl Room {
    fn new(bytes: u64) -> Self {
        let units = units(bytes).max(1);
        Self { free: Arc::new(Semaphore::new(units as usize)), units }
    }

    /// Waits until there is room for `bytes`. What needs more than there is waits for all of it.
    pub async fn take(&self, bytes: u64) -> Taken {
        let taken = Arc::clone(&self.free).acquire_many_owned(units(bytes).min(self.units)).await;
        Taken(taken.expect("it is never closed"))
    }
}

/// Room that was taken; dropping gives it back.
pub struct Taken(OwnedSemaphorePermit);

impl Taken {
    /// Gives back what is not needed for `bytes`.
    pub fn keep(&mut self, bytes: usize) {
        let surplus = self.0.num_permits().saturating_sub(units(bytes as u64) as usize);
        drop(self.0.split(surplus));
    }

    /// Bytes that hold it until they are gone.
    pub fn hold(self, bytes: Bytes) -> Bytes {
        Bytes::from_owner(Held { bytes, _taken: self })
    }
}

struct Held {
    bytes: Bytes,
    _taken: Taken,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

fn units(bytes: u64) -> u32 {
    u32::try_from(bytes.div_ceil(UNIT)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt as _;

    #[test]
    fn what_is_held_is_bounded_and_what_needs_more_than_there_is_goes_alone() {
        let room = Room::new(10 * UNIT);
        let mut first = room.take(8 * UNIT).now_or_never().expect("there is room");
        assert!(room.take(3 * UNIT).now_or_never().is_none());
        first.keep(7 * UNIT as usize);
        let second = room.take(3 * UNIT).now_or_never().expect("what the first gave back");
        let held = first.hold(Bytes::from_static(b"kept"));
        drop(second);
        assert!(room.take(100 * UNIT).now_or_never().is_none());
        assert_eq!(&held[..], b"kept");
        drop(held);
        assert!(room.take(100 * UNIT).now_or_never().is_some());
    }
}
