//! Functions that the host answers by itself: `flexwasm.builtin` of a `function.json`, in place of a guest.

use super::kind::{Kind as _, Setting, Word};
use super::section::Section;

/// Keys that only a `function.json` may have.
pub const BUILTIN_KEYS: [&str; 1] = ["builtin"];

const WORDS: Word<Builtin> = Word(&[("view", Builtin::View)]);

/// What the host answers by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Builtin {
    /// What the pool does.
    View,
}

impl Builtin {
    /// One row for each of [`BUILTIN_KEYS`].
    pub fn table() -> Vec<Setting> {
        vec![Setting { key: BUILTIN_KEYS[0], scope: "function", range: WORDS.range(), default: "none".to_owned() }]
    }

    /// Takes the key. None when it is absent, or wrong and noted.
    pub fn take(section: &mut Section<'_>) -> Option<Self> {
        WORDS.take(BUILTIN_KEYS[0], section)
    }

    /// As a file spells it.
    pub fn word(self) -> String {
        WORDS.spell(&self)
    }
}
