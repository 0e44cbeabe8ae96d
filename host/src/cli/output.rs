//! What commands print, and how they end when nobody reads it.

use crate::config::section::Problem;
use std::fmt::{Arguments, Display};
use std::io::{self, ErrorKind, Write as _};
use std::process::ExitCode;

/// Exit status of a command whose reader went away, as a shell tells of a process that SIGPIPE ended: 128 + 13.
const READER_GONE: u8 = 141;

/// Why a command ends early.
#[derive(Debug, PartialEq, Eq)]
pub enum Ended {
    /// Nobody reads its output any more, as with `| head -1`. There is nobody to tell.
    ReaderGone,
    /// It failed; the words are for a person.
    Failed(String),
    /// It was called wrongly; the words are for a person.
    Wrong(String),
}

impl From<String> for Ended {
    fn from(message: String) -> Self {
        Self::Failed(message)
    }
}

impl From<Vec<Problem>> for Ended {
    fn from(problems: Vec<Problem>) -> Self {
        Self::all(&problems)
    }
}

impl Ended {
    /// It failed for several reasons: a line each.
    pub fn all(reasons: &[impl ToString]) -> Self {
        let lines: Vec<String> = reasons.iter().map(ToString::to_string).collect();
        Self::Failed(lines.join("\nflexwasm: "))
    }

    /// Tells why on standard error, if there is somebody to tell, and gives the exit status.
    pub fn report(self) -> ExitCode {
        match self {
            Self::ReaderGone => ExitCode::from(READER_GONE),
            Self::Failed(message) => {
                complain(message);
                ExitCode::from(1)
            }
            Self::Wrong(message) => {
                complain(message);
                ExitCode::from(2)
            }
        }
    }
}

/// Prints to standard output.
///
/// # Errors
/// [`Ended`]: the reader went away, or what it is written to, such as a file on a full disk, does not take it.
pub fn print(text: Arguments<'_>) -> Result<(), Ended> {
    let mut stdout = io::stdout().lock();
    stdout.write_fmt(text).and_then(|()| stdout.flush()).map_err(|error| match error.kind() {
        ErrorKind::BrokenPipe => Ended::ReaderGone,
        _ => Ended::Failed(format!("cannot write to standard output: {error}")),
    })
}

/// Prints a line to standard error. Where nobody reads it, nothing is lost: the exit status tells the same.
pub fn complain(message: impl Display) {
    let _ = writeln!(io::stderr().lock(), "flexwasm: {message}");
}
