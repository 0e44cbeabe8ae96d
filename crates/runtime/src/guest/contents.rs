//! What the memories of a component begin with, taken out of its core modules before it is compiled.
//!
//! wasmtime would copy the data of a module into the memory of every instance, or map it in a slot that only wasmtime may reset. A slot
//! of ours has it from the start ([`crate::engine::memory`]), so the module has none left, and the maximum of its memory tells whose it is.
//!
//! Nothing moves: every module keeps its length, because a trap's place in the code tells which part of a component it is in.

use super::footprint::constant;
use super::linked::place;
use crate::engine::MOST_MEMORIES;
use crate::engine::memory::{PAGE, marked, number};
use std::ops::Range;
use wasm_encoder::{DataSection, MemorySection, MemoryType, Module, RawSection, SectionId};
use wasmparser::{DataKind, Operator, Parser, Payload};

/// Bytes between two data of a memory, or two pages of them, that are kept as zeros. With more the data stay where they are.
const MOST_ZEROS: usize = 16 << 20;
/// Bytes of the header of a custom section without a name, whose length is written with five.
const PADDING: usize = 7;
const PAGE_OF_WASM: u64 = 64 << 10;

/// What a memory begins with.
#[derive(Debug, PartialEq, Eq)]
pub struct Content {
    /// Where it begins in the memory, a multiple of [`PAGE`].
    pub at: usize,
    /// Whole pages.
    pub bytes: Vec<u8>,
}

/// Returns `component` without the data that its memories begin with, and these, each with the number by which its memory is
/// [`marked`]. Whatever is not plain is left in: data at places that are not known beforehand or far apart, and those of a memory that has
/// a maximum of its own.
pub fn take(component: &[u8]) -> (Vec<u8>, Vec<Content>) {
    let (mut rest, mut contents) = (component.to_vec(), Vec::new());
    for range in modules(component).unwrap_or_default() {
        if contents.len() == MOST_MEMORIES as usize {
            break;
        }
        let Some((module, content)) = take_from(&component[range.clone()], contents.len() as u32) else { continue };
        rest[range].copy_from_slice(&module);
        contents.push(content);
    }
    (rest, contents)
}

/// Where its core modules lie. None if one of them could be taken for marked.
fn modules(component: &[u8]) -> Option<Vec<Range<usize>>> {
    let mut modules = Vec::new();
    for payload in Parser::new(0).parse_all(component) {
        match payload.ok()? {
            Payload::ModuleSection { unchecked_range, .. } => {
                modules.push(place(&unchecked_range)?);
            }
            Payload::MemorySection(section) => {
                for memory in section {
                    memory.ok()?.maximum.is_none_or(|maximum| number(maximum).is_none()).then_some(())?;
                }
            }
            _ => {}
        }
    }
    Some(modules)
}

fn take_from(module: &[u8], number: u32) -> Option<(Vec<u8>, Content)> {
    let mut written = Module::new();
    let (mut initial, mut content, mut announced) = (None, None, None);
    // Segments that no code names are left out: wasmtime notes each in every instance, and there may be ten thousand.
    let asks = asks_for_data(module)?;
    for payload in Parser::new(0).parse_all(module) {
        match payload.ok()? {
            Payload::ImportSection(section) => {
                let is_memory = |import: wasmparser::Import<'_>| matches!(import.ty, wasmparser::TypeRef::Memory(_));
                for import in section.clone().into_imports() {
                    (!is_memory(import.ok()?)).then_some(())?;
                }
                raw(&mut written, module, &Payload::ImportSection(section))?;
            }
            Payload::MemorySection(section) => {
                let [memory] = section.into_iter().collect::<Result<Vec<_>, _>>().ok()?.try_into().ok()?;
                let is_plain = !memory.memory64 && !memory.shared && memory.page_size_log2.is_none();
                (is_plain && memory.maximum.is_none() && memory.initial <= marked(number)).then_some(())?;
                initial = usize::try_from(memory.initial * PAGE_OF_WASM).ok();
                let mut memories = MemorySection::new();
                memories.memory(MemoryType {
                    minimum: memory.initial,
                    maximum: Some(marked(number)),
                    memory64: false,
                    shared: false,
                    page_size_log2: None,
                });
                written.section(&memories);
            }
            Payload::DataSection(section) => {
                let (mut left, mut taken) = (DataSection::new(), Vec::new());
                for data in section {
                    let data = data.ok()?;
                    match data.kind {
                        DataKind::Passive => {
                            left.passive(data.data.iter().copied());
                        }
                        DataKind::Active { memory_index, offset_expr } => {
                            (memory_index == 0).then_some(())?;
                            taken.push((constant(&offset_expr)? as usize, data.data));
                            // What is active is gone once it has been copied.
                            left.passive([]);
                        }
                    }
                }
                content = Some(lay_out(&taken, initial?)?);
                announced.is_none_or(|count| count == left.len()).then_some(())?;
                if asks {
                    written.section(&left);
                }
            }
            Payload::DataCountSection { count, .. } if !asks => announced = Some(count),
            payload => raw(&mut written, module, &payload)?,
        }
    }
    let (mut written, content) = (written.finish(), content?);
    let zeros = module.len().checked_sub(written.len() + PADDING)?;
    written.push(SectionId::Custom.into());
    written.extend(padded(1 + zeros));
    // The length of its name is zero, too.
    written.resize(module.len(), 0);
    Some((written, content))
}

