//! From a guest's answer to `Outputs`, `Logs` and `ReturnValue`.
//!
//! The Functions host decodes a string that happens to be base64, rewrites one that looks like a date, and makes several messages of
//! one that is a JSON list (azure-contract.md §3.3). Base64 of the bytes arrives as those bytes, whatever they are.

use super::bindings::Beside;
use super::json::{self, Members};
use super::{Bad, http as web, raw, shown};
use crate::config::event::{Binding, Event, Mode};
use crate::invocation::bindings::{Given, Value as Set};
use crate::protocol::media_type;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use http::response::Parts;
use serde_json::value::RawValue;

/// The content type of an answer that names several outputs.
const OUTPUTS: &str = "application/vnd.flexwasm.outputs+json";
/// What an answer says of its event, beside its status.
pub const DISPOSITION: HeaderName = HeaderName::from_static("x-flexwasm-disposition");
/// That it was rejected.
pub const REJECTED: HeaderValue = HeaderValue::from_static("reject");
/// The output that is the function's return value.
const RETURN: &str = "$return";
/// Types of bindings that take bytes; all others want an object.
const TAKE_BYTES: [&str; 6] = ["queue", "blob", "serviceBus", "eventHub", "kafka", "rabbitMQ"];

/// What Azure is told.
#[derive(Debug, PartialEq, Eq)]
pub struct Answer {
    /// The JSON.
    pub body: Bytes,
    /// The event is done, but was not processed: nobody sends it again.
    pub rejected: bool,
}

/// What a guest has answered.
pub struct Answered<'a> {
    /// Status and headers.
    pub head: &'a Parts,
    /// The whole body.
    pub body: &'a [u8],
    /// Its output.
    pub lines: Vec<String>,
    /// The payload of its event.
    pub payload: &'a [u8],
    /// Where it has set outputs.
    pub beside: Option<&'a Beside>,
}

/// Looks at the head of an answer before its body is waited for, which might never end.
///
/// # Errors
/// [`Bad`]: no body can follow that could be sent.
pub fn check_head(event: &Event, head: &Parts) -> Result<(), Bad> {
    let response = event.outputs.iter().find(|output| output.is("http") && event.mode == Mode::Request);
    response.map_or(Ok(()), |output| web::no_stream(&output.name, &head.headers))
}

/// Encodes the answer to an event of a function.
///
/// # Errors
/// [`Bad`]: the event has failed.
pub fn encode(event: &Event, answered: Answered) -> Result<Answer, Bad> {
    let Answered { head, body, lines, payload, beside } = answered;
    let is_http = event.trigger.is("httpTrigger") && event.mode == Mode::Request;
    if !is_http && !head.status.is_success() {
        return Bad::new(format!("the guest answered the event with status {}", head.status.as_u16()));
    }
    let done = |body: String| Answer { body: body.into(), rejected: false };
    if event.mode == Mode::Envelope {
        return raw::checked(event, body, lines).map(done);
    }
    let rejected = !is_http && is_rejected(&head.headers)?;
    let set = beside.map_or_else(Vec::new, Beside::outputs);
    let answered = if rejected {
        match &event.rejected {
            Some(name) => vec![(output(event, name)?, value(output(event, name)?, payload)?)],
            None => Vec::new(),
        }
    } else if media_type(&head.headers).eq_ignore_ascii_case(OUTPUTS) {
        several(event, head, body)?
    } else if set.is_empty() || is_http {
        one(event, head, body)?
    } else {
        // A guest that names its outputs has named all of them.
        Vec::new()
    };
    if let Some((output, _)) = answered.iter().find(|(output, _)| set.iter().any(|(name, _)| output.name == *name)) {
        return Bad::new(format!(
            "the answer has a value for the output {:?}, which the guest has set before",
            output.name
        ));
    }
    let set = set.into_iter().filter_map(|(name, value)| Some((output(event, &name).ok()?, value?)));
    let outputs = answered.into_iter().chain(set);
    let (returned, outputs): (Vec<_>, Vec<_>) = outputs.partition(|(output, _)| output.name == RETURN);
    let outputs = json::object(outputs.into_iter().map(|(output, value)| (&output.name, value)));
    let mut answer = vec![("Outputs", outputs), ("Logs", json::written(&lines))];
    answer.extend(returned.into_iter().map(|(_, value)| ("ReturnValue", value)));
    Ok(Answer { rejected, ..done(json::object(answer)) })
}

