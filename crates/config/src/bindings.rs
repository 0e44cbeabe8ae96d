//! The bindings of a `function.json` as they are written there. Azure does not tell upper from lower case in their keys and words.

use super::member;
use serde_json::Value;

/// All of them; none where there is no list.
pub fn of(document: &Value) -> &[Value] {
    member(document, "bindings").and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// The text that a binding has under this key.
pub fn text<'b>(binding: &'b Value, key: &str) -> Option<&'b str> {
    member(binding, key).and_then(Value::as_str)
}

/// Whether that text is this word.
pub fn says(binding: &Value, key: &str, word: &str) -> bool {
    text(binding, key).is_some_and(|text| text.eq_ignore_ascii_case(word))
}

/// Whether its type starts functions.
pub fn is_trigger(binding: &Value) -> bool {
    text(binding, "type").is_some_and(|kind| kind.to_ascii_lowercase().ends_with("trigger"))
}

/// Whether values go out through it; a trigger may leave out its direction.
pub fn is_output(binding: &Value) -> bool {
    says(binding, "direction", "out")
}
