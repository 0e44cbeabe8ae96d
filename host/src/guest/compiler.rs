//! Where a guest's code comes from: the compiled file beside it, else the one in the cache folder, else a compilation.
//!
//! A compilation runs in a process of its own, this executable again. Measured with the demonstration guest, the
//! compiler leaves 45 MB behind in the process that ran it, whatever the allocator is told. And a component that makes
//! the compiler crash or use up the memory costs its own function, not the host.

use super::LoadError;
use super::cache::Cache;
use super::compiled::{self, Digest, Unusable};
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

    /// The code of the guest at `path`, whose file has this digest.
    ///
    /// # Errors
    /// [`LoadError::Compile`]: nothing fitting was found, and it does not compile.
    pub async fn component(
        self: &Arc<Self>,
        engine: &Engine,
        function: &str,
        path: &Path,
        guest: Digest,
    ) -> Result<Component, LoadError> {
        let found = {
            let (this, engine, path) = (Arc::clone(self), engine.clone(), path.to_owned());
            move || this.find(&engine, &path, &guest)
        };
        if let Some(component) = blocking(found).await {
            return Ok(component);
        }
        let _permit = self.permits.acquire().await.expect("the semaphore is never closed");
        let guest_file = path.display().to_string();
        tracing::info!(function, guest = ?guest_file, "compiling");
        let begun = Instant::now();
        let compilation = {
            let (this, engine, path) = (Arc::clone(self), engine.clone(), path.to_owned());
            tokio::task::spawn_blocking(move || this.make(&engine, &path, &guest))
        };
        tokio::pin!(compilation);
        let mut progress = interval(PROGRESS);
        progress.set_missed_tick_behavior(MissedTickBehavior::Delay);
        progress.tick().await;
        let (component, kept) = loop {
            tokio::select! {
                made = &mut compilation => break made.expect("compiling does not panic")?,
                _ = progress.tick() => {
                    tracing::info!(function, guest = ?guest_file, seconds = begun.elapsed().as_secs(), "still compiling");
                }
            }
        };
        let kept = kept.map_or_else(|| "nowhere".to_owned(), |path| path.display().to_string());
        tracing::info!(function, guest = ?guest_file, seconds = begun.elapsed().as_secs_f64(), ?kept, "compiled");
        Ok(component)
    }

    /// Looks beside the guest, then in the cache folder.
    fn find(&self, engine: &Engine, path: &Path, guest: &Digest) -> Option<Component> {
        let beside = compiled::beside(path);
        let use_it = |from: &Path, file: Result<Option<File>, Unusable>| {
            let component = file
                .and_then(|file| file.map(|file| compiled::map(&file, guest, &engine.wasm, engine.wasi)).transpose());
            match component {
                Ok(Some(component)) => {
                    tracing::info!(guest = ?path.display().to_string(), from = ?from.display().to_string(), "loaded");
                    Some(component)
                }
                Ok(None) => None,
                Err(why) => {
                    tracing::warn!("{} {why}: not used", from.display());
                    None
                }
            }
        };
        use_it(&beside, compiled::open(&beside)).or_else(|| {
            let cache = self.cache()?;
            let name = Cache::name(guest, compiled::compatibility(&engine.wasm));
            use_it(&cache.locate(&name), cache.find(&name))
        })
    }

    /// Compiles, and keeps the result in the cache folder. Also answers where.
    fn make(&self, engine: &Engine, path: &Path, guest: &Digest) -> Result<(Component, Option<PathBuf>), LoadError> {
        let code = self.compile(path)?;
        let unusable = |why| match why {
            Unusable::Stale => LoadError::Compile("it changed while it was being compiled: start again".to_owned()),
            why => LoadError::Compile(format!("its compiled file {why}")),
        };
        compiled::verify(&code, guest, &engine.wasm, engine.wasi).map_err(unusable)?;
        if let Some(cache) = self.cache() {
            let name = Cache::name(guest, compiled::compatibility(&engine.wasm));
            // Mapped from the disk it costs less memory than what the compiler wrote.
            let kept = cache.keep(&name, &code).map_err(Unusable::from).and_then(|()| {
                cache.find(&name)?.map(|file| compiled::map(&file, guest, &engine.wasm, engine.wasi)).transpose()
            });
            match kept {
                Ok(Some(component)) => return Ok((component, Some(cache.locate(&name)))),
                Ok(None) => tracing::warn!("somebody removed {}", cache.locate(&name).display()),
                Err(why) => tracing::warn!("the cached file {} {why}: not kept", cache.locate(&name).display()),
            }
        }
        compiled::map(&code, guest, &engine.wasm, engine.wasi).map(|component| (component, None)).map_err(unusable)
    }

    /// Lets another process compile, into memory that has no name.
    fn compile(&self, path: &Path) -> Result<File, LoadError> {
        let failed = |what: &str, error: io::Error| LoadError::Compile(format!("{what}: {error}"));
        let code = memfd_create("compiled guest", MemfdFlags::CLOEXEC).map_err(io::Error::from);
        let mut code = File::from(code.map_err(|error| failed("no memory for the code", error))?);
        let output = code.try_clone().map_err(|error| failed("no memory for the code", error))?;
        let mut command = Command::new(&self.executable);
        // The compiler needs no app setting, and so knows no secret.
        command.arg0("flexwasm").arg(SUBCOMMAND).arg(path).env_clear();
        command.stdin(Stdio::null()).stdout(output).stderr(Stdio::piped());
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
    fn cache(&self) -> Option<&Cache> {
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

/// What the process that [`Compiler`] starts does: compiles `path` for the engine that it needs, and writes the file to
/// stdout.
///
/// # Errors
/// In the words that [`LoadError::Compile`] wants.
pub fn compile_for_host(path: &Path) -> Result<(), String> {
    // The host waits in the thread that started us; without it nobody wants the code.
    set_parent_process_death_signal(Some(Signal::KILL)).map_err(|error| error.to_string())?;
    let wasm = super::read(path).map_err(|error| error.to_string())?;
    let engine = code::compiler(super::interfaces::Interfaces::of(&wasm).wasi, Processors::ThisKind);
    let content = engine.and_then(|engine| compiled::compile(&engine, &wasm));
    io::stdout().write_all(&content.map_err(|error| super::chain(&error))?).map_err(|error| error.to_string())
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.expect("looking for code does not panic")
}
