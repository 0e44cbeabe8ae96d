//! What the Functions host sends in JSON mode: `{"Data": …, "Metadata": …}`, by the kind of the trigger.

use super::json::{self, Json, Members};
use super::{dates, verdict};
use crate::config::bindings::{is_trigger, says, text};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;
use std::fmt::{self, Display, Formatter};
use std::time::{Duration, SystemTime};
use uuid::Uuid;

/// How long a message stays in a queue, and how long it is invisible while it runs, where nobody sets another time.
const TIME_TO_LIVE: Duration = Duration::from_secs(7 * 24 * 3600);
const INVISIBLE: Duration = Duration::from_secs(10 * 60);

/// Where the emulator of Azure Storage keeps blobs.
const BLOBS: &str = "http://127.0.0.1:10000/devstoreaccount1";
/// What stays bare in a blob's address.
const IN_A_BLOB: AsciiSet = NON_ALPHANUMERIC.remove(b'/').remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// A function as the Functions host knows it.
#[derive(Debug, Clone, Copy)]
pub struct Function<'a> {
    /// The name of its folder.
    pub name: &'a str,
    /// Its `bindings`.
    pub bindings: &'a [Value],
    trigger: &'a Value,
    trigger_name: &'a str,
}

impl<'a> Function<'a> {
    /// Reads the bindings of a `function.json`.
    ///
    /// # Errors
    /// For a person: there is not exactly one trigger with a name.
    pub fn new(name: &'a str, bindings: &'a [Value]) -> Result<Self, String> {
        let mut triggers = bindings.iter().filter(|binding| is_trigger(binding));
        let (Some(trigger), None) = (triggers.next(), triggers.next()) else {
            return Err(format!("{name}/function.json: bindings: give the function exactly one trigger"));
        };
        let Some(trigger_name) = text(trigger, "name") else {
            return Err(format!("{name}/function.json: bindings: give the trigger a name"));
        };
        Ok(Self { name, bindings, trigger, trigger_name })
    }

    /// The type of its trigger, in lower case.
    pub fn kind(&self) -> String {
        text(self.trigger, "type").unwrap_or_default().to_ascii_lowercase()
    }

    /// What its trigger says under this key, if that is a text.
    pub fn says(&self, key: &str) -> Option<&'a str> {
        text(self.trigger, key)
    }

    /// The binding with this name.
    pub fn binding(&self, name: &str) -> Option<&'a Value> {
        self.bindings.iter().find(|binding| text(binding, "name") == Some(name))
    }

    /// Whether its trigger takes several events at once.
    pub fn takes_many(&self) -> bool {
        says(self.trigger, "cardinality", "many")
    }

    /// Whether its trigger takes bytes.
    fn takes_bytes(&self) -> bool {
        says(self.trigger, "dataType", "binary")
    }
}

/// What a queue says about a message, dates as they stand in the envelope.
#[derive(Debug, Clone)]
pub struct Message {
    /// None where a person has made the message, by `/admin/functions/NAME`.
    pub id: Option<String>,
    /// None there too.
    pub pop_receipt: Option<String>,
    /// How often it was given out.
    pub dequeue_count: u32,
    /// When it was put in.
    pub inserted: String,
    /// When the queue forgets it.
    pub expires: String,
    /// When it is given out again, unless it is deleted before.
    pub next_visible: String,
}

impl Message {
    /// One that was put in just now, and is given out for the `dequeue_count`th time.
    pub fn fresh(dequeue_count: u32) -> Self {
        let now = SystemTime::now();
        Self {
            id: Some(Uuid::new_v4().to_string()),
            pop_receipt: Some(STANDARD.encode(Uuid::new_v4())),
            dequeue_count,
            inserted: dates::written(now),
            expires: dates::written(now + TIME_TO_LIVE),
            next_visible: dates::written(now + INVISIBLE),
        }
    }

