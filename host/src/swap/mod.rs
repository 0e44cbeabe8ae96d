//! One function's guests over time: build beside, check, publish one pointer.
//!
//! A new guest is read, compiled or mapped, linked, instantiated in the spare slot and sent the smoke request or event, all while the
//! old one serves. Then one pointer is replaced: requests that arrive from then on get the new generation, and those that had
//! arrived end on theirs. A failure before that leaves everything as it was.
//!
//! [`watch`] and [`remote`] notice a new guest by themselves; [`control`](crate::control) is given one by a person.

mod last_good;
mod remote;
mod smoke;
mod watch;

use crate::config::Function;
use crate::config::digest::Digest;
use crate::describe;
use crate::guest::artifact::Artifact;
use crate::guest::compiler::Terms;
use crate::guest::composition::{self, Part};
use crate::guest::published::Published;
use crate::guest::{Guest, Keep, LoadError, Loader};
use crate::live::{Kind, Live};
use crate::observe::startup;
use crate::run::Pool;
use crate::sandbox::Policy;
use futures_util::future::join_all;
use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

/// The guests of one function, of which one serves.
pub struct Swap {
    /// The function whose guests these are.
    pub function: Function,
    policy: Arc<Policy>,
    loader: Arc<Loader>,
    pool: Pool,
    /// Who is told of swaps.
    live: Arc<Live>,
    /// Where requests find the guest.
    place: Arc<Published>,
    /// Why the first guest is not what its source has.
    undelivered: OnceLock<String>,
    /// Held while a guest is checked, so that those of a function are published in the order in which they were found.
    turn: tokio::sync::Mutex<()>,
    /// Held for the moment in which the guest is replaced: a rollback does not wait for one that is still being checked.
    history: Mutex<History>,
}

#[derive(Default)]
struct History {
    /// Guests published so far.
    generations: u64,
    /// The guest that a rollback publishes.
    previous: Option<Arc<Guest>>,
}

/// Names one guest of a function.
#[derive(Debug, Clone)]
pub struct Version {
    /// Counts the guests of the function, from 1.
    pub generation: u64,
    /// Of the component.
    pub digest: Digest,
    /// The components that it was composed of, if it was.
    pub parts: Arc<[Part]>,
}

impl Version {
    fn of(guest: &Guest) -> Self {
        Self { generation: guest.generation, digest: guest.digest, parts: Arc::clone(&guest.parts) }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { generation, digest, parts } = self;
        write!(f, "generation {generation} ({}", digest.short())?;
        for (number, part) in parts.iter().enumerate() {
            write!(f, "{} {} {}", if number == 0 { " of" } else { "," }, part.name, part.digest.short())?;
        }
        f.write_str(")")
    }
}

/// The result of publishing a guest.
#[derive(Debug)]
pub enum Publication {
    /// Another guest serves.
    Swapped {
        /// The guest that served before, if any.
        old: Option<Version>,
        /// The guest that serves now.
        new: Version,
        /// From the beginning of the check to the publication.
        took: Duration,
        /// What the new guest asks for and does not get, and the old one did not ask for.
        notes: Vec<String>,
    },
    /// The same guest serves already.
    Unchanged(Version),
}

impl Swap {
    /// Nothing is loaded yet. `place` is where requests will find the guest, `live` is told of its successors.
    pub fn new(
        function: Function,
        policy: Arc<Policy>,
        loader: Arc<Loader>,
        pool: Pool,
        place: Arc<Published>,
        live: Arc<Live>,
    ) -> Self {
        let (undelivered, turn, history) = Default::default();
        Self { function, policy, loader, pool, live, place, undelivered, turn, history }
    }

    /// Which guest serves, if any.
    pub fn serving(&self) -> Option<Version> {
        self.place.guest().map(|guest| Version::of(&guest))
    }

    /// Why no guest serves, if that is known.
    pub fn problem(&self) -> Option<String> {
        self.place.problem().filter(|_| self.place.guest().is_none())
    }

    /// Why the first guest is not the one that its source has. None if it is.
    pub fn undelivered(&self) -> Option<&str> {
        self.undelivered.get().map(String::as_str)
    }

    /// Loads the first guest, and then every other guest that its source has, for as long as the future is polled. Drops `loaded` when
    /// the first guest serves, or is known not to.
    pub async fn follow(&self, loaded: impl Send + Sync) {
        let loaded = Arc::new(loaded);
        // The whole is there, with what stands in front read from its files, when nobody holds the sender any more.
        let (begun, whole) = tokio::sync::watch::channel(());
        let middleware = self.function.middleware.iter().enumerate().map(|(part, entry)| {
            let (mut whole, loaded) = (whole.clone(), Arc::clone(&loaded));
            async move {
                match &entry.source {
                    Some(remote) => {
                        let _ = whole.changed().await;
                        remote::follow(self, Some(part), remote, loaded).await;
                    }
                    None => {
                        drop(loaded);
                        watch::follow_part(self, part).await;
                    }
                }
            }
        });
        let middleware = join_all(middleware);
        let loaded = (loaded, begun);
        let guest = async {
            match &self.function.guest.source {
                Some(remote) => remote::follow(self, None, remote, loaded).await,
                None => watch::follow(self, &self.function.script_file, loaded).await,
            }
        };
        futures_util::future::join(guest, middleware).await;
    }

