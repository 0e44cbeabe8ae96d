//! The host as others see it: the real binary, played by a Functions host, by people, and by people with bad intentions.
//!
//! A test that covers a rule of docs/azure-contract.md §8 carries its name (`s4_…`).
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod architecture;
mod bad_input;
mod bindings;
mod browser;
mod compiled;
mod compiler;
mod containment;
mod credentials;
mod demonstration;
mod doctor;
mod documents;
mod event_load;
mod events;
mod exchange;
mod export;
mod faults;
mod forwarding;
mod functions_host;
mod half_duplex;
mod install;
mod isolation;
mod keyvalue;
mod languages;
mod limits;
mod logs;
mod mcp;
mod middleware;
mod middleware_examples;
mod operate;
mod outgoing;
mod overload;
mod p3;
mod package;
mod plan;
mod proxying;
mod reuse;
mod sandbox;
mod send;
mod settings;
mod share;
mod shutdown;
mod sources;
mod standalone;
mod startup;
mod supervision;
mod support;
mod swap;
mod telemetry;
mod templates;
mod tool;
