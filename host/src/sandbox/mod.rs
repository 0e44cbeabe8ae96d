//! The data of one store: what a guest may use, and what it is told.
//!
//! A guest gets nothing that was not granted: no environment beyond `grants.env`, no files beyond `grants.dirs`, no
//! requests to servers beyond `grants.hosts`, and no sockets. WASI interfaces that need a grant are linked all the same, because the standard libraries of several
//! languages import them; they answer with a denial.

mod bodies;
pub mod cpu;
mod diagnostics;
pub mod hit;
pub mod leftovers;
pub mod limits;
mod stdio;

use crate::bindings::flexwasm::host::diagnostics as bindings;
use crate::config::Grants;
use crate::config::digest::Digest;
use crate::config::dirs::Folder;
use crate::config::settings::{Limits, Reuse, Share};
use crate::engine::Wasi;
use crate::observe::machine::Machine;
use crate::observe::rate::Rate;
use crate::outgoing::{Client, Cut, Sender};
use bodies::Bodies;
use cpu::Meter;
use leftovers::{Leftovers, NotParked};
use limits::{Limiter, Reservation};
use std::sync::Arc;
use std::time::Instant;
use stdio::Output;
use wasmtime::component::{HasData, Linker, Resource, ResourceTable};
use wasmtime_wasi::{FsPerms, WasiCtx, WasiCtxView, WasiView};
use wasmtime_wasi_http::{WasiHttpCtx, WasiHttpCtxView, WasiHttpView};
use wasmtime_wasi_io::bindings::wasi::io;

/// What wasmtime adds to the bytes of each header field when it counts a set of them.
const FIELD_OVERHEAD: usize = size_of::<http::HeaderName>() + size_of::<http::HeaderValue>();

/// What stays the same for every invocation of a function.
#[derive(Debug)]
pub struct Policy {
    /// The function's name.
    pub function: Arc<str>,
    /// What one invocation may use.
    pub limits: Limits,
    /// What all of them together may write to the log.
    pub log_rate: Rate,
    /// The most slots that the function may hold.
    pub share: Share,
    /// How many requests an instance may serve.
    pub reuse: Reuse,
    /// What the guest may use.
    pub grants: Grants,
    /// Sends its requests, if it may send any.
    pub client: Option<Arc<Client>>,
    /// Facts for the guest.
    pub machine: Arc<Machine>,
    /// When this was made: what the clocks of its instances count from.
    pub made: Instant,
}

impl Policy {
    /// Handles that an instance may hold, and entries of its resource table. What each of them can keep on the host's side
    /// is bounded as well, so that a guest that hoards them is ended long before it matters.
    pub fn handles(&self) -> usize {
        self.limits.handles as usize
    }

    /// What the concurrency of WASI 0.3 may keep for an instance: tasks, threads, and three entries for each stream and
    /// future.
    pub fn concurrent_entries(&self) -> usize {
        4 * self.handles()
    }

    /// Bytes that a guest may hand to the host in one call.
    pub fn call_bytes(&self) -> usize {
        usize::try_from(self.limits.host_call).expect("1 GiB at the most")
    }

    /// Bytes of one set of header fields, as wasmtime counts them: room for every head that may be sent.
    fn field_bytes(&self) -> usize {
        let bytes = usize::try_from(self.limits.response_head).expect("1 MiB at the most");
        bytes + self.limits.response_headers as usize * FIELD_OVERHEAD
    }
}

/// What a guest has of an operating system, and its log.
struct System {
    wasi: WasiCtx,
    output: Output,
}

impl System {
    fn new(policy: &Arc<Policy>, invocation: Arc<str>) -> Self {
        let output = Output::new(policy, invocation);
        let [stdout, stderr] = output.streams();
        let mut wasi = WasiCtx::builder();
        wasi.envs(&policy.grants.env).stdout(stdout).stderr(stderr);
        wasi.allow_tcp(false).allow_udp(false).max_random_size(policy.limits.random);
        for Folder { path, guest_path } in &policy.grants.dirs {
            // It was there when the configuration was read. Links in it that lead out of it are refused when they are opened.
            if let Err(error) = wasi.preopened_dir(path, guest_path, FsPerms::ReadOnly) {
                tracing::warn!(function = %policy.function, folder = guest_path, %error, "a granted folder cannot be opened");
            }
        }
        Self { wasi: wasi.build(), output }
    }
}

/// Which instance this is.
#[derive(Debug, Clone)]
pub struct Identity {
    /// Counts instantiations over the life of the process.
    pub instance: u64,
    /// The slot.
    pub slot: u32,
    /// Slots in all.
    pub pool_size: u32,
    /// Requests that the instance has been given.
    pub served: u64,
    /// Counts the guests of the function.
    pub generation: u64,
    /// Of the component.
    pub digest: Digest,
}

/// See the module's documentation.
pub struct Sandbox {
    /// Made when it is first asked for: a guest that only answers HTTP has no use for it, and random generators, clocks and
    /// streams cost a microsecond.
    system: Option<Box<System>>,
    http: WasiHttpCtx,
    table: ResourceTable,
    /// Knows whose instance it is, and sends its requests.
    sender: Sender,
    /// What the guest writes.
    bodies: Bodies,
    /// Counts memory and tables.
    pub limiter: Limiter,
    /// Counts the time on a thread.
    pub cpu: Arc<Meter>,
    identity: Identity,
}

