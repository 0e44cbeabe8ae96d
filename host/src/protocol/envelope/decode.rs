//! From an envelope to the request that a guest gets.
//!
//! Metadata belong to whoever sent the message, because the properties of a JSON payload replace them: they reach headers only
//! encoded and bounded, and decide nothing. `ce-type` and `ce-source` come from the configuration.

use super::bindings::Beside;
use super::json::{self, Envelope, Members, Part};
use super::{Bad, http as web, raw, shown};
use crate::config::Function;
use crate::config::event::{Binding, Event, Mode};
use crate::invocation::Origin;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST, HeaderMap, HeaderName, HeaderValue};
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{Method, Request, Uri};
use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::sync::Arc;

// What is known of an event.
const TIME: HeaderName = HeaderName::from_static("ce-time");
const SUBJECT: HeaderName = HeaderName::from_static("ce-subject");
const DEQUEUE_COUNT: HeaderName = HeaderName::from_static("x-flexwasm-dequeue-count");
const RETRY_COUNT: HeaderName = HeaderName::from_static("x-flexwasm-retry-count");
const RETRY_MAX: HeaderName = HeaderName::from_static("x-flexwasm-retry-max");
const PARTITION: HeaderName = HeaderName::from_static("x-flexwasm-partition");
const ENQUEUED_TIME: HeaderName = HeaderName::from_static("x-flexwasm-enqueued-time");
const SPECVERSION: HeaderName = HeaderName::from_static("ce-specversion");
const TYPE: HeaderName = HeaderName::from_static("ce-type");
const SOURCE: HeaderName = HeaderName::from_static("ce-source");
/// The attribute by which an event can be found.
const ID: HeaderName = HeaderName::from_static("ce-id");
/// The most that a header of an attribute may have, in bytes. A longer value is left out.
const MOST: usize = 4 << 10;
/// The most attributes that a CloudEvent may bring along.
const ATTRIBUTES: usize = 64;
/// What the HTTP binding of CloudEvents encodes (its section 3.1.3.2), beside all that is not ASCII.
const ENCODED: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b'%');
/// What ends a path in a URI.
const IN_PATH: &AsciiSet =
    &ENCODED.add(b'?').add(b'#').add(b'<').add(b'>').add(b'{').add(b'}').add(b'\\').add(b'^').add(b'`').add(b'|');

/// What a guest is asked.
#[derive(Debug)]
pub struct Asked {
    /// Method, target and headers.
    pub head: Parts,
    /// Where a client sent it, if one did.
    pub origin: Origin,
    /// The payload.
    pub body: Bytes,
    /// By which the event can be found: its own id, or the invocation's.
    pub message: String,
    /// What else the envelope has, for a guest that asks.
    pub beside: Option<Arc<Beside>>,
}

/// Reads an envelope for `function` that came to `origin`. With `most`, its guest asks for bindings and may give its outputs so many bytes
/// in all.
///
/// # Errors
/// [`Bad`]: what is wrong with it.
pub fn decode(
    function: &Function,
    invocation: &str,
    origin: Origin,
    envelope: &[u8],
    most: Option<usize>,
) -> Result<Asked, Bad> {
    let event = &*function.event;
    let envelope = std::str::from_utf8(envelope).map_err(|_| Bad("the envelope is no UTF-8".to_owned()))?;
    let Envelope { data, metadata } =
        serde_json::from_str(envelope).map_err(|error| Bad(format!("the envelope is no JSON object: {error}")))?;
    let object = |part, name: &str| match part {
        Part::Nothing => Ok(Members(Vec::new())),
        Part::Object(members) => Ok(members),
        Part::Other => Bad::new(format!("{name} of the envelope is no object")),
    };
    let (data, metadata) = (object(data, "Data")?, object(metadata, "Metadata")?);
    let binding = &event.trigger;
    let Some(value) = data.get_in_any_case(&binding.name) else {
        return Bad::new(format!("Data of the envelope has no value for the trigger {:?}", binding.name));
    };
    let mut asked = match event.mode {
        Mode::Envelope => {
            let body = raw::without_keys(event, &data, &metadata, envelope)?;
            let mut asked = Asked::new(function, origin, body.into(), invocation);
            asked.head.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
            asked
        }
        Mode::Request if binding.is("httpTrigger") => web::decode(event, origin, value, invocation)?,
        Mode::Request => {
            let mut asked = Asked::new(function, origin, Bytes::new(), invocation);
            asked.message(function, value, &metadata)?;
            asked
        }
    };
    if let Some(most) = most.filter(|_| event.mode == Mode::Request) {
        asked.beside = Some(Arc::new(Beside::new(&function.event, &data, &metadata, most)?));
    }
    Ok(asked)
}

