//! One core module made of several that are instantiated in order, each with what earlier ones export.

use super::survey::Source;
use super::{FUNCTIONS, KINDS, Left, Result, space};
use std::collections::{BTreeMap, HashMap};
use wasm_encoder::reencode::{Error, Reencode, utils};
use wasm_encoder::{
    CodeSection, ConstExpr, DataCountSection, DataSection, ElementSection, EntityType, ExportKind, ExportSection,
    FunctionSection, GlobalSection, ImportSection, MemorySection, Module, NameMap, NameSection, StartSection,
    TableSection, TagSection, TypeSection,
};
use wasmparser::{DataKind, ElementKind, ExternalKind, Import, KnownCustom, Name, Operator, Parser, Payload, TypeRef};

/// What a module imports.
pub fn imports(module: &[u8]) -> Result<Vec<Import<'_>>> {
    let mut imports = Vec::new();
    for payload in Parser::new(0).parse_all(module) {
        if let Payload::ImportSection(section) = payload? {
            imports = section.into_imports().collect::<std::result::Result<_, _>>()?;
        }
    }
    Ok(imports)
}

/// One of the modules.
pub struct Member<'a> {
    /// The instance that was made of it.
    instance: u32,
    payloads: Vec<Payload<'a>>,
    imports: Vec<(TypeRef, Source<'a>)>,
    exports: HashMap<&'a str, (ExternalKind, u32)>,
    /// How many there are of what it defines.
    defined: [u32; KINDS],
    types: u32,
    elements: u32,
    data: u32,
    start: Option<u32>,
    /// Whether its instantiation writes to a memory or a table.
    writes: bool,
}

impl<'a> Member<'a> {
    /// Reads the module of this instance; `source` tells what an import of this module and name is given.
    pub fn read(instance: u32, module: &'a [u8], source: impl Fn(&str, &'a str) -> Result<Source<'a>>) -> Result<Self> {
        let mut member = Self {
            instance,
            payloads: Vec::new(),
            imports: Vec::new(),
            exports: HashMap::new(),
            defined: [0; KINDS],
            types: 0,
            elements: 0,
            data: 0,
            start: None,
            writes: false,
        };
        for import in imports(module)? {
            member.imports.push((import.ty, source(import.module, import.name)?));
        }
        for payload in Parser::new(0).parse_all(module) {
            let payload = payload?;
            match &payload {
                Payload::TypeSection(section) => {
                    for group in section.clone() {
                        member.types += u32::try_from(group?.types().len()).map_err(|_| Left)?;
                    }
                }
                Payload::FunctionSection(section) => member.define(ExternalKind::Func, section.count()),
                Payload::TableSection(section) => member.define(ExternalKind::Table, section.count()),
                Payload::MemorySection(section) => member.define(ExternalKind::Memory, section.count()),
                Payload::GlobalSection(section) => member.define(ExternalKind::Global, section.count()),
                Payload::TagSection(section) => member.define(ExternalKind::Tag, section.count()),
                Payload::ExportSection(section) => {
                    for export in section.clone() {
                        let export = export?;
                        member.exports.insert(export.name, (export.kind, export.index));
                    }
                }
                Payload::ElementSection(section) => {
                    member.elements = section.count();
                    for element in section.clone() {
                        member.writes |= matches!(element?.kind, ElementKind::Active { .. });
                    }
                }
                Payload::DataSection(section) => {
                    member.data = section.count();
                    for data in section.clone() {
                        member.writes |= matches!(data?.kind, DataKind::Active { .. });
                    }
                }
                Payload::StartSection { func, .. } => member.start = Some(*func),
                // It tells where code stood.
                Payload::CustomSection(section) if section.name().starts_with(".debug_") => return Err(Left),
                _ => {}
            }
            member.payloads.push(payload);
        }
        Ok(member)
    }

    fn define(&mut self, kind: ExternalKind, count: u32) {
        self.defined[space(kind)] = count;
    }
}

