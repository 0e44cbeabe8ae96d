//! Asking what is there already, whatever tokio's budget says.
//!
//! tokio lets a task do so much in one poll, and then everything looks pending, ready or not. A guest is driven in the same poll
//! in which the host asks what it has left, and may have used the budget up: a head that is there would look missing, a body
//! that is finished would look unfinished, and a good answer would become a 500. So these questions are asked outside of the budget.

use std::pin::pin;
use std::task::{Context, Poll, Waker};
use tokio::task::coop::unconstrained;

/// Polls `future`, which wakes the task of `cx` when it is ready later.
pub fn poll<F: Future + Unpin>(future: &mut F, cx: &mut Context<'_>) -> Poll<F::Output> {
    pin!(unconstrained(future)).poll(cx)
}

/// Polls `future` for the last time. It wakes no task: what it waits for has ended, so what is not there now never comes.
pub fn poll_last<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
    poll(future, &mut Context::from_waker(Waker::noop()))
}
