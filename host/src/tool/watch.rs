//! Guests that are built again whenever their sources change, beside the host that serves them. The host notices the new file by itself
//! ([`crate::swap`]).

use super::build::build;
use super::sources::{Source, State};
use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

/// How often the sources are looked at, and how long they have to be left alone: editors write several files, or one in steps.
const PAUSE: Duration = Duration::from_millis(100);

/// Builds that may change their own sources, one after the other, before they are left alone.
const MOST_RESTLESS: u32 = 2;

/// The sources of a guest, and what they were when it was built last.
pub struct Watched {
    source: Source,
    built: State,
    /// Builds in a row during which the sources have changed.
    restless: u32,
}

impl Watched {
    /// Remembers the sources as they are now: what changes from here on is built.
    pub fn new(source: Source) -> Self {
        let built = State::of(&source.folder, &State::default());
        Self { source, built, restless: 0 }
    }

    /// Builds the guest if its sources have changed.
    fn look(&mut self) {
        let mut seen = State::of(&self.source.folder, &self.built);
        if seen == self.built {
            return;
        }
        loop {
            sleep(PAUSE);
            let again = State::of(&self.source.folder, &seen);
            if again == seen {
                break;
            }
            seen = again;
        }
        // Half of what was there before was seen.
        if seen == self.built {
            return;
        }
        if let Err(why) = build(&self.source, &|said| tracing::info!("{said}")) {
            tracing::warn!("{why}; the guest before it goes on serving");
        }
        self.note(&seen, State::of(&self.source.folder, &seen));
    }

    /// Takes `seen` for what was built, unless builds go on changing their own sources; `after` is what the sources are now.
    fn note(&mut self, seen: &State, after: State) {
        self.restless = if after == *seen { 0 } else { self.restless + 1 };
        if self.restless < MOST_RESTLESS {
            self.built = seen.clone();
            return;
        }
        let file = after.difference(seen).unwrap_or(Path::new("a file")).display();
        tracing::warn!("{}: {file} changed while it was built, again: save it to have it built", self.source.function);
        (self.built, self.restless) = (after, 0);
    }
}

/// Watches them, for as long as the process lives.
pub fn follow(mut watched: Vec<Watched>) {
    loop {
        sleep(PAUSE);
        watched.iter_mut().for_each(Watched::look);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tool::sources::Language;
    use crate::tool::wit::World;
    use std::fs;

    #[test]
    fn a_build_that_changes_its_sources_is_repeated_once() {
        let folder = tempfile::tempdir().expect("a folder");
        let state = |text: &str| {
            fs::write(folder.path().join("app.js"), text).expect("written");
            State::of(folder.path(), &State::default())
        };
        let source = Source {
            function: "f".to_owned(),
            folder: folder.path().to_owned(),
            language: Language::Javascript,
            guest: folder.path().join("guest.wasm"),
            world: World { bindings: false, stores: false },
        };
        let mut watched = Watched::new(source);
        let (one, two, three) = (state("1"), state("2"), state("3"));
        // Saved while it was built: one more build.
        watched.note(&one, two.clone());
        assert!(watched.built == one);
        watched.note(&two, two.clone());
        assert!(watched.built == two);
        // Twice in a row: not built again before somebody saves.
        watched.note(&one, two.clone());
        watched.note(&two, three.clone());
        assert!(watched.built == three);
        watched.note(&one, two);
        assert!(watched.built == one);
    }
}