/// The numbers in the one module of what a member calls by its own.
#[derive(Default)]
struct Numbers {
    items: [Vec<u32>; KINDS],
    types: u32,
    elements: u32,
    data: u32,
}

/// A number that is known before anything is instantiated.
#[derive(Clone, Copy)]
enum Constant {
    I32(i32),
    I64(i64),
    F32(wasmparser::Ieee32),
    F64(wasmparser::Ieee64),
}

impl From<Constant> for ConstExpr {
    fn from(constant: Constant) -> Self {
        match constant {
            Constant::I32(value) => Self::i32_const(value),
            Constant::I64(value) => Self::i64_const(value),
            Constant::F32(value) => Self::f32_const(value.into()),
            Constant::F64(value) => Self::f64_const(value.into()),
        }
    }
}

/// The modules with their places in the one that they become.
pub struct Linked<'a> {
    members: Vec<(Member<'a>, Numbers)>,
    /// Where they stand, by their instances.
    places: HashMap<u32, usize>,
    /// The component's functions that it imports, and the types of these.
    functions: Vec<(u32, u32)>,
    /// The values of its globals that never change.
    constants: Vec<Option<Constant>>,
    /// What it exports, each under the number of its place here.
    exports: Vec<(ExternalKind, u32)>,
    /// Those places.
    known: HashMap<(usize, u32), usize>,
}

impl<'a> Linked<'a> {
    /// Gives everything in `members` its place.
    pub fn layout(members: Vec<Member<'a>>) -> Result<Self> {
        let mut linked = Self {
            members: Vec::new(),
            places: HashMap::new(),
            functions: Vec::new(),
            constants: Vec::new(),
            exports: Vec::new(),
            known: HashMap::new(),
        };
        if members.iter().map(|member| member.defined[space(ExternalKind::Memory)]).sum::<u32>() > 1 {
            return Err(Left);
        }
        let starts = members.iter().position(|member| member.start.is_some()).unwrap_or(members.len());
        if members.iter().skip(starts + 1).any(|later| later.start.is_some() || later.writes) {
            return Err(Left);
        }
        let (mut types, mut places) = (0, BTreeMap::new());
        for member in &members {
            for (ty, source) in &member.imports {
                if let (TypeRef::Func(ty), Source::Function(function)) = (ty, source) {
                    places.entry(*function).or_insert_with(|| {
                        linked.functions.push((*function, types + ty));
                        linked.functions.len() as u32 - 1
                    });
                }
            }
            types += member.types;
        }
        let mut next = Numbers::default();
        let mut ends = [0; KINDS];
        ends[FUNCTIONS] = linked.functions.len() as u32;
        for member in members {
            let mut numbers =
                Numbers { types: next.types, elements: next.elements, data: next.data, ..Numbers::default() };
            for (ty, source) in &member.imports {
                let (kind, number) = match *source {
                    Source::Function(function) => (ExternalKind::Func, *places.get(&function).ok_or(Left)?),
                    Source::Member(instance, name) => linked.find(instance, name)?,
                };
                if space(kind) != space(kind_of(ty)) {
                    return Err(Left);
                }
                numbers.items[space(kind)].push(number);
            }
            for ((numbers, count), end) in numbers.items.iter_mut().zip(member.defined).zip(&mut ends) {
                numbers.extend(*end..*end + count);
                *end += count;
            }
            next.types += member.types;
            next.elements += member.elements;
            next.data += member.data;
            for payload in &member.payloads {
                let Payload::GlobalSection(section) = payload else { continue };
                for global in section.clone() {
                    let global = global?;
                    let value = evaluate(&global.init_expr, &numbers, &linked.constants)?;
                    linked.constants.push(value.filter(|_| !global.ty.mutable));
                }
            }
            linked.places.insert(member.instance, linked.members.len());
            linked.members.push((member, numbers));
        }
        Ok(linked)
    }

    /// The functions of the component that it imports, which it calls by their places here.
    pub fn functions(&self) -> impl Iterator<Item = u32> {
        self.functions.iter().map(|(function, _)| *function)
    }

