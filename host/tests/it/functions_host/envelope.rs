//! What the Functions host sends in JSON mode: `{"Data": …, "Metadata": …}`, by the kind of the binding.

use super::answer::{rewritten_date, shortened_date, text, utc};
use super::translate::query;
use super::{Body, Request};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};
use uuid::Uuid;

/// A function's name and the bindings in its `function.json`.
pub struct Function<'a> {
    pub name: &'a str,
    pub bindings: &'a [Value],
}

impl Function<'_> {
    fn trigger(&self) -> &Value {
        let is_trigger = |binding: &&Value| binding["type"].as_str().is_some_and(|kind| kind.ends_with("Trigger"));
        self.bindings.iter().find(is_trigger).expect("a trigger")
    }

    fn binding(&self, name: &str) -> &Value {
        self.bindings.iter().find(|binding| binding["name"] == name).expect("a binding of this name")
    }
}

/// What a queue says about a message, dates as they stand in the envelope.
pub struct Message {
    /// None where a person has made the message, by `/admin/functions/NAME`.
    pub id: Option<String>,
    pub pop_receipt: Option<String>,
    pub dequeue_count: u32,
    pub inserted: String,
    pub expires: String,
    pub next_visible: String,
}

/// The body of one invocation in JSON mode.
pub struct Envelope {
    pub function: String,
    pub data: Map<String, Value>,
    pub metadata: Map<String, Value>,
}

impl Envelope {
    fn new(function: &Function, value: Value) -> Self {
        let name = function.trigger()["name"].as_str().unwrap().to_owned();
        let sys = json!({
            "MethodName": function.name,
            "UtcNow": humantime::format_rfc3339_micros(std::time::SystemTime::now()).to_string(),
            "RandGuid": Uuid::new_v4().to_string(),
        });
        Self {
            function: function.name.to_owned(),
            data: Map::from_iter([(name, value)]),
            metadata: Map::from_iter([("sys".to_owned(), sys)]),
        }
    }

    /// A queue message; none where the Functions host moves it to the poison queue without asking the handler.
    pub fn queue(function: &Function, payload: &[u8], message: &Message) -> Option<Self> {
        let binary = function.trigger()["dataType"] == "binary";
        let text = std::str::from_utf8(payload);
        let value = if binary { STANDARD.encode(payload).into() } else { literal(text.ok()?) };
        let mut envelope = Self::new(function, value);
        let facts = [
            ("DequeueCount", Some(message.dequeue_count.to_string().into())),
            ("ExpirationTime", Some(message.expires.clone().into())),
            ("Id", message.id.as_deref().map(literal)),
            ("InsertionTime", Some(message.inserted.clone().into())),
            ("NextVisibleTime", Some(message.next_visible.clone().into())),
            ("PopReceipt", message.pop_receipt.as_deref().map(literal)),
        ];
        let known = facts.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
        envelope.metadata.extend(known);
        // The payload's own words win over what the queue says.
        if !binary && let Ok(Value::Object(members)) = serde_json::from_slice(payload) {
            envelope.merge(&members);
        }
        Some(envelope)
    }

    /// A blob: base64, whatever `dataType` says. `uri` ends in the container and the percent-encoded name.
    pub fn blob(function: &Function, content: &[u8], uri: &str, properties: Value) -> Self {
        let mut envelope = Self::new(function, STANDARD.encode(content).into());
        let pattern = function.trigger()["path"].as_str().unwrap();
        let (container, pattern) = pattern.split_once('/').unwrap();
        let name = uri.split_once(&format!("/{container}/")).unwrap().1;
        let name = percent_encoding::percent_decode_str(name).decode_utf8().unwrap();
        envelope.metadata.extend([
            ("Uri".to_owned(), literal(uri)),
            ("Properties".to_owned(), properties),
            ("Metadata".to_owned(), json!({})),
        ]);
        // `{name}` and `{name}.{ext}` are the patterns that were seen.
        let tokens = match pattern.split_once('.').and_then(|_| name.rsplit_once('.')) {
            Some((stem, extension)) => vec![("name", stem), ("ext", extension)],
            None => vec![("name", &*name)],
        };
        envelope.metadata.extend(tokens.into_iter().map(|(token, value)| (token.to_owned(), literal(value))));
        envelope
    }

    /// A tick. `status` is null for schedules below one minute.
    pub fn timer(function: &Function, status: Value, is_past_due: bool) -> Self {
        let timer = json!({
            "Schedule": {"AdjustForDST": true}, "ScheduleStatus": status, "IsPastDue": is_past_due,
        });
        Self::new(function, timer)
    }

    /// Events of Event Grid or CloudEvents: one, or with `cardinality: many` some.
    pub fn event_grid(function: &Function, events: &[Value]) -> Self {
        let events: Vec<Value> = events.iter().map(rewritten_event).collect();
        let data = |event: &Value| event.get("data").cloned();
        if function.trigger()["cardinality"] == "many" {
            let all: Value = events.iter().map(|event| data(event).unwrap_or_default()).collect();
            let mut envelope = Self::new(function, Value::Array(events).to_string().into());
            envelope.metadata.insert("data".to_owned(), all.to_string().into());
            return envelope;
        }
        let [event] = &events[..] else { panic!("each event is an invocation of its own") };
        let mut envelope = Self::new(function, event.clone());
        if let Some(data) = data(event) {
            envelope.metadata.insert("data".to_owned(), member(&data));
        }
        envelope
    }

