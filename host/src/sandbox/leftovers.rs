//! What a guest still holds when its request is answered, and what becomes of it if the instance is to get another one.
//!
//! Guests whose language collects garbage drop handles late, some of them never. What belongs to a finished request is
//! therefore *retired*: its data is freed, and a [`Retired`] takes its place in the resource table. A drop that comes late is
//! quiet; any other use finds an entry of another type, and traps. The handle still counts in `limits.handles`.
//!
//! Of everything else, what may stay between two requests is listed here by type. What is not listed keeps the instance from
//! being parked, and so does a type that a later wasmtime adds.

use super::Sandbox;
use http::header::{HOST, HeaderValue};
use std::any::{Any, TypeId};
use std::collections::BTreeSet;
use std::ptr;
use wasmtime::component::{Linker, LinkerInstance, Resource, ResourceTable, ResourceTableError, ResourceType};
use wasmtime_wasi::clocks::{WasiClocksCtx, WasiClocksCtxView};
use wasmtime_wasi::filesystem::Descriptor;
use wasmtime_wasi::p2::bindings::clocks::monotonic_clock;
use wasmtime_wasi::p2::{DynInputStream, DynOutputStream, DynPollable, Network, ReaddirIterator};
use wasmtime_wasi_http::p2::bindings::http::types;
use wasmtime_wasi_http::p2::body::{HostFutureTrailers, HostIncomingBody};
use wasmtime_wasi_http::p2::types::{HostFutureIncomingResponse, HostIncomingRequest, HostIncomingResponse};
use wasmtime_wasi_http::p3::MaybeMutable;
use wasmtime_wasi_http::{FieldMap, FieldMapError, RequestOptions, WasiHttpView as _};
use wasmtime_wasi_io::bindings::wasi::io::poll::HostPollable;
use wasmtime_wasi_io::bindings::wasi::io::streams::HostInputStream;

/// Why an instance that has answered does not get another request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotParked {
    /// A request that it has sent is still under way.
    Busy,
    /// It has grown beyond half of `limits.memory`.
    Memory,
    /// It holds more than after its first request, or what is retired takes half of `limits.handles`.
    Handles,
    /// It has called `exit(0)`, and cannot be called any more.
    Exited,
    /// It holds a resource that may not outlive a request, such as an answer that it has not sent, or a socket.
    Resource,
}

impl NotParked {
    /// The word in the closing line.
    pub fn word(self) -> &'static str {
        match self {
            Self::Busy => "busy",
            Self::Memory => "memory",
            Self::Handles => "handles",
            Self::Exited => "exited",
            Self::Resource => "resource",
        }
    }

    /// The same in a sentence.
    pub fn explained(self) -> &'static str {
        match self {
            Self::Busy => "a request that the guest had sent was still under way: let it read or drop the answer",
            Self::Memory => "it had grown beyond half of limits.memory: raise that, or let the guest use less",
            Self::Handles => {
                "it held more resources than after its first request, or half of limits.handles: let the guest drop them"
            }
            Self::Exited => "it had called exit(0): let the guest return from its handler",
            Self::Resource => {
                "it held what may not outlive a request, such as a body that it has not finished: let the guest drop it"
            }
        }
    }
}

/// What an instance holds between two requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Leftovers {
    /// Entries that may be used again.
    pub kept: usize,
    /// Entries that may only be dropped.
    pub retired: usize,
}

/// Takes the place of what belonged to a finished request.
struct Retired;

type Retire = fn(&mut ResourceTable, u32) -> Result<(), ResourceTableError>;

/// Retires what belongs to finished requests, those that the guest has sent among them, and counts what stays. None of
/// these may be under way any more. A guest of WASI 0.3 takes its request apart when it begins, so nothing is retired for it
/// (`retires` is false).
///
/// # Errors
/// [`NotParked::Resource`]; the instance is not to be used again.
pub fn clear(table: &mut ResourceTable, retires: bool) -> Result<Leftovers, NotParked> {
    let finished: Vec<(u32, Retire)> = if retires {
        table.iter_mut().filter_map(|(place, entry)| Some((place, retirement(entry)?))).collect()
    } else {
        Vec::new()
    };
    for (place, retire) in finished {
        retire(table, place).map_err(|_| NotParked::Resource)?;
    }
    let (mut leftovers, mut deadline) = (Leftovers { kept: 0, retired: 0 }, None);
    for (_, entry) in table.iter_mut() {
        if entry.is::<Retired>() {
            leftovers.retired += 1;
        } else if may_stay(&*entry) || *deadline.get_or_insert_with(deadline_type) == Some((*entry).type_id()) {
            leftovers.kept += 1;
        } else {
            return Err(NotParked::Resource);
        }
    }
    Ok(leftovers)
}

