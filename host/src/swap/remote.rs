//! Guests from a source elsewhere, which is asked at the start and then again and again. What stands in front of a guest may come from
//! one as well.
//!
//! If the source cannot be reached, or has no guest that loads, the last good guest serves; if there is none that loads, the app's own
//! file does. An unreachable source costs a line in the log and nothing else.

use super::last_good::{Kept, LastGood};
use super::{Publication, Swap};
use crate::config::Function;
use crate::config::digest::Digest;
use crate::config::source::Remote;
use crate::guest::artifact::Artifact;
use crate::guest::compiler::NoCode;
use crate::guest::{Keep, LoadError};
use crate::source::{Fetched, Source};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{sleep, timeout};

/// How long the source may take to deliver the first guest. The start of the host waits for it.
const FIRST: Duration = Duration::from_secs(5);
/// The longest pause between two attempts to reach a source, unless `guest.poll` is longer.
const LONGEST: Duration = Duration::from_secs(600);

/// Publishes the guest that `remote` has, and each that takes its place. With the number of a part it is the component of
/// `guest.middleware` instead, and the app's own file of it serves already.
pub async fn follow(swap: &Swap, part: Option<usize>, remote: &Remote, loaded: impl Send) {
    let made = {
        let (remote, max_size) = (remote.clone(), swap.function.guest.max_size);
        tokio::task::spawn_blocking(move || Source::new(&remote, max_size))
    };
    let source = match made.await.expect("certificates are read without panic") {
        Ok(source) => source,
        Err(why) => {
            if part.is_none() {
                swap.begin(&remote.to_string(), Err(LoadError::Fetch(why))).await;
            } else {
                swap.refuse(&remote.to_string(), &LoadError::Fetch(why));
            }
            return;
        }
    };
    let mut following = Following { swap, part, source, origin: remote.to_string(), version: None, failures: 0 };
    following.begin(remote).await;
    drop(loaded);
    while following.goes_on() {
        sleep(following.pause()).await;
        following.look(remote).await;
    }
}

struct Following<'a> {
    swap: &'a Swap,
    /// What it delivers, as a number in `guest.middleware`; none is the guest itself.
    part: Option<usize>,
    source: Source,
    /// The source without its secrets.
    origin: String,
    /// The version that the source gave to the guest that it delivered last, published or not.
    version: Option<String>,
    /// Attempts in a row that failed.
    failures: u32,
}

