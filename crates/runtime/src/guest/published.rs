//! The place of a function's guest: what requests find there at this moment, and what a swap replaces.

use super::Guest;
use arc_swap::ArcSwapOption;
use std::sync::{Arc, Mutex, PoisonError};

/// The guest that a function has now. Empty until the first one is loaded, or when that is broken.
#[derive(Default)]
pub struct Published {
    guest: ArcSwapOption<Guest>,
    /// Why there is none, once that is known.
    problem: Mutex<Option<String>>,
}

impl Published {
    /// The guest that answers requests which arrive now.
    pub fn guest(&self) -> Option<Arc<Guest>> {
        self.guest.load_full()
    }

    /// Why there is no guest; none while it is still being loaded.
    pub fn problem(&self) -> Option<String> {
        self.problem.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Lets `guest` answer requests from now on, and returns the one that did until now.
    pub fn publish(&self, guest: Arc<Guest>) -> Option<Arc<Guest>> {
        self.guest.swap(Some(guest))
    }

    /// Says why there is no guest.
    pub fn fail(&self, why: String) {
        *self.problem.lock().unwrap_or_else(PoisonError::into_inner) = Some(why);
    }
}
