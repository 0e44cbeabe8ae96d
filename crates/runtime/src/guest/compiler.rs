//! Where a guest's code comes from: the compiled file beside it, else the one in the cache folder, else a compilation.
//!
//! A compilation runs in a [`process`] of its own. Measured with the demonstration guest, the compiler leaves 45 MB behind in
//! the process that ran it, whatever the allocator's settings. And a component that makes the compiler crash or use up the memory
//! costs its own function, not the host.
//!
//! A guest that several functions have, or that is asked for again while it is compiled, is compiled once for each kind of
//! engine: a later request for it waits for the same code, or gets the same error.

pub mod process;

use super::artifact::Artifact;
use super::cache::Cache;
use super::compiled::{self, Code, Unusable};
use super::error::LoadError;
use crate::config::digest::Digest;
use crate::config::units::spell_duration;
use crate::engine::{Engine, Wasi};
use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, Shared, WeakShared};
use process::Bounds;
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, PipeReader};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;
use tokio::time::{MissedTickBehavior, interval};

/// Compilations at the same time. One uses every processor for most of its time; the second fills the rest. A large
/// guest takes several hundred megabytes while it is compiled.
const AT_ONCE: usize = 2;
/// How often the log says that a compilation still runs.
const PROGRESS: Duration = Duration::from_secs(5);

/// Finds code, or makes it. The process has one.
pub struct Compiler {
    /// The executable that compiles: flexwasm itself.
    executable: PathBuf,
    candidates: Vec<PathBuf>,
    /// Bytes that one compilation may use.
    memory: u64,
    /// Looked for only when a guest has no compiled file beside it.
    cache: OnceLock<Option<Cache>>,
    permits: Arc<Semaphore>,
    under_way: Mutex<HashMap<(Digest, Wasi), WeakShared<Compilation>>>,
}

/// Code on its way. It is abandoned when nothing waits for it any more.
type Compilation = BoxFuture<'static, Result<Made, NoCode>>;

/// Code, shared by all that wait for it.
#[derive(Clone)]
struct Made {
    code: Code,
    /// Why it could not be kept, though there is a cache folder.
    unkept: Option<String>,
}

/// Why there is no code, shared by all that wait for it.
#[derive(Debug, Clone, thiserror::Error)]
pub enum NoCode {
    /// wasmtime refused it.
    #[error("is not a valid component, or uses what this host does not support: {0}")]
    Invalid(String),
    /// It takes too long.
    #[error(
        "was not compiled: guest.compileTimeout of {} reached: raise it, or compile the guest with `flexwasm compile` and put that file beside it",
        spell_duration(*.0)
    )]
    Time(Duration),
    /// It takes too much memory, or the compiler failed.
    #[error("was not compiled: {0}")]
    Process(String),
    /// Nothing waits for it any more.
    #[error("was not compiled, because nobody waited for it")]
    Unwanted,
}

/// Whether code that has been compiled has to be kept in the cache folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// Where it cannot be, it is compiled again at the next start.
    IfPossible,
    /// A guest whose code cannot be kept, though there is a folder, is refused: nothing is half-installed.
    Always,
}

/// How a guest may be compiled for a function.
#[derive(Debug, Clone, Copy)]
pub struct Terms {
    /// Whether the code has to be kept in the cache folder, if there is one.
    pub keep: Keep,
    /// `guest.compileTimeout`.
    pub time: Duration,
}

impl Compiler {
    /// `executable` is flexwasm itself; `candidates` are cache folders, best first; a compilation may use `memory` bytes.
    pub fn new(executable: PathBuf, candidates: Vec<PathBuf>, memory: u64) -> Self {
        let permits = Arc::new(Semaphore::new(AT_ONCE));
        Self { executable, candidates, memory, cache: OnceLock::new(), permits, under_way: Mutex::default() }
    }

    /// Returns the code of `artifact`. If another function's compilation of it is under way, that one's time limit holds.
    ///
    /// # Errors
    /// [`LoadError::Compile`]: nothing fitting was found, and it does not compile. [`LoadError::Keep`].
    pub async fn code_of(
        self: &Arc<Self>,
        engine: &Engine,
        function: &Arc<str>,
        artifact: &Arc<Artifact>,
        terms: Terms,
    ) -> Result<Code, LoadError> {
        if artifact.compiled.is_some() {
            let (engine, artifact) = (engine.clone(), Arc::clone(artifact));
            if let Some(code) = blocking(move || find_beside(&engine, &artifact)).await {
                return Ok(code);
            }
        }
        loop {
            match self.compilation(engine, function, artifact, terms.time).await {
                Ok(Made { unkept: Some(why), .. }) if terms.keep == Keep::Always => return Err(LoadError::Keep(why)),
                Ok(made) => return Ok(made.code),
                // It was begun for another function, which gives it less time.
                Err(NoCode::Time(other)) if other < terms.time => {}
                Err(why) => return Err(why.into()),
            }
        }
    }