    /// A request of a client to a function that is not plain HTTP; `params` are those of the route, none for one left out.
    pub fn http(function: &Function, request: &Request, params: &[(&str, Option<&str>)]) -> Self {
        let host = request.header("host").unwrap();
        let queries = query(&request.target);
        let map = |pairs: &mut dyn Iterator<Item = (String, Value)>| Value::Object(pairs.collect());
        let mut req = json!({
            "Url": format!("http://{host}{}", request.target),
            "Method": request.method,
            "Query": map(&mut queries.iter().map(|(name, values)| (name.clone(), values.join(",").into()))),
            "Headers": map(&mut request.headers.iter().map(|(name, value)| (name.clone(), json!([value])))),
            "Params": map(&mut params.iter().map(|(name, value)| ((*name).to_owned(), (*value).into()))),
            "Identities": [{
                "AuthenticationType": null, "IsAuthenticated": false, "Actor": null, "BootstrapContext": null,
                "Claims": [], "Label": null, "Name": null,
                "NameClaimType": "http://schemas.xmlsoap.org/ws/2005/05/identity/claims/name",
                "RoleClaimType": "http://schemas.microsoft.com/ws/2008/06/identity/claims/role",
            }],
        });
        let kind = request.header("content-type").unwrap_or_default();
        // The Functions host does not see a chunked body.
        let body = match &request.body {
            Body::Sized(bytes) if !bytes.is_empty() => Some(&bytes[..]),
            _ => None,
        };
        if let Some(body) = body {
            req["Body"] = if kind.starts_with("application/octet-stream") || kind.starts_with("multipart/") {
                STANDARD.encode(body).into()
            } else {
                String::from_utf8_lossy(body).into()
            };
        }
        let mut envelope = Self::new(function, req);
        if let (true, Some(Ok(members))) = (kind.starts_with("application/json"), body.map(serde_json::from_slice)) {
            envelope.merge(&members);
        }
        let last = |values: &[String]| values.last().cloned().unwrap_or_default();
        let named = queries.iter().filter(|(name, _)| name != "code");
        envelope.metadata.extend(named.map(|(name, values)| (name.clone(), literal(&last(values)))));
        let given = params.iter().filter_map(|(name, value)| Some(((*name).to_owned(), literal((*value)?))));
        envelope.metadata.extend(given);
        let facts = [
            ("Query", map(&mut queries.iter().map(|(name, values)| (name.clone(), last(values).into())))),
            ("Headers", map(&mut request.headers.iter().map(|(name, value)| (name.clone(), value.clone().into())))),
        ];
        envelope.metadata.extend(facts.map(|(name, value)| (name.to_owned(), value)));
        envelope
    }

    /// Adds a blob that an input binding reads; none is one that does not exist.
    pub fn input(mut self, function: &Function, name: &str, content: Option<&[u8]>) -> Self {
        let value = match content {
            None => "null".into(),
            Some(content) if function.binding(name)["dataType"] == "binary" => STANDARD.encode(content).into(),
            Some(content) => literal(&String::from_utf8_lossy(content)),
        };
        self.data.insert(name.to_owned(), value);
        self
    }

    /// Adds what a retry policy says about this attempt.
    pub fn retry(mut self, count: u32, most: u32, exception: Value) -> Self {
        let context = json!({
            "RetryCount": count, "MaxRetryCount": most, "Exception": exception, "Instance": null, "State": {},
        });
        self.metadata.insert("RetryContext".to_owned(), context);
        self
    }

    /// Adds what `/admin/functions/NAME` leaves of its `input`.
    pub fn by_hand(mut self, function: &Function, input: &str) -> Self {
        let name = function.trigger()["name"].as_str().unwrap().to_owned();
        self.metadata.insert(name, literal(input));
        self
    }

    pub fn json(&self) -> Value {
        json!({"Data": self.data, "Metadata": self.metadata})
    }

    /// The body of the request.
    pub fn body(&self) -> Vec<u8> {
        self.json().to_string().into_bytes()
    }

    /// The properties of a JSON payload stand among the metadata, and replace what has their names.
    fn merge(&mut self, members: &Map<String, Value>) {
        let merged = members.iter().filter(|(name, _)| !name.to_ascii_lowercase().ends_with("trigger"));
        self.metadata.extend(merged.map(|(name, value)| (name.clone(), member(value))));
    }
}

/// A string that holds a string of JSON, written as .NET does: these three are never left bare.
fn literal(text: &str) -> Value {
    let json = Value::from(text).to_string();
    json.replace('\u{85}', "\\u0085").replace('\u{2028}', "\\u2028").replace('\u{2029}', "\\u2029").into()
}

/// A property among the metadata: objects as they are, the rest as a string that holds the text.
fn member(value: &Value) -> Value {
    match value {
        Value::Object(_) => value.clone(),
        Value::String(date) => literal(&rewritten_date(date).unwrap_or_else(|| date.clone())),
        other => literal(&text(other)),
    }
}

/// Before the handler sees an event, dates in its data lose what they need not say, and `time` is in UTC.
fn rewritten_event(event: &Value) -> Value {
    fn shortened(value: &mut Value) {
        match value {
            Value::String(text) => *text = shortened_date(text),
            Value::Array(items) => items.iter_mut().for_each(shortened),
            Value::Object(members) => members.values_mut().for_each(shortened),
            _ => {}
        }
    }
    let mut event = event.clone();
    event.get_mut("data").into_iter().for_each(shortened);
    if let Some(time) = event.get("time").and_then(Value::as_str).and_then(utc) {
        let text = humantime::format_rfc3339_seconds(time).to_string();
        event["time"] = format!("{}+00:00", text.trim_end_matches('Z')).into();
    }
    event
}
