//! The data of one store: what a guest may use, what it has used, and which request it works for.
//!
//! What a guest may do with it is linked by [`crate::capabilities`].

mod bodies;
pub mod cpu;
pub mod hit;
pub mod leftovers;
pub mod limits;

use crate::config::Grants;
use crate::config::digest::Digest;
use crate::config::settings::{Limits, Reuse, Share};
use crate::invocation::bindings::Bindings;
use crate::keyvalue::Buckets;
use crate::observe::machine::Machine;
use crate::observe::metrics::FunctionMetrics;
use crate::observe::rate::Rate;
use crate::observe::trace::Tag;
use crate::outgoing::{self, Client, Cut, Sender};
use bodies::Bodies;
use cpu::Meter;
use limits::{Limiter, Reservation};
use std::sync::Arc;
use std::time::Instant;
use wasmtime::component::ResourceTable;
use wasmtime_wasi::{WasiCtx, WasiCtxView};
use wasmtime_wasi_http::{WasiHttpCtx, WasiHttpCtxView, WasiHttpView};

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
    /// What is counted of them.
    pub metrics: Arc<FunctionMetrics>,
    /// The most slots that the function may hold.
    pub share: Share,
    /// How many requests an instance may serve.
    pub reuse: Reuse,
    /// What the guest may use.
    pub grants: Grants,
    /// Sends its requests, if it may send any.
    pub client: Option<Arc<Client>>,
    /// The stores that it may open.
    pub buckets: Buckets,
    /// What stands in front of the guest may use, the outermost first.
    pub parts: Vec<PartPolicy>,
    /// Facts for the guest.
    pub machine: Arc<Machine>,
    /// When this was made: what the clocks of its instances count from.
    pub made: Instant,
}

/// What one component in front of a guest may use.
#[derive(Debug)]
pub struct PartPolicy {
    /// Its name in the configuration.
    pub name: Arc<str>,
    /// What it may use.
    pub grants: Grants,
    /// Sends its requests, if it may send any.
    pub client: Option<Arc<Client>>,
    /// The stores that it may open.
    pub buckets: Buckets,
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

    /// Requests that an invocation may send.
    fn outgoing(&self) -> outgoing::Limits {
        outgoing::Limits { requests: self.limits.outgoing, concurrent: self.limits.outgoing_concurrent }
    }

    /// Bytes of one set of header fields, as wasmtime counts them: room for every head that may be sent.
    fn field_bytes(&self) -> usize {
        let bytes = usize::try_from(self.limits.response_head).expect("1 MiB at the most");
        bytes + self.limits.response_headers as usize * FIELD_OVERHEAD
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

/// What an instance has of an operating system, as the capabilities have put it together.
pub struct System {
    /// What WASI works on.
    pub wasi: WasiCtx,
    /// What has to know which request the instance works for.
    pub scoped: Vec<Arc<dyn Scoped>>,
}

/// Something of an instance that belongs to one request at a time.
pub trait Scoped: Send + Sync {
    /// From here on it belongs to this invocation.
    fn begin(&self, tag: &Tag);

    /// The request is answered.
    fn end(&self);
}

/// The data of one store.
pub struct Sandbox {
    policy: Arc<Policy>,
    /// Made when it is first asked for: a guest that only answers HTTP has no use for it, and random generators, clocks and
    /// streams cost a microsecond.
    system: Option<Box<System>>,
    http: WasiHttpCtx,
    /// What the guest has handles of.
    pub(crate) table: ResourceTable,
    /// Bytes of values that it may compare those of its stores with ([`crate::keyvalue::SEEN`]).
    pub(crate) seen: usize,
    /// Knows the invocation, and sends its requests.
    sender: Sender,
    /// What the guest writes.
    bodies: Bodies,
    /// Counts memory and tables.
    pub limiter: Limiter,
    /// Counts the time on a thread.
    pub cpu: Arc<Meter>,
    /// What the invocation has beside its request and its answer.
    pub bindings: Option<Arc<dyn Bindings>>,
    identity: Identity,
}

impl Sandbox {
    /// Makes the data for one instance, which begins with the invocation of this tag.
    pub fn new(policy: Arc<Policy>, identity: Identity, tag: Tag, reservation: Reservation) -> Self {
        let mut http = WasiHttpCtx::new();
        http.set_field_size_limit(policy.field_bytes());
        let mut table = ResourceTable::new();
        table.set_max_capacity(policy.handles());
        let limiter = Limiter::new(&policy.limits, reservation);
        let cpu = Meter::new(policy.limits.cpu, policy.made);
        let mut sender = Sender::new(Arc::clone(&policy.function), policy.client.clone(), policy.outgoing(), tag);
        if policy.parts.iter().any(|part| part.client.is_some()) {
            sender.may_send();
        }
        Self {
            policy,
            system: None,
            http,
            table,
            seen: 0,
            sender,
            bodies: Bodies::default(),
            limiter,
            cpu,
            bindings: None,
            identity,
        }
    }

    /// What stays the same for every invocation of the function.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// The request that it works for.
    pub(crate) fn tag(&self) -> &Tag {
        &self.sender.tag
    }

    /// The instance's system, put together by `make` when it is first asked for.
    pub(crate) fn system(&mut self, make: fn(&Arc<Policy>, &Tag) -> System) -> WasiCtxView<'_> {
        let system = self.system.get_or_insert_with(|| Box::new(make(&self.policy, &self.sender.tag)));
        WasiCtxView { ctx: &mut system.wasi, table: &mut self.table }
    }

    /// Which instance this is.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// The instance has been given another request: budgets and tags begin anew. Its memory is as the last one left it.
    pub fn begin(&mut self, tag: Tag) {
        self.identity.served += 1;
        for scoped in self.scoped() {
            scoped.begin(&tag);
        }
        self.limiter.begin();
        self.cpu.begin();
        self.sender.begin(tag);
    }

    /// What the request asks for; a guest of WASI 0.2 is called with it.
    pub fn asked(&mut self, method: &http::Method) {
        self.bodies.begin(method);
    }

    /// The request is answered: nothing more will be said under its name.
    pub fn end(&mut self) {
        self.bindings = None;
        self.scoped().for_each(|scoped| scoped.end());
    }

    fn scoped(&self) -> impl Iterator<Item = &Arc<dyn Scoped>> {
        self.system.iter().flat_map(|system| &system.scoped)
    }

    /// From here on it is this part of the guest that sends requests; none for the guest itself.
    pub(crate) fn sends(&mut self, part: Option<usize>) {
        let part = part.map(|part| &self.policy.parts[part]);
        self.sender.part = part.map(|part| (Arc::clone(&part.name), part.client.clone()));
    }

    /// What has to be dropped before the store.
    pub fn cut(&self) -> Cut {
        self.sender.cut()
    }

    /// Whether a request of the guest is under way. The body of its answer may be that of the guest's own.
    pub fn awaits_answer(&self) -> bool {
        self.sender.is_busy()
    }
}

impl WasiHttpView for Sandbox {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView { ctx: &mut self.http, table: &mut self.table, hooks: &mut self.sender }
    }
}
