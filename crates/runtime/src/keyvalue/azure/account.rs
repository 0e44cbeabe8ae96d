//! Requests to a storage account, signed or with a token, and again where the account throttles them.

use super::{Failure, Result};
use crate::config::storage::{Access, Endpoint, Resource, Service as Kind};
use crate::outgoing::{Client, Token, Tokens, retry_after};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use hmac::{Hmac, KeyInit as _, Mac as _};
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HOST, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;
use sha2::Sha256;
use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::time::{Instant, sleep_until};
use wasmtime_wasi_http::WasiBody;

/// The first one with tokens for tables is 2020-12-06 (Azure Storage, "Authorize with Microsoft Entra ID").
const VERSION: &str = "2021-12-02";
/// Bytes of an answer: a page of 1000 names, or a value in a table's words.
const ANSWER: usize = 8 << 20;
/// The shortest pause before a request is sent again that was throttled, the first time; twice as long after each one more.
const PAUSE: Duration = Duration::from_millis(250);
/// What is not encoded in a query.
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// A request, before it is signed.
pub struct Call {
    pub method: Method,
    /// Below the account, as it is sent.
    pub path: String,
    /// Sorted by name, not encoded.
    pub query: Vec<(&'static str, String)>,
    pub headers: Vec<(HeaderName, String)>,
    pub body: Bytes,
}

/// What comes back, all of it.
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
    /// Whether the same request was throttled before, which may have been done all the same.
    pub repeated: bool,
}

pub struct Account {
    kind: Kind,
    endpoint: Endpoint,
    signer: Signer,
    client: Arc<Client>,
    /// How long a request is sent again, counted from the first time.
    patience: Duration,
}

enum Signer {
    Key {
        account: String,
        key: Vec<u8>,
    },
    /// What stands behind every query.
    Signature(String),
    Token(Arc<Token>),
}

impl Account {
    pub fn new(resource: &Resource, patience: Duration, client: Arc<Client>, tokens: &Tokens) -> Self {
        let signer = match &resource.access {
            Access::Key { account, key } => Signer::Key { account: account.clone(), key: key.clone() },
            Access::Signature(query) => Signer::Signature(query.clone()),
            Access::Token(wanted) => Signer::Token(tokens.of(wanted)),
        };
        Self { kind: resource.service, endpoint: resource.endpoint.clone(), signer, client, patience }
    }

    /// Sends a request and reads its answer to the end, whatever its status. While it is throttled it is sent again, after the pause that
    /// the service asks for, as long as there is time.
    pub async fn send(&self, call: Call) -> Result<Answer> {
        let (by, mut pause) = (Instant::now() + self.patience, PAUSE);
        let mut answer = self.once(&call).await?;
        while answer.is_throttled() {
            let asked = retry_after(&answer.headers, SystemTime::now()).unwrap_or_default().min(self.patience);
            // Others were told the same, and need not come back at the same moment.
            let again = Instant::now() + pause.max(asked).mul_f64(1.0 + fastrand::f64() / 4.0);
            if again >= by {
                break;
            }
            sleep_until(again).await;
            pause *= 2;
            answer = Answer { repeated: true, ..self.once(&call).await? };
        }
        Ok(answer)
    }

    async fn once(&self, call: &Call) -> Result<Answer> {
        let request = self.request(call, SystemTime::now()).await?;
        let broken = |why: &dyn std::fmt::Debug| Failure::Unavailable(format!("{} fails: {why:?}", self.endpoint));
        let sent = self.client.send(self.endpoint.target.clone(), request, Default::default(), Arc::default()).await;
        let (head, body) = sent.map_err(|failure| broken(&failure))?.into_parts();
        let body = Limited::new(body, ANSWER).collect().await.map_err(|error| broken(&error))?.to_bytes();
        Ok(Answer { status: head.status, headers: head.headers, body, repeated: false })
    }

