//! `flexwasm doctor`: what stands between an app and its life on the Flex Consumption plan, each with what to change.
//!
//! [`local`] looks at the app and its package, [`remote`] asks an app that is deployed.

pub mod local;
pub mod remote;

use std::fmt;

/// What was found at one point.
#[derive(Debug, PartialEq, Eq)]
pub enum Finding {
    /// It is as it should be.
    Fine(String),
    /// Nothing is wrong, but it is good to know.
    Note(String),
    /// Something is wrong: what, and what to do.
    Change(String),
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fine(text) => write!(f, "ok      {text}"),
            Self::Note(text) => write!(f, "note    {text}"),
            Self::Change(text) => write!(f, "change  {text}"),
        }
    }
}