impl Following<'_> {
    /// Publishes what is best at the start: what the source has, else the last good guest, else the file of the app.
    async fn begin(&mut self, remote: &Remote) {
        let kept = self.kept(remote).await;
        self.version = kept.as_ref().and_then(|kept| kept.version.clone());
        let known = self.version.clone();
        let mut unchanged = false;
        match timeout(FIRST, self.source.fetch(known.as_deref())).await {
            Ok(Ok(Fetched::Unchanged)) => unchanged = true,
            Ok(Ok(Fetched::Guest { wasm, version })) => {
                match self.take(remote, wasm, version, Keep::IfPossible).await {
                    Ok(()) => return,
                    Err(why) => self.undelivered(format!("{} {why}", self.origin)),
                }
            }
            failed => {
                let why = match failed {
                    Ok(Err(why)) => why.to_string(),
                    _ => format!("{} did not answer within {} s", self.origin, FIRST.as_secs()),
                };
                self.failures = 1;
                tracing::warn!(function = %self.swap.function.name, "{why}");
                self.undelivered(why);
            }
        }
        if let Some(Kept { wasm, .. }) = kept {
            let published = match Artifact::new(self.origin.clone(), wasm) {
                Ok(artifact) => self.publish(artifact, Keep::IfPossible).await.map(drop),
                Err(why) => Err(why.into()),
            };
            match published {
                Ok(()) if unchanged => return,
                Ok(()) => return self.serves("the last good guest"),
                Err(why) => {
                    let why = format!("the last good guest of {} {why}", self.origin);
                    tracing::error!(function = %self.swap.function.name, "{why}");
                    if self.version == known {
                        // Fetched again in whole: it may be the kept file that is damaged.
                        self.version = None;
                    }
                    if unchanged {
                        self.undelivered(why);
                    }
                }
            }
        }
        if self.part.is_none() {
            let file = &self.swap.function.script_file;
            self.swap.begin(&file.display().to_string(), self.swap.read(file).await).await;
        }
        self.serves(if self.part.is_none() { "the guest of the app" } else { "the part of the app" });
    }

    /// Logs which guest serves in place of the one that the source has.
    fn serves(&self, what: &str) {
        if let Some(guest) = self.swap.place.guest() {
            let function = &self.swap.function.name;
            let digest = self.part.map_or(guest.digest, |part| guest.parts[part].digest);
            tracing::warn!(%function, "serves {what} ({}) until {} delivers", digest.short(), self.origin);
        }
    }

    /// Whether the source may have something else, now or later.
    fn goes_on(&self) -> bool {
        self.source.can_change() || self.version.is_none() || self.failures > 0
    }

    /// Up to a tenth more or less, so that many machines do not ask at the same moment; longer after failures.
    fn pause(&self) -> Duration {
        let poll = self.swap.function.guest.poll;
        let pause = poll.saturating_mul(1 << self.failures.min(16)).min(LONGEST.max(poll));
        pause.mul_f64(0.9 + 0.2 * fastrand::f64())
    }

    /// Asks the source, and publishes what is new there.
    async fn look(&mut self, remote: &Remote) {
        match self.source.fetch(self.version.as_deref()).await {
            Ok(Fetched::Unchanged) => self.failures = 0,
            Ok(Fetched::Guest { wasm, version }) => {
                // A refusal is in the log already; the source is asked again when its version changes.
                let _ = self.take(remote, wasm, version, Keep::Always).await;
            }
            Err(why) => {
                self.failures += 1;
                tracing::warn!(function = %self.swap.function.name, "{why}; asked again within {} s", self.pause().as_secs() + 1);
            }
        }
    }

    fn undelivered(&self, why: String) {
        // One is enough to be told.
        let _ = self.swap.undelivered.set(why);
    }

    /// Publishes what was fetched.
    async fn take(
        &mut self,
        remote: &Remote,
        wasm: Vec<u8>,
        version: Option<String>,
        keep: Keep,
    ) -> Result<(), LoadError> {
        let digest = Digest::of(&wasm);
        let taken = self.install(remote, wasm, keep).await;
        match taken {
            Ok(_) => {
                (self.version, self.failures) = (version, 0);
                self.note(remote, digest).await;
                Ok(())
            }
            Err(why) => {
                self.swap.refuse(&self.origin, &why);
                match why {
                    // The machine's fault and not the guest's, perhaps: the next attempt may succeed.
                    LoadError::Keep(_)
                    | LoadError::Engine(_)
                    | LoadError::Compile(NoCode::Time(_) | NoCode::Process(_) | NoCode::Unwanted) => self.failures += 1,
                    _ => (self.version, self.failures) = (version, 0),
                }
                Err(why)
            }
        }
    }

    async fn install(&self, remote: &Remote, wasm: Vec<u8>, keep: Keep) -> Result<Publication, LoadError> {
        let origin = self.origin.clone();
        let artifact = self.with_last_good(remote, move |good| {
            let artifact = Artifact::new(origin, wasm)?;
            match good.map(|good| good.keep(&artifact)) {
                Some(Err(why)) if keep == Keep::Always => return Err(LoadError::Keep(why)),
                Some(Err(why)) => tracing::warn!("{why}: a start without the source will not serve this guest"),
                _ => {}
            }
            Ok(artifact)
        });
        self.publish(artifact.await?, keep).await
    }

    async fn publish(&self, artifact: Artifact, keep: Keep) -> Result<Publication, LoadError> {
        self.swap.publish_part(self.part, artifact, keep).await
    }

    async fn kept(&self, remote: &Remote) -> Option<Kept> {
        self.with_last_good(remote, |good| good?.read()).await
    }

    async fn note(&self, remote: &Remote, digest: Digest) {
        let version = self.version.clone();
        let noted =
            self.with_last_good(remote, move |good| good.map(|good| good.note(&digest, version.as_deref()))).await;
        if let Some(Err(why)) = noted {
            tracing::warn!("{why}: a start without the source will not serve this guest");
        }
    }

    /// Does `work`, which reads or writes files, on a blocking thread. It gets none if there is no cache folder.
    async fn with_last_good<T: Send + 'static>(
        &self,
        remote: &Remote,
        work: impl FnOnce(Option<LastGood<'_>>) -> T + Send + 'static,
    ) -> T {
        let compiler = Arc::clone(&self.swap.loader.compiler);
        let Function { name, middleware, .. } = &self.swap.function;
        let owner = match self.part {
            Some(part) => format!("{name}/{}", middleware[part].file),
            None => name.to_string(),
        };
        let remote = remote.clone();
        let work = move || work(compiler.cache().map(|cache| LastGood::new(cache, &owner, &remote)));
        tokio::task::spawn_blocking(work).await.expect("files are read and written without panic")
    }
}