    /// One that `/admin/functions/NAME` makes.
    pub fn by_hand() -> Self {
        const NEVER: &str = "9999-12-31T23:59:59+00:00";
        let inserted = dates::written(SystemTime::now());
        Self {
            id: None,
            pop_receipt: None,
            dequeue_count: 0,
            inserted,
            expires: NEVER.into(),
            next_visible: NEVER.into(),
        }
    }
}

/// The body of one invocation in JSON mode.
#[derive(Debug, Clone)]
pub struct Envelope {
    /// The name of the function, which is the path that it is sent to.
    pub function: String,
    /// The values of the input bindings.
    pub data: Members,
    /// What the Functions host knows about them.
    pub metadata: Members,
}

impl Envelope {
    /// With the trigger's value, and nothing said about it.
    pub(super) fn new(function: &Function, value: Json) -> Self {
        let data = vec![(function.trigger_name.to_owned(), value)];
        Self { function: function.name.to_owned(), data, metadata: Members::new() }
    }

    /// Adds what the Functions host says about every invocation.
    pub(super) fn sys(&mut self) {
        let now = humantime::format_rfc3339_micros(SystemTime::now()).to_string();
        let sys = [("MethodName", self.function.clone()), ("UtcNow", now), ("RandGuid", Uuid::new_v4().to_string())];
        let sys = sys.into_iter().map(|(name, value)| (name.to_owned(), value.into())).collect();
        json::set(&mut self.metadata, "sys", Json::Object(sys));
    }

