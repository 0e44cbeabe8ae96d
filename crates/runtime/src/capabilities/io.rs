//! `wasi:io`: the streams, pollables and errors that the other interfaces of WASI 0.2 hand out.
//!
//! It is linked straight to the resource table: through `WasiView`, every body of a request would make a [`System`], which costs a
//! microsecond.
//!
//! [`System`]: crate::sandbox::System

use super::Capability;
use crate::config::Function;
use crate::engine::Wasi;
use crate::sandbox::Sandbox;
use crate::sandbox::leftovers::{Entry, drop_retired, link_drop};
use wasmtime::component::{HasData, Linker, Resource, ResourceTable, ResourceType};
use wasmtime_wasi::p2::{DynInputStream, DynOutputStream, DynPollable};
use wasmtime_wasi_io::bindings::wasi::io::{error, poll, streams};

/// As wasmtime-wasi-io links them; a version that does not fit is linked in vain, which the tests notice.
const POLL: &str = "wasi:io/poll@0.2.12";
const STREAMS: &str = "wasi:io/streams@0.2.12";

pub struct Io;

impl Capability for Io {
    fn link(&self, linker: &mut Linker<Sandbox>, _: Wasi) -> wasmtime::Result<()> {
        error::add_to_linker::<_, Errors<'static>>(linker, |sandbox| Errors(&mut sandbox.table))?;
        poll::add_to_linker::<_, Table>(linker, |sandbox| &mut sandbox.table)?;
        streams::add_to_linker::<_, Table>(linker, |sandbox| &mut sandbox.table)?;
        linker.allow_shadowing(true);
        link_drop(&mut linker.instance(POLL)?, "pollable", |sandbox, it| {
            poll::HostPollable::drop(&mut sandbox.table, it)
        })?;
        link_waits(linker)?;
        let stream = ResourceType::host::<DynInputStream>();
        linker.instance(STREAMS)?.resource_async("input-stream", stream, |mut store, place| {
            Box::new(async move {
                let table = &mut store.data_mut().table;
                if drop_retired(table, place)? {
                    Ok(())
                } else {
                    streams::HostInputStream::drop(table, Resource::new_own(place)).await
                }
            })
        })?;
        linker.allow_shadowing(false);
        Ok(())
    }

    fn describe(&self, _: &Function, interface: &str) -> Option<String> {
        interface.starts_with("wasi:io/").then(|| "its own requests, answers and streams".to_owned())
    }

    /// A body's streams are of the same types as those of a file, but never without their body, as a socket's are never without
    /// their socket.
    fn keeps(&self, resource: &Entry) -> bool {
        resource.is::<DynInputStream>()
            || resource.is::<DynOutputStream>()
            || resource.is::<DynPollable>()
            || resource.is::<wasmtime_wasi_io::streams::Error>()
    }
}

/// Links what waits, so that it ends a guest that would wait for ever (see `sandbox/bodies`).
fn link_waits(linker: &mut Linker<Sandbox>) -> wasmtime::Result<()> {
    let mut polls = linker.instance(POLL)?;
    polls.func_wrap_async("poll", |mut store, (pollables,): (Vec<Resource<DynPollable>>,)| {
        Box::new(async move {
            let sandbox: &mut Sandbox = store.data_mut();
            sandbox.expect_reader(&pollables)?;
            Ok((poll::Host::poll(&mut sandbox.table, pollables).await?,))
        })
    })?;
    polls.func_wrap_async("[method]pollable.block", |mut store, (pollable,): (Resource<DynPollable>,)| {
        Box::new(async move {
            let sandbox: &mut Sandbox = store.data_mut();
            sandbox.expect_reader(std::slice::from_ref(&pollable))?;
            poll::HostPollable::block(&mut sandbox.table, pollable).await
        })
    })
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

impl error::Host for Errors<'_> {}

impl error::HostError for Errors<'_> {
    fn to_debug_string(&mut self, error: Resource<wasmtime::Error>) -> wasmtime::Result<String> {
        Ok(format!("{:#}", self.0.get(&error)?))
    }

    fn drop(&mut self, error: Resource<wasmtime::Error>) -> wasmtime::Result<()> {
        self.0.delete(error)?;
        Ok(())
    }
}
