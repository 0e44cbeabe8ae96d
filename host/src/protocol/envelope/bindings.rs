//! The bindings of an invocation beside its request and its answer, for guests that import `flexwasm:host/bindings`.

use super::encode::{self, output};
use super::json::{self, Members};
use super::{Bad, raw, shown};
use crate::config::event::{Binding, Event};
use crate::invocation::bindings::{Bindings, Error, Given, Trigger, Value};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What an envelope brought, and what the guest has set.
#[derive(Debug)]
pub struct Beside {
    event: Arc<Event>,
    metadata: Vec<(String, Value)>,
    /// By the names of `function.json`.
    inputs: Vec<(String, Option<Value>)>,
    set: Mutex<Set>,
}

/// Outputs that a guest has set.
#[derive(Debug)]
struct Set {
    /// Name, and JSON for Azure; none where nothing is sent.
    outputs: Vec<(String, Option<String>)>,
    /// Bytes that further values may have.
    left: usize,
    /// What `left` was at the start.
    most: usize,
}

impl Beside {
    /// Reads them; the values of outputs may have `most` bytes together.
    ///
    /// # Errors
    /// [`Bad`]: the value of an input is not what its binding says.
    pub fn new(event: &Arc<Event>, data: &Members, metadata: &Members, most: usize) -> Result<Self, Bad> {
        let keyed = event.trigger.is("httpTrigger").then_some(event.keyed);
        let read = |(name, value): &(Cow<'_, str>, &RawValue)| {
            let text = match keyed {
                Some(keyed) => raw::of_metadata(keyed, name, value)?,
                None => value.get().to_owned(),
            };
            Some((name.clone().into_owned(), plain(&text)))
        };
        let metadata = metadata.0.iter().filter_map(read).collect();
        let input = |binding: &Binding| {
            let value = data.get_in_any_case(&binding.name).map(|value| brought(binding, value.get())).transpose()?;
            Ok((binding.name.clone(), value))
        };
        let inputs = event.inputs.iter().map(input).collect::<Result<_, Bad>>()?;
        let set = Mutex::new(Set { outputs: Vec::new(), left: most, most });
        Ok(Self { event: Arc::clone(event), metadata, inputs, set })
    }

    /// What the guest has set, by the names of outputs: JSON for Azure; none where nothing is sent.
    pub fn outputs(&self) -> Vec<(String, Option<String>)> {
        self.set().outputs.clone()
    }

    fn set(&self) -> MutexGuard<'_, Set> {
        // Every change under the lock is complete before anything can panic.
        self.set.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Bindings for Beside {
    fn trigger(&self) -> Trigger {
        let Binding { name, kind, .. } = &self.event.trigger;
        Trigger { name: name.clone(), kind: kind.clone() }
    }

    fn metadata(&self) -> Vec<(String, Value)> {
        self.metadata.clone()
    }

    fn input(&self, name: &str) -> Result<Option<Value>, Error> {
        let input = self.inputs.iter().find(|(known, _)| known == name);
        input.map(|(_, value)| value.clone()).ok_or_else(|| {
            let known: Vec<_> = self.inputs.iter().map(|(name, _)| name).collect();
            Error::UnknownName(format!(
                "there is no input {}: beside its trigger function.json has the inputs {known:?}",
                shown(name)
            ))
        })
    }

    fn set(&self, name: &str, given: Given) -> Result<(), Error> {
        let output = output(&self.event, name).map_err(|Bad(words)| Error::UnknownName(words))?;
        let size = match &given {
            Given::One(value) => size(value),
            Given::Messages(messages) => messages.iter().map(size).sum(),
        };
        let mut set = self.set();
        if set.outputs.iter().any(|(known, _)| known == name) {
            return Err(Error::SetTwice(format!("output {name:?} has a value already")));
        }
        let Some(left) = set.left.checked_sub(size) else {
            let most = set.most;
            return Err(Error::TooLarge(format!(
                "output {name:?} has {size} bytes, and all outputs of an invocation together may have {most}: raise \
                 limits.responseBody"
            )));
        };
        let value = encode::given(output, given).map_err(|Bad(words)| Error::WrongKind(words))?;
        set.outputs.push((name.to_owned(), value));
        set.left = left;
        Ok(())
    }
}

/// Bytes that a value takes.
fn size(value: &Value) -> usize {
    match value {
        Value::Null => 0,
        Value::Text(text) | Value::Json(text) => text.len(),
        Value::Bytes(bytes) => bytes.len(),
    }
}

/// The value of an input from its JSON.
fn brought(binding: &Binding, value: &str) -> Result<Value, Bad> {
    let Some(outer) = json::string(value).filter(|outer| binding.binary && outer != "null") else {
        return Ok(plain(value));
    };
    let bytes = STANDARD.decode(outer.as_bytes());
    bytes.map(Value::Bytes).map_err(|_| Bad(format!("the input {:?} is no base64: {}", binding.name, shown(&outer))))
}

/// A value from its JSON. A text that the Functions host has serialized holds the literal of a string, and what is no text there is
/// often put into one (azure-contract.md §3.1).
fn plain(value: &str) -> Value {
    let Some(outer) = json::string(value) else {
        return if value == "null" { Value::Null } else { Value::Json(value.to_owned()) };
    };
    match json::string(&outer) {
        Some(inner) => Value::Text(inner.into_owned()),
        None if outer == "null" => Value::Null,
        None if json::is_json(&outer) => Value::Json(outer.into_owned()),
        None => Value::Text(outer.into_owned()),
    }
}
