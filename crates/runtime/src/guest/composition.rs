//! A guest with middleware in front: several components made one, which goes the same way as any other guest.
//!
//! The handler that one component exports is what the one before it imports, and the outermost one's is that of the whole. Whatever
//! else they import stays an import of the whole, once for all of them, so that a request that one passes on is a request for the
//! next. The exception is what a grant decides about ([`OWN`]): each component in front imports that by a name of its own, under
//! which [`capabilities::parts`](crate::capabilities) links what that component is granted.

use super::artifact::Artifact;
use super::chain;
use super::error::LoadError;
use super::interfaces::Interfaces;
use crate::capabilities::parts::{OWN, is_shared, name, of_name};
use crate::config::Function;
use crate::config::digest::Digest;
use crate::config::middleware::Middleware;
use crate::engine::Wasi;
use std::fmt;
use std::ops::Range;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use wac_graph::types::{Interface, ItemKind, Package, Type, UsedType};
use wac_graph::{CompositionGraph, EncodeOptions, NodeId, PackageId};
use wasmparser::{Parser, Payload};

/// One of the components that a guest was composed of.
#[derive(Clone)]
pub struct Part {
    /// Its file as the configuration names it.
    pub name: Arc<str>,
    /// Of the component.
    pub digest: Digest,
    /// All of it.
    pub wasm: Arc<[u8]>,
    /// Where it lies in the whole, by which a trap's place in the code tells whose code it is. Empty before it is composed.
    pub at: Range<usize>,
}

impl fmt::Debug for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.name, self.digest.short())
    }
}

impl Part {
    /// A component whose bytes are here.
    pub fn new(name: Arc<str>, artifact: Artifact) -> Self {
        Self { name, digest: artifact.digest, wasm: artifact.wasm.into(), at: 0..0 }
    }

    fn read(middleware: &Middleware, max_size: u64) -> Result<Self, LoadError> {
        let file = &middleware.file;
        let read = || {
            let artifact = Artifact::read(&middleware.path, max_size)?;
            expect(&artifact, middleware.sha256, PART_DIGEST)?;
            Ok(Self::new(Arc::clone(file), artifact))
        };
        read().map_err(|why| LoadError::Middleware(Arc::clone(file), Box::new(why)))
    }
}

/// Where the digest of a part is named.
const PART_DIGEST: &str = "its sha256 in guest.middleware";

/// Checks that the component is the one that the configuration names for the part with this number, none for the guest itself, if it
/// names one.
///
/// # Errors
/// [`LoadError::Digest`].
pub fn check_digest(function: &Function, part: Option<usize>, artifact: &Artifact) -> Result<(), LoadError> {
    match part {
        Some(part) => expect(artifact, function.middleware[part].sha256, PART_DIGEST),
        None => expect(artifact, function.guest.sha256, "guest.sha256"),
    }
}

fn expect(artifact: &Artifact, wanted: Option<Digest>, key: &'static str) -> Result<(), LoadError> {
    match wanted.filter(|wanted| *wanted != artifact.digest) {
        Some(wanted) => Err(LoadError::Digest(artifact.digest, wanted, key)),
        None => Ok(()),
    }
}

/// What is wrong with the entries of a chain, before any file is read.
fn objection(function: &Function) -> Option<String> {
    let plain = |path: &Path| path.components().filter(|name| *name != Component::CurDir).collect::<PathBuf>();
    let mut known = vec![plain(&function.script_file)];
    for Middleware { file, path, .. } in &function.middleware {
        if file.is_empty() {
            return Some(
                "it has an entry without a file: add \"file\": \"auth.wasm\", or remove its grants".to_owned(),
            );
        }
        let path = plain(path);
        match known.iter().position(|other| *other == path) {
            Some(0) => {
                return Some(format!("{file} is the guest itself, so that requests would go round: leave it out"));
            }
            Some(_) => return Some(format!("{file} stands there twice: leave one of them out")),
            None => known.push(path),
        }
    }
    None
}

/// Reads the guest of a function from its file, with its middleware in front.
///
/// # Errors
/// [`LoadError`]: a file cannot be read, is no component, or does not fit the next one.
pub fn read(function: &Function) -> Result<Artifact, LoadError> {
    if function.middleware.is_empty() {
        return Ok(Artifact::read(&function.script_file, function.guest.max_size)?);
    }
    compose(function, &parts(function, None)?)
}