/// Whether its code names data, which it must have announced.
fn asks_for_data(module: &[u8]) -> Option<bool> {
    let mut announced = false;
    for payload in Parser::new(0).parse_all(module) {
        match payload.ok()? {
            Payload::DataCountSection { .. } => announced = true,
            Payload::CodeSectionEntry(body) if announced => {
                for operator in body.get_operators_reader().ok()? {
                    use Operator::{ArrayInitData, ArrayNewData, DataDrop, MemoryInit};
                    let names = |operator| {
                        matches!(
                            operator,
                            MemoryInit { .. } | DataDrop { .. } | ArrayNewData { .. } | ArrayInitData { .. }
                        )
                    };
                    if names(operator.ok()?) {
                        return Some(true);
                    }
                }
            }
            _ => {}
        }
    }
    Some(false)
}

/// Copies a section, if it is one.
fn raw(written: &mut Module, module: &[u8], payload: &Payload<'_>) -> Option<()> {
    if let Some((id, range)) = payload.as_section() {
        let data = module.get(place(&range)?)?;
        written.section(&RawSection { id, data });
    }
    Some(())
}

/// What these data make of a memory with so many bytes, in their order. None if they do not fit.
fn lay_out(data: &[(usize, &[u8])], initial: usize) -> Option<Content> {
    let fits = |(at, data): &(usize, &[u8])| at.checked_add(data.len()).is_some_and(|end| end <= initial);
    data.iter().all(fits).then_some(())?;
    // What is zero needs no place.
    let ends = |(at, data): &(usize, &[u8])| {
        let first = data.iter().position(|byte| *byte != 0)?;
        let last = data.iter().rposition(|byte| *byte != 0)?;
        Some(at + first..at + last + 1)
    };
    let ranges: Vec<Range<usize>> = data.iter().filter_map(ends).collect();
    let start = ranges.iter().map(|range| range.start).min().unwrap_or(0) / PAGE * PAGE;
    let end = ranges.iter().map(|range| range.end).max().unwrap_or(0).next_multiple_of(PAGE);
    let full: usize = data.iter().map(|(_, data)| data.len()).sum();
    (end - start <= full.saturating_add(MOST_ZEROS)).then_some(())?;
    let mut bytes = vec![0; end - start];
    for (at, data) in data {
        // Zeros beyond the ends say nothing, but they count where something has been.
        let (from, to) = ((*at).clamp(start, end), (at + data.len()).clamp(start, end));
        if to > from {
            bytes[from - start..to - start].copy_from_slice(&data[from - at..to - at]);
        }
    }
    Some(Content { at: start, bytes })
}

