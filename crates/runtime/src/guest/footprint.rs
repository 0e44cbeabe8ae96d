//! What memory an instance of a component begins with, read from its sections: nothing of it is compiled or run.

use wasmparser::{
    ComponentAlias, ComponentExternalKind, ComponentInstance, ComponentName, ComponentOuterAliasKind, DataKind,
    ElementItems, Encoding, Instance, KnownCustom, Operator, Parser, Payload,
};

/// Bytes of a WebAssembly page, unless a memory says otherwise.
const PAGE_LOG2: u32 = 16;

/// What an instance of a module or component needs, counted through everything that it instantiates: a module that is instantiated
/// twice counts twice. What it would be given by its importer, modules and components, is not counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Needs {
    /// Bytes of all memories together, as they begin.
    pub memory: u64,
    /// Memories.
    pub memories: u64,
    /// Tables.
    pub tables: u64,
    /// Core instances, without those that wasmtime puts between two components.
    pub core_instances: u64,
    /// Bytes that wasmtime keeps for these beside memories and tables, about.
    pub state: u64,
}

/// Bytes of a global, and of a function that an instance imports, exports, or has in a table: `VMGlobalDefinition` and `VMFuncRef` of
/// wasmtime 50.
const GLOBAL: u64 = 16;
const FUNCTION: u64 = 32;

impl Needs {
    fn add(&mut self, other: &Self) {
        self.memory = self.memory.saturating_add(other.memory);
        self.memories = self.memories.saturating_add(other.memories);
        self.tables = self.tables.saturating_add(other.tables);
        self.core_instances = self.core_instances.saturating_add(other.core_instances);
        self.state = self.state.saturating_add(other.state);
    }
}

/// A component that the outermost one nests, with core instances of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// The name that its author gave it.
    pub name: Option<String>,
    /// What one instance of it needs.
    pub needs: Needs,
}

/// What an instance begins with. Of a component that cannot be read to its end it is what was found until there.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Footprint {
    /// What it needs.
    pub needs: Needs,
    /// Bytes of the largest stack that lies below the data of its module, as linkers for Rust and C put it. 0 if none does.
    pub stack: u64,
    /// Core modules that it consists of.
    pub modules: u32,
    /// The most state of one of them.
    pub largest_state: u64,
    /// Whether modules or components are passed on in it, of which `needs` does not count what is made.
    pub passes: bool,
    /// The components that it was composed of, if it was.
    pub parts: Vec<Part>,
}

/// A module or component that is being read.
#[derive(Default)]
struct Scope {
    is_module: bool,
    name: Option<String>,
    needs: Needs,
    /// The modules and components that it can instantiate, by their indices.
    modules: Vec<Needs>,
    components: Vec<Needs>,
}

impl Scope {
    /// It is known by another index, too, or comes from elsewhere.
    fn define(&mut self, kind: ComponentExternalKind, needs: Needs) {
        match kind {
            ComponentExternalKind::Module => self.modules.push(needs),
            ComponentExternalKind::Component => self.components.push(needs),
            _ => {}
        }
    }

    fn defined(&self, kind: ComponentExternalKind, index: u32) -> Needs {
        let known = match kind {
            ComponentExternalKind::Module => &self.modules,
            _ => &self.components,
        };
        known.get(index as usize).copied().unwrap_or_default()
    }
}

impl Footprint {
    /// Bytes of state beside memories and tables, of all core instances together, where there may be so many.
    pub fn state(&self, core_instances: u32) -> u64 {
        match self.passes {
            true => self.largest_state.saturating_mul(core_instances.into()),
            false => self.needs.state,
        }
    }

