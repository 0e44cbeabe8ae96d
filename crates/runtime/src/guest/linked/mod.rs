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
//!
//! [`survey`] finds the instances that can be linked, the members; [`module`] makes one module of theirs; [`rewriting`] writes the component
//! with that one in their place.

/// The part of [`Reencode`](wasm_encoder::reencode::Reencode) that asks for the numbers of items: all of it is one method, `item`.
macro_rules! numbered {
    () => {
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
    };
}

mod module;
mod rewriting;
mod survey;

use survey::Survey;
pub(super) use survey::place;
use wasm_encoder::reencode::Error;
use wasmparser::{ExternalKind, Validator, WasmFeatures};

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
    let linked = is_valid(component).then(|| rewriting::write(&Survey::of(component)?, component))?.ok()?;
    let stays_valid = is_valid(&linked);
    debug_assert!(stays_valid, "what was linked is valid");
    stays_valid.then_some(linked)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guest::footprint::Footprint;
    use wasmparser::{Parser, Payload};
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