/// Reads the parts of a guest from their files: what stands in front of it, and the guest itself last. The one with the number of `new`
/// is that component, whose file is not read.
///
/// # Errors
/// [`LoadError`]: a file cannot be read, or is no component.
pub fn parts(function: &Function, new: Option<(usize, Artifact)>) -> Result<Vec<Part>, LoadError> {
    if let Some(why) = objection(function) {
        return Err(LoadError::Composition(why));
    }
    let most = function.guest.max_size;
    let (place, mut new) = new.map_or((None, None), |(place, artifact)| (Some(place), Some(artifact)));
    let part = |number: usize| match (new.take_if(|_| place == Some(number)), function.middleware.get(number)) {
        (Some(new), _) => Ok(Part::new(name_of(function, number), new)),
        (None, Some(entry)) => Part::read(entry, most),
        (None, None) => Ok(Part::new(name_of(function, number), Artifact::read(&function.script_file, most)?)),
    };
    (0..=function.middleware.len()).map(part).collect()
}

/// What the part with this number is called; the last one is the guest itself.
pub fn name_of(function: &Function, number: usize) -> Arc<str> {
    match function.middleware.get(number) {
        Some(middleware) => Arc::clone(&middleware.file),
        None => function.script_file.file_name().unwrap_or_default().to_string_lossy().into(),
    }
}

/// Composes the guest of a function of its parts: the outermost first, the guest itself last. Takes milliseconds for each megabyte.
///
/// # Errors
/// [`LoadError::Composition`], [`LoadError::Artifact`].
pub fn compose(function: &Function, parts: &[Part]) -> Result<Artifact, LoadError> {
    let wasm = join(parts).map_err(LoadError::Composition)?;
    let parts = located(parts, &wasm);
    let mut artifact = Artifact::new(function.script_file.display().to_string(), wasm)?;
    // The whole imports the guest's interface of stores for its type, too, when only a part opens stores.
    let of_guest = parts.last().map(|guest| Interfaces::of(&guest.wasm).imports).unwrap_or_default();
    let imports = &mut artifact.interfaces.imports;
    imports.retain(|import| of_guest.contains(import) || !OWN.iter().any(|own| own.matches(import)));
    // One guest's file may stand in several compositions, each with code of its own.
    let compiled = function.script_file.with_extension(format!("{}.cwasm", artifact.digest.short()));
    Ok(Artifact { parts: parts.into(), compiled: Some(compiled), ..artifact })
}

/// The parts with their places in the whole, which has each as a component of its own: the guest first, because what stands in front
/// of something is instantiated after it.
fn located(parts: &[Part], whole: &[u8]) -> Vec<Part> {
    let mut parts = parts.to_vec();
    let mut rest = parts.iter_mut().rev().peekable();
    for payload in Parser::new(0).parse_all(whole).map_while(Result::ok) {
        let Payload::ComponentSection { unchecked_range: Range { start, end }, .. } = payload else { continue };
        let [start, end] = [start, end].map(|place| usize::try_from(place).unwrap_or(usize::MAX));
        // What a part nests is none of these.
        if let Some(part) = rest.next_if(|part| whole.get(start..end) == Some(&part.wasm)) {
            part.at = start..end;
        }
    }
    parts
}

/// The handler of each version, without the last number of it.
fn handler(wasi: Wasi) -> &'static str {
    match wasi {
        Wasi::P2 => "wasi:http/incoming-handler@0.2.",
        Wasi::P3 => "wasi:http/handler@0.3.",
    }
}

