//! What a component consists of, and which of its core instances can be linked.

use super::{FUNCTIONS, KINDS, Left, Result, module, space};
use std::collections::BTreeMap;
use std::ops::Range;
use wasm_encoder::CanonicalFunctionSection;
use wasm_encoder::reencode::{Error, Reencode, ReencodeComponent};
use wasmparser::{
    CanonicalFunction, Chunk, ComponentAlias, ComponentExternalKind, ComponentInstance, ComponentOuterAliasKind,
    ExternalKind, Instance, Parser, Payload,
};

/// What stands in one of the component's core index spaces.
#[derive(Clone, Copy)]
pub enum Item<'a> {
    /// What an instance exports under a name.
    Export(u32, &'a str),
    /// A function of the component model that is the same wherever it is made: it needs no memory.
    Free,
    /// One that needs what an instance exports.
    Bound,
}

/// How one of the component's core instances is made.
#[derive(Clone)]
pub enum Made<'a> {
    /// Of the module with this number, which is given instances by name.
    Of(u32, BTreeMap<&'a str, u32>),
    /// Of items, by name.
    Bag(BTreeMap<&'a str, (ExternalKind, u32)>),
}

impl<'a> From<Instance<'a>> for Made<'a> {
    fn from(instance: Instance<'a>) -> Self {
        match instance {
            Instance::Instantiate { module_index, args } => {
                Self::Of(module_index, args.iter().map(|argument| (argument.name, argument.index)).collect())
            }
            Instance::FromExports(exports) => {
                Self::Bag(exports.iter().map(|export| (export.name, (export.kind, export.index))).collect())
            }
        }
    }
}

/// What a component consists of, as far as it matters here.
#[derive(Default)]
pub struct Survey<'a> {
    pub modules: Vec<&'a [u8]>,
    pub instances: Vec<Made<'a>>,
    pub items: [Vec<Item<'a>>; KINDS],
}

/// What a member imports.
#[derive(Clone, Copy)]
pub enum Source<'a> {
    /// What another instance exports.
    Member(u32, &'a str),
    /// A core function of the component.
    Function(u32),
}

/// Calls `visit` for each section of a component that stands in itself, with the bytes of the whole section.
pub fn sections<'a>(component: &'a [u8], mut visit: impl FnMut(Payload<'a>) -> Result<()>) -> Result<()> {
    let (mut parser, mut rest) = (Parser::new(0), component);
    while !rest.is_empty() {
        let Chunk::Parsed { consumed, payload } = parser.parse(rest, true)? else { return Err(Left) };
        rest = &rest[consumed..];
        if let Payload::ComponentSection { unchecked_range, .. } | Payload::ModuleSection { unchecked_range, .. } =
            &payload
        {
            rest = &rest[bytes(component, unchecked_range)?.len()..];
        }
        visit(payload)?;
    }
    Ok(())
}

/// Where the parser found something.
pub fn place(range: &Range<u64>) -> Option<Range<usize>> {
    Some(usize::try_from(range.start).ok()?..usize::try_from(range.end).ok()?)
}

pub fn bytes<'a>(component: &'a [u8], range: &Range<u64>) -> Result<&'a [u8]> {
    component.get(place(range).ok_or(Left)?).ok_or(Left)
}

impl<'a> Survey<'a> {
    pub fn of(component: &'a [u8]) -> Result<Self> {
        let mut survey = Self::default();
        sections(component, |section| survey.note(component, section))?;
        Ok(survey)
    }