    /// Reads it.
    pub fn of(component: &[u8]) -> Self {
        let mut found = Self::default();
        // Those that are being read, the outermost first.
        let mut scopes: Vec<Scope> = Vec::new();
        // The first global of a module, if it may be its stack pointer.
        let mut pointer = None;
        for payload in Parser::new(0).parse_all(component).map_while(Result::ok) {
            match payload {
                Payload::Version { encoding, .. } => {
                    let is_module = encoding == Encoding::Module;
                    found.modules += u32::from(is_module);
                    pointer = None;
                    let needs = Needs { core_instances: u64::from(is_module), ..Needs::default() };
                    scopes.push(Scope { is_module, needs, ..Scope::default() });
                }
                Payload::End(_) if scopes.len() > 1 => {
                    let ended = scopes.pop().expect("there are two");
                    let is_part = scopes.len() == 1 && !ended.is_module && ended.needs.core_instances > 0;
                    let Some(outer) = scopes.last_mut() else { break };
                    if ended.is_module {
                        found.largest_state = found.largest_state.max(ended.needs.state);
                        outer.modules.push(ended.needs);
                    } else {
                        outer.components.push(ended.needs);
                    }
                    if is_part {
                        found.parts.push(Part { name: ended.name, needs: ended.needs });
                    }
                }
                Payload::GlobalSection(section) => {
                    if let Some(scope) = scopes.last_mut() {
                        scope.needs.state += GLOBAL * u64::from(section.count());
                    }
                    let first = section.into_iter().map_while(Result::ok).next().filter(|global| global.ty.mutable);
                    pointer = first.and_then(|global| constant(&global.init_expr));
                }
                Payload::DataSection(section) => {
                    let lowest = section.into_iter().map_while(Result::ok).filter_map(|data| match data.kind {
                        DataKind::Active { offset_expr, .. } => constant(&offset_expr),
                        DataKind::Passive => None,
                    });
                    if let (Some(pointer), Some(lowest)) = (pointer, lowest.min())
                        && pointer <= lowest
                    {
                        found.stack = found.stack.max(u64::from(pointer));
                    }
                }
                section => {
                    found.passes |= passes(&section);
                    count(&mut scopes, section);
                }
            }
        }
        // One that is cut off has no end.
        found.needs = scopes.first().map(|outermost| outermost.needs).unwrap_or_default();
        found
    }
}

/// Whether modules or components come in with this section.
fn passes(section: &Payload<'_>) -> bool {
    let is_made = |kind| matches!(kind, ComponentExternalKind::Module | ComponentExternalKind::Component);
    match section {
        Payload::ComponentImportSection(section) => {
            section.clone().into_iter().map_while(Result::ok).any(|import| is_made(import.ty.kind()))
        }
        Payload::ComponentAliasSection(section) => section
            .clone()
            .into_iter()
            .map_while(Result::ok)
            .any(|alias| matches!(alias, ComponentAlias::InstanceExport { kind, .. } if is_made(kind))),
        _ => false,
    }
}

/// Notes what a section defines, or instantiates, in the innermost of `scopes`.
fn count(scopes: &mut [Scope], section: Payload<'_>) {
    let Some((scope, outer)) = scopes.split_last_mut() else { return };
    match section {
        Payload::MemorySection(section) => {
            for memory in section.into_iter().map_while(Result::ok) {
                let page = memory.page_size_log2.unwrap_or(PAGE_LOG2);
                let bytes = memory.initial.checked_shl(page).unwrap_or(u64::MAX);
                scope.needs.add(&Needs { memory: bytes, memories: 1, ..Needs::default() });
            }
        }
        Payload::TableSection(section) => scope.needs.tables += u64::from(section.count()),
        Payload::ImportSection(section) => {
            scope.needs.state += FUNCTION * section.into_imports().map_while(Result::ok).count() as u64;
        }
        Payload::ExportSection(section) => scope.needs.state += FUNCTION * u64::from(section.count()),
        Payload::ElementSection(section) => {
            for element in section.into_iter().map_while(Result::ok) {
                let items = match element.items {
                    ElementItems::Functions(items) => items.count(),
                    ElementItems::Expressions(_, items) => items.count(),
                };
                scope.needs.state += FUNCTION * u64::from(items);
            }
        }
        Payload::InstanceSection(section) => {
            for instance in section.into_iter().map_while(Result::ok) {
                if let Instance::Instantiate { module_index, .. } = instance {
                    let needs = scope.defined(ComponentExternalKind::Module, module_index);
                    scope.needs.add(&needs);
                }
            }
        }
        Payload::ComponentInstanceSection(section) => {
            for instance in section.into_iter().map_while(Result::ok) {
                if let ComponentInstance::Instantiate { component_index, .. } = instance {
                    let needs = scope.defined(ComponentExternalKind::Component, component_index);
                    scope.needs.add(&needs);
                }
            }
        }
        Payload::ComponentImportSection(section) => {
            for import in section.into_iter().map_while(Result::ok) {
                scope.define(import.ty.kind(), Needs::default());
            }
        }
        Payload::ComponentExportSection(section) => {
            for export in section.into_iter().map_while(Result::ok) {
                scope.define(export.kind, scope.defined(export.kind, export.index));
            }
        }
        Payload::ComponentAliasSection(section) => {
            for alias in section.into_iter().map_while(Result::ok) {
                match alias {
                    ComponentAlias::InstanceExport { kind, .. } => scope.define(kind, Needs::default()),
                    ComponentAlias::Outer { kind, count, index } => {
                        let kind = match kind {
                            ComponentOuterAliasKind::CoreModule => ComponentExternalKind::Module,
                            ComponentOuterAliasKind::Component => ComponentExternalKind::Component,
                            _ => continue,
                        };
                        let needs = match (count as usize).checked_sub(1) {
                            None => scope.defined(kind, index),
                            Some(further) => outer
                                .iter()
                                .rev()
                                .nth(further)
                                .map_or_else(Needs::default, |outer| outer.defined(kind, index)),
                        };
                        scope.define(kind, needs);
                    }
                    ComponentAlias::CoreInstanceExport { .. } => {}
                }
            }
        }
        Payload::CustomSection(section) => {
            if let KnownCustom::ComponentName(names) = section.as_known() {
                let named = names.into_iter().map_while(Result::ok).find_map(|name| match name {
                    ComponentName::Component { name, .. } => Some(name.to_owned()),
                    _ => None,
                });
                scope.name = named.or(scope.name.take());
            }
        }
        _ => {}
    }
}