/// The bytes of the whole, or why there is none.
fn join(parts: &[Part]) -> Result<Vec<u8>, String> {
    let mut graph = CompositionGraph::new();
    let mut inner: Option<(NodeId, String, &Part)> = None;
    let mut wasi = Wasi::P3;
    for (number, part) in parts.iter().enumerate().rev() {
        let package = register(&mut graph, number, part)?;
        let instance = graph.instantiate(package);
        graph.set_node_name(instance, &*part.name);
        if let Some((next, _, next_part)) = inner.take() {
            let fits = import_of(&graph, package, wasi);
            // One guest may export the handlers of both versions: what stands in front of it decides.
            let Some(import) = fits else {
                let (wanted, next) = (handler(wasi), &next_part.name);
                return Err(format!(
                    "{} does not import {wanted}x, by which it would pass requests on to {next}: name a component that does, or remove it \
                     from guest.middleware",
                    part.name
                ));
            };
            let set = graph.set_instantiation_argument(instance, &import, next);
            set.map_err(|error| format!("{} does not fit {}: {}", part.name, next_part.name, chain(&error.into())))?;
            keep_apart(&mut graph, instance, package, number, part)?;
        } else {
            // What it asks for by one of their names would be theirs.
            let taken = graph.types()[graph[package].ty()].imports.keys().find(|import| of_name(import).is_some());
            if let Some(taken) = taken {
                return Err(format!(
                    "{} imports {taken}, which is for what stands in front of it: rename it",
                    part.name
                ));
            }
            // The guest itself.
            let exports = |wasi| export_of(&graph, package, wasi).is_some();
            let wanted = [Wasi::P3, Wasi::P2].into_iter().find(|wasi| exports(*wasi));
            wasi = wanted.unwrap_or(Wasi::P2);
        }
        let Some(export) = export_of(&graph, package, wasi) else {
            return Err(format!(
                "{} does not export {}x, which answers requests: name another component",
                part.name,
                handler(wasi)
            ));
        };
        let node = graph.alias_instance_export(instance, &export).map_err(|error| chain(&error.into()))?;
        inner = Some((node, export, part));
    }
    let (outermost, name, _) = inner.ok_or("there is no component to compose")?;
    graph.export(outermost, name).map_err(|error| chain(&error.into()))?;
    graph.encode(EncodeOptions::default()).map_err(|error| chain(&error.into()))
}

fn register(graph: &mut CompositionGraph, number: usize, part: &Part) -> Result<PackageId, String> {
    let bytes: Vec<u8> = part.wasm.to_vec();
    let package = Package::from_bytes(&format!("flexwasm:part{number}"), None, bytes, graph.types_mut());
    let package = package.map_err(|error| format!("{} is not a valid component: {error:#}", part.name))?;
    graph.register_package(package).map_err(|error| chain(&error.into()))
}

fn import_of(graph: &CompositionGraph, package: PackageId, wasi: Wasi) -> Option<String> {
    graph.types()[graph[package].ty()].imports.keys().find(|name| name.starts_with(handler(wasi))).cloned()
}

fn export_of(graph: &CompositionGraph, package: PackageId, wasi: Wasi) -> Option<String> {
    graph.types()[graph[package].ty()].exports.keys().find(|name| name.starts_with(handler(wasi))).cloned()
}

/// Lets the part with this number import what grants decide about by names of its own.
fn keep_apart(
    graph: &mut CompositionGraph,
    instance: NodeId,
    package: PackageId,
    number: usize,
    part: &Part,
) -> Result<(), String> {
    let imports = &graph.types()[graph[package].ty()].imports;
    let own: Vec<_> = imports.iter().map(|(import, kind)| (import.clone(), *kind)).collect();
    for (import, kind) in own {
        let Some(interface) = OWN.iter().find(|interface| interface.matches(&import)) else {
            if is_shared(&import) {
                continue;
            }
            return Err(format!(
                "{} imports {import}, which middleware does not get: name a component without it",
                part.name
            ));
        };
        let kind = unnamed(graph, kind);
        let node = graph.import(name(number, interface), kind);
        let node = node.map_err(|error| format!("{} imports {import} twice: {}", part.name, chain(&error.into())))?;
        graph.set_instantiation_argument(instance, &import, node).map_err(|error| chain(&error.into()))?;
    }
    Ok(())
}

/// The same interface without its own name: under a plain name with it, it would be imported by a feature (`implements`) that the
/// engine has not switched on. Its resources stay those of the interface that has the name, because other interfaces take and make
/// them: what is the part's own is who gets hold of one.
fn unnamed(graph: &mut CompositionGraph, kind: ItemKind) -> ItemKind {
    let ItemKind::Instance(id) = kind else { return kind };
    let mut interface = Interface { id: None, ..graph.types()[id].clone() };
    let own =
        |(name, kind): &(&String, &ItemKind)| matches!(kind, ItemKind::Type(_)) && !interface.uses.contains_key(*name);
    let types: Vec<_> = interface.exports.iter().filter(own).collect();
    if types.iter().any(|(_, kind)| matches!(kind, ItemKind::Type(Type::Resource(_)))) {
        let used = |(name, _): &(&String, _)| ((*name).clone(), UsedType { interface: id, name: None });
        let used: Vec<_> = types.iter().map(used).collect();
        interface.uses.extend(used);
    }
    ItemKind::Instance(graph.types_mut().add_interface(interface))
}
