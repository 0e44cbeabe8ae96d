//! Where a guest's code comes from: the compiled file beside it, else the one in the cache folder, else a compilation.
//!
//! A compilation runs in a process of its own, this executable again. Measured with the demonstration guest, the
//! compiler leaves 45 MB behind in the process that ran it, whatever the allocator is told. And a component that makes
//! the compiler crash or use up the memory costs its own function, not the host.

use super::artifact::Artifact;
use super::cache::Cache;
use super::compiled::{self, Unusable};
use super::interfaces::Interfaces;
use super::{Keep, LoadError};
use crate::engine::Engine;
use crate::engine::code::{self, Processors};
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::process::{Signal, set_parent_process_death_signal};
use std::fs::File;
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;
use tokio::time::{MissedTickBehavior, interval};
use wasmtime::component::Component;

/// The subcommand with which this executable is a compiler.
pub const SUBCOMMAND: &str = "compile-for-host";
/// Compilations at the same time. One uses every processor for most of its time; the second fills the rest. A large
/// guest takes several hundred megabytes while it is compiled.
const AT_ONCE: usize = 2;
/// How often the log says that a compilation still runs.
const PROGRESS: Duration = Duration::from_secs(5);
/// Bytes of a compiler's complaint that are read.
const COMPLAINT: u64 = 64 << 10;

/// Finds code, or makes it. One for the process.
pub struct Compiler {
    /// What to start.
    executable: PathBuf,
    candidates: Vec<PathBuf>,
    /// Looked for only when a guest has no compiled file beside it.
    cache: OnceLock<Option<Cache>>,
    permits: Semaphore,
}

impl Compiler {
    /// `executable` is flexwasm itself; `candidates` are cache folders, best first.
    pub fn new(executable: PathBuf, candidates: Vec<PathBuf>) -> Self {
        Self { executable, candidates, cache: OnceLock::new(), permits: Semaphore::new(AT_ONCE) }
    }

    /// The code of `artifact`.
    ///
    /// # Errors
    /// [`LoadError::Compile`]: nothing fitting was found, and it does not compile. [`LoadError::Keep`].
    pub async fn component(
        self: &Arc<Self>,
        engine: &Engine,
        function: &str,
        artifact: &Arc<Artifact>,
        keep: Keep,
    ) -> Result<Component, LoadError> {
        let found = {
            let (this, engine, artifact) = (Arc::clone(self), engine.clone(), Arc::clone(artifact));
            move || this.find(&engine, &artifact)
        };
        if let Some(component) = blocking(found).await {
            return Ok(component);
        }
        let _permit = self.permits.acquire().await.expect("the semaphore is never closed");
        let guest = &artifact.origin;
        tracing::info!(function, ?guest, "compiling");
        let begun = Instant::now();
        let compilation = {
            let (this, engine, artifact) = (Arc::clone(self), engine.clone(), Arc::clone(artifact));
            tokio::task::spawn_blocking(move || this.make(&engine, &artifact, keep))
        };
        tokio::pin!(compilation);
        let mut progress = interval(PROGRESS);
        progress.set_missed_tick_behavior(MissedTickBehavior::Delay);
        progress.tick().await;
        let (component, kept) = loop {
            tokio::select! {
                made = &mut compilation => break made.expect("compiling does not panic")?,
                _ = progress.tick() => {
                    tracing::info!(function, ?guest, seconds = begun.elapsed().as_secs(), "still compiling");
                }
            }
        };
        let kept = kept.map_or_else(|| "nowhere".to_owned(), |path| path.display().to_string());
        tracing::info!(function, ?guest, seconds = begun.elapsed().as_secs_f64(), ?kept, "compiled");
        Ok(component)
    }

    /// Looks beside the guest, then in the cache folder.
    fn find(&self, engine: &Engine, artifact: &Artifact) -> Option<Component> {
        let Artifact { origin, digest, .. } = artifact;
        let use_it = |from: &Path, file: Result<Option<File>, Unusable>| {
            let component = file
                .and_then(|file| file.map(|file| compiled::map(&file, digest, &engine.wasm, engine.wasi)).transpose());
            match component {
                Ok(Some(component)) => {
                    tracing::info!(guest = ?origin, from = ?from.display().to_string(), "loaded");
                    Some(component)
                }
                Ok(None) => None,
                Err(why) => {
                    tracing::warn!("{} {why}: not used", from.display());
                    None
                }
            }
        };
        let beside = artifact.compiled.as_deref();
        beside.and_then(|beside| use_it(beside, compiled::open(beside))).or_else(|| {
            let cache = self.cache()?;
            let name = Cache::code(digest, compiled::compatibility(&engine.wasm));
            use_it(&cache.locate(&name), cache.find(&name))
        })
    }

