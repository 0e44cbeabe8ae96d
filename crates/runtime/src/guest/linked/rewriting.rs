//! The component with one module in the place of those that are linked.

use super::module::{self, Linked, Member};
use super::survey::{Item, Made, Survey, bytes, sections};
use super::{FUNCTIONS, KINDS, Left, Result, space};
use wasm_encoder::reencode::{Error, Reencode, ReencodeComponent};
use wasm_encoder::{
    Alias, CanonicalFunctionSection, Component, ComponentAliasSection, ComponentSection, ComponentSectionId,
    ExportKind, InstanceSection, ModuleArg, RawSection,
};
use wasmparser::{CanonicalFunction, ComponentAlias, ExternalKind, Payload};

/// Writes it, if two instances of the component or more can be linked.
pub fn write<'a>(survey: &Survey<'a>, component: &'a [u8]) -> Result<Vec<u8>> {
    let members = survey.members();
    let (mut parts, mut modules, mut last) = (Vec::new(), vec![None; survey.modules.len()], 0);
    for (index, instance) in (0..).zip(&survey.instances) {
        let (Made::Of(module, given), true) = (instance, members[index as usize]) else { continue };
        let source = |module: &str, name: &'a str| survey.source(given, module, name).ok_or(Left);
        parts.push(Member::read(index, survey.modules[*module as usize], source)?);
        modules[*module as usize] = Some(Module::Linked);
        last = index;
    }
    if parts.len() < 2 {
        return Err(Left);
    }
    let mut rewriting = Rewriting {
        survey,
        linked: Linked::layout(parts)?,
        needed: survey.needed(&members),
        members,
        placed: None,
        written: Component::new(),
        late: Vec::new(),
        aliases: ComponentAliasSection::new(),
        known: std::array::from_fn(|kind| vec![None; survey.items[kind].len()]),
        instances: vec![None; survey.instances.len()],
        modules,
        seen: Count::default(),
        next: Count::default(),
        broken: false,
    };
    sections(component, |section| rewriting.section(component, section, last))?;
    rewriting.finish()
}

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
                            self.seen(space(of));
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
                    if matches!(function, CanonicalFunction::Lift { .. }) {
                        self.canonical(function, None)?;
                        continue;
                    }
                    let index = self.seen(FUNCTIONS);
                    let item = self.survey.items[FUNCTIONS][index as usize];
                    if self.placed.is_none() && matches!(item, Item::Bound) {
                        self.late.push(Late::Function(function, index));
                    } else {
                        self.canonical(function, Some(index))?;
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
    numbered!();
}

impl ReencodeComponent for Rewriting<'_, '_> {
    fn instance_index(&mut self, index: u32) -> u32 {
        let known = self.instances.get(index as usize).copied().flatten();
        self.broken |= known.is_none();
        known.unwrap_or_default()
    }
}
