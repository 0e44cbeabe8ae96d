//! How much of one kind may reach the log in a second (`limits.logRate`): a flood of records, each of which is right, would
//! push everybody else's out, and costs the Functions host more than us.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// For how long [`Rate`] counts before it begins anew.
const WINDOW: Duration = Duration::from_secs(1);

/// Grants so many bytes in each second, and counts what it does not grant. Clones share it.
#[derive(Debug, Clone)]
pub struct Rate {
    limit: u64,
    window: Arc<Mutex<Window>>,
}

/// The second that is being counted.
#[derive(Debug)]
struct Window {
    began: Instant,
    left: u64,
    dropped: Dropped,
    /// Somebody is going to tell.
    telling: bool,
}

/// What was dropped and not told of.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Dropped {
    /// How many.
    pub records: u64,
    /// How long they were together.
    pub bytes: u64,
}

impl Rate {
    /// Grants `limit` bytes in each second.
    pub fn new(limit: u64) -> Self {
        let window = Window { began: Instant::now(), left: limit, dropped: Dropped::default(), telling: false };
        Self { limit, window: Arc::new(Mutex::new(window)) }
    }

    /// Bytes in each second.
    pub fn limit(&self) -> u64 {
        self.limit
    }

    /// Whether a record of `length` bytes may be written now. When it first may not, a task that lives for the rest of the
    /// second hands what was dropped to what `tell` returns.
    pub fn admits<T: FnOnce(Dropped) + Send + 'static>(&self, length: usize, tell: impl FnOnce() -> T) -> bool {
        let Err(first) = self.take(Instant::now(), length) else { return true };
        if let (Some(rest), Ok(runtime)) = (first, tokio::runtime::Handle::try_current()) {
            let (rate, tell) = (self.clone(), tell());
            runtime.spawn(async move {
                tokio::time::sleep(rest).await;
                tell(rate.told());
            });
        }
        false
    }

    /// Takes a record of `length` bytes.
    ///
    /// # Errors
    /// It has to be dropped; if it is the first since that was last told, it is to be told in so much time.
    fn take(&self, now: Instant, length: usize) -> Result<(), Option<Duration>> {
        let mut window = self.window();
        let elapsed = now.saturating_duration_since(window.began);
        if elapsed >= WINDOW {
            window.began = now;
            window.left = self.limit;
        }
        match window.left.checked_sub(length as u64) {
            Some(left) => {
                window.left = left;
                Ok(())
            }
            None => {
                window.dropped.records += 1;
                window.dropped.bytes += length as u64;
                let first = !std::mem::replace(&mut window.telling, true);
                Err(first.then(|| WINDOW.saturating_sub(elapsed)))
            }
        }
    }

    /// What was dropped since it was last told.
    fn told(&self) -> Dropped {
        let mut window = self.window();
        window.telling = false;
        std::mem::take(&mut window.dropped)
    }

    fn window(&self) -> MutexGuard<'_, Window> {
        // Every change under the lock is complete before anything can panic.
        self.window.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_grants_so_much_and_the_rest_is_counted() {
        let (rate, begun) = (Rate::new(1000), Instant::now());
        let at = |ms| begun + Duration::from_millis(ms);
        assert_eq!(rate.take(at(1100), 600), Ok(()));
        // The limit itself is granted, one byte more is not.
        assert_eq!(rate.take(at(1200), 401), Err(Some(Duration::from_millis(900))));
        assert_eq!(rate.take(at(1200), 400), Ok(()));
        assert_eq!(rate.take(at(1300), 1), Err(None), "somebody is to tell already");
        assert_eq!(rate.told(), Dropped { records: 2, bytes: 402 });
        // The next second begins with the next record.
        assert_eq!(rate.take(at(2100), 1000), Ok(()));
        assert_eq!(rate.take(at(2101), 1000), Err(Some(Duration::from_millis(999))));
        assert_eq!((rate.told().bytes, rate.told().bytes), (1000, 0));
    }
}