    /// What an instance exported under a name, by its kind and its number now.
    fn find(&self, instance: u32, name: &str) -> Result<(ExternalKind, u32)> {
        let (member, numbers) = &self.members[*self.places.get(&instance).ok_or(Left)?];
        let (kind, index) = member.exports.get(name).ok_or(Left)?;
        Ok((*kind, *numbers.items[space(*kind)].get(*index as usize).ok_or(Left)?))
    }

    /// Whether it has a start function.
    pub fn starts(&self) -> bool {
        self.members.iter().any(|(member, _)| member.start.is_some())
    }

    /// What an instance exported under this name: its kind, and the name under which the module exports it.
    pub fn export(&mut self, instance: u32, name: &str) -> Result<(ExternalKind, String)> {
        let (kind, number) = self.find(instance, name)?;
        let place = *self.known.entry((space(kind), number)).or_insert_with(|| {
            self.exports.push((kind, number));
            self.exports.len() - 1
        });
        Ok((kind, place.to_string()))
    }

    /// Writes it.
    pub fn encode(&self) -> Result<Module> {
        let (mut types, mut imports, mut functions) = <(TypeSection, ImportSection, FunctionSection)>::default();
        let (mut tables, mut memories, mut tags) = <(TableSection, MemorySection, TagSection)>::default();
        let (mut globals, mut exports, mut elements) = <(GlobalSection, ExportSection, ElementSection)>::default();
        let (mut code, mut data, mut names) = <(CodeSection, DataSection, NameMap)>::default();
        let (mut start, mut counts_data) = (None, false);
        for (place, (_, ty)) in self.functions.iter().enumerate() {
            imports.import("", &place.to_string(), EntityType::Function(*ty));
        }
        for (place, (kind, index)) in self.exports.iter().enumerate() {
            exports.export(&place.to_string(), ExportKind::from(*kind), *index);
        }
        for (member, numbers) in &self.members {
            let mut written = Renumber { numbers, constants: &self.constants };
            for payload in &member.payloads {
                match payload {
                    Payload::TypeSection(section) => written.parse_type_section(&mut types, section.clone())?,
                    Payload::FunctionSection(section) => {
                        written.parse_function_section(&mut functions, section.clone())?;
                    }
                    Payload::TableSection(section) => written.parse_table_section(&mut tables, section.clone())?,
                    Payload::MemorySection(section) => written.parse_memory_section(&mut memories, section.clone())?,
                    Payload::TagSection(section) => written.parse_tag_section(&mut tags, section.clone())?,
                    Payload::GlobalSection(section) => written.parse_global_section(&mut globals, section.clone())?,
                    Payload::ElementSection(section) => {
                        written.parse_element_section(&mut elements, section.clone())?
                    }
                    Payload::DataSection(section) => written.parse_data_section(&mut data, section.clone())?,
                    Payload::DataCountSection { .. } => counts_data = true,
                    Payload::CodeSectionEntry(body) => written.parse_function_body(&mut code, body.clone())?,
                    Payload::StartSection { func, .. } => start = Some(written.function_index(*func)?),
                    Payload::CustomSection(section) => {
                        if let KnownCustom::Name(section) = section.as_known() {
                            name(member, numbers, section, &mut names);
                        }
                    }
                    _ => {}
                }
            }
        }
        let mut module = Module::new();
        module.section(&types).section(&imports).section(&functions).section(&tables).section(&memories);
        if !tags.is_empty() {
            module.section(&tags);
        }
        module.section(&globals).section(&exports);
        if let Some(function_index) = start {
            module.section(&StartSection { function_index });
        }
        module.section(&elements);
        if counts_data {
            module.section(&DataCountSection { count: data.len() });
        }
        module.section(&code).section(&data);
        let mut named = NameSection::new();
        named.functions(&names);
        module.section(&named);
        Ok(module)
    }
}

