//! Timers that are moved with every request and hardly ever go off.
//!
//! Setting a tokio timer takes the lock of all timers, and each request would do it several times. A [`Patience`] is set
//! again only when it would go off too late, or has gone off too early.

use hyper::rt::{Sleep, Timer};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;

/// Waits until a deadline that may be moved at next to no cost.
pub struct Patience {
    deadline: Instant,
    /// Never goes off later than the deadline.
    armed: Pin<Box<tokio::time::Sleep>>,
}

impl Patience {
    /// Waits until `deadline`.
    pub fn until(deadline: Instant) -> Self {
        Self { deadline, armed: Box::pin(tokio::time::sleep_until(deadline.into())) }
    }

    /// Moves the deadline.
    pub fn move_to(&mut self, deadline: Instant) {
        self.deadline = deadline;
        if deadline < self.armed.deadline().into_std() {
            self.armed.as_mut().reset(deadline.into());
        }
    }
}

impl Future for Patience {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        while self.armed.as_mut().poll(cx).is_ready() {
            if Instant::now() >= self.deadline {
                return Poll::Ready(());
            }
            let deadline = self.deadline;
            self.armed.as_mut().reset(deadline.into());
        }
        Poll::Pending
    }
}

impl Sleep for Patience {}

/// hyper's timer for request heads.
#[derive(Clone)]
pub struct PatientTimer;

impl Timer for PatientTimer {
    fn sleep(&self, duration: std::time::Duration) -> Pin<Box<dyn Sleep>> {
        self.sleep_until(Instant::now() + duration)
    }

    fn sleep_until(&self, deadline: Instant) -> Pin<Box<dyn Sleep>> {
        Box::pin(Patience::until(deadline))
    }

    fn reset(&self, sleep: &mut Pin<Box<dyn Sleep>>, deadline: Instant) {
        match sleep.as_mut().downcast_mut_pin::<Patience>() {
            Some(mut patience) => patience.move_to(deadline),
            None => *sleep = self.sleep_until(deadline),
        }
    }
}
