//! The runtime of flexwasm: WebAssembly components in pooled instances, each request in a sandbox of its own.
//!
//! It knows neither the Functions host nor a server of HTTP: what takes requests makes an [`invocation`], asks the [`pool`] for a slot and
//! hands both to [`run`].
//!
//! # The map
//! | module | what it is |
//! |---|---|
//! | [`run`] | one invocation in its slot: instance, call, reply, and why it failed in words |
//! | [`pool`] | slots, leases, the queue, parked instances |
//! | [`guest`] | a component: read, compiled or mapped, linked, checked |
//! | [`invocation`] | what a guest is asked, whatever shape it arrived in |
//! | [`capabilities`] | what a guest may use beside its own memory, a file for each |
//! | [`sandbox`] | limits and grants of one store |
//! | [`keyvalue`] | stores that guests open, and where they are |
//! | [`outgoing`] | requests that guests send, and the connections for them |
//! | [`engine`] | wasmtime's settings, the memories and stacks of instances, the epoch |
//! | [`tls`] | which servers are trusted |
//! | [`private`] | folders that nobody else can put anything into |
//! | [`observe`] | the log, the machine, how the start went, how each invocation ended |
//!
//! Dependencies point downwards in this list; ARCHITECTURE.md says which invariants hold.

pub(crate) use flexwasm_config as config;

pub mod capabilities;
pub mod engine;
pub mod guest;
pub mod invocation;
pub mod keyvalue;
pub mod observe;
pub mod outgoing;
pub mod pool;
pub mod private;
pub mod run;
pub mod sandbox;
pub mod tls;