    /// Compiles, and keeps the result in the cache folder. Also answers where.
    fn make(
        &self,
        engine: &Engine,
        artifact: &Artifact,
        keep: Keep,
    ) -> Result<(Component, Option<PathBuf>), LoadError> {
        let guest = &artifact.digest;
        let code = self.compile(&artifact.wasm)?;
        let unusable = |why| LoadError::Compile(format!("its compiled file {why}"));
        compiled::verify(&code, guest, &engine.wasm, engine.wasi).map_err(unusable)?;
        if let Some(cache) = self.cache() {
            let name = Cache::code(guest, compiled::compatibility(&engine.wasm));
            // Mapped from the disk it costs less memory than what the compiler wrote.
            let mut content = &code;
            let kept = cache.keep(&name, |file| io::copy(&mut content, file).map(drop)).and_then(|()| {
                cache.find(&name)?.map(|file| compiled::map(&file, guest, &engine.wasm, engine.wasi)).transpose()
            });
            match kept {
                Ok(Some(component)) => return Ok((component, Some(cache.locate(&name)))),
                Ok(None) => tracing::warn!("somebody removed {}", cache.locate(&name).display()),
                Err(why) if keep == Keep::Always => {
                    return Err(LoadError::Keep(format!("{} {why}", cache.locate(&name).display())));
                }
                Err(why) => tracing::warn!("{} {why}: compiled again at the next start", cache.locate(&name).display()),
            }
        }
        compiled::map(&code, guest, &engine.wasm, engine.wasi).map(|component| (component, None)).map_err(unusable)
    }

    /// Lets another process compile, from and into memory that has no name.
    fn compile(&self, wasm: &[u8]) -> Result<File, LoadError> {
        let failed = |what: &str, error: io::Error| LoadError::Compile(format!("{what}: {error}"));
        let input = unnamed().and_then(|mut file| {
            file.write_all(wasm)?;
            file.rewind()?;
            Ok(file)
        });
        let input = input.map_err(|error| failed("no memory for the compiler's input", error))?;
        let mut code = unnamed().map_err(|error| failed("no memory for the code", error))?;
        let output = code.try_clone().map_err(|error| failed("no memory for the code", error))?;
        let mut command = Command::new(&self.executable);
        // The compiler needs no app setting, and so knows no secret.
        command.arg0("flexwasm").arg(SUBCOMMAND).env_clear();
        command.stdin(input).stdout(output).stderr(Stdio::piped());
        let mut compiler = command.spawn().map_err(|error| failed("cannot start a process to compile it", error))?;
        let mut complaint = Vec::new();
        let stderr = compiler.stderr.take().expect("it was asked for just now");
        let read = stderr.take(COMPLAINT).read_to_end(&mut complaint);
        let status = compiler.wait().and_then(|status| read.map(|_| status));
        let status = status.map_err(|error| failed("lost the process that compiles it", error))?;
        if let Some(signal) = status.signal() {
            return Err(LoadError::Compile(format!("its compiler was ended by signal {signal} (9: out of memory)")));
        }
        if !status.success() {
            return Err(LoadError::Compile(String::from_utf8_lossy(&complaint).trim().to_owned()));
        }
        code.rewind().map_err(|error| failed("cannot read the code", error))?;
        Ok(code)
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

/// What the process that [`Compiler`] starts does: compiles the component on stdin for the engine that it needs, and writes
/// the file to stdout.
///
/// # Errors
/// In the words that [`LoadError::Compile`] wants.
pub fn compile_for_host() -> Result<(), String> {
    // The host waits in the thread that started us; without it nobody wants the code.
    set_parent_process_death_signal(Some(Signal::KILL)).map_err(|error| error.to_string())?;
    let mut wasm = Vec::new();
    io::stdin().read_to_end(&mut wasm).map_err(|error| error.to_string())?;
    let engine = code::compiler(Interfaces::of(&wasm).wasi, Processors::ThisKind);
    let content = engine.and_then(|engine| compiled::compile(&engine, &wasm));
    io::stdout().write_all(&content.map_err(|error| super::chain(&error))?).map_err(|error| error.to_string())
}

/// A file that is only memory.
fn unnamed() -> io::Result<File> {
    Ok(memfd_create("flexwasm", MemfdFlags::CLOEXEC)?.into())
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.expect("looking for code does not panic")
}
