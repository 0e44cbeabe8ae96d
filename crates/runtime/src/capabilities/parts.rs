//! What the components in front of a guest are granted (`guest.middleware`), each apart from the guest and from the others.
//!
//! A composition has one import for all of its parts where they import the same. What a grant decides about is imported once for
//! each part instead, under a plain name ([`name`]), and linked here. Types stay one: a folder's descriptor is a descriptor for all,
//! which only a part can use that was given it.

use super::{config, dirs, keyvalue, outgoing};
use crate::config::Grants;
use crate::engine::Wasi;
use crate::sandbox::{Policy, Sandbox};
use wasmtime::StoreContextMut;
use wasmtime::component::{Linker, LinkerInstance, Resource, ResourceTable};
use wasmtime_wasi::filesystem::{Descriptor, WasiFilesystemView as _};
use wasmtime_wasi::p2::bindings::filesystem::preopens;
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};

/// An interface that each part has for itself.
#[derive(Debug)]
pub struct Own {
    /// With the beginning of its version.
    interface: &'static str,
    /// In the name of the import.
    word: &'static str,
    link: fn(&mut LinkerInstance<'_, Sandbox>, usize) -> wasmtime::Result<()>,
}

impl Own {
    /// Whether `import` is a version of it.
    pub fn matches(&self, import: &str) -> bool {
        import.starts_with(self.interface)
    }
}

/// The interfaces that grants decide about.
pub const OWN: &[Own] = &[
    Own { interface: "wasi:cli/environment@0.2.", word: "p2-environment", link: environment_p2 },
    Own { interface: "wasi:cli/environment@0.3.", word: "p3-environment", link: environment_p3 },
    Own { interface: "wasi:filesystem/preopens@0.2.", word: "p2-preopens", link: folders },
    Own { interface: "wasi:filesystem/preopens@0.3.", word: "p3-preopens", link: folders },
    Own { interface: "wasi:http/outgoing-handler@0.2.", word: "p2-outgoing-handler", link: outgoing::link_part_p2 },
    Own { interface: "wasi:http/client@0.3.", word: "p3-client", link: outgoing::link_part_p3 },
    Own { interface: "wasi:config/store@0.2.", word: "config", link: config::link_part },
    // Before the draft whose name is the beginning of this one's.
    Own { interface: "wasi:keyvalue/store@0.2.0-draft2", word: "keyvalue-draft2", link: keyvalue::link_part_draft2 },
    Own { interface: "wasi:keyvalue/store@0.2.0-draft", word: "keyvalue-draft", link: keyvalue::link_part_draft },
];

/// Under which name the part with this number, counted from the outermost, imports an interface of its own.
pub fn name(part: usize, own: &Own) -> String {
    format!("part{part}-{}", own.word)
}

/// Packages and interfaces that all parts share, but for [`OWN`]: nothing in them is anybody's by a grant.
const SHARED: &[&str] = &[
    "wasi:http/",
    "wasi:io/",
    "wasi:clocks/",
    "wasi:random/",
    "wasi:cli/",
    "wasi:filesystem/",
    "wasi:sockets/",
    "wasi:keyvalue/atomics@",
    "wasi:keyvalue/batch@",
    "flexwasm:host/diagnostics@",
];

/// Whether all parts may share an import of this name, so that none of them gets what another is granted.
pub fn is_shared(import: &str) -> bool {
    SHARED.iter().any(|package| import.starts_with(package)) && !OWN.iter().any(|own| own.matches(import))
}

/// Which part imports which interface of its own by this name, if one does.
pub fn of_name(import: &str) -> Option<(usize, &'static str)> {
    let (part, word) = import.strip_prefix("part")?.split_once('-')?;
    let own = OWN.iter().find(|own| own.word == word)?;
    Some((part.parse().ok()?, own.interface.split('@').next()?))
}

/// Links what so many parts in front of a guest import for themselves.
///
/// # Errors
/// When two interfaces claim one name, which no input can cause.
pub fn link(linker: &mut Linker<Sandbox>, wasi: Wasi, parts: usize) -> wasmtime::Result<()> {
    for part in 0..parts {
        for own in OWN.iter().filter(|own| wasi == Wasi::P3 || !own.word.starts_with("p3")) {
            (own.link)(&mut linker.instance(&name(part, own))?, part)?;
        }
    }
    Ok(())
}

fn granted(policy: &Policy, part: usize) -> &Grants {
    &policy.parts[part].grants
}

fn environment_p2(linker: &mut LinkerInstance<'_, Sandbox>, part: usize) -> wasmtime::Result<()> {
    environment(linker, part)?;
    linker.func_wrap("initial-cwd", |_: StoreContextMut<'_, Sandbox>, ()| Ok((None::<String>,)))
}

fn environment_p3(linker: &mut LinkerInstance<'_, Sandbox>, part: usize) -> wasmtime::Result<()> {
    environment(linker, part)?;
    linker.func_wrap("get-initial-cwd", |_: StoreContextMut<'_, Sandbox>, ()| Ok((None::<String>,)))
}

fn environment(linker: &mut LinkerInstance<'_, Sandbox>, part: usize) -> wasmtime::Result<()> {
    linker.func_wrap("get-environment", move |store: StoreContextMut<'_, Sandbox>, ()| {
        Ok((granted(store.data().policy(), part).env.clone(),))
    })?;
    linker.func_wrap("get-arguments", |_: StoreContextMut<'_, Sandbox>, ()| Ok((Vec::<String>::new(),)))
}

fn folders(linker: &mut LinkerInstance<'_, Sandbox>, part: usize) -> wasmtime::Result<()> {
    linker.func_wrap("get-directories", move |mut store: StoreContextMut<'_, Sandbox>, ()| {
        let sandbox = store.data_mut();
        let mut wasi = WasiCtx::builder();
        dirs::grant(&sandbox.policy().function, granted(sandbox.policy(), part), &mut wasi);
        let mut view = View { wasi: wasi.build(), table: &mut sandbox.table };
        let folders: Vec<(Resource<Descriptor>, String)> = preopens::Host::get_directories(&mut view.filesystem())?;
        Ok((folders,))
    })
}

/// What one part has of an operating system, for as long as it asks for its folders.
struct View<'a> {
    wasi: WasiCtx,
    table: &'a mut ResourceTable,
}

impl WasiView for View<'_> {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: self.table }
    }
}