/// # Errors
/// [`Bad`]: it says something else.
fn is_rejected(headers: &HeaderMap) -> Result<bool, Bad> {
    let mut said = headers.get_all(DISPOSITION).iter();
    match (said.next(), said.next()) {
        (None, _) => Ok(false),
        (Some(word), None) if *word == REJECTED => Ok(true),
        (Some(word), _) => {
            let word = String::from_utf8_lossy(word.as_bytes()).into_owned();
            Bad::new(format!("the guest answered {DISPOSITION}: {}, and only \"reject\" means something", shown(&word)))
        }
    }
}

/// The output binding of this name.
///
/// # Errors
/// [`Bad`]: there is none.
pub fn output<'e>(event: &'e Event, name: &str) -> Result<&'e Binding, Bad> {
    event.outputs.iter().find(|output| output.name == name).ok_or_else(|| {
        let known: Vec<_> = event.outputs.iter().map(|output| &*output.name).collect();
        Bad(format!("the answer names the output {}, but function.json has {known:?}", shown(name)))
    })
}

/// The outputs of an answer whose body is the value of one.
fn one<'e>(event: &'e Event, head: &Parts, body: &[u8]) -> Result<Vec<(&'e Binding, String)>, Bad> {
    if event.trigger.is("httpTrigger") {
        let response = event.outputs.iter().find(|output| output.is("http"));
        let value = |output: &Binding| web::response(&output.name, head.status, &head.headers, body);
        return response.map(|output| value(output).map(|value| (output, value))).into_iter().collect();
    }
    if body.is_empty() {
        return Ok(Vec::new());
    }
    let returned = event.outputs.iter().find(|output| output.name == RETURN);
    match (returned, &event.outputs[..]) {
        (Some(output), _) | (None, [output]) => Ok(vec![(output, value(output, body)?)]),
        // Whatever a guest says to a caller, nobody reads it here.
        (None, []) => Ok(Vec::new()),
        (None, several) => {
            let names: Vec<_> = several.iter().map(|output| &*output.name).collect();
            Bad::new(format!(
                "the answer has a body, but it is not clear for which of {names:?}: answer content-type {OUTPUTS} with an object \
                 by their names"
            ))
        }
    }
}

/// The outputs that an answer names.
fn several<'e>(event: &'e Event, head: &Parts, body: &[u8]) -> Result<Vec<(&'e Binding, String)>, Bad> {
    let Ok(named) = serde_json::from_slice::<Members>(body) else {
        return Bad::new(format!("the answer is of type {OUTPUTS}, but no JSON object by the names of outputs"));
    };
    let mut outputs: Vec<(&Binding, String)> = Vec::new();
    for (index, (name, given)) in named.0.iter().enumerate() {
        let output = output(event, name)?;
        if named.0[..index].iter().any(|(before, _)| before == name) {
            return Bad::new(format!("the answer names the output {name:?} twice"));
        }
        if !json::is_null(given) {
            outputs.push((output, given_value(output, given)?));
        }
    }
    // Without it the caller would get 200 and the text {}.
    if let Some(output) = event.outputs.iter().find(|output| output.is("http"))
        && !outputs.iter().any(|(known, _)| known.name == output.name)
    {
        let mut headers = head.headers.clone();
        headers.remove(CONTENT_TYPE);
        outputs.push((output, web::response(&output.name, head.status, &headers, &[])?));
    }
    Ok(outputs)
}

/// A body as the value of an output.
fn value(output: &Binding, body: &[u8]) -> Result<String, Bad> {
    if takes_bytes(output) {
        return bytes(output, body).map(|message| alone(output, message));
    }
    let text = std::str::from_utf8(body).ok().filter(|text| json::is_object_or_list(text));
    match text {
        Some(text) => Ok(text.to_owned()),
        None => Bad::new(format!(
            "output {:?} of type {} takes an object in JSON, but the answer is {}",
            output.name,
            output.kind,
            shown(&String::from_utf8_lossy(body))
        )),
    }
}

