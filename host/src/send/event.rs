//! An event from its payload, by the kind of the function's trigger.
//!
//! Queue, blob, timer, Event Grid and HTTP are as they were recorded. Service Bus, Event Hubs, Cosmos DB and all others were only
//! read about: their payload is sent as the recorded triggers send theirs, with little metadata.

use super::dates;
use super::envelope::{Envelope, Function, Message, blob_properties, literal};
use super::fate::Attempts;
use super::json::{self, Json, Members};
use super::request::Request;
use crate::config::bindings::{is_output, text};
use serde_json::Value;
use std::time::{Duration, SystemTime};
use uuid::Uuid;

/// What a person wants to send.
#[derive(Debug, Clone, Copy)]
pub struct Event<'a> {
    /// The message, the blob, the event or the body.
    pub payload: &'a [u8],
    /// What the metadata says in place of what would be made up: texts, or JSON for what is none.
    pub metadata: &'a [(String, String)],
    /// Which of its runs it is, from 1.
    pub run: u32,
}

/// Whether the envelopes of this kind of trigger are as the Functions host was seen to send them.
pub fn was_recorded(kind: &str) -> bool {
    ["queuetrigger", "blobtrigger", "timertrigger", "eventgridtrigger", "httptrigger"].contains(&kind)
}

impl Event<'_> {
    /// The envelope of this event.
    ///
    /// # Errors
    /// For a person: the function's trigger does not give such a payload.
    pub fn envelope(&self, function: &Function, attempts: Attempts) -> Result<Envelope, String> {
        let (count, retry) = attempts.of(self.run);
        let no_text = || {
            let name = function.name;
            format!(
                "the payload is no UTF-8, which never reaches {name}: with \"dataType\": \"binary\" its trigger takes bytes"
            )
        };
        let mut envelope = match &*function.kind() {
            "queuetrigger" => Envelope::queue(function, self.payload, &Message::fresh(count)).ok_or_else(no_text)?,
            "blobtrigger" => {
                let tokens: Vec<(&str, &str)> =
                    self.metadata.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
                let properties = blob_properties(self.payload.len(), "application/octet-stream");
                Envelope::blob(function, self.payload, &tokens, properties)
            }
            "timertrigger" => Envelope::timer(function, status(function.says("schedule").unwrap_or_default()), false),
            "eventgridtrigger" => self.event_grid(function)?,
            "httptrigger" => self.http(function),
            kind => {
                let facts = match kind {
                    "servicebustrigger" => service_bus(count),
                    _ => Members::new(),
                };
                if function.takes_many() && !matches!(Json::read(self.payload), Some(Json::Array(_))) {
                    return Err(format!("{} takes several events at once: send a list of JSON", function.name));
                }
                Envelope::other(function, self.payload, facts).ok_or_else(no_text)?
            }
        };
        for binding in function.bindings.iter().filter(|binding| is_other_input(function, binding)) {
            // Nobody has stored anything for it.
            envelope = envelope.input(binding, None);
        }
        for (name, value) in self.metadata {
            json::set(&mut envelope.metadata, name, said(value));
        }
        if let Some((retry, most)) = retry {
            envelope = envelope.retry(retry, most, exception(function, retry));
        }
        Ok(envelope)
    }

    /// What `POST /admin/functions/NAME` with this `input` leads to; none where the handler is not asked, as for a queue without input.
    ///
    /// # Errors
    /// As [`Self::envelope`].
    pub fn by_hand(function: &Function, input: Option<&str>) -> Result<Option<Envelope>, String> {
        let payload = input.unwrap_or_default().as_bytes();
        let event = Event { payload, metadata: &[], run: 1 };
        let envelope = match (&*function.kind(), input) {
            ("queuetrigger", None) => return Ok(None),
            ("queuetrigger", _) => Envelope::queue(function, payload, &Message::by_hand()),
            _ => Some(event.envelope(function, Attempts::read(function, &Value::Null, &Value::Null))?),
        };
        Ok(envelope.map(|envelope| match input {
            Some(input) => envelope.by_hand(function, input),
            None => envelope,
        }))
    }

    fn event_grid(&self, function: &Function) -> Result<Envelope, String> {
        let events = match Json::read(self.payload) {
            Some(Json::Array(events)) => events,
            Some(event @ Json::Object(_)) => vec![event],
            _ => {
                let example = r#"{"specversion":"1.0","id":"1","source":"/me","type":"a.thing","data":{}}"#;
                return Err(format!("an event of Event Grid is an object of JSON, such as {example}"));
            }
        };
        let one = "takes one event: each of a list is an invocation of its own, or set \"cardinality\": \"many\"";
        Envelope::event_grid(function, events).ok_or_else(|| format!("{} {one}", function.name))
    }

    fn http(&self, function: &Function) -> Envelope {
        let route = function.says("route").filter(|route| !route.trim().is_empty()).unwrap_or(function.name);
        let kind = if Json::read(self.payload).is_some() { "application/json" } else { "text/plain" };
        let headers = [
            ("Host", "localhost:7071".to_owned()),
            ("Content-Type", kind.to_owned()),
            ("Content-Length", self.payload.len().to_string()),
        ];
        let request = Request {
            method: "POST",
            url: &format!("http://localhost:7071/api/{route}"),
            headers: &headers.map(|(name, value)| (name.to_owned(), value)),
            params: &[],
            body: Some(self.payload).filter(|body| !body.is_empty()),
        };
        Envelope::http(function, &request)
    }
}