/// Notes the names of a member's own functions, which a trap's backtrace shows. What cannot be read has none.
fn name(member: &Member<'_>, numbers: &Numbers, section: wasmparser::NameSectionReader<'_>, names: &mut NameMap) {
    let functions = &numbers.items[FUNCTIONS];
    let imported = functions.len() - member.defined[FUNCTIONS] as usize;
    for subsection in section.into_iter().map_while(std::result::Result::ok) {
        let Name::Function(known) = subsection else { continue };
        for naming in known.into_iter().map_while(std::result::Result::ok) {
            if let Some(number) = functions.get(naming.index as usize).filter(|_| naming.index as usize >= imported) {
                names.append(*number, naming.name);
            }
        }
    }
}

fn kind_of(ty: &TypeRef) -> ExternalKind {
    match ty {
        TypeRef::Func(_) | TypeRef::FuncExact(_) => ExternalKind::Func,
        TypeRef::Table(_) => ExternalKind::Table,
        TypeRef::Memory(_) => ExternalKind::Memory,
        TypeRef::Global(_) => ExternalKind::Global,
        TypeRef::Tag(_) => ExternalKind::Tag,
    }
}

/// The value of an expression of a member. None if it is no number.
fn evaluate(
    expression: &wasmparser::ConstExpr<'_>,
    numbers: &Numbers,
    constants: &[Option<Constant>],
) -> Result<Option<Constant>> {
    use Constant::{F32, F64, I32, I64};
    let mut stack = Vec::new();
    for operator in expression.get_operators_reader() {
        let value = match operator? {
            Operator::I32Const { value } => I32(value),
            Operator::I64Const { value } => I64(value),
            Operator::F32Const { value } => F32(value),
            Operator::F64Const { value } => F64(value),
            Operator::GlobalGet { global_index } => {
                let number = numbers.items[space(ExternalKind::Global)].get(global_index as usize);
                // A constant expression may ask only for what never changes.
                number.and_then(|number| *constants.get(*number as usize)?).ok_or(Left)?
            }
            Operator::End => break,
            operator => {
                let (Some(right), Some(left)) = (stack.pop(), stack.pop()) else { return Ok(None) };
                match (operator, left, right) {
                    (Operator::I32Add, I32(left), I32(right)) => I32(left.wrapping_add(right)),
                    (Operator::I32Sub, I32(left), I32(right)) => I32(left.wrapping_sub(right)),
                    (Operator::I32Mul, I32(left), I32(right)) => I32(left.wrapping_mul(right)),
                    (Operator::I64Add, I64(left), I64(right)) => I64(left.wrapping_add(right)),
                    (Operator::I64Sub, I64(left), I64(right)) => I64(left.wrapping_sub(right)),
                    (Operator::I64Mul, I64(left), I64(right)) => I64(left.wrapping_mul(right)),
                    _ => return Err(Left),
                }
            }
        };
        stack.push(value);
    }
    Ok(stack.pop())
}

/// Writes what a member says with the numbers of the one module.
struct Renumber<'m> {
    numbers: &'m Numbers,
    constants: &'m [Option<Constant>],
}

impl Renumber<'_> {
    fn item(&self, kind: ExternalKind, index: u32) -> std::result::Result<u32, Error<Left>> {
        self.numbers.items[space(kind)].get(index as usize).copied().ok_or(Error::UserError(Left))
    }
}

impl Reencode for Renumber<'_> {
    numbered!();

    fn type_index(&mut self, index: u32) -> std::result::Result<u32, Error<Left>> {
        Ok(self.numbers.types + index)
    }

    fn element_index(&mut self, index: u32) -> std::result::Result<u32, Error<Left>> {
        Ok(self.numbers.elements + index)
    }

    fn data_index(&mut self, index: u32) -> std::result::Result<u32, Error<Left>> {
        Ok(self.numbers.data + index)
    }

    /// A number becomes one that can be read, so that tables and memories are known before anything is instantiated.
    fn const_expr(&mut self, expression: wasmparser::ConstExpr<'_>) -> std::result::Result<ConstExpr, Error<Left>> {
        match evaluate(&expression, self.numbers, self.constants).map_err(Error::UserError)? {
            Some(constant) => Ok(constant.into()),
            None => utils::const_expr(self, expression),
        }
    }
}
