//! How a guest fails.

use super::explain::{self, Failure};
use crate::guest::composition::Part;
use crate::sandbox::Sandbox;
use crate::sandbox::hit::Hit;
use wasmtime::Store;

/// How a guest failed. The text is for the operator; a client must not see it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// No instance could be made.
    #[error("could not be instantiated: {0}")]
    Instantiate(String),
    /// It trapped.
    #[error("trapped: {0}")]
    Trap(String),
    /// It ran into a limit that ends it.
    #[error("was ended: {0}")]
    Limit(String),
    /// It called exit, in the part that the text names if it has several.
    #[error("called exit with status {0}{1}: let the handler return instead")]
    Exit(i32, String),
    /// It returned without an answer.
    #[error("returned without setting a response")]
    NoReply,
    /// It set an error in place of a response.
    #[error("answered with the error {0}")]
    ErrorCode(String),
    /// It returned before its body was finished, or dropped the body unfinished.
    #[error("did not finish its response body")]
    Unfinished,
    /// Its head cannot be sent: an informational status, say, or a wrong length.
    #[error("set a response that cannot be sent: {0}")]
    BadHead(&'static str),
}

impl Fault {
    /// The body has more bytes than the head announces.
    pub const TOO_LONG: Self = Self::BadHead("its content-length is less than its body's");

    /// One word for programs.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Instantiate(_) => "instantiate",
            Self::Trap(_) => "trap",
            Self::Limit(_) => "limit",
            Self::Exit(..) => "exit",
            Self::NoReply => "no-reply",
            Self::ErrorCode(_) => "error-code",
            Self::Unfinished => "unfinished",
            Self::BadHead(_) => "bad-head",
        }
    }

    /// Why a call into the guest, which has these parts, failed.
    pub(super) fn of_call(store: &Store<Sandbox>, parts: &[Part], error: &wasmtime::Error) -> Self {
        match explain::failure(store, parts, error) {
            Failure::Exit(status, part) => Self::Exit(status, part),
            Failure::Limit(words) => Self::Limit(words),
            Failure::Trap(words) => Self::Trap(words),
        }
    }

    /// Why no instance could be made.
    pub(super) fn of_start(store: &Store<Sandbox>, parts: &[Part], error: &wasmtime::Error) -> Self {
        match explain::failure(store, parts, error) {
            Failure::Exit(status, part) => Self::Exit(status, part),
            Failure::Limit(words) | Failure::Trap(words) => Self::Instantiate(words),
        }
    }

    /// The guest set an error in place of a response.
    pub(super) fn error_code(code: &impl std::fmt::Debug) -> Self {
        Self::ErrorCode(explain::words_of_guest(&format!("{code:?}")))
    }
}

impl From<Hit> for Fault {
    fn from(hit: Hit) -> Self {
        Self::Limit(hit.explained())
    }
}
