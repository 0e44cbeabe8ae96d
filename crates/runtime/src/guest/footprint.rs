//! What memory an instance of a component begins with, read from its sections: nothing of it is compiled or run.

use wasmparser::{DataKind, Operator, Parser, Payload};

/// Bytes of a WebAssembly page, unless a memory says otherwise.
const PAGE_LOG2: u32 = 16;

/// What an instance begins with. Of a component that cannot be read to its end it is what was found until there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Footprint {
    /// Bytes of all memories together.
    pub memory: u64,
    /// Bytes of the largest stack that lies below the data of its module, as linkers for Rust and C put it. 0 if none does.
    pub stack: u64,
    /// Core modules that it consists of.
    pub modules: u32,
}

impl Footprint {
    /// Reads it.
    pub fn of(component: &[u8]) -> Self {
        let mut found = Self::default();
        // The first global of a module, if it may be its stack pointer.
        let mut pointer = None;
        for payload in Parser::new(0).parse_all(component).map_while(Result::ok) {
            match payload {
                Payload::ModuleSection { .. } => {
                    found.modules += 1;
                    pointer = None;
                }
                Payload::MemorySection(section) => {
                    for memory in section.into_iter().map_while(Result::ok) {
                        let page = memory.page_size_log2.unwrap_or(PAGE_LOG2);
                        found.memory =
                            found.memory.saturating_add(memory.initial.checked_shl(page).unwrap_or(u64::MAX));
                    }
                }
                Payload::GlobalSection(section) => {
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
                _ => {}
            }
        }
        found
    }
}

/// The value of an expression that is nothing but a 32-bit number.
fn constant(expression: &wasmparser::ConstExpr<'_>) -> Option<u32> {
    match expression.get_operators_reader().read().ok()? {
        Operator::I32Const { value } => Some(value.cast_unsigned()),
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
                "(core module (memory 17) (global (mut i32) (i32.const {pointer})) (data (i32.const {data}) \"x\"))"
            )
        };
        let found = of(&format!("(component {})", module(1 << 20, 1 << 20)));
        assert_eq!(found, Footprint { memory: 17 << 16, stack: 1 << 20, modules: 1 });
        // The data lies below: how much of it is stack is not known.
        assert_eq!(of(&format!("(component {})", module(1 << 20, 1024))).stack, 0);
        let two = of(&format!("(component {} (component {}))", module(4096, 8192), module(1024, 1024)));
        assert_eq!(two, Footprint { memory: 34 << 16, stack: 4096, modules: 2 });
    }

    #[test]
    fn what_is_no_component_has_none() {
        assert_eq!(Footprint::of(b"\0asm\x0d\0\x01\0 rubbish"), Footprint::default());
        assert_eq!(of("(component (core module (memory 0)))"), Footprint { modules: 1, ..Footprint::default() });
    }
}
