//! Sockets: always denied. A guest reaches servers only through HTTP requests, which the host checks.

use super::{Capability, Equipment};
use crate::config::Function;
use crate::engine::Wasi;
use crate::observe::trace::Tag;
use crate::sandbox::leftovers::Entry;
use crate::sandbox::{Policy, Sandbox};
use std::sync::Arc;
use wasmtime::component::Linker;
use wasmtime_wasi::p2::Network;
use wasmtime_wasi::p2::bindings::LinkOptions;
use wasmtime_wasi::p2::bindings::sockets::{
    instance_network, ip_name_lookup, network, tcp, tcp_create_socket, udp, udp_create_socket,
};
use wasmtime_wasi::p3;
use wasmtime_wasi::sockets::{WasiSockets, WasiSocketsView as _};

pub struct Sockets;

impl Capability for Sockets {
    fn equip(&self, _: &Arc<Policy>, _: &Tag, system: &mut Equipment) {
        system.wasi.allow_tcp(false).allow_udp(false);
    }

    fn link(&self, linker: &mut Linker<Sandbox>, wasi: Wasi) -> wasmtime::Result<()> {
        instance_network::add_to_linker::<_, WasiSockets>(linker, Sandbox::sockets)?;
        network::add_to_linker::<_, WasiSockets>(linker, &(&LinkOptions::default()).into(), Sandbox::sockets)?;
        ip_name_lookup::add_to_linker::<_, WasiSockets>(linker, Sandbox::sockets)?;
        tcp::add_to_linker::<_, WasiSockets>(linker, Sandbox::sockets)?;
        tcp_create_socket::add_to_linker::<_, WasiSockets>(linker, Sandbox::sockets)?;
        udp::add_to_linker::<_, WasiSockets>(linker, Sandbox::sockets)?;
        udp_create_socket::add_to_linker::<_, WasiSockets>(linker, Sandbox::sockets)?;
        if wasi == Wasi::P3 {
            p3::sockets::add_to_linker(linker)?;
        }
        Ok(())
    }

    fn describe(&self, _: &Function, interface: &str) -> Option<String> {
        interface.starts_with("wasi:sockets/").then(|| "nothing: raw sockets are always denied".to_owned())
    }

    /// A name for the whole network, which opens nothing.
    fn keeps(&self, resource: &Entry) -> bool {
        resource.is::<Network>()
    }
}