/// A member of the object that names outputs as the value of one.
fn given_value(output: &Binding, given: &RawValue) -> Result<String, Bad> {
    if output.is("http") {
        return web::written(&output.name, given);
    }
    let wrong =
        |what: &str| Bad(format!("output {:?} of type {} {what}: {}", output.name, output.kind, shown(given.get())));
    if !takes_bytes(output) {
        return match given.get().as_bytes().first() {
            Some(b'{' | b'[' | b'"') => Ok(given.get().to_owned()),
            _ => Err(wrong("takes an object, a list or a text")),
        };
    }
    if !given.get().starts_with('[') {
        return bytes(output, &message(given).map_err(wrong)?).map(|message| alone(output, message));
    }
    if output.is("blob") {
        return Err(wrong("takes one value, not a list"));
    }
    let items: Vec<&RawValue> = serde_json::from_str(given.get()).map_err(|_| wrong("takes no such list"))?;
    let messages = items.into_iter().map(|item| bytes(output, &message(item).map_err(wrong)?));
    Ok(format!("[{}]", messages.collect::<Result<Vec<_>, _>>()?.join(",")))
}

/// What a guest has set as the value of an output; none where nothing is sent.
///
/// # Errors
/// [`Bad`]: it takes no such value.
pub fn given(output: &Binding, given: Given) -> Result<Option<String>, Bad> {
    let wrong = |what: &str| Bad::new(format!("output {:?} of type {} {what}", output.name, output.kind));
    let values = match given {
        _ if output.is("http") => return wrong("is the guest's answer: give it status, headers and body"),
        Given::Messages(_) if output.is("blob") => return wrong("takes one value, not several messages"),
        Given::Messages(values) => values,
        Given::One(Set::Null) => return Ok(None),
        Given::One(value) => return set(output, value).map(|message| Some(alone(output, message))),
    };
    let messages: Vec<_> = values.into_iter().map(|value| set(output, value)).collect::<Result<_, _>>()?;
    Ok(Some(format!("[{}]", messages.join(","))))
}

/// One value or message that a guest has set.
fn set(output: &Binding, value: Set) -> Result<String, Bad> {
    let wrong = |what: &str| Bad::new(format!("output {:?} of type {} {what}", output.name, output.kind));
    match value {
        Set::Null => wrong("takes no null among its messages"),
        Set::Json(text) if !json::is_json(&text) => wrong(&format!("was given JSON that is none: {}", shown(&text))),
        Set::Text(text) | Set::Json(text) if takes_bytes(output) => bytes(output, text.as_bytes()),
        Set::Bytes(value) if takes_bytes(output) => bytes(output, &value),
        Set::Text(text) => Ok(json::written(&text)),
        Set::Json(text) if text.trim_start().starts_with(['{', '[', '"']) => Ok(text),
        Set::Json(text) => wrong(&format!("takes an object, a list or a text: {}", shown(&text))),
        Set::Bytes(_) => wrong("takes JSON or a text, not bytes"),
    }
}

/// The bytes that a guest means by one value.
fn message(value: &RawValue) -> Result<Vec<u8>, &'static str> {
    let text = value.get();
    if let Some(text) = json::string(text) {
        return Ok(text.into_owned().into());
    }
    if !text.starts_with('{') {
        return Err("takes a text, {\"base64\": …}, an object, a list or null");
    }
    match Members::of(value).as_ref().map(|members| &members.0[..]) {
        Some([(name, bytes)]) if name == "base64" => {
            let bytes = json::string(bytes.get()).and_then(|bytes| STANDARD.decode(bytes.as_bytes()).ok());
            bytes.ok_or("has a base64 that is none")
        }
        _ => Ok(text.as_bytes().to_vec()),
    }
}

/// One message as the value of an output. As plain text the Functions host would make several of a list in JSON and write an object anew; it
/// leaves the texts of a list alone.
fn alone(output: &Binding, message: String) -> String {
    let is_text = output.binary && takes_bytes(output) && !output.is("blob");
    let is_at_risk = is_text && json::string(&message).is_some_and(|text| json::is_object_or_list(&text));
    if is_at_risk { format!("[{message}]") } else { message }
}

fn takes_bytes(output: &Binding) -> bool {
    TAKE_BYTES.iter().any(|kind| output.is(kind))
}

/// Bytes as the Functions host has to be given them, so that they arrive as they are.
fn bytes(output: &Binding, bytes: &[u8]) -> Result<String, Bad> {
    if !output.binary {
        return Ok(json::written(&STANDARD.encode(bytes)));
    }
    match std::str::from_utf8(bytes) {
        Ok(text) => Ok(json::written(text)),
        Err(_) => Bad::new(format!(
            "output {:?} has \"dataType\": \"binary\", so the Functions host takes only text there, and this is none: leave dataType out",
            output.name
        )),
    }
}
