//! Lines that a guest writes, kept for an answer that takes them along.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// One line of a guest's output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// `stdout` or `stderr`.
    pub stream: &'static str,
    /// Without its end.
    pub text: String,
}

/// The lines of one invocation, which `limits.log` bounds; none once its answer has taken them.
#[derive(Debug)]
pub struct Lines(Mutex<Option<Vec<Line>>>);

impl Default for Lines {
    fn default() -> Self {
        Self(Mutex::new(Some(Vec::new())))
    }
}

impl Lines {
    /// Keeps a line.
    ///
    /// # Errors
    /// The line, where they are taken already.
    pub fn keep(&self, line: Line) -> Result<(), Line> {
        match &mut *self.kept() {
            Some(lines) => {
                lines.push(line);
                Ok(())
            }
            None => Err(line),
        }
    }

    /// The texts that were kept so far.
    pub fn texts(&self) -> Vec<String> {
        self.kept().iter().flatten().map(|line| line.text.clone()).collect()
    }

    /// What was kept. From here on nothing more is.
    pub fn take(&self) -> Vec<Line> {
        self.kept().take().unwrap_or_default()
    }

    fn kept(&self) -> MutexGuard<'_, Option<Vec<Line>>> {
        // Every change under the lock is complete before anything can panic.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