/// How an entry is retired, if it belongs to a finished request. The streams of its body, and what waits for these, are its
/// children in the table and go with it.
fn retirement(entry: &(dyn Any + Send)) -> Option<Retire> {
    fn of<T: Send + 'static>() -> (TypeId, Retire) {
        (TypeId::of::<T>(), retire::<T>)
    }
    let belonging = [
        of::<HostIncomingRequest>(),
        of::<HostIncomingBody>(),
        of::<HostFutureTrailers>(),
        of::<HostFutureIncomingResponse>(),
        of::<HostIncomingResponse>(),
    ];
    // Headers that cannot be changed are those of a request or an answer; what the guest makes by itself can.
    let received = |fields: &FieldMap| {
        let changed = fields.clone().append_raw(HOST, HeaderValue::from_static(""));
        matches!(changed, Err(FieldMapError::Immutable))
    };
    let listed = belonging.into_iter().find(|(kind, _)| *kind == entry.type_id());
    let fields = || entry.downcast_ref().filter(|fields| received(fields)).map(|_| of::<FieldMap>());
    listed.or_else(fields).map(|(_, retire)| retire)
}

/// Whether an entry may stay as it is. A body's streams are of the same types as those of a file, but never without their
/// body, as a socket's are never without their socket.
fn may_stay(entry: &(dyn Any + Send)) -> bool {
    entry.is::<FieldMap>()
        || entry.is::<RequestOptions>()
        || entry.is::<MaybeMutable<RequestOptions>>()
        || entry.is::<Descriptor>()
        || entry.is::<ReaddirIterator>()
        || entry.is::<DynInputStream>()
        || entry.is::<DynOutputStream>()
        || entry.is::<DynPollable>()
        || entry.is::<wasmtime_wasi_io::streams::Error>()
        // A name for the whole network, which opens nothing.
        || entry.is::<Network>()
}

/// The type behind a clock's pollable, which has no public name.
fn deadline_type() -> Option<TypeId> {
    let (mut table, mut clocks) = (ResourceTable::new(), WasiClocksCtx::default());
    let mut view = WasiClocksCtxView { ctx: &mut clocks, table: &mut table };
    monotonic_clock::Host::subscribe_duration(&mut view, 0).ok()?;
    let kinds = table.iter_mut().map(|(_, entry)| (*entry).type_id());
    kinds.into_iter().find(|kind| *kind != TypeId::of::<DynPollable>())
}

/// Puts a [`Retired`] in the place of an entry, once its children have gone the same way.
fn retire<T: Send + 'static>(table: &mut ResourceTable, place: u32) -> Result<(), ResourceTableError> {
    for child in children::<T>(table, place)? {
        // A body has a stream; that one, and a future, have pollables.
        match table.get(&Resource::<DynPollable>::new_borrow(child)) {
            Ok(_) => retire::<DynPollable>(table, child)?,
            Err(_) => retire::<DynInputStream>(table, child)?,
        }
    }
    drop(table.delete(Resource::<T>::new_own(place))?);
    let retired = table.push(Retired)?;
    // The place that was freed last is filled first. Elsewhere, it would be taken for another handle's.
    if retired.rep() == place { Ok(()) } else { Err(ResourceTableError::WrongType) }
}

/// The places of an entry's children. The table tells of the children themselves only, so each is found again by where it lies.
fn children<T: 'static>(table: &mut ResourceTable, place: u32) -> Result<Vec<u32>, ResourceTableError> {
    let address = |entry: &(dyn Any + Send)| ptr::from_ref(entry).addr();
    let parent = Resource::<T>::new_borrow(place);
    let addresses: BTreeSet<usize> = table.iter_children(&parent)?.map(address).collect();
    if addresses.is_empty() {
        return Ok(Vec::new());
    }
    Ok(table.iter_mut().filter(|(_, entry)| addresses.contains(&address(*entry))).map(|(place, _)| place).collect())
}