    fn say(&mut self, facts: impl IntoIterator<Item = (&'static str, Json)>) {
        for (name, value) in facts {
            json::set(&mut self.metadata, name, value);
        }
    }

    /// A queue message; none where the Functions host moves it to the poison queue without asking the handler, because it is no UTF-8.
    pub fn queue(function: &Function, payload: &[u8], message: &Message) -> Option<Self> {
        let mut envelope = Self::new(function, value(function, payload)?);
        let Message { id, pop_receipt, dequeue_count, inserted, expires, next_visible } = message;
        let facts = [
            ("DequeueCount", Some(dequeue_count.to_string().into())),
            ("ExpirationTime", Some(expires.as_str().into())),
            ("Id", id.as_deref().map(literal)),
            ("InsertionTime", Some(inserted.as_str().into())),
            ("NextVisibleTime", Some(next_visible.as_str().into())),
            ("PopReceipt", pop_receipt.as_deref().map(literal)),
        ];
        envelope.say(facts.into_iter().filter_map(|(name, value)| Some((name, value?))));
        envelope.sys();
        if !function.takes_bytes() {
            envelope.merge(payload);
        }
        Some(envelope)
    }

    /// A blob: base64, whatever `dataType` says. `tokens` are the values of the tokens in the trigger's `path`; one that is not among
    /// them is `sample`.
    pub fn blob(function: &Function, content: &[u8], tokens: &[(&str, &str)], properties: Json) -> Self {
        let (path, tokens) = filled(function.says("path").unwrap_or_default(), tokens);
        let mut envelope = Self::new(function, STANDARD.encode(content).into());
        let uri = format!("{BLOBS}/{}", utf8_percent_encode(&path, &IN_A_BLOB));
        envelope.say([("Uri", literal(&uri)), ("Properties", properties), ("Metadata", Json::Object(Members::new()))]);
        for (token, value) in tokens {
            json::set(&mut envelope.metadata, token, literal(value));
        }
        envelope.sys();
        envelope
    }

    /// A tick. `status` is null for schedules below one minute.
    pub fn timer(function: &Function, status: Json, is_past_due: bool) -> Self {
        let timer = vec![
            ("Schedule".to_owned(), Json::known(r#"{"AdjustForDST":true}"#)),
            ("ScheduleStatus".to_owned(), status),
            ("IsPastDue".to_owned(), Json::Bool(is_past_due)),
        ];
        let mut envelope = Self::new(function, Json::Object(timer));
        envelope.sys();
        envelope
    }

    /// Events of Event Grid, in its own schema or as CloudEvents: one, or with `cardinality: many` some. None where there is not
    /// exactly one and the trigger takes one.
    pub fn event_grid(function: &Function, events: Vec<Json>) -> Option<Self> {
        let events: Vec<Json> = events.into_iter().map(rewritten_event).collect();
        if function.takes_many() {
            let all = events.iter().map(|event| event.member("data").cloned().unwrap_or(Json::Null)).collect();
            let mut envelope = Self::new(function, Json::Array(events).to_string().into());
            envelope.say([("data", Json::Array(all).to_string().into())]);
            envelope.sys();
            return Some(envelope);
        }
        let [event] = &events[..] else { return None };
        let mut envelope = Self::new(function, event.clone());
        envelope.say(event.member("data").map(|data| ("data", property(data))));
        envelope.sys();
        Some(envelope)
    }

    /// What every other trigger gives: a text, or bytes where the trigger takes them. None where the text is no UTF-8.
    pub fn other(function: &Function, payload: &[u8], facts: Members) -> Option<Self> {
        let mut envelope = Self::new(function, value(function, payload)?);
        envelope.metadata = facts;
        envelope.sys();
        if !function.takes_bytes() && !function.takes_many() {
            envelope.merge(payload);
        }
        Some(envelope)
    }

    /// Adds a blob that an input binding reads; none is one that does not exist.
    #[must_use]
    pub fn input(mut self, binding: &Value, content: Option<&[u8]>) -> Self {
        let value = match content {
            None => "null".into(),
            Some(content) if says(binding, "dataType", "binary") => STANDARD.encode(content).into(),
            Some(content) => literal(&String::from_utf8_lossy(content)),
        };
        json::set(&mut self.data, text(binding, "name").unwrap_or_default(), value);
        self
    }

    /// Adds what a retry policy says about this attempt.
    #[must_use]
    pub fn retry(mut self, count: u32, most: i64, exception: Json) -> Self {
        let context = vec![
            ("RetryCount".to_owned(), Json::Number(count.into())),
            ("MaxRetryCount".to_owned(), Json::Number(most.into())),
            ("Exception".to_owned(), exception),
            ("Instance".to_owned(), Json::Null),
            ("State".to_owned(), Json::Object(Members::new())),
        ];
        self.say([("RetryContext", Json::Object(context))]);
        self
    }

    /// Adds what `/admin/functions/NAME` leaves of its `input`.
    #[must_use]
    pub fn by_hand(mut self, function: &Function, input: &str) -> Self {
        let at = self.metadata.iter().position(|(name, _)| name == "sys").unwrap_or(self.metadata.len());
        self.metadata.insert(at, (function.trigger_name.to_owned(), literal(input)));
        self
    }

    /// The properties of a JSON payload stand among the metadata, and replace what has their names.
    pub(super) fn merge(&mut self, payload: &[u8]) {
        let Some(Json::Object(members)) = Json::read(payload) else { return };
        for (name, value) in members.iter().filter(|(name, _)| !name.to_ascii_lowercase().ends_with("trigger")) {
            json::set(&mut self.metadata, name, property(value));
        }
    }
}

/// The body of the request.
impl Display for Envelope {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str("{\"Data\":")?;
        Json::Object(self.data.clone()).fmt(f)?;
        f.write_str(",\"Metadata\":")?;
        Json::Object(self.metadata.clone()).fmt(f)?;
        f.write_str("}")
    }
}

/// A payload as the value of a trigger that gives texts or bytes.
fn value(function: &Function, payload: &[u8]) -> Option<Json> {
    if function.takes_bytes() {
        return Some(STANDARD.encode(payload).into());
    }
    let payload = std::str::from_utf8(payload).ok()?;
    // Several are one text, which is not quoted once more.
    Some(if function.takes_many() { payload.into() } else { literal(payload) })
}

/// A string that holds a string of JSON.
pub(super) fn literal(text: &str) -> Json {
    Json::from(text).to_string().into()
}

/// A property among the metadata: objects as they are, the rest as a string that holds the text.
pub(super) fn property(value: &Json) -> Json {
    match value {
        Json::Object(_) => value.clone(),
        Json::Text(date) => literal(&dates::rewritten(date).unwrap_or_else(|| date.clone())),
        other => literal(&verdict::as_text(&serde_json::to_value(other).unwrap_or_default())),
    }
}

/// A path whose tokens have values, and the tokens in their order.
fn filled<'t>(pattern: &'t str, values: &[(&str, &'t str)]) -> (String, Vec<(&'t str, &'t str)>) {
    let (mut path, mut tokens) = (String::new(), Vec::new());
    let mut parts = pattern.split('{');
    path += parts.next().unwrap_or_default();
    for part in parts {
        let Some((token, rest)) = part.split_once('}') else { continue };
        let value = values.iter().find(|(known, _)| *known == token).map_or("sample", |(_, value)| value);
        path += value;
        path += rest;
        tokens.push((token, value));
    }
    (path, tokens)
}

/// What the storage says about a blob that was written just now, as it was recorded but for the hash, which is left out.
pub fn blob_properties(length: usize, content_type: &str) -> Json {
    let now = dates::written(SystemTime::now());
    let content_type = Json::from(content_type);
    Json::known(&format!(
        r#"{{"LastModified":"{now}","CreatedOn":"{now}","Metadata":{{}},"ObjectReplicationDestinationPolicyId":null,
        "ObjectReplicationSourceProperties":null,"BlobType":0,"CopyCompletedOn":"0001-01-01T00:00:00+00:00",
        "CopyStatusDescription":null,"CopyId":null,"CopyProgress":null,"CopySource":null,"CopyStatus":0,"BlobCopyStatus":null,
        "IsIncrementalCopy":false,"DestinationSnapshot":null,"LeaseDuration":0,"LeaseState":0,"LeaseStatus":1,
        "ContentLength":{length},"ContentType":{content_type},"ETag":{{}},"ContentHash":null,"ContentEncoding":null,
        "ContentDisposition":null,"ContentLanguage":null,"CacheControl":null,"BlobSequenceNumber":0,"AcceptRanges":"bytes",
        "BlobCommittedBlockCount":0,"IsServerEncrypted":true,"EncryptionKeySha256":null,"EncryptionScope":null,
        "AccessTier":"Hot","AccessTierInferred":true,"ArchiveStatus":null,"AccessTierChangedOn":"{now}","VersionId":null,
        "IsLatestVersion":false,"TagCount":0,"ExpiresOn":"0001-01-01T00:00:00+00:00","IsSealed":false,"RehydratePriority":null,
        "LastAccessed":"0001-01-01T00:00:00+00:00","ImmutabilityPolicy":{{"ExpiresOn":null,"PolicyMode":null}},
        "HasLegalHold":false}}"#
    ))
}

/// Before the handler sees an event, dates in its data lose what they need not say, and `time` is in UTC.
fn rewritten_event(mut event: Json) -> Json {
    fn shorten(value: &mut Json) {
        match value {
            Json::Text(text) => *text = dates::shortened(text),
            Json::Array(items) => items.iter_mut().for_each(shorten),
            Json::Object(members) => members.iter_mut().for_each(|(_, value)| shorten(value)),
            _ => {}
        }
    }
    let Json::Object(members) = &mut event else { return event };
    for (name, value) in members {
        match (&**name, &mut *value) {
            ("data", data) => shorten(data),
            ("time", Json::Text(text)) => {
                if let Some(time) = dates::utc(text) {
                    *text = dates::written(time);
                }
            }
            _ => {}
        }
    }
    event
}