/// A length of a section, written with five bytes.
fn padded(length: usize) -> [u8; 5] {
    let septet = |place: u32| ((length >> (7 * place)) & 0x7f) as u8;
    [septet(0) | 0x80, septet(1) | 0x80, septet(2) | 0x80, septet(3) | 0x80, septet(4)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::memory::{Slots, Stacks};
    use crate::engine::{Engine, Wasi};
    use std::io::Write as _;
    use std::sync::Arc;
    use wasmtime::Store;
    use wasmtime::component::{Component, Linker};

    /// A component of which one module has data, and the function that is exported reads the byte at an address. `DATA` stands for more.
    const READER: &str = r#"(component
        (core module $m (memory (export "m") 2) DATA
            (data (i32.const 70000) "first\00\00\00\00") (data (i32.const 70002) "RS") (data "passive")
            (func (export "read") (param i32) (result i32) (i32.load8_u (local.get 0)))
            (@custom "long" "0123456789012345678901234567890123456789"))
        (core instance $i (instantiate $m))
        (func (export "read") (param "at" u32) (result u32) (canon lift (core func $i "read"))))"#;

    fn wasm(text: &str) -> Vec<u8> {
        wat::parse_str(text).expect("a component")
    }

    fn reader(data: &str) -> Vec<u8> {
        wasm(&READER.replace("DATA", data))
    }

    fn data(component: &[u8]) -> Vec<(bool, usize)> {
        let payloads = Parser::new(0).parse_all(component).map(|payload| payload.expect("it is valid"));
        let sections = payloads.filter_map(|payload| match payload {
            Payload::DataSection(section) => Some(section),
            _ => None,
        });
        let data = sections.flatten().map(|data| data.expect("it is valid"));
        data.map(|data| (matches!(data.kind, DataKind::Active { .. }), data.data.len())).collect()
    }

    /// What an instance reads at these addresses, whose memory has these contents.
    fn read<const N: usize>(component: &[u8], contents: &[Content], addresses: [usize; N]) -> [u8; N] {
        let mut file = Arc::new(tempfile::tempfile().expect("a file"));
        let mut mapped = Vec::new();
        let mut end = 0;
        for Content { at, bytes } in contents {
            file.write_all(bytes).expect("written");
            let content = crate::engine::memory::Content::new(&file, end, *at, bytes.len()).expect("mapped");
            mapped.push(Some(Arc::new(content)));
            end += bytes.len() as u64;
        }
        let memories = Slots::new(1, 1).memories(mapped, 1 << 20, 1);
        let engine = Engine::new(Wasi::P2, &Stacks::default()).expect("an engine");
        let component = Component::new(&engine.wasm, component).expect("wasmtime takes it");
        let mut store = Store::new(&engine.wasm, ());
        store.set_epoch_deadline(1);
        let linker = Linker::new(&engine.wasm);
        let instance = memories.provide(linker.instantiate_async(&mut store, &component));
        let instance =
            futures_util::FutureExt::now_or_never(instance).expect("nothing to wait for").expect("an instance");
        let read = instance.get_typed_func::<(u32,), (u32,)>(&mut store, "read").expect("it is exported");
        addresses.map(|at| {
            let read = read.call_async(&mut store, (at as u32,));
            futures_util::FutureExt::now_or_never(read).expect("nothing to wait for").expect("its own memory").0 as u8
        })
    }

    #[test]
    fn a_memory_begins_with_what_was_taken_out() {
        let whole = reader("(data (i32.const 130000) \"x\") (data (i32.const 0) \"\\00\\00\")");
        let (rest, contents) = take(&whole);
        assert_eq!(rest.len(), whole.len());
        assert_eq!(data(&rest), []);
        // From the page of the first to that of the last.
        let [content] = &contents[..] else { panic!("{} contents", contents.len()) };
        assert_eq!((content.at, content.bytes.len()), (70_000 / PAGE * PAGE, 131_072 - 70_000 / PAGE * PAGE));
        let addresses = [0, 69_999, 70_000, 70_001, 70_002, 70_003, 70_004, 70_005, 130_000, 131_071];
        let expected = [0, 0, b'f', b'i', b'R', b'S', b't', 0, b'x', 0];
        assert_eq!(read(&whole, &[], addresses), expected);
        assert_eq!(read(&rest, &contents, addresses), expected);
    }

    #[test]
    fn zeros_are_content_where_something_has_been() {
        let (rest, contents) = take(&reader("(data (i32.const 69999) \"0123456789\")"));
        let addresses = [69_999, 70_000, 70_004, 70_005, 70_008, 70_009];
        // Of the later data, its zeros too.
        assert_eq!(read(&rest, &contents, addresses), [b'0', b'f', b't', 0, 0, 0]);
        let (rest, contents) = take(&wasm(&READER.replace("DATA", "").replace("first", "\\00").replace("RS", "\\00")));
        assert!(contents[0].bytes.is_empty() && data(&rest).is_empty());
    }

    #[test]
    fn what_code_names_keeps_its_number() {
        let named = "(func (export \"init\") (memory.init 2 (i32.const 0) (i32.const 0) (i32.const 7)) (data.drop 0))";
        let whole = reader(named);
        let (rest, contents) = take(&whole);
        assert_eq!(data(&rest), [(false, 0), (false, 0), (false, 7)]);
        assert_eq!(read(&rest, &contents, [70_000, 70_002]), [b'f', b'R']);
    }

    #[test]
    fn every_memory_of_a_composed_component_has_its_own() {
        let part = |name: &str, text: &str| {
            let text = READER.replace("DATA", "").replace("first", text);
            format!("(component ${name} {}", text.strip_prefix("(component").expect("it begins so"))
        };
        let whole = wasm(&format!(
            "(component {} {} (instance $one (instantiate $a)) (instance $two (instantiate $b)) \
             (export \"read\" (func $two \"read\")))",
            part("a", "1st"),
            part("b", "2nd")
        ));
        let (rest, contents) = take(&whole);
        assert_eq!((rest.len(), contents.len()), (whole.len(), 2));
        assert_eq!(read(&rest, &contents, [70_000]), [b'2']);
        // Where each part lies has not changed.
        let ends = |component: &[u8]| {
            let payloads = Parser::new(0).parse_all(component).map(|payload| payload.expect("it is valid"));
            let ends = payloads.filter_map(|payload| match payload {
                Payload::ComponentSection { unchecked_range, .. } | Payload::ModuleSection { unchecked_range, .. } => {
                    Some(unchecked_range)
                }
                _ => None,
            });
            ends.collect::<Vec<_>>()
        };
        assert_eq!(ends(&whole), ends(&rest));
    }

    #[test]
    fn what_is_not_plain_is_left_in() {
        let left = |name: &str, component: &[u8]| {
            let (rest, contents) = take(component);
            assert!(contents.is_empty() && rest == component, "{name}");
        };
        left("a maximum of its own", &wasm(&READER.replace("DATA", "").replace("\"m\") 2)", "\"m\") 2 3)")));
        left("beyond its end", &reader("(data (i32.const 131072) \"x\")"));
        left(
            "at a place that is not known",
            &reader("(global $g (mut i32) (i32.const 0)) (data (i32.add (i32.const 1) (i32.const 2)) \"x\")"),
        );
        left(
            "far apart",
            &wasm(
                &READER
                    .replace("DATA", "(data (i32.const 0) \"x\") (data (i32.const 60000000) \"x\")")
                    .replace("\"m\") 2)", "\"m\") 1000)"),
            ),
        );
        left(
            "of 64 bits",
            &wasm(
                &READER
                    .replace("DATA", "")
                    .replace("\"m\") 2)", "\"m\") i64 2)")
                    .replace("(i32.const 7", "(i64.const 7")
                    .replace("(local.get 0)", "(i64.extend_i32_u (local.get 0))"),
            ),
        );
        left(
            "another that could be taken for marked",
            &wasm(
                &READER
                    .replace("DATA", "")
                    .replace("(core instance $i", "(core module (memory 1 65530)) (core instance $i"),
            ),
        );
        left("no data", &wasm("(component (core module (memory 1)))"));
        left("rubbish", b"rubbish");
        let (rest, contents) = take(&wasm(
            &READER.replace("DATA", "").replace("(core instance $i", "(core module (memory 1 9)) (core instance $i"),
        ));
        assert_eq!((contents.len(), data(&rest).len()), (1, 0), "a maximum that is no mark");
    }
}
