//! What a guest may use beside its own memory, a file for each capability.
//!
//! Everything about a capability stands together: what it makes of the function's grants, what it links, what `flexwasm explain`
//! says about it, and which of its resources may outlive a request. To add one, write its file and add it to [`ALL`].
//!
//! A guest gets nothing that was not granted: no environment beyond `grants.env`, no configuration beyond `grants.config`, no files beyond `grants.dirs`, no requests to
//! servers beyond `grants.hosts`, no stores beyond `grants.keyvalue`, and no sockets. Interfaces that need a grant are linked without one as well, because the standard
//! libraries of several languages import them; they answer with a denial.

mod bindings;
mod clocks;
mod config;
mod diagnostics;
mod dirs;
mod env;
mod exit;
mod http;
mod io;
mod keyvalue;
mod outgoing;
mod output;
pub mod parts;
mod random;
mod sockets;

pub use output::Transcript;

use crate::config::Function;
use crate::engine::Wasi;
use crate::observe::trace::Tag;
use crate::sandbox::leftovers::{self, Entry, Leftovers, NotParked};
use crate::sandbox::{Policy, Sandbox, Scoped, System};
use std::sync::Arc;
use wasmtime::component::Linker;
use wasmtime_wasi::{WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView};

/// One thing that a guest may use.
trait Capability: Sync {
    /// Adds what the function grants to the system of a new instance, which begins with the invocation of this
    /// tag.
    fn equip(&self, _policy: &Arc<Policy>, _tag: &Tag, _system: &mut Equipment) {}

    /// Links its interfaces. A guest of WASI 0.3 may import those of 0.2 too: Rust's standard library does.
    fn link(&self, linker: &mut Linker<Sandbox>, wasi: Wasi) -> wasmtime::Result<()>;

    /// What a guest of `function` gets from `interface`, such as `wasi:cli/environment`. None if the interface belongs to another
    /// capability. A text that begins with `nothing: grants.` says which grant is missing.
    fn describe(&self, function: &Function, interface: &str) -> Option<String>;

    /// Whether a resource that the guest still holds after its answer is one of this capability, and may be used by the next
    /// request.
    fn keeps(&self, _resource: &Entry) -> bool {
        false
    }
}

/// The list of all capabilities. What is asked for most often comes first.
const ALL: &[&dyn Capability] = &[
    &http::Http,
    &io::Io,
    &clocks::Clocks,
    &env::Env,
    &config::Config,
    &dirs::Dirs,
    &random::Random,
    &output::Output,
    &exit::Exit,
    &sockets::Sockets,
    &outgoing::Outgoing,
    &keyvalue::KeyValue,
    &diagnostics::Diagnostics,
    &bindings::Bindings,
];

/// What the capabilities put together for one instance.
struct Equipment {
    wasi: WasiCtxBuilder,
    scoped: Vec<Arc<dyn Scoped>>,
}

/// Links everything that a guest may import.
///
/// # Errors
/// When two interfaces claim one name, which no input can cause.
pub fn linker(engine: &wasmtime::Engine, wasi: Wasi) -> wasmtime::Result<Linker<Sandbox>> {
    let mut linker = Linker::<Sandbox>::new(engine);
    for capability in ALL {
        capability.link(&mut linker, wasi)?;
    }
    Ok(linker)
}

/// What a guest of `function` gets when it imports `import`, in words for a person. Names of granted variables, never values.
pub fn describe(function: &Function, import: &str) -> String {
    let interface = import.split('@').next().unwrap_or_default();
    ALL.iter()
        .find_map(|capability| capability.describe(function, interface))
        .unwrap_or_else(|| "NOTHING: flexwasm has no such interface, so the guest cannot be loaded".to_owned())
}

/// What a capability that needs the grant `key` gives, in words.
fn granted(key: &str, names: &[String]) -> String {
    if names.is_empty() { format!("nothing: {key} is empty") } else { format!("{} ({key})", names.join(", ")) }
}

impl WasiView for Sandbox {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        self.system(|policy, tag| {
            let mut equipment = Equipment { wasi: WasiCtx::builder(), scoped: Vec::new() };
            for capability in ALL {
                capability.equip(policy, tag, &mut equipment);
            }
            let Equipment { mut wasi, scoped } = equipment;
            System { wasi: wasi.build(), scoped }
        })
    }
}

impl Sandbox {
    /// Takes what belongs to finished requests from the guest, and counts what it still holds. A guest of WASI 0.3 takes its
    /// request apart when it begins, so nothing is retired for it.
    ///
    /// # Errors
    /// Why the instance is not to be used again.
    pub fn clear(&mut self, wasi: Wasi) -> Result<Leftovers, NotParked> {
        if self.awaits_answer() {
            return Err(NotParked::Busy);
        }
        let retirement = |resource: &Entry| if wasi == Wasi::P2 { http::retirement(resource) } else { None };
        leftovers::clear(&mut self.table, retirement, keeps)
    }
}

