//! `wasi:http/types`: the requests that a guest is given and the answers that it writes, where wasmtime's own linking keeps a
//! promise of ours too little (see `sandbox/bodies`), and what of them may outlive a request.

use super::Capability;
use crate::config::Function;
use crate::engine::Wasi;
use crate::sandbox::Sandbox;
use crate::sandbox::leftovers::{Entry, Retirement, link_drop, retirement_of};
use ::http::header::{HOST, HeaderValue};
use wasmtime::StoreContextMut;
use wasmtime::component::{Linker, Resource};
use wasmtime_wasi_http::p2::bindings::LinkOptions;
use wasmtime_wasi_http::p2::bindings::http::types;
use wasmtime_wasi_http::p2::body::{HostFutureTrailers, HostIncomingBody, HostOutgoingBody};
use wasmtime_wasi_http::p2::types::{
    HostFutureIncomingResponse, HostIncomingRequest, HostIncomingResponse, HostOutgoingRequest, HostOutgoingResponse,
};
use wasmtime_wasi_http::p3::MaybeMutable;
use wasmtime_wasi_http::p3::bindings::http::types as p3_types;
use wasmtime_wasi_http::{FieldMap, FieldMapError, RequestOptions, WasiHttp, WasiHttpView as _};

/// As wasmtime-wasi-http links it; a version that does not fit is linked in vain, which the tests notice.
const TYPES: &str = "wasi:http/types@0.2.12";

pub struct Http;

impl Capability for Http {
    fn link(&self, linker: &mut Linker<Sandbox>, wasi: Wasi) -> wasmtime::Result<()> {
        types::add_to_linker::<_, WasiHttp>(linker, &(&LinkOptions::default()).into(), Sandbox::http)?;
        linker.allow_shadowing(true);
        link_bodies(linker)?;
        link_drops(linker)?;
        linker.allow_shadowing(false);
        if wasi == Wasi::P3 {
            p3_types::add_to_linker::<_, WasiHttp>(linker, Sandbox::http)?;
        }
        Ok(())
    }

    fn describe(&self, _: &Function, interface: &str) -> Option<String> {
        let own = interface.starts_with("wasi:http/") && !super::outgoing::INTERFACES.contains(&interface);
        own.then(|| "its own requests, answers and streams".to_owned())
    }

    fn keeps(&self, resource: &Entry) -> bool {
        resource.is::<FieldMap>() || resource.is::<RequestOptions>() || resource.is::<MaybeMutable<RequestOptions>>()
    }
}

/// How a resource is retired, if it belongs to a finished request. The streams of its body, and what waits for these, are its
/// children in the table and go with it.
pub fn retirement(resource: &Entry) -> Option<Retirement> {
    // Headers that cannot be changed are those of a request or an answer; what the guest makes by itself can.
    let received = |fields: &FieldMap| {
        let changed = fields.clone().append_raw(HOST, HeaderValue::from_static(""));
        matches!(changed, Err(FieldMapError::Immutable))
    };
    retirement_of::<HostIncomingRequest>(resource)
        .or_else(|| retirement_of::<HostIncomingBody>(resource))
        .or_else(|| retirement_of::<HostFutureTrailers>(resource))
        .or_else(|| retirement_of::<HostFutureIncomingResponse>(resource))
        .or_else(|| retirement_of::<HostIncomingResponse>(resource))
        .or_else(|| retirement_of::<FieldMap>(resource).filter(|_| resource.downcast_ref().is_some_and(received)))
}

/// Links what makes bodies, and what they are written to.
fn link_bodies(linker: &mut Linker<Sandbox>) -> wasmtime::Result<()> {
    let mut types = linker.instance(TYPES)?;
    types.func_wrap(
        "[method]outgoing-response.body",
        |mut store: StoreContextMut<'_, Sandbox>, (response,): (Resource<HostOutgoingResponse>,)| {
            Ok((store.data_mut().response_body(response)?,))
        },
    )?;
    types.func_wrap(
        "[method]outgoing-request.body",
        |mut store: StoreContextMut<'_, Sandbox>, (request,): (Resource<HostOutgoingRequest>,)| {
            Ok((store.data_mut().request_body(request)?,))
        },
    )?;
    types.func_wrap(
        "[method]outgoing-body.write",
        |mut store: StoreContextMut<'_, Sandbox>, (body,): (Resource<HostOutgoingBody>,)| {
            Ok((store.data_mut().body_stream(body)?,))
        },
    )
}

/// Links the drops of everything that can be retired, so that they are quiet about it.
fn link_drops(linker: &mut Linker<Sandbox>) -> wasmtime::Result<()> {
    let mut http = linker.instance(TYPES)?;
    let types = &mut http;
    link_drop(types, "fields", |sandbox, it| types::HostFields::drop(&mut sandbox.http(), it))?;
    link_drop(types, "incoming-request", |sandbox, it| types::HostIncomingRequest::drop(&mut sandbox.http(), it))?;
    link_drop(types, "incoming-body", |sandbox, it| types::HostIncomingBody::drop(&mut sandbox.http(), it))?;
    link_drop(types, "future-trailers", |sandbox, it| types::HostFutureTrailers::drop(&mut sandbox.http(), it))?;
    link_drop(types, "incoming-response", |sandbox, it| types::HostIncomingResponse::drop(&mut sandbox.http(), it))?;
    link_drop(types, "future-incoming-response", |sandbox, it| {
        types::HostFutureIncomingResponse::drop(&mut sandbox.http(), it)
    })
}
