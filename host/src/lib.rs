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
//! | [`protocol`] | what the Functions host puts on the wire: ids, origins, routes |
//! | [`pool`] | slots, leases, the queue, running one invocation |
//! | [`guest`] | a component: read, compiled or mapped, checked |
//! | [`explain`] | why a call into a guest failed, in words |
//! | [`engines`] | an engine and a linker for each version of WASI |
//! | [`sandbox`] | limits and grants of one store |
//! | [`outgoing`] | requests that guests send, and the connections for them |
//! | [`engine`] | wasmtime's settings and pooling numbers, the epoch |
//! | [`bindings`] | generated from `wit/` |
//! | [`private`] | folders that nobody else can put anything into |
//! | [`config`] | `host.json`, `function.json`, app settings |
//! | [`observe`] | the log, the machine, how the start went |
//!
//! Dependencies point downwards in this list; ARCHITECTURE.md says which invariants hold.

pub mod app;
pub mod bindings;
pub mod cli;
pub mod config;
pub mod control;
pub mod describe;
pub mod doctor;
pub mod engine;
pub mod engines;
pub mod explain;
pub mod guest;
pub mod http;
pub mod observe;
pub mod outgoing;
pub mod package;
pub mod pool;
pub mod private;
pub mod protocol;
pub mod sandbox;
pub mod source;
pub mod swap;
