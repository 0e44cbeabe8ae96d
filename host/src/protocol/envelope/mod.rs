//! The JSON envelope: `Data` and `Metadata` in, `Outputs`, `Logs` and `ReturnValue` out (azure-contract.md §3).
//!
//! [`decode`] makes an HTTP request of it, which any guest can answer, and [`encode`] makes outputs of the answer. [`http`] is an HTTP
//! trigger with more bindings, whose request and answer are wrapped too; [`bindings`] is what an envelope has beside; [`raw`] hands Azure's JSON to a guest as it is. No payload is
//! ever parsed and printed again: what has to be taken out of JSON is unwrapped once, and everything else is cut out of the text.

pub mod bindings;
pub mod decode;
pub mod encode;
mod http;
mod json;
mod raw;
#[cfg(test)]
mod tests;

/// Why an envelope cannot be read, or an answer cannot be sent: names the function's binding and the value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Bad(pub String);

impl Bad {
    fn new<T>(words: impl Into<String>) -> Result<T, Self> {
        Err(Self(words.into()))
    }
}

/// The begin of a value, for an error.
fn shown(value: &str) -> String {
    const MOST: usize = 40;
    let end = value.char_indices().nth(MOST).map_or(value.len(), |(end, _)| end);
    format!("{:?}{}", &value[..end], if end < value.len() { "…" } else { "" })
}
