//! Lines that guests write, kept for the invocations whose answer takes them along.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// One line of a guest's output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// `stdout` or `stderr`.
    pub stream: &'static str,
    /// Without its end.
    pub text: String,
}

/// The lines of a function's running invocations, by their ids. `limits.log` bounds each of them.
#[derive(Debug, Default)]
pub struct Transcripts(Mutex<HashMap<Arc<str>, Vec<Line>>>);

impl Transcripts {
    /// From here on the lines of this invocation are kept.
    pub fn begin(&self, invocation: &Arc<str>) {
        self.lines().insert(Arc::clone(invocation), Vec::new());
    }

    /// Keeps a line.
    ///
    /// # Errors
    /// The line, where nobody asked for those of this invocation.
    pub fn keep(&self, invocation: &str, line: Line) -> Result<(), Line> {
        match self.lines().get_mut(invocation) {
            Some(lines) => {
                lines.push(line);
                Ok(())
            }
            None => Err(line),
        }
    }

    /// The texts that were kept so far.
    pub fn lines_of(&self, invocation: &str) -> Vec<String> {
        let lines = self.lines();
        lines.get(invocation).into_iter().flatten().map(|line| line.text.clone()).collect()
    }

    /// What was kept. From here on nothing more is.
    pub fn end(&self, invocation: &str) -> Vec<Line> {
        self.lines().remove(invocation).unwrap_or_default()
    }

    fn lines(&self) -> MutexGuard<'_, HashMap<Arc<str>, Vec<Line>>> {
        // Every change under the lock is complete before anything can panic.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
