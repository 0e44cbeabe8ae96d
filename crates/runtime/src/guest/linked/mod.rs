//! Core modules that a component links when it is instantiated, linked before it is compiled.
//!
//! A component of componentize-py has 14 core modules: libc, the interpreter, its bindings. For every instance wasmtime makes 14
//! instances of them, passes each some hundred imports, and fills the function table that they share with 5,762 entries, one by one
//! (docs/upstream.md): more work than many a request. Of a table that belongs to the module which fills it, an entry is made when it
//! is first called. So the modules are made into one here, with one memory and one table, which exports what the rest of the component
//! asks of them. Calls between them become direct ones, and what was a global becomes a constant.
//!
//! The component means the same as before: the order of initialization is kept, and what cannot be told from outside is all that
//! changes. Where that is not certain ([`link`] says when) it is left as it is.

mod module;

use module::{Linked, Member};
use std::collections::BTreeMap;
use wasm_encoder::reencode::{Error, Reencode, ReencodeComponent};
use wasm_encoder::{
    Alias, CanonicalFunctionSection, Component, ComponentAliasSection, ComponentSection, ComponentSectionId,
    ExportKind, InstanceSection, ModuleArg, RawSection,
};
use wasmparser::{
    CanonicalFunction, Chunk, ComponentAlias, ComponentExternalKind, ComponentOuterAliasKind, ExternalKind, Instance,
    Parser, Payload, Validator, WasmFeatures,
};

/// The kinds of a core module's items that one module can give another, each with an index space.
const KINDS: usize = 5;

/// The number of an index space.
fn space(kind: ExternalKind) -> usize {
    match kind {
        ExternalKind::Func | ExternalKind::FuncExact => FUNCTIONS,
        ExternalKind::Table => 1,
        ExternalKind::Memory => 2,
        ExternalKind::Global => 3,
        ExternalKind::Tag => 4,
    }
}

const FUNCTIONS: usize = 0;

/// Why a component is left as it is; nothing is wrong with it.
#[derive(Debug, Clone, Copy)]
struct Left;

impl From<wasmparser::Error> for Left {
    fn from(_: wasmparser::Error) -> Self {
        Self
    }
}

impl From<Error<Left>> for Left {
    fn from(_: Error<Left>) -> Self {
        Self
    }
}

type Result<T> = std::result::Result<T, Left>;

/// Returns `component` with the core modules linked that it instantiates once, and gives nothing but functions of the host or items of
/// one another. None if there are no two of them, or if it has to be left as it is: it is not valid; its modules have more than
/// one memory, debug information, or a start function behind which another module would write to memory; or it passes modules on.
pub fn link(component: &[u8]) -> Option<Vec<u8>> {
    let is_valid = |bytes: &[u8]| Validator::new_with_features(WasmFeatures::all()).validate_all(bytes).is_ok();
    // What is wrong with it has to be told of the component that was given.
    let linked = is_valid(component).then(|| Survey::of(component)?.link(component))?.ok()?;
    let stays_valid = is_valid(&linked);
    debug_assert!(stays_valid, "what was linked is valid");
    stays_valid.then_some(linked)
}

/// What stands in one of the component's core index spaces.
#[derive(Clone, Copy)]
enum Item<'a> {
    /// What an instance exports under a name.
    Export(u32, &'a str),
    /// A function of the component model that is the same wherever it is made: it needs no memory.
    Free,
    /// One that needs what an instance exports.
    Bound,
}

/// How one of the component's core instances is made.
#[derive(Clone)]
enum Made<'a> {
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
struct Survey<'a> {
    modules: Vec<&'a [u8]>,
    instances: Vec<Made<'a>>,
    items: [Vec<Item<'a>>; KINDS],
}

/// What a member imports.
#[derive(Clone, Copy)]
enum Source<'a> {
    /// What another instance exports.
    Member(u32, &'a str),
    /// A core function of the component.
    Function(u32),
}

/// Calls `visit` for each section of a component that stands in itself, with the bytes of the whole section.
fn sections<'a>(component: &'a [u8], mut visit: impl FnMut(Payload<'a>) -> Result<()>) -> Result<()> {
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

fn bytes<'a>(component: &'a [u8], range: &std::ops::Range<u64>) -> Result<&'a [u8]> {
    let place = |at: u64| usize::try_from(at).map_err(|_| Left);
    component.get(place(range.start)?..place(range.end)?).ok_or(Left)
}

