//! Azure's JSON as a guest sees and answers it that asks for it (`event.mode`).

use super::Bad;
use super::http::{is_key, is_secret, without_code};
use super::json::{self, Members};
use crate::config::event::Event;
use serde_json::Value;
use serde_json::value::RawValue;
use std::borrow::Cow;

/// The envelope without the keys of callers, which only an HTTP trigger has.
pub fn without_keys(event: &Event, data: &Members, metadata: &Members, envelope: &str) -> Result<String, Bad> {
    if !event.trigger.is("httpTrigger") {
        return Ok(envelope.to_owned());
    }
    let keyed = event.keyed;
    let request = |value: &RawValue| {
        object(value, |name, value| {
            Some(match name {
                "Headers" => headers(keyed, value),
                "Query" => query(keyed, value),
                "Url" if keyed => {
                    let url = json::string(value.get()).unwrap_or_default();
                    json::written(&without_code(&url))
                }
                _ => value.get().to_owned(),
            })
        })
    };
    let data = join(&data.0, |name, value| {
        let is_request = name.eq_ignore_ascii_case(&event.trigger.name);
        Some(if is_request { request(value) } else { value.get().to_owned() })
    });
    let metadata = join(&metadata.0, |name, value| of_metadata(keyed, name, value));
    let members: Members = serde_json::from_str(envelope).expect("it has been read");
    Ok(join(&members.0, |name, value| {
        Some(match name {
            "Data" => data.clone(),
            "Metadata" => metadata.clone(),
            _ => value.get().to_owned(),
        })
    }))
}

/// A member of an HTTP trigger's Metadata without the keys of callers; none where it is one.
pub fn of_metadata(keyed: bool, name: &str, value: &RawValue) -> Option<String> {
    match name {
        "Headers" => Some(headers(keyed, value)),
        "Query" => Some(query(keyed, value)),
        _ if keyed && is_key(name) => None,
        _ => Some(value.get().to_owned()),
    }
}

fn headers(keyed: bool, value: &RawValue) -> String {
    object(value, |name, value| (!is_secret(name, keyed)).then(|| value.get().to_owned()))
}

fn query(keyed: bool, value: &RawValue) -> String {
    object(value, |name, value| (!(keyed && is_key(name))).then(|| value.get().to_owned()))
}

/// Checks what a guest answers in Azure's JSON, and adds its lines.
///
/// # Errors
/// [`Bad`]: the Functions host would fail, or wait for ever.
pub fn checked(event: &Event, body: &[u8], lines: Vec<String>) -> Result<String, Bad> {
    const REMEDY: &str = "answer an object such as {\"Outputs\": {}, \"Logs\": [], \"ReturnValue\": null}";
    let Ok(answer) = serde_json::from_slice::<Members>(body) else {
        return Bad::new(format!("the answer is no JSON object: {REMEDY}"));
    };
    let mut logs: Vec<Value> = Vec::new();
    let mut rest = Vec::new();
    for (name, value) in &answer.0 {
        match (&*name.to_ascii_lowercase(), json::is_null(value)) {
            ("outputs", false) => {
                let Some(outputs) = Members::of(value) else { return Bad::new("Outputs of the answer is no object") };
                for (index, (name, _)) in outputs.0.iter().enumerate() {
                    if !event.outputs.iter().any(|output| output.name == *name) {
                        return Bad::new(format!("Outputs of the answer names {name:?}, which is no output binding"));
                    }
                    if outputs.0[..index].iter().any(|(before, _)| before == name) {
                        return Bad::new(format!("Outputs of the answer names {name:?} twice"));
                    }
                }
                rest.push(("Outputs", value.get().to_owned()));
            }
            ("logs", false) => match serde_json::from_str::<Vec<Value>>(value.get()) {
                Ok(given) if given.iter().all(|line| !line.is_object() && !line.is_array()) => logs.extend(given),
                _ => return Bad::new("Logs of the answer is no list of texts"),
            },
            ("outputs" | "logs", true) => {}
            ("returnvalue", _) => rest.push(("ReturnValue", value.get().to_owned())),
            _ => return Bad::new(format!("the answer has {name:?}, which Azure does not know: {REMEDY}")),
        }
    }
    let text = |line: Value| match line {
        Value::String(text) => text,
        other => other.to_string(),
    };
    let logs: Vec<String> = logs.into_iter().filter(|line| !line.is_null()).map(text).chain(lines).collect();
    rest.push(("Logs", Value::from(logs).to_string()));
    Ok(json::object(rest))
}

/// The members of an object, each as `change` writes it; what is no object stays as it is.
fn object(value: &RawValue, change: impl Fn(&str, &RawValue) -> Option<String>) -> String {
    Members::of(value).map_or_else(|| value.get().to_owned(), |members| join(&members.0, change))
}

fn join(members: &[(Cow<'_, str>, &RawValue)], change: impl Fn(&str, &RawValue) -> Option<String>) -> String {
    json::object(members.iter().filter_map(|(name, value)| Some((name, change(name, value)?))))
}