impl Asked {
    /// A request to the function's own path.
    fn new(function: &Function, origin: Origin, body: Bytes, invocation: &str) -> Self {
        let own = || utf8_percent_encode(&format!("/{}", function.name), IN_PATH).to_string().parse().ok();
        let path = function.event.path.clone().or_else(own).unwrap_or_else(|| PathAndQuery::from_static("/"));
        let mut head = Request::new(()).into_parts().0;
        (head.method, head.uri) = (Method::POST, Uri::from(path));
        let host = HeaderValue::try_from(origin.authority.as_str()).expect("an authority is a header value");
        head.headers.insert(HOST, host);
        Self { head, origin, body, message: invocation.to_owned(), beside: None }
    }

    /// Makes it a CloudEvent of what a trigger delivers.
    fn message(&mut self, function: &Function, value: &RawValue, metadata: &Members) -> Result<(), Bad> {
        let (event, binding) = (&*function.event, &function.event.trigger);
        if binding.is("eventGridTrigger")
            && !binding.many
            && let Some(members) = Members::of(value)
        {
            if members.get("specversion").is_some() {
                return self.cloud_event(&members);
            }
            self.attributes(function, &Facts::of_event_grid(&members));
        } else {
            self.attributes(function, &Facts::of_metadata(event, metadata));
        }
        let (body, kind) = payload(binding, value)?;
        self.body = body;
        self.head.headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
        Ok(())
    }

    fn attributes(&mut self, function: &Function, facts: &Facts) {
        let (event, binding) = (&*function.event, &function.event.trigger);
        let kind = event.kind.clone().unwrap_or_else(|| format!("azure.functions.{}", binding.kind));
        let source = event.source.clone().unwrap_or_else(|| {
            let place = event.place.as_deref().unwrap_or(&function.name);
            // A path of blobs has patterns behind its container.
            let place = if binding.is("blobTrigger") { place.split('/').next().unwrap_or_default() } else { place };
            format!("/{}/{place}", binding.kind)
        });
        let headers = &mut self.head.headers;
        set(headers, SPECVERSION, "1.0");
        set(headers, TYPE, &kind);
        set(headers, SOURCE, &source);
        for (name, value) in [
            (TIME, &facts.time),
            (SUBJECT, &facts.subject),
            (DEQUEUE_COUNT, &facts.dequeue_count),
            (RETRY_COUNT, &facts.retry_count),
            (RETRY_MAX, &facts.retry_max),
            (PARTITION, &facts.partition),
            (ENQUEUED_TIME, &facts.enqueued),
        ] {
            if let Some(value) = value {
                set(headers, name, value);
            }
        }
        if binding.many {
            return;
        }
        match &facts.id {
            Some(id) if set(headers, ID, id) => self.message = id.clone(),
            _ => {
                set(headers, ID, &self.message);
            }
        }
    }

    /// Unwraps an event that is a CloudEvent already.
    fn cloud_event(&mut self, members: &Members) -> Result<(), Bad> {
        let plain = |name: &str| members.get(name).and_then(|value| json::string(value.get()));
        let kind = plain("datacontenttype").filter(|kind| HeaderValue::from_str(kind).is_ok());
        let is_json = kind.as_ref().is_none_or(|kind| {
            let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
            kind.ends_with("/json") || kind.ends_with("+json")
        });
        let data = members.get("data").filter(|value| !json::is_null(value));
        let mut kind = kind.map(|kind| kind.into_owned());
        if let Some(base64) = plain("data_base64") {
            let Ok(bytes) = STANDARD.decode(base64.as_bytes()) else {
                return Bad::new(format!("data_base64 of the CloudEvent is no base64: {}", shown(&base64)));
            };
            self.body = bytes.into();
        } else if let Some(data) = data {
            let text = if is_json { None } else { json::string(data.get()) };
            self.body = Bytes::from(text.map_or_else(|| data.get().to_owned(), |text| text.into_owned()));
            kind = kind.or_else(|| Some("application/json".to_owned()));
        }
        let headers = &mut self.head.headers;
        if let Some(kind) = kind.and_then(|kind| HeaderValue::try_from(kind).ok()) {
            headers.insert(CONTENT_TYPE, kind);
        }
        let others = ["data", "data_base64", "datacontenttype"];
        let attributes = members.0.iter().filter(|(name, _)| !others.contains(&&**name));
        for (name, value) in attributes.take(ATTRIBUTES) {
            // CloudEvents 1.0, "Attribute Naming Convention": names are of lower-case letters and digits.
            let legal = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
            let value = match value.get().as_bytes().first() {
                Some(b'"') => json::string(value.get()),
                Some(b'{' | b'[' | b'n') | None => None,
                Some(_) => Some(value.get().into()),
            };
            if let (Some(value), Ok(name)) = (value.filter(|_| legal), HeaderName::try_from(format!("ce-{name}"))) {
                set(headers, name, &value);
            }
        }
        match plain("id") {
            Some(id) if headers.contains_key("ce-id") => self.message = id.into_owned(),
            _ => {
                set(headers, ID, &self.message);
            }
        }
        Ok(())
    }
}

/// What is known of a message, as its sender may have chosen it.
#[derive(Default)]
struct Facts {
    id: Option<String>,
    time: Option<String>,
    subject: Option<String>,
    dequeue_count: Option<String>,
    retry_count: Option<String>,
    retry_max: Option<String>,
    partition: Option<String>,
    enqueued: Option<String>,
}

