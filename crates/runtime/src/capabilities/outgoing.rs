//! `grants.hosts`: servers that the guest may send requests to. What is sent, and over which connections, is decided in
//! [`crate::outgoing`].

use super::{Capability, granted};
use crate::config::Function;
use crate::engine::Wasi;
use crate::sandbox::Sandbox;
use http::uri::PathAndQuery;
use std::future::poll_fn;
use std::pin::pin;
use wasmtime::StoreContextMut;
use wasmtime::component::{Accessor, Linker, LinkerInstance, Resource};
use wasmtime_wasi_http::p2::bindings::http::{outgoing_handler, types};
use wasmtime_wasi_http::p2::types::{HostFutureIncomingResponse, HostOutgoingRequest};
use wasmtime_wasi_http::p3::bindings::http::client::{self, HostWithStore as _};
use wasmtime_wasi_http::p3::bindings::http::types::ErrorCode;
use wasmtime_wasi_http::p3::{Request, Response};
use wasmtime_wasi_http::{WasiHttp, WasiHttpView as _};

/// As wasmtime-wasi-http links them; a version that does not fit is linked in vain, which the tests notice.
const HANDLER: &str = "wasi:http/outgoing-handler@0.2.12";
const CLIENT: &str = "wasi:http/client@0.3.0";

/// What sends requests, in WASI 0.2 and 0.3.
pub const INTERFACES: [&str; 2] = ["wasi:http/outgoing-handler", "wasi:http/client"];

pub struct Outgoing;

impl Capability for Outgoing {
    fn link(&self, linker: &mut Linker<Sandbox>, wasi: Wasi) -> wasmtime::Result<()> {
        outgoing_handler::add_to_linker::<_, WasiHttp>(linker, Sandbox::http)?;
        linker.allow_shadowing(true);
        linker.instance(HANDLER)?.func_wrap(
            "handle",
            |mut store: StoreContextMut<'_, Sandbox>, (request, options): (Resource<HostOutgoingRequest>, Options)| {
                Ok((send(store.data_mut(), request, options)?,))
            },
        )?;
        linker.allow_shadowing(false);
        if wasi == Wasi::P3 {
            client::add_to_linker::<_, WasiHttp>(linker, Sandbox::http)?;
            linker.allow_shadowing(true);
            linker.instance(CLIENT)?.func_wrap_concurrent("send", |accessor, (request,): (Resource<Request>,)| {
                Box::pin(async move { Ok((send_p3(accessor, request).await?,)) })
            })?;
            linker.allow_shadowing(false);
        }
        Ok(())
    }

    fn describe(&self, function: &Function, interface: &str) -> Option<String> {
        INTERFACES.contains(&interface).then(|| granted("grants.hosts", &function.grants.servers()))
    }
}

/// Links what the part with this number sends requests with, by its own grants.
pub fn link_part_p2(linker: &mut LinkerInstance<'_, Sandbox>, part: usize) -> wasmtime::Result<()> {
    linker.func_wrap(
        "handle",
        move |mut store: StoreContextMut<'_, Sandbox>, (request, options): (Resource<HostOutgoingRequest>, Options)| {
            store.data_mut().sends(Some(part));
            let sent = send(store.data_mut(), request, options);
            store.data_mut().sends(None);
            Ok((sent?,))
        },
    )
}

/// The same for a part of WASI 0.3.
pub fn link_part_p3(linker: &mut LinkerInstance<'_, Sandbox>, part: usize) -> wasmtime::Result<()> {
    linker.func_wrap_concurrent("send", move |accessor, (request,): (Resource<Request>,)| {
        Box::pin(async move {
            let mut sending = pin!(send_p3(accessor, request));
            // Others may send between two polls.
            let sent = poll_fn(|cx| {
                accessor.with(|mut access| access.get().sends(Some(part)));
                let polled = sending.as_mut().poll(cx);
                accessor.with(|mut access| access.get().sends(None));
                polled
            });
            Ok((sent.await?,))
        })
    })
}

type Options = Option<Resource<types::RequestOptions>>;
type Sent = wasmtime::Result<Result<Resource<HostFutureIncomingResponse>, types::ErrorCode>>;

/// Sends a request. One without a path asks for `/`, as RFC 9112 §3.2.1 has it; wasmtime's own function would refuse it.
fn send(sandbox: &mut Sandbox, request: Resource<HostOutgoingRequest>, options: Options) -> Sent {
    sandbox.table.get_mut(&request)?.path_with_query.get_or_insert_with(|| "/".to_owned());
    let mut http = sandbox.http();
    match outgoing_handler::Host::handle(&mut http, request, options) {
        Ok(sent) => Ok(Ok(sent)),
        Err(error) => types::Host::convert_error_code(&mut http, error).map(Err),
    }
}

/// The same for a guest of WASI 0.3.
async fn send_p3(
    accessor: &Accessor<Sandbox>,
    request: Resource<Request>,
) -> wasmtime::Result<Result<Resource<Response>, ErrorCode>> {
    accessor.with(|mut access| {
        let asked = access.get().table.get_mut(&request)?;
        asked.path_with_query.get_or_insert_with(|| PathAndQuery::from_static("/"));
        wasmtime::error::Ok(())
    })?;
    match WasiHttp::send(&accessor.with_getter::<WasiHttp>(Sandbox::http), request).await {
        Ok(response) => Ok(Ok(response)),
        Err(error) => error.downcast().map(Err),
    }
}
