//! What the Functions host makes of an answer in JSON mode, and of each value in it.

use super::dates::{rewritten, shortened};
use crate::config::bindings::text;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

/// The most that one queue message holds, in bytes.
const QUEUE_MESSAGE: usize = 64 << 10;

/// How an invocation in JSON mode ended.
#[derive(Debug, PartialEq)]
pub enum Verdict {
    /// It gave something.
    Done(Answer),
    /// A caller gets 500, an event is tried again. The words say why.
    Failed(String),
    /// Nobody completes the invocation: after `functionTimeout` the handler is killed.
    Hangs,
}

/// What an invocation gave.
#[derive(Debug, Default, PartialEq)]
pub struct Answer {
    /// `Outputs`.
    pub outputs: Map<String, Value>,
    /// `Logs`.
    pub logs: Vec<String>,
    /// `ReturnValue`.
    pub returned: Option<Value>,
    /// Whether there was an `Outputs` at all.
    pub has_outputs: bool,
}

/// What an HTTP caller gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Called {
    /// The status, which may be none that HTTP knows.
    pub status: u16,
    /// The headers, names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
    /// Whether the answer can be read to its end.
    pub complete: bool,
}

/// What becomes of the value of one output binding.
#[derive(Debug, PartialEq)]
pub enum Delivered {
    /// Messages, each with its bytes.
    Messages(Vec<Vec<u8>>),
    /// A blob, or none.
    Blob(Option<Vec<u8>>),
    /// What the caller gets.
    Called(Called),
    /// A value that the binding takes as it is, as far as is known.
    Value(Value),
}

/// Reads what a handler answered; redirects were followed before.
pub fn read(status: u16, content_type: Option<&str>, body: &[u8]) -> Verdict {
    if !(200..300).contains(&status) {
        return Verdict::Failed(format!("status {status}"));
    }
    if body.is_empty() || body == b"null" {
        return Verdict::Hangs;
    }
    let media_type = content_type.unwrap_or_default().split(';').next().unwrap_or_default().trim();
    if !["application/json", "text/json"].iter().any(|known| media_type.eq_ignore_ascii_case(known)) {
        return Verdict::Failed(format!("content type {content_type:?}"));
    }
    let Ok(Value::Object(members)) = serde_json::from_slice(body) else {
        return Verdict::Failed("no JSON object".to_owned());
    };
    let mut answer = Answer::default();
    for (name, value) in members {
        match (&*name.to_ascii_lowercase(), value) {
            ("outputs", Value::Object(outputs)) => (answer.outputs, answer.has_outputs) = (outputs, true),
            ("outputs" | "logs", Value::Null) => {}
            ("outputs", _) => return Verdict::Failed("Outputs is no object".to_owned()),
            ("logs", Value::Array(lines)) => {
                if lines.iter().any(|line| line.is_object() || line.is_array()) {
                    return Verdict::Failed("Logs holds more than scalars".to_owned());
                }
                answer.logs = lines.iter().map(as_text).collect();
            }
            ("logs", _) => return Verdict::Failed("Logs is no array".to_owned()),
            ("returnvalue", value) => answer.returned = Some(value),
            _ => {}
        }
    }
    Verdict::Done(answer)
}

impl Answer {
    /// What an HTTP caller gets through the output binding `name`.
    pub fn http(&self, name: &str) -> Called {
        let plain = |status, body: Vec<u8>| Called { status, headers: Vec::new(), body, complete: true };
        if name == "$return" {
            return match &self.returned {
                Some(Value::String(text)) => plain(200, bytes(text)),
                Some(value) => plain(200, as_text(value).into_bytes()),
                None => plain(204, Vec::new()),
            };
        }
        let Some(output) = self.outputs.get(name) else {
            return if self.has_outputs { plain(200, b"{}".to_vec()) } else { plain(204, Vec::new()) };
        };
        let Value::Object(members) = output else { return plain(500, Vec::new()) };
        let member =
            |wanted| members.iter().find(|(known, _)| known.eq_ignore_ascii_case(wanted)).map(|(_, value)| value);
        let status = member("statusCode").and_then(|value| as_text(value).parse().ok()).unwrap_or(200);
        let mut headers = vec![("content-type".to_owned(), "text/plain; charset=utf-8".to_owned())];
        for (name, value) in member("headers").and_then(Value::as_object).into_iter().flatten() {
            let value = match value {
                Value::Array(_) | Value::Object(_) | Value::Null => return plain(500, Vec::new()),
                scalar => as_text(scalar),
            };
            if name.contains(char::is_whitespace) || value.contains(['\r', '\n']) {
                return plain(500, Vec::new());
            }
            let name = name.to_ascii_lowercase();
            headers.retain(|(known, _)| *known != name);
            headers.push((name, value));
        }
        let body = member("body").filter(|body| !body.is_null()).map(as_text).unwrap_or_default().into_bytes();
        // A length that the handler names is sent as it is, and breaks the answer.
        let named = headers.iter().find(|(name, _)| name == "content-length").map(|(_, value)| value.clone());
        let complete = named.is_none_or(|named| named == body.len().to_string());
        Called { status, headers, body, complete }
    }