impl Sandbox {
    /// Makes the data for one instance, which begins with `invocation`.
    pub fn new(policy: Arc<Policy>, identity: Identity, invocation: Arc<str>, reservation: Reservation) -> Self {
        let mut http = WasiHttpCtx::new();
        http.set_field_size_limit(policy.field_bytes());
        let mut table = ResourceTable::new();
        table.set_max_capacity(policy.handles());
        let limiter = Limiter::new(&policy.limits, reservation);
        let cpu = Meter::new(policy.limits.cpu, policy.made);
        Self {
            system: None,
            http,
            table,
            bodies: Bodies::default(),
            limiter,
            cpu,
            identity,
            sender: Sender::new(policy, invocation),
        }
    }

    /// What stays the same for every invocation of the function.
    pub fn policy(&self) -> &Policy {
        &self.sender.policy
    }

    /// Which instance this is.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// The instance has been given another request: budgets and tags begin anew. Its memory is as the last one left it.
    pub fn begin(&mut self, invocation: Arc<str>) {
        self.identity.served += 1;
        if let Some(system) = &self.system {
            system.output.begin(Arc::clone(&invocation));
        }
        self.limiter.begin();
        self.cpu.begin();
        self.sender.begin(invocation);
    }

    /// What the request asks for; a guest of WASI 0.2 is called with it.
    pub fn asked(&mut self, method: &http::Method) {
        self.bodies.begin(method);
    }

    /// The request is answered: nothing more will be said under its name.
    pub fn end(&self) {
        if let Some(system) = &self.system {
            system.output.end();
        }
    }

    /// What has to be dropped before the store.
    pub fn cut(&self) -> Cut {
        self.sender.cut()
    }

    /// Whether a request of the guest is under way. The body of its answer may be that of the guest's own.
    pub fn awaits_answer(&self) -> bool {
        self.sender.is_busy()
    }

    /// Takes what belongs to finished requests from the guest, and counts what it still holds; see
    /// [`leftovers::clear`].
    ///
    /// # Errors
    /// Why the instance is not to be used again.
    pub fn clear(&mut self, wasi: Wasi) -> Result<Leftovers, NotParked> {
        if self.awaits_answer() {
            return Err(NotParked::Busy);
        }
        leftovers::clear(&mut self.table, wasi == Wasi::P2)
    }
}

/// Links everything that a guest may import. One of WASI 0.3 may import 0.2 too: Rust's standard library does.
///
/// # Errors
/// When two interfaces claim one name, which no input can cause.
pub fn linker(engine: &wasmtime::Engine, wasi: Wasi) -> wasmtime::Result<Linker<Sandbox>> {
    let mut linker = Linker::<Sandbox>::new(engine);
    wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
    wasmtime_wasi_http::p2::add_only_http_to_linker_async(&mut linker)?;
    // Once more and straight from the table: through the context, every body would make a `System`.
    linker.allow_shadowing(true);
    io::error::add_to_linker::<_, Errors<'static>>(&mut linker, |sandbox| Errors(&mut sandbox.table))?;
    io::poll::add_to_linker::<_, Table>(&mut linker, |sandbox| &mut sandbox.table)?;
    io::streams::add_to_linker::<_, Table>(&mut linker, |sandbox| &mut sandbox.table)?;
    bodies::add_to_linker(&mut linker)?;
    leftovers::add_to_linker(&mut linker)?;
    linker.allow_shadowing(false);
    if wasi == Wasi::P3 {
        wasmtime_wasi::p3::add_to_linker(&mut linker)?;
        wasmtime_wasi_http::p3::add_to_linker(&mut linker)?;
    }
    bindings::add_to_linker::<_, wasmtime::component::HasSelf<Sandbox>>(&mut linker, |sandbox| sandbox)?;
    Ok(linker)
}

/// Tells the linker what `wasi:io` works on.
struct Table;

impl HasData for Table {
    type Data<'a> = &'a mut ResourceTable;
}

/// What `wasi:io/error` works on: an error is told without the backtrace of the host that `RUST_BACKTRACE` adds to it.
struct Errors<'a>(&'a mut ResourceTable);

impl HasData for Errors<'static> {
    type Data<'a> = Errors<'a>;
}

impl io::error::Host for Errors<'_> {}

impl io::error::HostError for Errors<'_> {
    fn to_debug_string(&mut self, error: Resource<wasmtime::Error>) -> wasmtime::Result<String> {
        Ok(format!("{:#}", self.0.get(&error)?))
    }

    fn drop(&mut self, error: Resource<wasmtime::Error>) -> wasmtime::Result<()> {
        self.0.delete(error)?;
        Ok(())
    }
}

impl WasiView for Sandbox {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        let system = self
            .system
            .get_or_insert_with(|| Box::new(System::new(&self.sender.policy, Arc::clone(&self.sender.invocation))));
        WasiCtxView { ctx: &mut system.wasi, table: &mut self.table }
    }
}

impl WasiHttpView for Sandbox {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView { ctx: &mut self.http, table: &mut self.table, hooks: &mut self.sender }
    }
}