/// An input binding beside the trigger.
fn is_other_input(function: &Function, binding: &Value) -> bool {
    !is_output(binding) && text(binding, "name") != function.says("name")
}

/// A metadata value as the Functions host writes it: dates and objects as they are, all else as a text of JSON.
fn said(value: &str) -> Json {
    match Json::read(value.as_bytes()) {
        Some(object @ Json::Object(_)) => object,
        Some(Json::Number(_) | Json::Bool(_)) => value.into(),
        _ if dates::utc(value).is_some() => value.into(),
        _ => literal(value),
    }
}

/// The first tick of a schedule: none is kept below one minute. The next is said to be at the next full minute, whatever the
/// schedule is.
fn status(schedule: &str) -> Json {
    const NEVER: &str = "0001-01-01T00:00:00+00:00";
    let fields: Vec<&str> = schedule.split_whitespace().collect();
    let once_a_minute = fields.len() == 6 && fields[0].bytes().all(|byte| byte.is_ascii_digit());
    if !once_a_minute {
        return Json::Null;
    }
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let next = SystemTime::UNIX_EPOCH + Duration::from_secs((since.as_secs() / 60 + 1) * 60);
    let next = dates::written(next);
    Json::Object(
        [("Last", NEVER), ("Next", &next), ("LastUpdated", NEVER)]
            .map(|(name, at)| (name.to_owned(), at.into()))
            .into(),
    )
}

fn service_bus(delivery: u32) -> Members {
    let now = dates::written(SystemTime::now());
    let facts = [
        ("DeliveryCount", Json::from(delivery.to_string())),
        ("EnqueuedTime", now.as_str().into()),
        ("LockToken", literal(&Uuid::new_v4().to_string())),
        ("MessageId", literal(&Uuid::new_v4().to_string())),
        ("SequenceNumber", "1".into()),
    ];
    facts.map(|(name, value)| (name.to_owned(), value)).into()
}

/// Why the run before failed; none for the first.
fn exception(function: &Function, retry: u32) -> Json {
    if retry == 0 {
        return Json::Null;
    }
    let name = function.name;
    Json::Object(
        [
            ("ClassName", "Microsoft.Azure.WebJobs.Host.FunctionInvocationException".to_owned()),
            ("Message", format!("Exception while executing function: Functions.{name}")),
        ]
        .map(|(name, text)| (name.to_owned(), text.into()))
        .into(),
    )
}