    async fn request(&self, call: &Call, now: SystemTime) -> Result<Request<WasiBody>> {
        let path = format!("{}/{}", self.endpoint.root, call.path);
        let encode = |(name, value): &(&str, String)| format!("{name}={}", utf8_percent_encode(value, PLAIN));
        let mut query: Vec<_> = call.query.iter().map(encode).collect();
        if let Signer::Signature(signature) = &self.signer {
            query.push(signature.clone());
        }
        let uri = if query.is_empty() { path.clone() } else { format!("{path}?{}", query.join("&")) };
        let mut headers = HeaderMap::new();
        for (name, value) in &call.headers {
            headers.insert(name, HeaderValue::try_from(value).expect("it was a header, or is ours"));
        }
        let date = httpdate::fmt_http_date(now);
        headers.insert("x-ms-date", HeaderValue::try_from(date).expect("a date is a header value"));
        headers.insert("x-ms-version", HeaderValue::from_static(VERSION));
        headers.insert(CONTENT_LENGTH, call.body.len().into());
        if self.kind == Kind::Table {
            headers.insert(ACCEPT, HeaderValue::from_static("application/json;odata=nometadata"));
        }
        let authorization = match &self.signer {
            Signer::Key { account, key } => {
                let text = match self.kind {
                    Kind::Table => text_for_tables(&call.method, &headers, account, &path),
                    Kind::Blob => text_for_blobs(&call.method, &headers, account, &path, &call.query),
                };
                let mut hmac = Hmac::<Sha256>::new_from_slice(key).expect("a key of any length fits");
                hmac.update(text.as_bytes());
                let signature = STANDARD.encode(hmac.finalize().into_bytes());
                let mut value =
                    HeaderValue::try_from(format!("SharedKey {account}:{signature}")).expect("both are plain");
                value.set_sensitive(true);
                Some(value)
            }
            Signer::Signature(_) => None,
            Signer::Token(token) => {
                let none = |why| Failure::Unavailable(format!("there is no token for it: {why}"));
                Some(token.value().await.map_err(none)?)
            }
        };
        headers.extend(authorization.map(|value| (AUTHORIZATION, value)));
        let host = HeaderValue::try_from(self.endpoint.target.authority()).expect("a host name is a header value");
        headers.insert(HOST, host);
        let body = Full::new(call.body.clone()).map_err(|never| match never {}).boxed_unsync();
        let request = Request::builder().method(call.method.clone()).uri(uri).body(body);
        let mut request = request.expect("names and queries are encoded");
        *request.headers_mut() = headers;
        Ok(request)
    }
}

/// What is signed for a table (Azure Storage, "Authorize with Shared Key", "Table service").
fn text_for_tables(method: &Method, headers: &HeaderMap, account: &str, path: &str) -> String {
    let [kind, date] = [CONTENT_TYPE, HeaderName::from_static("x-ms-date")].map(|name| text(headers, &name));
    format!("{method}\n\n{kind}\n{date}\n/{account}{path}")
}

/// What is signed for a blob (the same page, "Blob, Queue, and File services").
fn text_for_blobs(
    method: &Method,
    headers: &HeaderMap,
    account: &str,
    path: &str,
    query: &[(&'static str, String)],
) -> String {
    let length = Some(text(headers, &CONTENT_LENGTH)).filter(|length| *length != "0").unwrap_or_default();
    let kind = text(headers, &CONTENT_TYPE);
    let [if_match, if_none_match] =
        [http::header::IF_MATCH, http::header::IF_NONE_MATCH].map(|name| text(headers, &name));
    let mut own: Vec<_> = headers.keys().filter(|name| name.as_str().starts_with("x-ms-")).collect();
    own.sort_by_key(|name| name.as_str());
    let own: String = own.into_iter().map(|name| format!("{name}:{}\n", text(headers, name))).collect();
    let query: String = query.iter().map(|(name, value)| format!("\n{name}:{value}")).collect();
    format!("{method}\n\n\n{length}\n\n{kind}\n\n\n{if_match}\n{if_none_match}\n\n\n{own}/{account}{path}{query}")
}

fn text<'h>(headers: &'h HeaderMap, name: &HeaderName) -> &'h str {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

impl Answer {
    /// Whether the service wants the same request later. It has refused this one (Azure Storage, "Common REST API error codes", `ServerBusy`),
    /// unless somebody on the way has said so.
    fn is_throttled(&self) -> bool {
        [StatusCode::TOO_MANY_REQUESTS, StatusCode::SERVICE_UNAVAILABLE].contains(&self.status)
    }

    /// What the service calls the error, or nothing.
    pub fn code(&self) -> Cow<'_, str> {
        if self.status.is_success() {
            return Cow::Borrowed("");
        }
        if let Some(code) = self.headers.get("x-ms-error-code").and_then(|code| code.to_str().ok()) {
            return Cow::Borrowed(code);
        }
        let body: Value = serde_json::from_slice(&self.body).unwrap_or_default();
        Cow::Owned(body["odata.error"]["code"].as_str().unwrap_or_default().to_owned())
    }

    /// This, if it is no error.
    pub fn good(self) -> Result<Self> {
        if self.status.is_success() {
            return Ok(self);
        }
        let hint = match self.status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                ": is the key the present one, is the signature still good and for all of it, or has the identity the role Storage Table Data \
                 Contributor or Storage Blob Data Contributor?"
            }
            _ if self.is_throttled() => ": it throttles the app",
            _ => "",
        };
        // In the service's own words, of which a code is letters.
        let code: String = self.code().chars().filter(char::is_ascii_alphanumeric).take(64).collect();
        Err(Failure::Unavailable(format!("it answers with status {} {code}{hint}", self.status.as_u16())))
    }
}