    /// The compilation of this guest that is under way, else a new one.
    fn compilation(
        self: &Arc<Self>,
        engine: &Engine,
        function: &Arc<str>,
        artifact: &Arc<Artifact>,
        time: Duration,
    ) -> Shared<Compilation> {
        let mut under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (artifact.digest, engine.wasi);
        let running = under_way.get(&key).and_then(WeakShared::upgrade);
        // A compilation that has failed is begun anew.
        if let Some(running) = running.filter(|running| !matches!(running.peek(), Some(Err(_)))) {
            return running;
        }
        under_way.retain(|_, compilation| compilation.upgrade().is_some());
        let (engine, function, artifact) = (engine.clone(), Arc::clone(function), Arc::clone(artifact));
        let compilation = Arc::clone(self).code(engine, function, artifact, time).boxed().shared();
        under_way.insert(key, compilation.downgrade().expect("it has not ended yet"));
        compilation
    }

    /// Looks in the cache folder, else compiles. Dropping the future ends the process that compiles.
    async fn code(
        self: Arc<Self>,
        engine: Engine,
        function: Arc<str>,
        artifact: Arc<Artifact>,
        time: Duration,
    ) -> Result<Made, NoCode> {
        let found = {
            let (this, engine, artifact) = (Arc::clone(&self), engine.clone(), Arc::clone(&artifact));
            move || this.find_kept(&engine, &artifact)
        };
        if let Some(code) = blocking(found).await {
            return Ok(Made { code, unkept: None });
        }
        let permit = Arc::clone(&self.permits).acquire_owned().await.expect("the semaphore is never closed");
        let (wanted, _waiting) = io::pipe().map_err(|error| NoCode::Process(error.to_string()))?;
        let guest = artifact.origin.clone();
        tracing::info!(function = &*function, ?guest, "compiling");
        let (begun, bounds) = (Instant::now(), Bounds { time, memory: self.memory });
        let mut making = tokio::task::spawn_blocking(move || {
            // Held as long as the process lives, even if nothing waits for it.
            let _permit = permit;
            self.make(&engine, &artifact, bounds, &wanted)
        });
        let mut progress = interval(PROGRESS);
        progress.set_missed_tick_behavior(MissedTickBehavior::Delay);
        progress.tick().await;
        let (made, kept) = loop {
            tokio::select! {
                made = &mut making => break made.expect("compiling does not panic")?,
                _ = progress.tick() => {
                    tracing::info!(function = &*function, ?guest, seconds = begun.elapsed().as_secs(), "still compiling");
                }
            }
        };
        let kept = kept.map_or_else(|| "nowhere".to_owned(), |path| path.display().to_string());
        tracing::info!(function = &*function, ?guest, seconds = begun.elapsed().as_secs_f64(), ?kept, "compiled");
        Ok(made)
    }

    /// Looks in the cache folder.
    fn find_kept(&self, engine: &Engine, artifact: &Artifact) -> Option<Code> {
        let cache = self.cache()?;
        let name = Cache::code(&artifact.digest, compiled::compatibility(&engine.wasm));
        use_it(engine, artifact, &cache.locate(&name), cache.find(&name))
    }