impl<'a> Survey<'a> {
    fn of(component: &'a [u8]) -> Result<Self> {
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
                        wasmparser::ComponentInstance::Instantiate { args, .. } => {
                            args.iter().any(|argument| is_module(argument.kind))
                        }
                        wasmparser::ComponentInstance::FromExports(exports) => {
                            exports.iter().any(|export| is_module(export.kind))
                        }
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
    fn members(&self) -> Vec<bool> {
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
    fn source(&self, given: &BTreeMap<&str, u32>, module: &str, name: &'a str) -> Option<Source<'a>> {
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
    fn needed(&self, members: &[bool]) -> Vec<bool> {
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

    fn link(&self, component: &'a [u8]) -> Result<Vec<u8>> {
        let members = self.members();
        let (mut parts, mut modules, mut last) = (Vec::new(), vec![None; self.modules.len()], 0);
        for (index, instance) in (0..).zip(&self.instances) {
            let (Made::Of(module, given), true) = (instance, members[index as usize]) else { continue };
            let source = |module: &str, name: &'a str| self.source(given, module, name).ok_or(Left);
            parts.push(Member::read(index, self.modules[*module as usize], source)?);
            modules[*module as usize] = Some(Module::Linked);
            last = index;
        }
        if parts.len() < 2 {
            return Err(Left);
        }
        let mut rewriting = Rewriting {
            survey: self,
            linked: Linked::layout(parts)?,
            needed: self.needed(&members),
            members,
            placed: None,
            written: Component::new(),
            late: Vec::new(),
            aliases: ComponentAliasSection::new(),
            known: std::array::from_fn(|kind| vec![None; self.items[kind].len()]),
            instances: vec![None; self.instances.len()],
            modules,
            seen: Count::default(),
            next: Count::default(),
            broken: false,
        };
        sections(component, |section| rewriting.section(component, section, last))?;
        rewriting.finish()
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

impl Reencode for Needs {
    type Error = Left;

    fn function_index(&mut self, index: u32) -> std::result::Result<u32, Error<Left>> {
        self.0 = true;
        Ok(index)
    }

    fn table_index(&mut self, index: u32) -> std::result::Result<u32, Error<Left>> {
        self.0 = true;
        Ok(index)
    }

    fn memory_index(&mut self, index: u32) -> std::result::Result<u32, Error<Left>> {
        self.0 = true;
        Ok(index)
    }
}

impl ReencodeComponent for Needs {}

/// How many there are of what is counted through the whole component.
#[derive(Default)]
struct Count {
    items: [u32; KINDS],
    instances: u32,
    modules: u32,
}

/// The component on its way.
struct Rewriting<'s, 'a> {
    survey: &'s Survey<'a>,
    linked: Linked<'a>,
    /// Which instances are linked, and which of the others have to be made.
    members: Vec<bool>,
    needed: Vec<bool>,
    /// Where the linked module stands, as soon as it has a place.
    placed: Option<Placed>,
    /// What stands behind it, else what has been written.
    written: Component,
    late: Vec<Late<'a>>,
    /// Of the linked module's exports that the next section needs first.
    aliases: ComponentAliasSection,
    /// The new numbers of items, instances and modules, as far as they have one.
    known: [Vec<Option<u32>>; KINDS],
    instances: Vec<Option<u32>>,
    modules: Vec<Option<Module>>,
    /// What has been read, and what has been written.
    seen: Count,
    next: Count,
    /// Whether something was asked for that has no number yet.
    broken: bool,
}

/// What has become of a module.
#[derive(Clone, Copy)]
enum Module {
    Linked,
    /// It has this number now.
    Kept(u32),
}

/// What stands before the place of the linked module and needs it, or is not needed by it.
enum Late<'a> {
    /// The core function with this number.
    Function(CanonicalFunction, u32),
    /// The instance with this number.
    Instance(Made<'a>, u32),
}

/// The place of the linked module.
struct Placed {
    /// What stands before it.
    before: Vec<u8>,
    /// The number of its instance.
    instance: u32,
}

impl<'a> Rewriting<'_, 'a> {
    fn section(&mut self, component: &[u8], section: Payload<'a>, last: u32) -> Result<()> {
        match section {
            Payload::ModuleSection { unchecked_range, .. } => {
                let index = self.seen.modules;
                self.seen.modules += 1;
                let module = &mut self.modules[index as usize];
                if module.is_none() {
                    *module = Some(Module::Kept(self.next.modules));
                    self.next.modules += 1;
                    self.raw(ComponentSectionId::CoreModule.into(), bytes(component, &unchecked_range)?);
                }
            }
            Payload::InstanceSection(section) => {
                for instance in section {
                    let (instance, index) = (Made::from(instance?), self.seen.instances);
                    self.seen.instances += 1;
                    match self.placed {
                        _ if !self.needed[index as usize] => {}
                        Some(_) => self.instance(&instance, index)?,
                        None => self.late.push(Late::Instance(instance, index)),
                    }
                    if index == last {
                        self.place()?;
                    }
                }
            }
            Payload::ComponentAliasSection(section) => {
                for alias in section {
                    let alias = alias?;
                    let mut kind = None;
                    if let ComponentAlias::CoreInstanceExport { kind: of, instance_index, .. } = alias {
                        kind = Some(space(of));
                        if self.is_member(instance_index) {
                            self.seen.items[space(of)] += 1;
                            continue;
                        }
                    }
                    let mut one = ComponentAliasSection::new();
                    one.alias(self.component_alias(alias)?);
                    self.write(&one);
                    if let Some(kind) = kind {
                        let index = self.seen(kind);
                        self.made(kind, index);
                    }
                }
            }
            Payload::ComponentCanonicalSection(section) => {
                for function in section {
                    let function = function?;
                    match item_of(&function) {
                        None => self.canonical(function, None)?,
                        Some(Item::Bound) if self.placed.is_none() => {
                            let index = self.seen(FUNCTIONS);
                            self.late.push(Late::Function(function, index));
                        }
                        Some(_) => {
                            let index = self.seen(FUNCTIONS);
                            self.canonical(function, Some(index))?;
                        }
                    }
                }
            }
            // For debuggers; it names by number what has another one now.
            Payload::CustomSection(_) => {}
            other => {
                if let Some((id, range)) = other.as_section() {
                    self.raw(id, bytes(component, &range)?);
                }
            }
        }
        if self.broken { Err(Left) } else { Ok(()) }
    }

    /// The number of the item that has been read.
    fn seen(&mut self, kind: usize) -> u32 {
        self.seen.items[kind] += 1;
        self.seen.items[kind] - 1
    }

    /// An item of the component's own has been written.
    fn made(&mut self, kind: usize, index: u32) {
        self.known[kind][index as usize] = Some(self.next.items[kind]);
        self.next.items[kind] += 1;
    }

    /// Writes a function that may be the core function with this number.
    fn canonical(&mut self, function: CanonicalFunction, index: Option<u32>) -> Result<()> {
        let mut one = CanonicalFunctionSection::new();
        self.parse_component_canonical(&mut one, function)?;
        self.write(&one);
        if let Some(index) = index {
            self.made(FUNCTIONS, index);
        }
        Ok(())
    }

    fn is_member(&self, instance: u32) -> bool {
        self.members.get(instance as usize).is_some_and(|member| *member)
    }

    /// Writes an instance that is not linked.
    fn instance(&mut self, instance: &Made<'a>, index: u32) -> Result<()> {
        let mut one = InstanceSection::new();
        match instance {
            Made::Of(number, given) => {
                let Some(Module::Kept(module)) = self.modules.get(*number as usize).copied().flatten() else {
                    return Err(Left);
                };
                let mut instances = Vec::new();
                for (name, given) in given {
                    let number = if self.is_member(*given) {
                        self.bag(self.survey.modules[*number as usize], name, *given)?
                    } else {
                        self.instances.get(*given as usize).copied().flatten().ok_or(Left)?
                    };
                    instances.push((*name, ModuleArg::Instance(number)));
                }
                one.instantiate(module, instances);
            }
            Made::Bag(items) => {
                let mut exports = Vec::new();
                for (name, (kind, index)) in items {
                    exports.push((*name, ExportKind::from(*kind), self.item(*kind, *index)?));
                }
                one.export_items(exports);
            }
        }
        self.write(&one);
        self.instances[index as usize] = Some(self.next.instances);
        self.next.instances += 1;
        Ok(())
    }

    /// Writes what `module` imports by this name from a member, and returns the number of that instance.
    fn bag(&mut self, module: &'a [u8], name: &str, member: u32) -> Result<u32> {
        let mut exports = Vec::new();
        for import in module::imports(module)?.into_iter().filter(|import| import.module == name) {
            let (kind, number) = self.alias(member, import.name)?;
            exports.push((import.name, ExportKind::from(kind), number));
        }
        let mut one = InstanceSection::new();
        one.export_items(exports);
        self.write(&one);
        self.next.instances += 1;
        Ok(self.next.instances - 1)
    }

    fn raw(&mut self, id: u8, data: &[u8]) {
        self.written.section(&RawSection { id, data });
    }

    /// Writes a section, after what it needs of the linked module.
    fn write(&mut self, section: &impl ComponentSection) {
        let aliases = std::mem::take(&mut self.aliases);
        if !aliases.is_empty() {
            self.written.section(&aliases);
        }
        self.written.section(section);
    }

    /// Gives the linked module its place: all that it imports has been written.
    fn place(&mut self) -> Result<()> {
        let functions: Vec<u32> = self.linked.functions().collect();
        let mut imports = Vec::new();
        for (place, function) in functions.into_iter().enumerate() {
            imports.push((place.to_string(), self.function_index(function)?));
        }
        // The module itself comes between the two as soon as it is known what it has to export.
        let before = std::mem::take(&mut self.written).finish();
        let mut section = InstanceSection::new();
        section.export_items(imports.iter().map(|(name, index)| (name.as_str(), ExportKind::Func, *index)));
        section.instantiate(self.next.modules, [("", ModuleArg::Instance(self.next.instances))]);
        self.write(&section);
        self.placed = Some(Placed { before, instance: self.next.instances + 1 });
        self.next.modules += 1;
        self.next.instances += 2;
        let late = std::mem::take(&mut self.late);
        // A start function would have found what these put into tables.
        if self.linked.starts() && late.iter().any(|late| matches!(late, Late::Instance(Made::Of(..), _))) {
            return Err(Left);
        }
        for late in late {
            match late {
                Late::Function(function, index) => self.canonical(function, Some(index))?,
                Late::Instance(instance, index) => self.instance(&instance, index)?,
            }
        }
        Ok(())
    }

    fn finish(self) -> Result<Vec<u8>> {
        let mut all = self.placed.ok_or(Left)?.before;
        let module = self.linked.encode()?.finish();
        let section = RawSection { id: ComponentSectionId::CoreModule.into(), data: &module };
        section.append_to_component(&mut all);
        all.extend(&self.written.finish()[Component::HEADER.len()..]);
        Ok(all)
    }

    /// The number of an item now. What a member exports gets one when it is first asked for.
    fn item(&mut self, kind: ExternalKind, index: u32) -> std::result::Result<u32, Error<Left>> {
        let place = index as usize;
        if let Some(known) = *self.known[space(kind)].get(place).ok_or(Error::UserError(Left))? {
            return Ok(known);
        }
        let Item::Export(instance, name) = self.survey.items[space(kind)][place] else {
            return Err(Error::UserError(Left));
        };
        let (_, number) = self.alias(instance, name).map_err(Error::UserError)?;
        self.known[space(kind)][place] = Some(number);
        Ok(number)
    }

    /// Makes an item of what a member exported.
    fn alias(&mut self, instance: u32, name: &str) -> Result<(ExternalKind, u32)> {
        let placed = self.placed.as_ref().ok_or(Left)?;
        let (kind, name) = self.linked.export(instance, name)?;
        self.aliases.alias(Alias::CoreInstanceExport { instance: placed.instance, kind: kind.into(), name: &name });
        let next = &mut self.next.items[space(kind)];
        *next += 1;
        Ok((kind, *next - 1))
    }
}

impl Reencode for Rewriting<'_, '_> {
    type Error = Left;

    fn function_index(&mut self, index: u32) -> std::result::Result<u32, Error<Left>> {
        self.item(ExternalKind::Func, index)
    }

    fn table_index(&mut self, index: u32) -> std::result::Result<u32, Error<Left>> {
        self.item(ExternalKind::Table, index)
    }

    fn memory_index(&mut self, index: u32) -> std::result::Result<u32, Error<Left>> {
        self.item(ExternalKind::Memory, index)
    }

    fn global_index(&mut self, index: u32) -> std::result::Result<u32, Error<Left>> {
        self.item(ExternalKind::Global, index)
    }

    fn tag_index(&mut self, index: u32) -> std::result::Result<u32, Error<Left>> {
        self.item(ExternalKind::Tag, index)
    }
}

impl ReencodeComponent for Rewriting<'_, '_> {
    fn instance_index(&mut self, index: u32) -> u32 {
        let known = self.instances.get(index as usize).copied().flatten();
        self.broken |= known.is_none();
        known.unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guest::footprint::Footprint;
    use wasmtime::component::{Component, Linker};
    use wasmtime::{Engine, Store};

    /// Two libraries as linkers for shared ones make them: a memory, a table and bases of another module, and a function of the
    /// host that needs that memory, so that it comes into a table when all others are there.
    const LIBRARIES: &str = r#"(component
        (import "log" (func $log (param "text" string)))
        (core module $env
            (memory (export "memory") 1) (table (export "table") 4 funcref)
            (global (export "table_base") i32 (i32.const 2)) (global (export "memory_base") i32 (i32.const 64))
            (global (export "count") (mut i32) (i32.const 0)))
        (core module $shim
            (table (export "$imports") 1 funcref)
            (func (export "log") (param i32 i32) local.get 0 local.get 1 i32.const 0 call_indirect (param i32 i32)))
        (core module $first
            (import "env" "memory" (memory 1)) (import "env" "table" (table 4 funcref))
            (import "env" "table_base" (global $table_base i32)) (import "env" "memory_base" (global $memory_base i32))
            (import "env" "log" (func $log (param i32 i32)))
            (global $text i32 (i32.add (global.get $memory_base) (i32.const 1)))
            (data (global.get $memory_base) ".hello") (elem (global.get $table_base) func $forty)
            (func $forty (export "forty") (result i32) i32.const 40)
            (func (export "say") global.get $text i32.const 5 call $log))
        (core module $second
            (type $number (func (result i32)))
            (import "env" "table" (table 4 funcref)) (import "env" "count" (global $count (mut i32)))
            (import "first" "forty" (func $forty (result i32))) (import "first" "say" (func $say))
            (func (export "run") (result i32)
                call $say
                (global.set $count (i32.add (global.get $count) (i32.const 1)))
                (i32.add (global.get $count) (i32.add (call $forty) (call_indirect (type $number) (i32.const 2))))))
        (core module $fixup
            (import "" "log" (func $log (param i32 i32))) (import "shim" "$imports" (table 1 funcref))
            (elem (i32.const 0) func $log))
        (core instance $env (instantiate $env))
        (core instance $shim (instantiate $shim))
        (core instance $given (export "memory" (memory $env "memory")) (export "table" (table $env "table"))
            (export "table_base" (global $env "table_base")) (export "memory_base" (global $env "memory_base"))
            (export "log" (func $shim "log")))
        (core instance $first (instantiate $first (with "env" (instance $given))))
        (core func $lowered (canon lower (func $log) (memory $env "memory")))
        (core instance $late (export "log" (func $lowered)))
        (core instance (instantiate $fixup (with "" (instance $late)) (with "shim" (instance $shim))))
        (core instance $second
            (instantiate $second (with "env" (instance $env)) (with "first" (instance $first))))
        (func (export "run") (result u32) (canon lift (core func $second "run"))))"#;

    fn wasm(text: &str) -> Vec<u8> {
        wat::parse_str(text).expect("a component")
    }

    /// What two calls return, and what they log.
    fn run(component: &[u8]) -> ([u32; 2], Vec<String>) {
        let engine = Engine::default();
        let component = Component::new(&engine, component).expect("wasmtime takes it");
        let mut linker = Linker::new(&engine);
        let mut root = linker.root();
        root.func_wrap("log", |mut store: wasmtime::StoreContextMut<'_, Vec<String>>, (text,): (String,)| {
            store.data_mut().push(text);
            Ok(())
        })
        .expect("a new name");
        let mut store = Store::new(&engine, Vec::new());
        let instance = linker.instantiate(&mut store, &component).expect("it can be instantiated");
        let run = instance.get_typed_func::<(), (u32,)>(&mut store, "run").expect("it is exported");
        let results = [0; 2].map(|_| run.call(&mut store, ()).expect("it returns").0);
        (results, store.into_data())
    }

    #[test]
    fn linked_libraries_do_what_they_did() {
        let whole = wasm(LIBRARIES);
        let linked = link(&whole).expect("they can be linked");
        assert_eq!(run(&whole), ([81, 82], vec!["hello".to_owned(); 2]));
        assert_eq!(run(&linked), run(&whole));
        let modules = |component: &[u8]| (Footprint::of(component).modules, Footprint::of(component).needs);
        let (before, needed) = modules(&whole);
        let (after, needs) = modules(&linked);
        // What fills the table for the host's function needs the memory, and so comes after.
        assert_eq!((before, after, needs.core_instances), (5, 2, 2));
        assert_eq!((needs.memory, needs.memories, needs.tables), (needed.memory, needed.memories, needed.tables));
    }

    #[test]
    fn functions_keep_their_names_and_tables_are_known_beforehand() {
        let linked = link(&wasm(LIBRARIES)).expect("they can be linked");
        let (mut names, mut offsets) = (Vec::new(), Vec::new());
        for payload in Parser::new(0).parse_all(&linked) {
            match payload.expect("it is valid") {
                Payload::CustomSection(section) => {
                    let wasmparser::KnownCustom::Name(section) = section.as_known() else { continue };
                    for subsection in section {
                        let wasmparser::Name::Function(map) = subsection.expect("it is valid") else { continue };
                        names.extend(map.into_iter().map(|naming| naming.expect("it is valid").name.to_owned()));
                    }
                }
                Payload::ElementSection(section) => {
                    for element in section {
                        let wasmparser::ElementKind::Active { offset_expr, .. } = element.expect("it is valid").kind
                        else {
                            continue;
                        };
                        offsets.push(offset_expr.get_operators_reader().read().expect("it is valid"));
                    }
                }
                _ => {}
            }
        }
        // The first is of the fixup, which is no part of it.
        assert_eq!(names, ["log", "forty"]);
        // And the library's base is a number now.
        let number = |value| wasmparser::Operator::I32Const { value };
        assert!(offsets.contains(&number(2)) && offsets.len() == 2, "{offsets:?}");
    }

    #[test]
    fn what_is_not_certain_is_left_as_it_is() {
        let left = |name: &str, from: &str, to: &str| {
            let changed = LIBRARIES.replacen(from, to, 1);
            assert!(changed != LIBRARIES, "{name}: nothing was replaced");
            assert!(link(&wasm(&changed)).is_none(), "{name}");
        };
        left(
            "a second memory",
            "(table (export \"$imports\") 1 funcref)",
            "(table (export \"$imports\") 1 funcref) (memory 1)",
        );
        left("a start behind which another writes", "(core module $shim", "(core module $shim (func $f) (start $f)");
        left(
            "a start that calls what comes late",
            "(func (export \"run\") (result i32)",
            "(func $s) (start $s) (func (export \"run\") (result i32)",
        );
        left(
            "a module that is passed on",
            "(core instance $env (instantiate $env))",
            "(core instance $env (instantiate $env)) (export \"env\" (core module $env))",
        );
        left(
            "a module that a component inside has, too",
            "(core instance $env (instantiate $env))",
            "(core instance $env (instantiate $env)) (component (alias outer 1 $env (core module $it)))",
        );
        left("debug information", "(core module $first", "(core module $first (@custom \".debug_info\" \"x\")");
        assert!(link(b"rubbish").is_none());
        assert!(link(&wasm("(component (core module $one) (core instance (instantiate $one)))")).is_none(), "alone");
    }

    #[test]
    fn a_module_that_is_instantiated_twice_stays_by_itself() {
        let twice = LIBRARIES.replacen(
            "(core instance $env (instantiate $env))",
            "(core instance $env (instantiate $env)) (core instance (instantiate $shim))",
            1,
        );
        // Its function is not theirs to link, so what is given it is not, either: only the module that needs neither is left.
        assert!(link(&wasm(&twice)).is_none());
    }

    #[test]
    fn a_start_function_runs_behind_all_that_it_may_see() {
        let text = r#"(component
            (core module $memory (memory (export "memory") 1) (data (i32.const 0) "\01"))
            (core module $user (import "m" "memory" (memory 1)) (data (i32.const 1) "\02")
                (func $start (i32.store8 (i32.const 2) (i32.add (i32.load8_u (i32.const 0)) (i32.load8_u (i32.const 1)))))
                (start $start)
                (func (export "run") (result i32) (i32.load8_u (i32.const 2))))
            (core instance $m (instantiate $memory))
            (core instance $u (instantiate $user (with "m" (instance $m))))
            (func (export "run") (result u32) (canon lift (core func $u "run"))))"#;
        let linked = link(&wasm(text)).expect("they can be linked");
        assert_eq!(run(&linked), ([3, 3], Vec::new()));
        assert_eq!(Footprint::of(&linked).modules, 1);
    }
}
