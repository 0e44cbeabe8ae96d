//! What the Functions host makes of an answer in JSON mode, and of each value in it.

use super::Request;
use super::wire::Pool;
use crate::support::Response;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};
use std::time::Duration;

/// The most that one queue message holds.
const QUEUE_MESSAGE: usize = 64 << 10;

/// How an invocation in JSON mode ended.
#[derive(Debug, PartialEq)]
pub enum Outcome {
    Done(Answer),
    /// A caller gets 500, an event is tried again.
    Failed(String),
    /// Nobody completes the invocation: after `functionTimeout` the handler is killed.
    Hangs,
}

/// What an invocation gave.
#[derive(Debug, Default, PartialEq)]
pub struct Answer {
    pub outputs: Map<String, Value>,
    pub logs: Vec<String>,
    pub returned: Option<Value>,
    /// Whether there was an `Outputs` at all.
    pub has_outputs: bool,
}

/// Sends an envelope, follows redirects, and reads what comes in the end.
pub fn ask(pool: &Pool, mut request: Request) -> Outcome {
    loop {
        let Ok((mut client, head)) = pool.once(&request) else { return Outcome::Failed("no answer".to_owned()) };
        let answer = client.body(head, false);
        pool.put(client, &answer);
        match answer.header("location") {
            Some(location) if (300..400).contains(&answer.status) => {
                request = Request::get(location);
            }
            _ => return read(answer.status, answer.header("content-type"), &answer.body),
        }
    }
}

/// Reads what a handler answered; redirects were followed before.
pub fn read(status: u16, content_type: Option<&str>, body: &[u8]) -> Outcome {
    if !(200..300).contains(&status) {
        return Outcome::Failed(format!("status {status}"));
    }
    if body.is_empty() || body == b"null" {
        return Outcome::Hangs;
    }
    let media_type = content_type.unwrap_or_default().split(';').next().unwrap_or_default().trim();
    if !["application/json", "text/json"].iter().any(|known| media_type.eq_ignore_ascii_case(known)) {
        return Outcome::Failed(format!("content type {content_type:?}"));
    }
    let Ok(Value::Object(members)) = serde_json::from_slice(body) else {
        return Outcome::Failed("no JSON object".to_owned());
    };
    let mut answer = Answer::default();
    for (name, value) in members {
        match (&*name.to_ascii_lowercase(), value) {
            ("outputs", Value::Object(outputs)) => (answer.outputs, answer.has_outputs) = (outputs, true),
            ("outputs" | "logs", Value::Null) => {}
            ("outputs", _) => return Outcome::Failed("Outputs is no object".to_owned()),
            ("logs", Value::Array(lines)) => {
                if lines.iter().any(|line| line.is_object() || line.is_array()) {
                    return Outcome::Failed("Logs holds more than scalars".to_owned());
                }
                answer.logs = lines.iter().map(text).collect();
            }
            ("logs", _) => return Outcome::Failed("Logs is no array".to_owned()),
            ("returnvalue", value) => answer.returned = Some(value),
            _ => {}
        }
    }
    Outcome::Done(answer)
}

impl Answer {
    /// What an HTTP caller gets through the output binding `name`.
    pub fn http(&self, name: &str) -> Response {
        let plain = |status, body: Vec<u8>| Response { status, headers: Vec::new(), body, complete: true };
        if name == "$return" {
            return match &self.returned {
                Some(Value::String(text)) => plain(200, bytes(text)),
                Some(value) => plain(200, text(value).into_bytes()),
                None => plain(204, Vec::new()),
            };
        }
        let Some(output) = self.outputs.get(name) else {
            return if self.has_outputs { plain(200, b"{}".to_vec()) } else { plain(204, Vec::new()) };
        };
        let Value::Object(members) = output else { return plain(500, Vec::new()) };
        let member =
            |wanted| members.iter().find(|(known, _)| known.eq_ignore_ascii_case(wanted)).map(|(_, value)| value);
        let status = member("statusCode").and_then(|value| text(value).parse().ok()).unwrap_or(200);
        let mut headers = vec![("content-type".to_owned(), "text/plain; charset=utf-8".to_owned())];
        for (name, value) in member("headers").and_then(Value::as_object).into_iter().flatten() {
            let value = match value {
                Value::Array(_) | Value::Object(_) | Value::Null => return plain(500, Vec::new()),
                scalar => text(scalar),
            };
            if name.contains(char::is_whitespace) || value.contains(['\r', '\n']) {
                return plain(500, Vec::new());
            }
            let name = name.to_ascii_lowercase();
            headers.retain(|(known, _)| *known != name);
            headers.push((name, value));
        }
        let body = member("body").filter(|body| !body.is_null()).map(text).unwrap_or_default().into_bytes();
        // A length that the handler names is sent as it is, and breaks the answer.
        let named = headers.iter().find(|(name, _)| name == "content-length").map(|(_, value)| value.clone());
        let complete = named.is_none_or(|named| named == body.len().to_string());
        Response { status, headers, body, complete }
    }
}

