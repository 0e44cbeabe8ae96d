//! Running one invocation in a leased slot: from the call of the guest to the last byte of its answer.
//!
//! [`Lease::invoke`](pool::Lease::invoke) makes or takes the instance, calls it, and returns a [`Reply`] once the head is there;
//! [`ReplyBody`] carries the guest from then on. What is in a slot, and what waits for one, is [`pool`]'s affair.
//!
//! The guest is not a task of its own: it is driven by whatever waits for the [`Reply`] or polls its [`ReplyBody`]. Measured, a
//! task per request costs 15 to 40 % of throughput, and a caller that goes away takes the guest with it by dropping the future.

mod call;
mod explain;
mod fault;
mod instance;
mod invoke;
mod p2;
mod p3;
mod reply;
mod trial;
mod turn;
mod unbudgeted;

pub use fault::Fault;
pub use invoke::{Reply, Timings};
pub use reply::ReplyBody;
pub use trial::Question;

use crate::config::settings::Share;
use crate::guest::Guest;
use crate::pool::{self, Tenant};
use instance::Instance;
use std::sync::Arc;
use std::time::Duration;

/// The pool of this process: slots for instances of guests.
pub type Pool = pool::Pool<Guest, Instance>;

/// The right to run one invocation of a guest.
pub type Lease = pool::Lease<Guest, Instance>;

impl Tenant for Guest {
    fn function(&self) -> &Arc<str> {
        &self.policy.function
    }

    fn generation(&self) -> u64 {
        self.generation
    }

    fn share(&self) -> Share {
        self.policy.share
    }

    fn initial_memory(&self) -> u64 {
        self.initial_memory
    }

    fn idle_timeout(&self) -> Duration {
        self.policy.reuse.idle_timeout
    }

    fn may_park(&self) -> bool {
        !self.is_outdated() && !self.experience.runs_fresh()
    }
}