/// Links the drops of everything that can be retired once more, so that they are quiet about it. The linker has to allow
/// shadowing.
///
/// # Errors
/// When the linker does not.
pub fn add_to_linker(linker: &mut Linker<Sandbox>) -> wasmtime::Result<()> {
    let mut http = linker.instance("wasi:http/types@0.2.12")?;
    let types = &mut http;
    link_drop(types, "fields", |sandbox, it| types::HostFields::drop(&mut sandbox.http(), it))?;
    link_drop(types, "incoming-request", |sandbox, it| types::HostIncomingRequest::drop(&mut sandbox.http(), it))?;
    link_drop(types, "incoming-body", |sandbox, it| types::HostIncomingBody::drop(&mut sandbox.http(), it))?;
    link_drop(types, "future-trailers", |sandbox, it| types::HostFutureTrailers::drop(&mut sandbox.http(), it))?;
    link_drop(types, "incoming-response", |sandbox, it| types::HostIncomingResponse::drop(&mut sandbox.http(), it))?;
    link_drop(types, "future-incoming-response", |sandbox, it| {
        types::HostFutureIncomingResponse::drop(&mut sandbox.http(), it)
    })?;
    link_drop(&mut linker.instance("wasi:io/poll@0.2.12")?, "pollable", |sandbox, it| {
        HostPollable::drop(&mut sandbox.table, it)
    })?;
    let stream = ResourceType::host::<DynInputStream>();
    linker.instance("wasi:io/streams@0.2.12")?.resource_async("input-stream", stream, |mut store, place| {
        Box::new(async move {
            let table = &mut store.data_mut().table;
            if drop_retired(table, place)? {
                Ok(())
            } else {
                HostInputStream::drop(table, Resource::new_own(place)).await
            }
        })
    })
}

fn link_drop<T: 'static>(
    interface: &mut LinkerInstance<'_, Sandbox>,
    name: &str,
    drop: fn(&mut Sandbox, Resource<T>) -> wasmtime::Result<()>,
) -> wasmtime::Result<()> {
    interface.resource(name, ResourceType::host::<T>(), move |mut store, place| {
        let sandbox = store.data_mut();
        if drop_retired(&mut sandbox.table, place)? { Ok(()) } else { drop(sandbox, Resource::new_own(place)) }
    })
}

/// Whether there was something retired, which is gone now.
fn drop_retired(table: &mut ResourceTable, place: u32) -> Result<bool, ResourceTableError> {
    if table.get(&Resource::<Retired>::new_borrow(place)).is_err() {
        return Ok(false);
    }
    table.delete(Resource::<Retired>::new_own(place)).map(|Retired| true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outgoing::Nobody;
    use wasmtime_wasi::p2::pipe::MemoryInputPipe;
    use wasmtime_wasi::p2::subscribe;

    /// A type that nobody has listed.
    struct Unheard;

    fn trailers() -> HostFutureTrailers {
        HostFutureTrailers::Consumed
    }

    #[test]
    fn what_belongs_to_a_finished_request_is_retired_in_its_place_with_all_that_hangs_on_it() {
        let mut table = ResourceTable::new();
        let own = table.push(FieldMap::new_mutable(1000)).expect("room");
        let hole = table.push(Unheard).expect("room");
        let received = table.push(FieldMap::new_immutable(&mut Nobody, http::HeaderMap::new())).expect("room");
        let request = table.push(trailers()).expect("room");
        let stream: DynInputStream = Box::new(MemoryInputPipe::new("abc"));
        let stream = table.push_child(stream, &request).expect("room");
        let waiting = subscribe(&mut table, Resource::<DynInputStream>::new_borrow(stream.rep())).expect("room");
        table.delete(hole).expect("there");

        assert_eq!(clear(&mut table, true), Ok(Leftovers { kept: 1, retired: 4 }));
        assert!(table.get(&own).is_ok());
        for place in [received.rep(), request.rep(), stream.rep(), waiting.rep()] {
            assert!(table.get(&Resource::<Retired>::new_borrow(place)).is_ok());
        }
        assert!(matches!(table.get(&request), Err(ResourceTableError::WrongType)));
        // Again, as after the next request; and late drops.
        assert_eq!(clear(&mut table, true), Ok(Leftovers { kept: 1, retired: 4 }));
        assert!(drop_retired(&mut table, stream.rep()).expect("there"));
        assert!(!drop_retired(&mut table, stream.rep()).expect("nothing"));
        assert!(!drop_retired(&mut table, own.rep()).expect("not retired"));
        assert_eq!(clear(&mut table, true), Ok(Leftovers { kept: 1, retired: 3 }));
    }

    #[test]
    fn what_is_not_listed_keeps_an_instance_from_being_parked() {
        let mut table = ResourceTable::new();
        let unheard = table.push(Unheard).expect("room");
        assert_eq!(clear(&mut table, true), Err(NotParked::Resource));
        table.delete(unheard).expect("there");
        table.push(trailers()).expect("room");
        assert_eq!(clear(&mut table, false), Err(NotParked::Resource));
        assert_eq!(clear(&mut table, true), Ok(Leftovers { kept: 0, retired: 1 }));
    }

    #[test]
    fn a_clocks_pollable_may_stay() {
        let (mut table, mut clocks) = (ResourceTable::new(), WasiClocksCtx::default());
        let mut view = WasiClocksCtxView { ctx: &mut clocks, table: &mut table };
        monotonic_clock::Host::subscribe_duration(&mut view, 0).expect("room");
        assert_eq!(clear(&mut table, true), Ok(Leftovers { kept: 2, retired: 0 }));
    }
}