/// The value of an expression that is nothing but a 32-bit number.
pub(super) fn constant(expression: &wasmparser::ConstExpr<'_>) -> Option<u32> {
    let mut operators = expression.get_operators_reader().into_iter();
    match (operators.next()?.ok()?, operators.next()?.ok()?) {
        (Operator::I32Const { value }, Operator::End) => Some(value.cast_unsigned()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Footprint {
        Footprint::of(&wat::parse_str(text).expect("a component"))
    }

    #[test]
    fn a_stack_below_the_data_is_told() {
        let module = |pointer: u32, data: u32| {
            format!(
                "(core module (memory 17) (global (mut i32) (i32.const {pointer})) (data (i32.const {data}) \"x\")) (core instance (instantiate 0))"
            )
        };
        let found = of(&format!("(component {})", module(1 << 20, 1 << 20)));
        assert_eq!((found.needs.memory, found.stack, found.modules), (17 << 16, 1 << 20, 1));
        // The data lies below: how much of it is stack is not known.
        assert_eq!(of(&format!("(component {})", module(1 << 20, 1024))).stack, 0);
        let two = of(&format!("(component {} (component {}))", module(4096, 8192), module(1024, 1024)));
        assert_eq!((two.needs.memory, two.stack, two.modules), (17 << 16, 4096, 2));
    }

    #[test]
    fn what_is_no_component_has_none() {
        assert_eq!(Footprint::of(b"\0asm\x0d\0\x01\0 rubbish"), Footprint::default());
        assert_eq!(of("(component (core module (memory 0)))"), Footprint { modules: 1, ..Footprint::default() });
    }

    #[test]
    fn state_is_counted_or_guessed_where_modules_are_passed_on() {
        let module = "(core module $m (import \"i\" \"g\" (global i32)) (table 3 funcref) (global i32 (i32.const 1))
                      (func $f (export \"f\")) (elem (i32.const 0) func $f $f $f))";
        let each = 32 + 16 + 32 + 3 * 32;
        let made = of(&format!(
            "(component (core module $o) {module} (core instance $i (export \"g\" (global $g))) \
            (core instance (instantiate $m (with \"i\" (instance $i)))))"
        )
        .replace(
            "(core instance $i (export \"g\" (global $g)))",
            "(core module $p (global (export \"g\") i32 (i32.const 0))) (core instance $i (instantiate $p))",
        ));
        assert_eq!((made.passes, made.state(100)), (false, each + 16 + 32));
        let inner = "(component $c (import \"m\" (core module $m)) (core instance (instantiate $m)) (core instance (instantiate $m)))
                     (core module $m (global i32 (i32.const 1))) (instance (instantiate $c (with \"m\" (core module $m))))";
        let passed = of(&format!("(component {inner})"));
        assert_eq!((passed.needs.state, passed.passes, passed.state(100)), (0, true, 1600));
    }

    #[test]
    fn what_is_instantiated_twice_counts_twice() {
        let module = "(core module $m (memory 1) (table 2 funcref) (table 3 funcref))";
        let twice = "(core instance (instantiate $m)) (core instance (instantiate $m))";
        let needs = of(&format!("(component {module} {twice})")).needs;
        assert_eq!(needs, Needs { memory: 2 << 16, memories: 2, tables: 4, core_instances: 2, state: 0 });

        // A component that instantiates the module of the one around it, and is known by a second name.
        let inner = "(component $inner (alias outer 1 $m (core module $o)) (core instance (instantiate $o)))
                     (export $again \"inner\" (component $inner)) (instance (instantiate $inner)) (instance (instantiate $again))";
        let nested = of(&format!("(component {module} {inner})"));
        assert_eq!(nested.needs, needs);
        let part = Needs { memory: 1 << 16, memories: 1, tables: 2, core_instances: 1, state: 0 };
        assert_eq!(nested.parts, [Part { name: Some("inner".to_owned()), needs: part }]);
        // Nothing instantiates it.
        assert_eq!(of(&format!("(component {module})")).needs, Needs::default());
    }
}
