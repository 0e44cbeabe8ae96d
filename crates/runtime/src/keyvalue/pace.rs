//! How fast a function may call its stores. Who calls faster waits, so that a burst is only slowed, and a flood reaches no server.

use super::{Failure, PATIENCE, Result};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::time::{Instant, sleep_until};

/// Calls of a function in a second, each key of many counted. As many may come at once.
const RATE: u32 = 10_000;

/// When the next call may begin, if it could not save up for a burst.
#[derive(Debug, Default)]
pub struct Pace(Mutex<Option<Instant>>);

impl Pace {
    /// Waits for the turn of one call.
    ///
    /// # Errors
    /// When that would take longer than a store may.
    pub async fn wait(&self) -> Result<()> {
        let now = Instant::now();
        let turn = self.turn(now).ok_or(Failure::Refused("more than 10000 calls of stores in a second"))?;
        if turn > now {
            sleep_until(turn).await;
        }
        Ok(())
    }

    fn turn(&self, now: Instant) -> Option<Instant> {
        let mut next = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let steady = next.map_or(now, |next| next.max(now));
        let turn = steady.checked_sub(Duration::from_secs(1)).unwrap_or(now).max(now);
        (turn <= now + PATIENCE).then(|| {
            *next = Some(steady + Duration::from_secs(1) / RATE);
            turn
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_let_through_and_what_follows_waits() {
        let (pace, now) = (Pace::default(), Instant::now());
        let second = Duration::from_secs(1);
        assert!((0..=RATE).all(|_| pace.turn(now) == Some(now)));
        assert_eq!(pace.turn(now), Some(now + second / RATE));
        // As fast as they may, for as long as they like.
        let waits = (0..).map_while(|_| pace.turn(now));
        assert_eq!(waits.last(), Some(now + PATIENCE));
        assert_eq!(pace.turn(now), None);
        let later = now + PATIENCE + second;
        assert!((0..RATE).all(|_| pace.turn(later) == Some(later)), "what was refused costs nobody a turn");
        assert!((0..=RATE).all(|_| pace.turn(later + 60 * second) == Some(later + 60 * second)));
        assert!(pace.turn(later + 60 * second) > Some(later + 60 * second), "rest saves up one second");
    }
}
