//! `grants.dirs`: folders of the app that the guest may read, and no other files.

use super::{Capability, Equipment, granted};
use crate::config::dirs::Folder;
use crate::config::{Function, Grants};
use crate::engine::Wasi;
use crate::observe::trace::Tag;
use crate::sandbox::leftovers::Entry;
use crate::sandbox::{Policy, Sandbox};
use std::sync::Arc;
use wasmtime::component::Linker;
use wasmtime_wasi::filesystem::{Descriptor, WasiFilesystem, WasiFilesystemView as _};
use wasmtime_wasi::p2::ReaddirIterator;
use wasmtime_wasi::{FsPerms, WasiCtxBuilder, p2, p3};

pub struct Dirs;

/// Opens the granted folders.
pub fn grant(function: &str, grants: &Grants, wasi: &mut WasiCtxBuilder) {
    for Folder { path, guest_path } in &grants.dirs {
        // It was there when the configuration was read. Links in it that lead out of it are refused when they are opened.
        if let Err(error) = wasi.preopened_dir(path, guest_path, FsPerms::ReadOnly) {
            tracing::warn!(%function, folder = guest_path, %error, "a granted folder cannot be opened");
        }
    }
}

impl Capability for Dirs {
    fn equip(&self, policy: &Arc<Policy>, _: &Tag, system: &mut Equipment) {
        grant(&policy.function, &policy.grants, &mut system.wasi);
    }

    fn link(&self, linker: &mut Linker<Sandbox>, wasi: Wasi) -> wasmtime::Result<()> {
        p2::bindings::filesystem::types::add_to_linker::<_, WasiFilesystem>(linker, Sandbox::filesystem)?;
        p2::bindings::filesystem::preopens::add_to_linker::<_, WasiFilesystem>(linker, Sandbox::filesystem)?;
        if wasi == Wasi::P3 {
            p3::filesystem::add_to_linker(linker)?;
        }
        Ok(())
    }

    fn describe(&self, function: &Function, interface: &str) -> Option<String> {
        match interface {
            "wasi:filesystem/preopens" => Some(granted("grants.dirs", &function.grants.folders())),
            interface if interface.starts_with("wasi:filesystem/") => {
                Some("what grants.dirs names, for reading".to_owned())
            }
            _ => None,
        }
    }

    fn keeps(&self, resource: &Entry) -> bool {
        resource.is::<Descriptor>() || resource.is::<ReaddirIterator>()
    }
}