    /// Compiles, and keeps the result in the cache folder. Returns the code and the path at which it was kept.
    fn make(
        &self,
        engine: &Engine,
        artifact: &Artifact,
        bounds: Bounds,
        wanted: &PipeReader,
    ) -> Result<(Made, Option<PathBuf>), NoCode> {
        let guest = &artifact.digest;
        let file = process::run(&self.executable, &artifact.wasm, bounds, wanted)?;
        let unusable = |why| NoCode::Process(format!("its compiled file {why}"));
        compiled::verify(&file, guest, &engine.wasm, engine.wasi).map_err(unusable)?;
        let mut unkept = None;
        if let Some(cache) = self.cache() {
            let name = Cache::code(guest, compiled::compatibility(&engine.wasm));
            let path = cache.locate(&name);
            // Mapped from the disk it takes less memory than in the file that the compiler wrote, which is memory itself.
            let mut content = &file;
            let kept = cache.keep(&name, |kept| io::copy(&mut content, kept).map(drop)).and_then(|()| {
                cache.find(&name)?.map(|file| compiled::map(&file, guest, &engine.wasm, engine.wasi)).transpose()
            });
            match kept {
                Ok(Some(code)) => return Ok((Made { code, unkept }, Some(path))),
                Ok(None) => tracing::warn!("somebody removed {}", path.display()),
                Err(why) => {
                    let why = format!("{} {why}", path.display());
                    tracing::warn!("{why}: compiled again at the next start");
                    unkept = Some(why);
                }
            }
        }
        let code = compiled::map(&file, guest, &engine.wasm, engine.wasi).map_err(unusable)?;
        Ok((Made { code, unkept }, None))
    }

    /// The first folder that can be used.
    pub fn cache(&self) -> Option<&Cache> {
        let open = || {
            let found = self.candidates.iter().find_map(|path| {
                let refused = |why| tracing::warn!("the cache folder {} is not used: it {why}", path.display());
                Cache::open(path).map_err(refused).ok()
            });
            if found.is_none() {
                tracing::warn!("there is no cache folder: guests without a compiled file are compiled at every start");
            }
            found
        };
        self.cache.get_or_init(open).as_ref()
    }
}

/// Maps the compiled file beside the guest.
fn find_beside(engine: &Engine, artifact: &Artifact) -> Option<Code> {
    let beside = artifact.compiled.as_deref()?;
    use_it(engine, artifact, beside, compiled::open(beside))
}

/// Maps a file that was found; if it cannot be used, logs why.
fn use_it(engine: &Engine, artifact: &Artifact, from: &Path, file: Result<Option<File>, Unusable>) -> Option<Code> {
    let map = |file| compiled::map(&file, &artifact.digest, &engine.wasm, engine.wasi);
    match file.and_then(|file| file.map(map).transpose()) {
        Ok(Some(code)) => {
            tracing::info!(guest = ?artifact.origin, from = ?from.display().to_string(), "loaded");
            Some(code)
        }
        Ok(None) => None,
        Err(why) => {
            tracing::warn!("{} {why}: not used", from.display());
            None
        }
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.expect("looking for code does not panic")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::memory::Stacks;
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    #[tokio::test]
    async fn a_waiter_that_leaves_does_not_stop_the_others() {
        let folder = tempfile::tempdir().expect("a folder");
        let (hang, runs) = (folder.path().join("hang"), folder.path().join("runs"));
        fs::write(&hang, "").expect("written");
        // It ends well, but has compiled nothing.
        let script =
            format!("echo run >> {}; while [ -e {} ]; do /bin/sleep 0.02; done", runs.display(), hang.display());
        let executable = folder.path().join("compiler");
        fs::write(&executable, format!("#!/bin/sh\n{script}\n")).expect("written");
        fs::set_permissions(&executable, fs::Permissions::from_mode(0o700)).expect("ours");
        let engine = Engine::new(Wasi::P2, &Stacks::default()).expect("an engine");
        let wasm = wat::parse_str("(component)").expect("a component");
        let artifact = Arc::new(Artifact::new("test".to_owned(), wasm).expect("a component"));
        let compiler = Arc::new(Compiler::new(executable, Vec::new(), 1 << 30));
        let terms = Terms { keep: Keep::IfPossible, time: Duration::from_secs(60) };
        let function = Arc::from("f");

        let mut first = Box::pin(compiler.code_of(&engine, &function, &artifact, terms));
        let mut second = Box::pin(compiler.code_of(&engine, &function, &artifact, terms));
        // Both have asked before the one leaves.
        assert!(first.as_mut().now_or_never().is_none() && second.as_mut().now_or_never().is_none());
        drop(first);
        fs::remove_file(&hang).expect("there");
        let why = second.await.expect_err("nothing was compiled").to_string();
        assert!(why.contains("its compiled file is not a compiled guest, or is cut off"), "{why}");
        assert_eq!(fs::read_to_string(&runs).expect("written"), "run\n");
        // Asked again, it is tried again.
        assert!(compiler.code_of(&engine, &function, &artifact, terms).await.is_err());
        assert_eq!(fs::read_to_string(&runs).expect("written"), "run\nrun\n");
    }
}
