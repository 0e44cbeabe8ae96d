//! What a guest still holds when its request is answered, and what becomes of it if the instance is to get another one.
//!
//! Guests whose language collects garbage drop handles late, some of them never. What belongs to a finished request is
//! therefore *retired*: its data is freed, and a [`Retired`] takes its place in the resource table. A drop that comes late is
//! quiet; any other use finds an entry of another type, and traps. The handle still counts in `limits.handles`.
//!
//! Of everything else, each capability lists by type what may stay between two requests. What is not listed keeps the instance
//! from being parked, and so does a type that a later wasmtime adds.

use super::Sandbox;
use std::any::Any;
use std::collections::BTreeSet;
use std::ptr;
use wasmtime::component::{LinkerInstance, Resource, ResourceTable, ResourceTableError, ResourceType};
use wasmtime_wasi::p2::{DynInputStream, DynPollable};

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

/// An entry of a resource table.
pub type Entry = dyn Any + Send;

/// Takes the place of what belonged to a finished request.
struct Retired;

/// Retires the entry in this place of the table.
pub type Retirement = fn(&mut ResourceTable, u32) -> Result<(), ResourceTableError>;

/// How an entry of type `T` is retired. None if it is of another type.
pub fn retirement_of<T: Send + 'static>(entry: &Entry) -> Option<Retirement> {
    entry.is::<T>().then_some(retire::<T>)
}

/// Retires what belongs to finished requests, those that the guest has sent among them, as `retirement` says, and counts what
/// stays. None of these requests may be under way any more. `keeps` says what else may stay as it is.
///
/// # Errors
/// [`NotParked::Resource`]; the instance is not to be used again.
pub fn clear(
    table: &mut ResourceTable,
    retirement: impl Fn(&Entry) -> Option<Retirement>,
    keeps: impl Fn(&Entry) -> bool,
) -> Result<Leftovers, NotParked> {
    let finished: Vec<(u32, Retirement)> =
        table.iter_mut().filter_map(|(place, entry)| Some((place, retirement(entry)?))).collect();
    for (place, retire) in finished {
        retire(table, place).map_err(|_| NotParked::Resource)?;
    }
    let mut leftovers = Leftovers { kept: 0, retired: 0 };
    for (_, entry) in table.iter_mut() {
        if entry.is::<Retired>() {
            leftovers.retired += 1;
        } else if keeps(entry) {
            leftovers.kept += 1;
        } else {
            return Err(NotParked::Resource);
        }
    }
    Ok(leftovers)
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

/// Links the drop of a resource that can be retired once more, so that it is quiet about it. The linker has to allow shadowing.
///
/// # Errors
/// When the linker does not.
pub fn link_drop<T: 'static>(
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
///
/// # Errors
/// When it still has children, which nothing retired has.
pub fn drop_retired(table: &mut ResourceTable, place: u32) -> Result<bool, ResourceTableError> {
    if table.get(&Resource::<Retired>::new_borrow(place)).is_err() {
        return Ok(false);
    }
    table.delete(Resource::<Retired>::new_own(place)).map(|Retired| true)
}
