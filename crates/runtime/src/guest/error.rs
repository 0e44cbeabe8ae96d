//! Why a guest is not loaded, in words for the person who runs the host.

use super::artifact::NoArtifact;
use super::compiler::NoCode;
use crate::config::digest::Digest;
use std::sync::Arc;

/// Why a guest cannot serve, and what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// Its bytes are no component.
    #[error(transparent)]
    Artifact(#[from] NoArtifact),
    /// Its source did not deliver it.
    #[error("{0}")]
    Fetch(String),
    /// Not what `guest.sha256` names, or the entry of a part.
    #[error("has the SHA-256 {0}, but {key} allows only {1}: deliver that very guest, or change the setting", key = .2)]
    Digest(Digest, Digest, &'static str),
    /// Something in front of it cannot be had.
    #[error("cannot be composed with its guest.middleware: {0} {1}")]
    Middleware(Arc<str>, Box<LoadError>),
    /// It does not fit what stands in front of it.
    #[error("cannot be composed with its guest.middleware: {0}")]
    Composition(String),
    /// There is no engine for it.
    #[error("{0}")]
    Engine(String),
    /// Its code cannot be had.
    #[error(transparent)]
    Compile(#[from] NoCode),
    /// Another decision came first.
    #[error("was not published, because a rollback came first: publish it again if it is still wanted")]
    Superseded,
    /// It wants what the host does not have, or does not export an HTTP handler.
    #[error(
        "does not fit the world of this host: {0}; it must export wasi:http/incoming-handler@0.2 and import only wasi 0.2 interfaces, or export wasi:http/handler@0.3 and import only wasi 0.3 and 0.2 interfaces, and in both cases flexwasm:host/diagnostics@0.1.0 and flexwasm:host/bindings@0.1.0"
    )]
    World(String),
    /// It fits no slot.
    #[error(
        "needs {need} of memory from the start, but {key} allows {limit}: raise that limit, or give the guest a smaller initial memory"
    )]
    Memory {
        /// Spelt size.
        need: String,
        /// Which setting.
        key: &'static str,
        /// Spelt size.
        limit: String,
    },
    /// It consists of more than it may.
    #[error(
        "has {has} {what}, but {key} allows {limit} (it can be set to {most}): raise it, or compose the guest of fewer components"
    )]
    Parts {
        /// What there are too many of.
        what: &'static str,
        /// How many it has.
        has: u64,
        /// Which setting.
        key: &'static str,
        /// How many that allows.
        limit: u32,
        /// How many it may allow.
        most: u64,
    },
    /// Its core instances have more state than fits.
    #[error(
        "has globals, imports, exports and elements of tables that take {need} in every instance, and {most} is the most: give it fewer of them"
    )]
    State {
        /// Spelt size.
        need: String,
        /// Spelt size.
        most: String,
    },
    /// Its code could not be kept, though there is a cache folder.
    #[error("was not installed: {0}")]
    Keep(String),
    /// A trial instantiation failed: a trap in a start function, say.
    #[error("cannot be instantiated: {0}")]
    Trial(String),
    /// It did not answer the trial request as it should.
    #[error("failed its smoke request {path}: {why}; expected {expected} (guest.smoke)")]
    Smoke {
        /// What was asked.
        path: String,
        /// What happened.
        why: String,
        /// What should have.
        expected: String,
    },
}