    /// What becomes of the output binding, if the answer has a value for it; a caller always gets something.
    ///
    /// # Errors
    /// Why the value fails the invocation.
    pub fn deliver(&self, binding: &Value) -> Result<Option<Delivered>, &'static str> {
        let name = text(binding, "name").unwrap_or_default();
        let kind = text(binding, "type").unwrap_or_default().to_ascii_lowercase();
        if kind == "http" {
            return Ok(Some(Delivered::Called(self.http(name))));
        }
        let value = if name == "$return" { self.returned.as_ref() } else { self.outputs.get(name) };
        let Some(value) = value else { return Ok(None) };
        Ok(Some(match &*kind {
            "queue" => Delivered::Messages(queue_messages(value, text(binding, "dataType"))?),
            // Taken to be treated alike, but for their size (docs/azure-contract.md §3.3).
            "servicebus" | "eventhub" => Delivered::Messages(messages(value, text(binding, "dataType"))),
            "blob" => Delivered::Blob(blob(value)?),
            _ => Delivered::Value(inner_dates(value)),
        }))
    }
}

/// The messages that a queue output becomes.
///
/// # Errors
/// A message that is too long fails the invocation.
pub fn queue_messages(value: &Value, data_type: Option<&str>) -> Result<Vec<Vec<u8>>, &'static str> {
    let messages = messages(value, data_type);
    if messages.iter().any(|message: &Vec<u8>| message.len() > QUEUE_MESSAGE) {
        return Err("a message beyond 64 KiB");
    }
    Ok(messages)
}

fn messages(value: &Value, data_type: Option<&str>) -> Vec<Vec<u8>> {
    let binary = data_type.is_some_and(|word| word.eq_ignore_ascii_case("binary"));
    let message = |value: &Value| match value {
        Value::String(text) if binary => dates_rewritten(text).into_bytes(),
        Value::String(text) => bytes(text),
        value => as_text(value).into_bytes(),
    };
    let parsed = value.as_str().and_then(|text| serde_json::from_str::<Value>(text).ok());
    match (value, &parsed) {
        (Value::Null, _) => Vec::new(),
        (Value::Array(items), _) | (_, Some(Value::Array(items))) => items.iter().map(message).collect(),
        (_, Some(object @ Value::Object(_))) => vec![as_text(object).into_bytes()],
        (value, _) => vec![message(value)],
    }
}

/// The blob that a blob output becomes; null writes none.
///
/// # Errors
/// A text that looks like a date fails the invocation, and leaves an empty blob.
pub fn blob(value: &Value) -> Result<Option<Vec<u8>>, &'static str> {
    Ok(Some(match value {
        Value::Null => return Ok(None),
        Value::String(text) if rewritten(text).is_some() => return Err("a text that looks like a date"),
        Value::String(text) => bytes(text),
        Value::Bool(value) => vec![u8::from(*value)],
        Value::Number(number) => match number.as_i64() {
            Some(whole) => whole.to_le_bytes().to_vec(),
            None => number.as_f64().unwrap_or_default().to_le_bytes().to_vec(),
        },
        value => value.to_string().into_bytes(),
    }))
}

/// .NET's text of a value: what is indented, and `True`.
pub fn as_text(value: &Value) -> String {
    match value {
        Value::String(text) => dates_rewritten(text),
        Value::Bool(value) => if *value { "True" } else { "False" }.to_owned(),
        Value::Null => String::new(),
        Value::Number(number) => number.to_string().trim_end_matches(".0").to_owned(),
        object => format!("{:#}", inner_dates(object)),
    }
}

fn inner_dates(value: &Value) -> Value {
    match value {
        Value::String(text) => shortened(text).into(),
        Value::Array(items) => items.iter().map(inner_dates).collect(),
        Value::Object(members) => members.iter().map(|(name, value)| (name.clone(), inner_dates(value))).collect(),
        other => other.clone(),
    }
}

fn dates_rewritten(text: &str) -> String {
    rewritten(text).unwrap_or_else(|| text.to_owned())
}

/// A string is decoded if it happens to be base64.
fn bytes(text: &str) -> Vec<u8> {
    STANDARD.decode(text).unwrap_or_else(|_| dates_rewritten(text).into_bytes())
}
