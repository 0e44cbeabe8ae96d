//! The time that a guest is on a thread (`limits.cpu`), apart from all waiting: the time of every poll of it.
//!
//! A poll is measured from outside, by [`metered`]. A guest that computes is asked from inside as well, whenever a tick makes
//! it yield, so that it is ended where it computes. The error is at most one tick and one call of the host.

use super::hit::Hit;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::Poll;
use std::time::{Duration, Instant};

/// Measures one instance. Its future and its store share it; only one thread at a time uses it, the one that polls.
pub struct Meter {
    limit: Duration,
    /// What [`Self::since`] counts from.
    origin: Instant,
    /// What all polls before this one took, in nanoseconds.
    spent: AtomicU64,
    /// When this poll began, in nanoseconds.
    since: AtomicU64,
}

impl Meter {
    /// A meter that ends what takes longer than `limit`, and counts from `origin`, a moment in the past.
    pub fn new(limit: Duration, origin: Instant) -> Arc<Self> {
        Arc::new(Self { limit, origin, spent: AtomicU64::new(0), since: AtomicU64::new(0) })
    }

    /// Forgets what earlier requests took.
    pub fn begin(&self) {
        self.spent.store(0, Relaxed);
    }

    /// Asks in the middle of a poll.
    ///
    /// # Errors
    /// [`Hit::Cpu`], when the time is used up.
    pub fn check(&self) -> Result<(), Hit> {
        self.judge(self.spent_now())
    }

    fn judge(&self, spent: u64) -> Result<(), Hit> {
        if Duration::from_nanos(spent) > self.limit { Err(Hit::Cpu(self.limit)) } else { Ok(()) }
    }

    /// What the polls of this request took that are over.
    pub fn spent(&self) -> Duration {
        Duration::from_nanos(self.spent.load(Relaxed))
    }

    /// All polls, this one as far as it has got.
    fn spent_now(&self) -> u64 {
        self.spent.load(Relaxed) + self.now().saturating_sub(self.since.load(Relaxed))
    }

    fn now(&self) -> u64 {
        let elapsed = self.origin.elapsed();
        elapsed.as_secs() * 1_000_000_000 + u64::from(elapsed.subsec_nanos())
    }
}

/// Measures every poll of `future`, which runs the meter's guest, and ends it when the time is used up.
///
/// It answers [`Hit::Cpu`] as the engine does when it ends the guest itself.
pub fn metered<T, F: Future<Output = wasmtime::Result<T>>>(
    meter: Arc<Meter>,
    mut future: Pin<&mut F>,
) -> impl Future<Output = wasmtime::Result<T>> {
    poll_fn(move |cx| {
        meter.since.store(meter.now(), Relaxed);
        let polled = future.as_mut().poll(cx);
        let spent = meter.spent_now();
        meter.spent.store(spent, Relaxed);
        match meter.judge(spent) {
            // What is done is done.
            Err(hit) if polled.is_pending() => Poll::Ready(Err(hit.into())),
            _ => polled,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::pin::pin;
    use std::task::{Context, Waker};

    /// Computes for `time` in each of `polls`, waits in between, and asks as the engine does.
    fn run(meter: &Arc<Meter>, polls: u32, time: Duration) -> Option<wasmtime::Result<u32>> {
        let mut left = polls;
        let mut guest = pin!(poll_fn(|_| {
            let begun = Instant::now();
            while begun.elapsed() < time {}
            if let Err(hit) = meter.check() {
                return Poll::Ready(Err(hit.into()));
            }
            left -= 1;
            if left == 0 { Poll::Ready(wasmtime::error::Ok(polls)) } else { Poll::Pending }
        }));
        let mut metered = pin!(metered(Arc::clone(meter), guest.as_mut()));
        let mut cx = Context::from_waker(Waker::noop());
        for _ in 0..polls {
            if let Poll::Ready(result) = metered.as_mut().poll(&mut cx) {
                return Some(result);
            }
            // Waiting costs nothing.
            std::thread::sleep(Duration::from_millis(1));
        }
        None
    }

    #[test]
    fn polls_add_up_and_waiting_does_not() {
        let limit = Duration::from_millis(5);
        let meter = Meter::new(limit, Instant::now());
        let ended = run(&meter, 1000, Duration::from_millis(1)).expect("ended").expect_err("in vain");
        assert_eq!(ended.downcast_ref(), Some(&Hit::Cpu(limit)));
        meter.begin();
        assert!(meter.spent.load(Relaxed) == 0, "the next request has all of it");

        // Ten thousand times as much as it computes.
        let meter = Meter::new(Duration::from_secs(3600), Instant::now());
        assert_eq!(run(&meter, 20, Duration::ZERO).expect("done").expect("within the limit"), 20);
    }

    #[test]
    fn a_guest_that_no_tick_meets_is_ended_after_its_poll() {
        let meter = Meter::new(Duration::from_millis(1), Instant::now());
        let mut guest = pin!(poll_fn(|_| -> Poll<wasmtime::Result<()>> {
            std::thread::sleep(Duration::from_millis(2));
            Poll::Pending
        }));
        let mut metered = pin!(metered(Arc::clone(&meter), guest.as_mut()));
        let Poll::Ready(Err(error)) = metered.as_mut().poll(&mut Context::from_waker(Waker::noop())) else {
            panic!("it goes on")
        };
        assert!(error.downcast_ref::<Hit>().is_some());
    }
}
