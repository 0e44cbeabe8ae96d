//! Waiting for the first guest of every function, before and after the host listens.
//!
//! The Functions host gives a process 30 seconds to answer (azure-contract.md §1.6), and a large guest can take longer to
//! compile. So whoever listens does not wait for the last guest: each function has a place that is filled when its guest is
//! loaded, and until then it is refused.

use crate::config::Function;
use crate::swap::Swap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

/// Guests on their way. Dropping it ends the watch for others.
pub struct Loading {
    swaps: Arc<[Arc<Swap>]>,
    /// Each has one sender, until its first guest is loaded or known to be broken.
    unloaded: mpsc::Receiver<()>,
    /// Broken guests that somebody has been told of.
    told: Vec<String>,
    _following: JoinSet<()>,
}

impl Loading {
    /// Begins to load every guest, and then each that takes the place of one of them.
    pub fn start(swaps: &Arc<[Arc<Swap>]>) -> Self {
        let (loaded, unloaded) = mpsc::channel(1);
        let mut following = JoinSet::new();
        for swap in swaps.iter() {
            let (swap, loaded) = (Arc::clone(swap), loaded.clone());
            following.spawn(async move { swap.follow(loaded).await });
        }
        Self { swaps: Arc::clone(swaps), unloaded, told: Vec::new(), _following: following }
    }

    /// Waits until every guest is loaded or known to be broken, but no longer than `most`. Answers whether all are.
    pub async fn within(&mut self, most: Duration) -> bool {
        tokio::time::timeout(most, self.finish()).await.is_ok()
    }

    /// Waits until every guest is loaded or known to be broken.
    pub async fn finish(&mut self) {
        // Nothing is ever sent.
        let _ = self.unloaded.recv().await;
    }

    /// Whether every guest is known to be broken, and no source can mend it.
    pub fn is_hopeless(&self) -> bool {
        let fetched = |function: &Function| {
            function.guest.source.is_some() || function.middleware.iter().any(|entry| entry.source.is_some())
        };
        let lost = |swap: &Arc<Swap>| !fetched(&swap.function) && swap.problem().is_some();
        !self.swaps.is_empty() && self.swaps.iter().all(lost)
    }

    /// What is wrong with the guests that are known to be broken, one line each.
    pub fn broken(&self) -> Vec<String> {
        let line = |swap: &Arc<Swap>| Some(format!("function {}: {}", swap.function.name, swap.problem()?));
        self.swaps.iter().filter_map(line).collect()
    }

    /// The same without those that a former call has answered.
    pub fn newly_broken(&mut self) -> Vec<String> {
        let mut broken = self.broken();
        broken.retain(|line| !self.told.contains(line));
        self.told.extend_from_slice(&broken);
        broken
    }

    /// Which sources did not deliver what serves now, one line each.
    pub fn undelivered(&self) -> impl Iterator<Item = String> {
        self.swaps.iter().filter_map(|swap| Some(format!("function {}: {}", swap.function.name, swap.undelivered()?)))
    }

    /// How many guests are still on their way.
    pub fn pending(&self) -> usize {
        self.unloaded.sender_strong_count()
    }
}