impl Facts {
    fn of_event_grid(members: &Members) -> Self {
        let text = |name| members.get(name).and_then(|value| json::string(value.get())).map(|text| text.into_owned());
        Self { id: text("id"), time: text("eventTime").and_then(time), subject: text("subject"), ..Self::default() }
    }

    fn of_metadata(event: &Event, metadata: &Members) -> Self {
        let scalar = |members: &Members, name: &str| {
            let value = members.get(name).filter(|value| !value.get().starts_with(['{', '[', 'n']))?;
            Some(json::text(value).into_owned())
        };
        let text = |name: &str| scalar(metadata, name);
        let count = |text: String| text.parse::<u64>().ok().map(|number| number.to_string());
        let within = |object: &str, name: &str| scalar(&Members::of(metadata.get(object)?)?, name);
        let first = |names: &[&str]| names.iter().find_map(|name| text(name));
        let enqueued = || first(&["InsertionTime", "EnqueuedTimeUtc", "EnqueuedTime"]).and_then(time);
        let mut facts = Self {
            dequeue_count: first(&["DequeueCount", "DeliveryCount"]).and_then(count),
            retry_count: within("RetryContext", "RetryCount").and_then(count),
            retry_max: within("RetryContext", "MaxRetryCount").and_then(count),
            ..Self::default()
        };
        let trigger = &event.trigger;
        if trigger.is("blobTrigger") {
            let modified = within("Properties", "LastModified").and_then(time);
            facts.subject = text("Uri").and_then(|uri| blob(&uri, event.place.as_deref()?));
            facts.id = facts.subject.as_ref().zip(modified.as_ref()).map(|(name, time)| format!("{name}@{time}"));
            facts.time = modified;
        } else if trigger.is("timerTrigger") {
            facts.time = within("sys", "UtcNow").and_then(time);
        } else if !trigger.many {
            facts.id = first(&["Id", "MessageId"]);
            facts.enqueued = enqueued();
            facts.time = facts.enqueued.clone();
        }
        facts.partition = within("PartitionContext", "PartitionId");
        facts
    }
}

/// The name of the blob at `uri`, which begins behind the container of the trigger's `path`.
fn blob(uri: &str, path: &str) -> Option<String> {
    let container = path.split('/').next()?;
    let (_, name) = uri.split_once(&format!("/{container}/"))?;
    Some(percent_decode_str(name).decode_utf8_lossy().into_owned())
}

/// A time as CloudEvents wants it: .NET leaves out the zone of some that are UTC.
fn time(text: String) -> Option<String> {
    let (date, clock) = text.split_once('T')?;
    let shaped = |text: &str, marks: &str| text.chars().all(|letter| letter.is_ascii_digit() || marks.contains(letter));
    if date.len() != 10 || !shaped(date, "-") || clock.len() < 8 || clock.len() > 24 || !shaped(clock, ":.+-Z") {
        return None;
    }
    let has_zone = clock.contains(['Z', '+', '-']);
    Some(if has_zone { text } else { format!("{text}Z") })
}

/// The payload of a trigger or input, and its content type.
fn payload(binding: &Binding, value: &RawValue) -> Result<(Bytes, &'static str), Bad> {
    let Some(outer) = json::string(value.get()) else {
        return Ok((value.get().to_owned().into(), "application/json"));
    };
    if binding.binary || binding.is("blobTrigger") {
        return match STANDARD.decode(outer.as_bytes()) {
            Ok(bytes) => Ok((bytes.into(), "application/octet-stream")),
            Err(_) => Bad::new(format!("the value of {:?} is no base64: {}", binding.name, shown(&outer))),
        };
    }
    let inner = if binding.many { None } else { json::string(&outer).map(|inner| inner.into_owned()) };
    let text = inner.unwrap_or_else(|| outer.into_owned());
    let kind = match json::is_json(&text) {
        true if binding.many && is_cloud_events(&text) => "application/cloudevents-batch+json",
        true => "application/json",
        false => "text/plain; charset=utf-8",
    };
    Ok((text.into(), kind))
}

/// Whether a text is a list of CloudEvents and of nothing else.
fn is_cloud_events(text: &str) -> bool {
    let is_one = |item: &Members| ["specversion", "id", "source", "type"].iter().all(|name| item.get(name).is_some());
    serde_json::from_str::<Vec<Members>>(text).is_ok_and(|items| !items.is_empty() && items.iter().all(is_one))
}

/// Sets a header to the encoded value, unless that is too long, and says whether it did.
fn set(headers: &mut HeaderMap, name: HeaderName, value: &str) -> bool {
    let encoded = Cow::from(utf8_percent_encode(value, ENCODED));
    let Ok(value) = HeaderValue::try_from(&*encoded) else { return false };
    let fits = encoded.len() <= MOST;
    if fits {
        headers.insert(name, value);
    }
    fits
}