/// Whether a resource may stay between two requests.
fn keeps(resource: &Entry) -> bool {
    ALL.iter().any(|capability| capability.keeps(resource))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::settings::HostPatch;
    use crate::config::{AppSettings, Circumstances, Grants, serve};
    use std::collections::BTreeSet;
    use wasmtime::component::{Resource, ResourceTable, ResourceTableError};
    use wasmtime_wasi::clocks::{WasiClocksCtx, WasiClocksCtxView};
    use wasmtime_wasi::p2::bindings::clocks::monotonic_clock;
    use wasmtime_wasi::p2::pipe::MemoryInputPipe;
    use wasmtime_wasi::p2::{DynInputStream, subscribe};
    use wasmtime_wasi_http::FieldMap;
    use wasmtime_wasi_http::p2::body::HostFutureTrailers;

    /// A type that no capability has listed.
    struct Unheard;

    fn clear(table: &mut ResourceTable) -> Result<Leftovers, NotParked> {
        leftovers::clear(table, http::retirement, keeps)
    }

    fn without_grants() -> Function {
        let given = Circumstances {
            machine_memory: 2 << 30,
            listen: None,
            cache_folders: Vec::new(),
            control_sockets: Vec::new(),
        };
        serve("x.wasm".into(), &HostPatch::default(), Grants::default(), &AppSettings::new(), &given)
            .functions
            .remove(0)
    }

    /// The interfaces of WASI by the files in `wit/`, but for the one that only a command exports.
    fn interfaces() -> BTreeSet<String> {
        let mut interfaces = BTreeSet::new();
        for folder in ["../../wit/deps", "../../wit/p3/deps"] {
            for file in std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path()) {
                let text = std::fs::read_to_string(&file).expect("a text");
                let Some(package) = text.lines().find_map(|line| line.strip_prefix("package ")) else { continue };
                let package = package.split('@').next().expect("a name");
                let names = text.lines().filter_map(|line| line.strip_prefix("interface "));
                interfaces.extend(names.map(|name| format!("{package}/{}", name.trim_end_matches(" {"))));
            }
        }
        interfaces.remove("wasi:cli/run");
        assert!(interfaces.len() > 30, "{interfaces:?}");
        interfaces
    }

    #[test]
    fn every_interface_is_described_by_one_capability() {
        let function = without_grants();
        for interface in interfaces() {
            let words: Vec<_> =
                ALL.iter().filter_map(|capability| capability.describe(&function, &interface)).collect();
            assert_eq!(words.len(), 1, "{interface}: {words:?}");
        }
        assert!(describe(&function, "wasi:blobstore/blobstore@0.2.0").starts_with("NOTHING: "));
        assert_eq!(describe(&function, "wasi:keyvalue/store@0.2.0-draft"), "nothing: grants.keyvalue is empty");
        assert_eq!(describe(&function, "wasi:http/client@0.3.0"), "nothing: grants.hosts is empty");
    }

    #[test]
    fn what_belongs_to_a_finished_request_is_retired_in_its_place_with_all_that_hangs_on_it() {
        let mut table = ResourceTable::new();
        let own = table.push(FieldMap::new_mutable(1000)).expect("room");
        let hole = table.push(Unheard).expect("room");
        let mut nobody = crate::outgoing::Nobody;
        let received = table.push(FieldMap::new_immutable(&mut nobody, ::http::HeaderMap::new())).expect("room");
        let request = table.push(HostFutureTrailers::Consumed).expect("room");
        let stream: DynInputStream = Box::new(MemoryInputPipe::new("abc"));
        let stream = table.push_child(stream, &request).expect("room");
        let waiting = subscribe(&mut table, Resource::<DynInputStream>::new_borrow(stream.rep())).expect("room");
        table.delete(hole).expect("there");

        assert_eq!(clear(&mut table), Ok(Leftovers { kept: 1, retired: 4 }));
        assert!(table.get(&own).is_ok());
        assert!(matches!(table.get(&request), Err(ResourceTableError::WrongType)));
        // Again, as after the next request; and late drops.
        assert_eq!(clear(&mut table), Ok(Leftovers { kept: 1, retired: 4 }));
        for place in [received.rep(), request.rep(), stream.rep(), waiting.rep()] {
            assert!(leftovers::drop_retired(&mut table, place).expect("there"));
            assert!(!leftovers::drop_retired(&mut table, place).expect("nothing"));
        }
        assert!(!leftovers::drop_retired(&mut table, own.rep()).expect("not retired"));
        assert_eq!(clear(&mut table), Ok(Leftovers { kept: 1, retired: 0 }));
    }

    #[test]
    fn what_is_not_listed_keeps_an_instance_from_being_parked() {
        let mut table = ResourceTable::new();
        let unheard = table.push(Unheard).expect("room");
        assert_eq!(clear(&mut table), Err(NotParked::Resource));
        table.delete(unheard).expect("there");
        table.push(HostFutureTrailers::Consumed).expect("room");
        assert_eq!(leftovers::clear(&mut table, |_| None, keeps), Err(NotParked::Resource));
        assert_eq!(clear(&mut table), Ok(Leftovers { kept: 0, retired: 1 }));
    }

    #[test]
    fn a_clocks_pollable_may_stay() {
        let (mut table, mut clocks) = (ResourceTable::new(), WasiClocksCtx::default());
        let mut view = WasiClocksCtxView { ctx: &mut clocks, table: &mut table };
        monotonic_clock::Host::subscribe_duration(&mut view, 0).expect("room");
        assert_eq!(clear(&mut table), Ok(Leftovers { kept: 2, retired: 0 }));
    }
}