    /// Checks `artifact`, and publishes it: it serves requests from now on. Dropping the future leaves everything as it was.
    ///
    /// # Errors
    /// [`LoadError`]; the old guest goes on serving.
    pub async fn publish(&self, artifact: Artifact, keep: Keep) -> Result<Publication, LoadError> {
        self.publish_part(None, artifact, keep).await
    }

    /// As [`Swap::publish`], but with `artifact` in the place of the component with this number in `guest.middleware`; none is the
    /// guest itself. The other parts stay what they are.
    ///
    /// # Errors
    /// As [`Swap::publish`].
    pub async fn publish_part(
        &self,
        part: Option<usize>,
        artifact: Artifact,
        keep: Keep,
    ) -> Result<Publication, LoadError> {
        let _turn = self.turn.lock().await;
        let begun = Instant::now();
        composition::check_digest(&self.function, part, &artifact)?;
        let artifact = match self.function.middleware.len() {
            0 => artifact,
            _ => self.compose(part, artifact).await?,
        };
        let (old, generation) = {
            let history = self.history();
            (self.place.guest(), history.generations + 1)
        };
        if let Some(same) = old.as_ref().filter(|old| old.digest == artifact.digest) {
            return Ok(Publication::Unchanged(Version::of(same)));
        }
        let terms = Terms { keep, time: self.function.guest.compile_timeout };
        let guest = self.loader.load(&Arc::new(artifact), Arc::clone(&self.policy), generation, terms).await?;
        let guest = Arc::new(guest);
        let linked = Instant::now();
        self.pool.try_out(&guest, smoke::question(&self.function, &guest).await?).await?;
        startup::phase(format_args!("trial of {}", self.function.name), linked);
        let notes =
            old.map_or_else(Vec::new, |old| describe::not_granted(&self.function, &old.imports, &guest.imports));
        let mut history = self.history();
        if history.generations + 1 != generation {
            return Err(LoadError::Superseded);
        }
        Ok(self.replace(&mut history, guest, begun, notes, "swapped"))
    }

    /// The guest with all its parts, of which one is new.
    async fn compose(&self, part: Option<usize>, artifact: Artifact) -> Result<Artifact, LoadError> {
        let (function, serving) = (self.function.clone(), self.place.guest());
        let composing = tokio::task::spawn_blocking(move || {
            let place = part.unwrap_or(function.middleware.len());
            let parts = match serving {
                Some(guest) => {
                    let mut parts = guest.parts.to_vec();
                    parts[place] = Part::new(composition::name_of(&function, place), artifact);
                    parts
                }
                None => composition::parts(&function, Some((place, artifact)))?,
            };
            composition::compose(&function, &parts)
        });
        // A component may bring down the library that reads it.
        composing.await.unwrap_or_else(|error| Err(LoadError::Composition(error.to_string())))
    }

    /// Publishes the guest that served before the present one again, as another generation. It is not checked again, and a guest
    /// that is being checked meanwhile is no longer published.
    ///
    /// # Errors
    /// No guest served before the present one.
    pub fn rollback(&self) -> Result<Publication, &'static str> {
        let mut history = self.history();
        let begun = Instant::now();
        let previous = history.previous.take().ok_or("has had no other guest since the host started")?;
        let guest = Arc::new(previous.again(history.generations + 1));
        Ok(self.replace(&mut history, guest, begun, Vec::new(), "rolled-back"))
    }

    fn history(&self) -> MutexGuard<'_, History> {
        self.history.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `how` is one word for what is counted.
    fn replace(
        &self,
        history: &mut History,
        guest: Arc<Guest>,
        begun: Instant,
        notes: Vec<String>,
        how: &'static str,
    ) -> Publication {
        history.generations = guest.generation;
        let new = Version::of(&guest);
        let old = self.place.publish(guest);
        let took = begun.elapsed();
        let function = &self.function.name;
        let old = old.map(|old| {
            let version = Version::of(&old);
            self.policy.metrics.swapped(how);
            let words = format!("{new} serves in place of {version}, after {:.1} ms", took.as_secs_f64() * 1e3);
            tracing::info!(%function, "swapped: {words}");
            self.live.swapped(Kind::Swap(how), function, words);
            old.outdate();
            self.pool.retire(&old);
            history.previous = Some(old);
            version
        });
        for note in &notes {
            tracing::warn!(%function, "the new guest {note}");
        }
        Publication::Swapped { old, new, took, notes }
    }

    /// Publishes what was found at the first look. If that fails, [`Swap::problem`] says why.
    async fn begin(&self, origin: &str, found: Result<Artifact, LoadError>) {
        let published = match found {
            Ok(artifact) => self.publish(artifact, Keep::IfPossible).await.map(drop),
            Err(error) => Err(error),
        };
        if let Err(why) = published {
            self.place.fail(format!("{origin} {why}"));
        }
    }

    /// Logs why a guest was not published.
    pub fn refuse(&self, origin: &str, why: &LoadError) {
        self.policy.metrics.swapped("refused");
        let function = &self.function.name;
        let words = match self.place.guest() {
            Some(guest) => format!("{origin} {why}; {} goes on serving", Version::of(&guest)),
            None => format!("{origin} {why}"),
        };
        tracing::error!(%function, "{words}");
        self.live.swapped(Kind::Swap("refused"), function, words);
    }

    /// Reads a guest from a file.
    async fn read(&self, path: &Path) -> Result<Artifact, LoadError> {
        let (path, most) = (path.to_owned(), self.function.guest.max_size);
        let read = tokio::task::spawn_blocking(move || Artifact::read(&path, most));
        Ok(read.await.expect("reading does not panic")?)
    }
}
