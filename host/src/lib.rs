//! flexwasm: an Azure Functions custom handler that runs WebAssembly components.
//!
//! One process answers the Functions host on loopback; every concurrent request runs in a component instance of its own.
//!
//! # The map
//! | module | what it is |
//! |---|---|
//! | [`cli`] | flags and subcommands, a file for each command |
//! | [`tool`] | an app before it is deployed: made, built, watched, packed |
//! | [`doctor`] | an app held to the plan, on this machine and where it is deployed |
//! | [`burst`] | many requests at the same time |
//! | [`timeline`] | requests that are over, of a burst or of a log, as data, as a page and as a trace |
//! | [`plan`] | how many instances a load needs, and what they cost |
//! | [`app`] | the one place that knows every part: build, run, drain |
//! | [`package`] | the zip that is deployed, held to what Azure can start |
//! | [`control`] | what operators see and change of a running host, both ends |
//! | [`swap`] | one function's guests over time: watched, fetched, checked, published |
//! | [`describe`] | what is configured, and what a guest asks for and gets, in words |
//! | [`export`] | telemetry that leaves: spans and numbers, as OpenTelemetry has them |
//! | [`source`] | guests from elsewhere: https and OCI registries |
//! | [`http`] | sockets, connections, one request from top to bottom, every status the host chooses |
//! | [`send`] | the events of the Functions host, made by hand, and what it would do with the answers |
//! | [`protocol`] | what the Functions host puts on the wire, decoded and encoded; routes |
//! | [`live`] | what the pool does now and did in the last minutes, for people who look on |
//! | [`draw`] | pages that draw slots, requests and curves |
//!
//! Below them stand `flexwasm-runtime` (engine, guests, sandbox, pool) and `flexwasm-config`.
//!
//! Dependencies point downwards in this list; ARCHITECTURE.md says which invariants hold.

pub use flexwasm_config as config;
pub use flexwasm_runtime::{
    capabilities, engine, guest, invocation, keyvalue, observe, outgoing, pool, private, run, sandbox, tls,
};

pub mod app;
pub mod burst;
pub mod cli;
pub mod control;
pub mod describe;
pub mod doctor;
pub mod draw;
pub mod export;
pub mod http;
pub mod live;
pub mod package;
pub mod plan;
pub mod protocol;
pub mod send;
pub mod source;
pub mod swap;
pub mod timeline;
pub mod tool;