    fn note(&mut self, component: &'a [u8], section: Payload<'a>) -> Result<()> {
        let is_module = |kind| kind == ComponentExternalKind::Module;
        match section {
            Payload::ModuleSection { unchecked_range, .. } => self.modules.push(bytes(component, &unchecked_range)?),
            Payload::InstanceSection(section) => {
                for instance in section {
                    self.instances.push(instance?.into());
                }
            }
            Payload::ComponentAliasSection(section) => {
                for alias in section {
                    match alias? {
                        ComponentAlias::CoreInstanceExport { kind, instance_index, name } => {
                            self.items[space(kind)].push(Item::Export(instance_index, name));
                        }
                        ComponentAlias::InstanceExport { kind, .. } if is_module(kind) => return Err(Left),
                        ComponentAlias::Outer { kind: ComponentOuterAliasKind::CoreModule, .. } => return Err(Left),
                        _ => {}
                    }
                }
            }
            Payload::ComponentCanonicalSection(section) => {
                for function in section {
                    self.items[FUNCTIONS].extend(item_of(&function?));
                }
            }
            Payload::ComponentImportSection(section) => {
                for import in section {
                    if is_module(import?.ty.kind()) {
                        return Err(Left);
                    }
                }
            }
            Payload::ComponentExportSection(section) => {
                for export in section {
                    if is_module(export?.kind) {
                        return Err(Left);
                    }
                }
            }
            Payload::ComponentInstanceSection(section) => {
                for instance in section {
                    let passes = match instance? {
                        ComponentInstance::Instantiate { args, .. } => {
                            args.iter().any(|argument| is_module(argument.kind))
                        }
                        ComponentInstance::FromExports(exports) => exports.iter().any(|export| is_module(export.kind)),
                    };
                    if passes {
                        return Err(Left);
                    }
                }
            }
            // One that is nested may reach for the modules around it.
            Payload::ComponentSection { unchecked_range, .. } => {
                for payload in Parser::new(0).parse_all(bytes(component, &unchecked_range)?) {
                    let Payload::ComponentAliasSection(section) = payload? else { continue };
                    for alias in section {
                        if matches!(alias?, ComponentAlias::Outer { kind: ComponentOuterAliasKind::CoreModule, .. }) {
                            return Err(Left);
                        }
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Which instances can be linked.
    pub fn members(&self) -> Vec<bool> {
        let mut uses = vec![0; self.modules.len()];
        for instance in &self.instances {
            if let Made::Of(module, _) = instance
                && let Some(uses) = uses.get_mut(*module as usize)
            {
                *uses += 1;
            }
        }
        let mut members: Vec<bool> = Vec::new();
        for instance in &self.instances {
            let is_open = |source: Option<Source<'_>>| match source {
                Some(Source::Member(other, _)) => members.get(other as usize).is_some_and(|member| *member),
                Some(Source::Function(_)) => true,
                None => false,
            };
            let is_member = match instance {
                Made::Of(module, given) if uses.get(*module as usize) == Some(&1) => {
                    let imports = module::imports(self.modules[*module as usize]).unwrap_or_default();
                    imports.iter().all(|import| is_open(self.source(given, import.module, import.name)))
                }
                _ => false,
            };
            members.push(is_member);
        }
        members
    }

    /// What a module that is given these instances gets for an import.
    pub fn source(&self, given: &BTreeMap<&str, u32>, module: &str, name: &'a str) -> Option<Source<'a>> {
        let given = *given.get(module)?;
        match self.instances.get(given as usize)? {
            Made::Of(..) => Some(Source::Member(given, name)),
            Made::Bag(items) => {
                let (kind, index) = *items.get(name)?;
                match self.items[space(kind)].get(index as usize)? {
                    Item::Export(instance, name) => Some(Source::Member(*instance, name)),
                    Item::Free => Some(Source::Function(index)),
                    Item::Bound => None,
                }
            }
        }
    }

    /// Which instances have to be made beside the linked module: those of other modules, and what somebody asks of items.
    pub fn needed(&self, members: &[bool]) -> Vec<bool> {
        let mut needed = vec![false; self.instances.len()];
        let mut need = |index: u32| {
            if let (Some(needed), Some(false)) = (needed.get_mut(index as usize), members.get(index as usize)) {
                *needed = true;
            }
        };
        for (index, instance) in (0..).zip(&self.instances) {
            if let (Made::Of(_, given), Some(false)) = (instance, members.get(index as usize)) {
                need(index);
                given.values().for_each(|given| need(*given));
            }
        }
        for item in self.items.iter().flatten() {
            if let Item::Export(instance, _) = item {
                need(*instance);
            }
        }
        needed
    }
}

/// What a canonical function puts into the index space of core functions, if it does.
fn item_of<'a>(function: &CanonicalFunction) -> Option<Item<'a>> {
    if matches!(function, CanonicalFunction::Lift { .. }) {
        return None;
    }
    let mut needs = Needs(false);
    let written = needs.parse_component_canonical(&mut CanonicalFunctionSection::new(), function.clone());
    Some(if needs.0 || written.is_err() { Item::Bound } else { Item::Free })
}

/// Whether core items were asked for.
struct Needs(bool);

impl Needs {
    fn item(&mut self, _: ExternalKind, index: u32) -> std::result::Result<u32, Error<Left>> {
        self.0 = true;
        Ok(index)
    }
}

impl Reencode for Needs {
    numbered!();
}

impl ReencodeComponent for Needs {}
