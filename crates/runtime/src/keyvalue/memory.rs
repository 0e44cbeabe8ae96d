//! A store in the memory of the process.

use super::{Failure, MANY, Page, Result, after, page, size, sum};
use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Bytes of all keys and values together.
pub const ROOM: usize = 64 << 20;

#[derive(Debug, Default)]
pub struct Memory(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    entries: BTreeMap<String, Vec<u8>>,
    bytes: usize,
}

impl Kept {
    fn set(&mut self, key: String, value: Vec<u8>) -> Result<()> {
        let old = self.entries.get(&key).map_or(0, |old| size(&key, old));
        let bytes = self.bytes - old + size(&key, &value);
        if bytes > ROOM {
            return Err(Failure::Refused("the store is full: it has room for 64 MiB"));
        }
        self.bytes = bytes;
        self.entries.insert(key, value);
        Ok(())
    }
}

impl Memory {
    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn get(&self, key: String) -> Result<Option<Vec<u8>>> {
        Ok(self.kept().entries.get(&key).cloned())
    }

    pub fn set(&self, key: String, value: Vec<u8>) -> Result<()> {
        self.kept().set(key, value)
    }

    pub fn delete(&self, key: String) -> Result<()> {
        let mut kept = self.kept();
        if let Some(old) = kept.entries.remove(&key) {
            kept.bytes -= size(&key, &old);
        }
        Ok(())
    }

    pub fn list(&self, prefix: String, from: Option<String>) -> Result<Page> {
        let kept = self.kept();
        let first = after(&prefix, from.as_deref());
        let below = kept.entries.range::<String, _>((first.as_ref(), Bound::Unbounded));
        let below = below.map(|(key, _)| key).take_while(|key| key.starts_with(&prefix));
        Ok(page(&prefix, below.take(MANY + 1).cloned().collect()))
    }

    pub fn increment(&self, key: String, by: i64) -> Result<i64> {
        let mut kept = self.kept();
        let number = sum(kept.entries.get(&key).map(Vec::as_slice), by)?;
        kept.set(key, number.to_string().into_bytes())?;
        Ok(number)
    }

    pub fn swap(&self, key: String, old: Option<Vec<u8>>, new: Vec<u8>) -> Result<bool> {
        let mut kept = self.kept();
        if kept.entries.get(&key) != old.as_ref() {
            return Ok(false);
        }
        kept.set(key, new)?;
        Ok(true)
    }
}