/// The messages that a queue output becomes.
///
/// # Errors
/// A message that is too long fails the invocation.
pub fn queue_messages(value: &Value, data_type: Option<&str>) -> Result<Vec<Vec<u8>>, &'static str> {
    let message = |value: &Value| match value {
        Value::String(text) if data_type == Some("binary") => dates_rewritten(text).into_bytes(),
        Value::String(text) => bytes(text),
        value => text(value).into_bytes(),
    };
    let parsed = value.as_str().and_then(|text| serde_json::from_str::<Value>(text).ok());
    let messages = match (value, &parsed) {
        (Value::Null, _) => Vec::new(),
        (Value::Array(items), _) | (_, Some(Value::Array(items))) => items.iter().map(message).collect(),
        (_, Some(object @ Value::Object(_))) => vec![text(object).into_bytes()],
        (value, _) => vec![message(value)],
    };
    if messages.iter().any(|message: &Vec<u8>| message.len() > QUEUE_MESSAGE) {
        return Err("a message beyond 64 KiB");
    }
    Ok(messages)
}

/// The blob that a blob output becomes; null writes none.
///
/// # Errors
/// A text that looks like a date fails the invocation, and leaves an empty blob.
pub fn blob(value: &Value) -> Result<Option<Vec<u8>>, &'static str> {
    Ok(Some(match value {
        Value::Null => return Ok(None),
        Value::String(text) if rewritten_date(text).is_some() => return Err("a date"),
        Value::String(text) => bytes(text),
        Value::Bool(value) => vec![u8::from(*value)],
        Value::Number(number) => match number.as_i64() {
            Some(whole) => whole.to_le_bytes().to_vec(),
            None => number.as_f64().unwrap().to_le_bytes().to_vec(),
        },
        value => value.to_string().into_bytes(),
    }))
}

/// .NET's text of a value: what is indented, and `True`.
pub fn text(value: &Value) -> String {
    match value {
        Value::String(text) => dates_rewritten(text),
        Value::Bool(value) => if *value { "True" } else { "False" }.to_owned(),
        Value::Null => String::new(),
        Value::Number(number) => number.to_string().trim_end_matches(".0").to_owned(),
        object => serde_json::to_string_pretty(&inner_dates(object)).unwrap(),
    }
}

fn inner_dates(value: &Value) -> Value {
    match value {
        Value::String(text) => shortened_date(text).into(),
        Value::Array(items) => items.iter().map(inner_dates).collect(),
        Value::Object(members) => members.iter().map(|(name, value)| (name.clone(), inner_dates(value))).collect(),
        other => other.clone(),
    }
}

fn dates_rewritten(text: &str) -> String {
    rewritten_date(text).unwrap_or_else(|| text.to_owned())
}

/// A string is decoded if it happens to be base64.
fn bytes(text: &str) -> Vec<u8> {
    STANDARD.decode(text).unwrap_or_else(|_| dates_rewritten(text).into_bytes())
}

/// `2026-04-20T00:00:00.000Z` as .NET writes it once it has taken it for a date: `04/20/2026 00:00:00`, in UTC.
pub fn rewritten_date(text: &str) -> Option<String> {
    let time = utc(text)?;
    let written = humantime::format_rfc3339_seconds(time).to_string();
    Some(format!("{}/{}/{} {}", &written[5..7], &written[8..10], &written[..4], &written[11..19]))
}

/// A date inside of an object: it stays one, without the zeros at the end of its fraction.
pub fn shortened_date(text: &str) -> String {
    match text.strip_suffix('Z').filter(|_| utc(text).is_some()).and_then(|bare| bare.split_once('.')) {
        None => text.to_owned(),
        Some((whole, fraction)) => match fraction.trim_end_matches('0') {
            "" => format!("{whole}Z"),
            rest => format!("{whole}.{rest}Z"),
        },
    }
}

/// The moment that an ISO 8601 text of date and time means; one without an offset is UTC.
pub fn utc(text: &str) -> Option<std::time::SystemTime> {
    let (date, rest) = text.split_at_checked(10).filter(|(date, rest)| date.is_ascii() && rest.starts_with('T'))?;
    let zone = rest.find(['Z', '+', '-']).unwrap_or(rest.len());
    let (time, zone) = rest.split_at(zone);
    let moment = humantime::parse_rfc3339(&format!("{date}{time}Z")).ok()?;
    let Some((hours, minutes)) = zone.get(1..).filter(|_| zone != "Z").and_then(|offset| offset.split_once(':')) else {
        return matches!(zone, "" | "Z").then_some(moment);
    };
    let offset = Duration::from_secs(hours.parse::<u64>().ok()? * 3600 + minutes.parse::<u64>().ok()? * 60);
    Some(if zone.starts_with('+') { moment - offset } else { moment + offset })
}
