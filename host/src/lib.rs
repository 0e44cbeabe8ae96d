//! flexwasm: an Azure Functions custom handler that runs WebAssembly components.
//!
//! One process answers the Functions host on loopback; every concurrent request runs in a component instance of its own.
//!
//! # The map
//! | module | what it is |
//! |---|---|
//! | [`cli`] | flags and subcommands, a file for each command |
//! | [`doctor`] | an app held to the plan, on this machine and where it is deployed |
//! | [`app`] | the one place that knows every part: build, run, drain |
//! | [`package`] | the zip that is deployed, held to what Azure can start |
//! | [`control`] | what operators see and change of a running host, both ends |
//! | [`swap`] | one function's guests over time: watched, fetched, checked, published |
//! | [`describe`] | what is configured, and what a guest asks for and gets, in words |
//! | [`source`] | guests from elsewhere: https and OCI registries |
//! | [`http`] | sockets, connections, one request from top to bottom, every status the host chooses |
//! | [`protocol`] | what the Functions host puts on the wire, decoded and encoded; routes |
//! | [`run`] | one invocation in its slot: instance, call, reply, and why it failed in words |
//! | [`pool`] | slots, leases, the queue, parked instances |
//! | [`guest`] | a component: read, compiled or mapped, linked, checked |
//! | [`invocation`] | what a guest is asked, whatever shape it arrived in |
//! | [`capabilities`] | what a guest may use beside its own memory, a file for each |
//! | [`sandbox`] | limits and grants of one store |
//! | [`outgoing`] | requests that guests send, and the connections for them |
//! | [`engine`] | wasmtime's settings and pooling numbers, the epoch |
//! | [`tls`] | which servers are trusted |
//! | [`private`] | folders that nobody else can put anything into |
//! | [`config`] | `host.json`, `function.json`, app settings |
//! | [`observe`] | the log, the machine, how the start went, how each invocation ended |
//!
//! Dependencies point downwards in this list; ARCHITECTURE.md says which invariants hold.

pub mod app;
pub mod capabilities;
pub mod cli;
pub mod config;
pub mod control;
pub mod describe;
pub mod doctor;
pub mod engine;
pub mod guest;
pub mod http;
pub mod invocation;
pub mod observe;
pub mod outgoing;
pub mod package;
pub mod pool;
pub mod private;
pub mod protocol;
pub mod run;
pub mod sandbox;
pub mod source;
pub mod swap;
pub mod tls;
