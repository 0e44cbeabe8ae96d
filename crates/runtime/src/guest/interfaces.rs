//! What a component asks for and offers, read from its sections: nothing of it is compiled or run.

use crate::engine::Wasi;
use wasmparser::{Chunk, Parser, Payload};

/// The interfaces of a component.
#[derive(Debug, PartialEq, Eq)]
pub struct Interfaces {
    /// What it asks for, such as `wasi:cli/environment@0.2.12`.
    pub imports: Vec<String>,
    /// The version whose handler it offers. One that offers both is run as a guest of 0.2, which costs less. Whether it offers
    /// what its version asks for is found out when it is linked.
    pub wasi: Wasi,
}

impl Interfaces {
    /// Reads them; what the component nests is skipped, and what is no component any more ends it.
    pub fn of(component: &[u8]) -> Self {
        let (mut rest, mut parser) = (component, Parser::new(0));
        let (mut imports, mut exports) = (Vec::new(), Vec::new());
        while let Ok(Chunk::Parsed { consumed, payload }) = parser.parse(rest, true) {
            rest = &rest[consumed..];
            match payload {
                Payload::ModuleSection { unchecked_range: nested, .. }
                | Payload::ComponentSection { unchecked_range: nested, .. } => {
                    let length = usize::try_from(nested.end - nested.start).unwrap_or(usize::MAX);
                    rest = rest.get(length..).unwrap_or_default();
                }
                Payload::ComponentImportSection(section) => {
                    imports.extend(section.into_iter().map_while(Result::ok).map(|import| import.name.name.to_owned()));
                }
                Payload::ComponentExportSection(section) => {
                    exports.extend(section.into_iter().map_while(Result::ok).map(|export| export.name.name));
                }
                Payload::End(_) => break,
                _ => {}
            }
        }
        let offers = |handler| exports.iter().any(|name| name.starts_with(handler));
        let newer = offers("wasi:http/handler@0.3.") && !offers("wasi:http/incoming-handler@0.2.");
        Self { imports, wasi: if newer { Wasi::P3 } else { Wasi::P2 } }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Interfaces {
        Interfaces::of(&wat::parse_str(text).expect("a component"))
    }

    #[test]
    fn imports_and_handlers_are_read_and_what_is_nested_is_not() {
        let nested = "(component (import \"a:b/nested\" (instance)) (instance $i (export \"x\" (instance)))
                        (export \"wasi:http/handler@0.3.0\" (instance $i)))"
            .replace("(instance $i (export \"x\" (instance)))", "(instance $i)");
        let found = of(&format!("(component {nested} (import \"wasi:cli/environment@0.2.0\" (instance)))"));
        assert_eq!(found, Interfaces { imports: vec!["wasi:cli/environment@0.2.0".to_owned()], wasi: Wasi::P2 });
    }

    #[test]
    fn a_component_that_offers_both_is_a_guest_of_0_2() {
        let newer = "(instance $i) (export \"wasi:http/handler@0.3.0\" (instance $i))";
        let older = "(export \"wasi:http/incoming-handler@0.2.3\" (instance $i))";
        assert_eq!(of(&format!("(component {newer})")).wasi, Wasi::P3);
        assert_eq!(of(&format!("(component {newer} {older})")).wasi, Wasi::P2);
        assert_eq!(Interfaces::of(b"\0asm\x0d\0\x01\0 rubbish").wasi, Wasi::P2);
    }
}
