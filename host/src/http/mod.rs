//! The HTTP front: sockets, connections, one request from top to bottom, and every status that the host chooses.
//!
//! The path of a request: [`listener`] accepts → [`connection`] drives hyper with its timers → [`service`] finds the
//! function, admits, invokes → [`response_body`] carries the lease to the last byte → its drop, or the host's own response
//! ([`respond`]), drops the [`closing`], which makes the record of the invocation.

mod admin;
mod closing;
mod connection;
mod cors;
mod event;
mod event_room;
mod exchange;
mod flow;
pub mod home;
pub mod listener;
mod received;
mod request_body;
mod respond;
mod response_body;
mod sendable;
pub mod service;
mod socket;
mod spool;
#[cfg(test)]
mod tests;
mod timer;

use ::http::header::{ACCEPT, HeaderMap};
use tokio_util::sync::CancellationToken;

/// Whether a client names this kind of content among those that it accepts.
pub fn accepts(headers: &HeaderMap, kind: &str) -> bool {
    headers.get_all(ACCEPT).iter().any(|accepted| accepted.to_str().is_ok_and(|text| text.contains(kind)))
}

/// How everything that serves is told to stop.
#[derive(Clone, Default)]
pub struct Stop {
    /// Accept nothing new, finish what runs.
    pub gently: CancellationToken,
    /// Cut off what still runs.
    pub now: CancellationToken,
}
