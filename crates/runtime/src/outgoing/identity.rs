//! Tokens of the app's identity, for requests of guests that never see them.
//!
//! A token is asked for by one request at a time, whoever waits for it, and used until it ends. It is renewed before, while it is
//! still good, so that a request waits only for the first one. After a failure nobody is asked for a while.

use crate::config::credentials::{Issuer, TokenFor};
use bytes::Bytes;
use http::header::{HOST, HeaderValue};
use http::uri::Uri;
use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;
use std::collections::HashMap;
use std::io::Read as _;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use tokio_util::task::AbortOnDropHandle;

/// How long a token has still to go when it is renewed, or half of its time if that is less.
const RENEW_BEFORE: Duration = Duration::from_secs(5 * 60);
/// What a request may take on its way: a token that ends sooner is not sent.
const ON_THE_WAY: Duration = Duration::from_secs(1);
/// How long nobody is asked after the first failure; twice as long after each one more, up to [`LONGEST_PAUSE`].
const PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// For an answer of the platform, or of the Azure CLI.
const PATIENCE: Duration = Duration::from_secs(20);
/// Bytes of such an answer.
const ANSWER: usize = 64 << 10;
/// From here on a time is in milliseconds: seconds until the year 9999 are less.
const MILLISECONDS_FROM: u64 = 253_402_300_800;

/// The tokens of all functions, each of which is there once.
#[derive(Debug, Default)]
pub struct Tokens(Mutex<HashMap<TokenFor, Arc<Token>>>);

impl Tokens {
    /// The token of an identity for a resource.
    pub fn of(&self, wanted: &TokenFor) -> Arc<Token> {
        let mut tokens = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let new = || Arc::new(Token { wanted: wanted.clone(), state: Mutex::default(), asking: Arc::default() });
        Arc::clone(tokens.entry(wanted.clone()).or_insert_with(new))
    }
}

/// A token that is there once for all functions.
#[derive(Debug)]
pub struct Token {
    wanted: TokenFor,
    state: Mutex<State>,
    /// Held by whoever asks for one.
    asking: Arc<tokio::sync::Mutex<()>>,
}

#[derive(Debug, Default)]
struct State {
    held: Option<Held>,
    failed: Option<Failed>,
    /// Renews it in the background. It ends with the process.
    renewal: Option<AbortOnDropHandle<()>>,
}

/// `Bearer` and a token, marked as sensitive.
#[derive(Debug, Clone)]
struct Held {
    value: HeaderValue,
    renew: SystemTime,
    end: SystemTime,
}

#[derive(Debug, Clone)]
struct Failed {
    why: Arc<str>,
    until: Instant,
    pause: Duration,
}

impl Token {
    /// The value of `authorization` for a request that is sent now. It asks for a token if there is none, and waits as long as others do.
    ///
    /// # Errors
    /// Why there is none, for the log.
    pub async fn value(self: &Arc<Self>) -> Result<HeaderValue, Arc<str>> {
        if let Some(value) = self.held() {
            return Ok(value);
        }
        let asking = Arc::clone(&self.asking).lock_owned().await;
        if let Some(value) = self.held() {
            return Ok(value);
        }
        if let Some(failed) = self.state().failed.as_ref().filter(|failed| Instant::now() < failed.until) {
            return Err(Arc::clone(&failed.why));
        }
        // It goes on when the invocation that began it has ended: others wait for it.
        let this = Arc::clone(self);
        let asked = tokio::spawn(async move {
            let asked = this.ask().await;
            drop(asking);
            asked
        });
        asked.await.unwrap_or_else(|_| Err("the host is ending".into()))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The token that is held, if it is good. Begins to renew it if it is time.
    fn held(self: &Arc<Self>) -> Option<HeaderValue> {
        let now = SystemTime::now();
        let mut state = self.state();
        let Held { value, renew, .. } = state.held.as_ref().filter(|held| now + ON_THE_WAY < held.end)?;
        let (value, due) = (value.clone(), *renew <= now);
        let rests = state.failed.as_ref().is_some_and(|failed| Instant::now() < failed.until);
        if due
            && !rests
            && let Ok(asking) = Arc::clone(&self.asking).try_lock_owned()
        {
            let this = Arc::downgrade(self);
            state.renewal = Some(AbortOnDropHandle::new(tokio::spawn(async move {
                if let Some(this) = this.upgrade()
                    && let Err(why) = this.ask().await
                {
                    tracing::warn!(
                        resource = &*this.wanted.resource,
                        "a token cannot be renewed, and is used until it ends: {why}"
                    );
                }
                drop(asking);
            })));
        }
        Some(value)
    }

    /// Asks for a token and notes what comes of it.
    async fn ask(&self) -> Result<HeaderValue, Arc<str>> {
        let asked = timeout(PATIENCE, fetch(&self.wanted)).await;
        let asked = asked.unwrap_or_else(|_| Err(format!("no answer within {} seconds", PATIENCE.as_secs())));
        let mut state = self.state();
        match asked {
            Ok(held) => {
                state.failed = None;
                Ok(state.held.insert(held).value.clone())
            }
            Err(why) => {
                let pause = state.failed.as_ref().map_or(PAUSE, |failed| (failed.pause * 2).min(LONGEST_PAUSE));
                let why = Arc::from(why);
                state.failed = Some(Failed { why: Arc::clone(&why), until: Instant::now() + pause, pause });
                Err(why)
            }
        }
    }
}

async fn fetch(wanted: &TokenFor) -> Result<Held, String> {
    let (answer, who) = match &wanted.issuer {
        Issuer::Setting(value) => {
            // Nobody says when it ends, so it is read again as often as it may be.
            let end = SystemTime::now() + Duration::from_secs(365 * 24 * 60 * 60);
            return Ok(Held { value: value.clone(), renew: end, end });
        }
        Issuer::Endpoint(endpoint, secret) => {
            (ask_platform(wanted, endpoint, secret).await?, "the platform (IDENTITY_ENDPOINT)")
        }
        Issuer::AzureCli => (ask_azure_cli(wanted).await?.into(), "az account get-access-token"),
    };
    let answer: Value = serde_json::from_slice(&answer).map_err(|_| format!("the answer of {who} is no JSON"))?;
    let token = ["access_token", "accessToken"].iter().find_map(|key| answer.get(key)?.as_str());
    let token = token.ok_or_else(|| format!("the answer of {who} holds no token"))?;
    let value = HeaderValue::try_from(format!("Bearer {token}"));
    let mut value = value.map_err(|_| format!("the token of {who} cannot be sent"))?;
    value.set_sensitive(true);
    let now = SystemTime::now();
    let Some(end) = end_of(&answer, now) else {
        tracing::warn!(
            resource = &*wanted.resource,
            "{who} does not say when its token ends, so it is used for one request"
        );
        return Ok(Held { value, renew: now, end: now });
    };
    let left = end.duration_since(now).map_err(|_| format!("{who} has a token that has ended: is the clock right?"))?;
    Ok(Held { value, renew: end - RENEW_BEFORE.min(left / 2), end })
}

/// When a token ends, in one of the ways that platforms have said it: `expires_on` in seconds since 1970 as a number or a text, or as
/// a date (Azure/azure-sdk-for-net issue 12869), `expires_in` in seconds.
fn end_of(answer: &Value, now: SystemTime) -> Option<SystemTime> {
    let number = |value: &Value| value.as_u64().or_else(|| value.as_str()?.trim().parse().ok());
    let seconds = |seconds: u64| if seconds < MILLISECONDS_FROM { seconds } else { seconds / 1000 };
    let at = |value: &Value| {
        let since = number(value).map(seconds).or_else(|| date(value.as_str()?))?;
        UNIX_EPOCH.checked_add(Duration::from_secs(since))
    };
    let on = ["expires_on", "expiresOn"].iter().find_map(|key| at(answer.get(key)?));
    on.or_else(|| now.checked_add(Duration::from_secs(answer.get("expires_in").and_then(number)?)))
}

/// Reads `09/14/2026 00:00:00 PM +00:00`, with or without AM and PM, as seconds since 1970.
fn date(text: &str) -> Option<u64> {
    let mut words = text.split_whitespace();
    let (day, time) = (words.next()?, words.next()?);
    let half = words.next()?;
    let zone = words.next().unwrap_or(half);
    let numbers = |text: &str, separator| -> Option<[u64; 3]> {
        let numbers: Option<Vec<u64>> = text.split(separator).map(|number| number.parse().ok()).collect();
        numbers?.try_into().ok()
    };
    let ([month, day, year], [hour, minute, second]) = (numbers(day, '/')?, numbers(time, ':')?);
    let hour = match half {
        "AM" => hour % 12,
        "PM" => hour % 12 + 12,
        _ => hour,
    };
    let valid =
        zone == "+00:00" && (1..=12).contains(&month) && (1..=31).contains(&day) && (1970..=9999).contains(&year);
    if !valid || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    // Days of the civil calendar, years beginning in March.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = year * 365 + year / 4 - year / 100 + year / 400 + (month * 153 + 2) / 5 + day - 1 - 719_468;
    Some(((days * 24 + hour) * 60 + minute) * 60 + second)
}

/// Asks as App Service documents it ("REST endpoint reference" of managed identities): GET with `resource`, `api-version` 2019-08-01,
/// `client_id` for a user-assigned identity, and `X-IDENTITY-HEADER`.
async fn ask_platform(wanted: &TokenFor, endpoint: &Uri, secret: &HeaderValue) -> Result<Bytes, String> {
    let broken = |error: &dyn std::fmt::Display| format!("IDENTITY_ENDPOINT does not answer ({error})");
    let host = endpoint.host().unwrap_or_default().trim_matches(['[', ']']);
    let stream = TcpStream::connect((host, endpoint.port_u16().unwrap_or(80))).await.map_err(|error| broken(&error))?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(|error| broken(&error))?;
    let _driver = AbortOnDropHandle::new(tokio::spawn(async { drop(connection.await) }));
    let encode = |text| utf8_percent_encode(text, NON_ALPHANUMERIC);
    let client_id = wanted.client_id.as_ref().map(|id| format!("&client_id={}", encode(id))).unwrap_or_default();
    let mark = if endpoint.query().is_some() { '&' } else { '?' };
    let path = endpoint.path_and_query().map_or("/", |path| path.as_str());
    let uri = format!("{path}{mark}api-version=2019-08-01&resource={}{client_id}", encode(&wanted.resource));
    let request = Request::get(uri).header("x-identity-header", secret);
    let request = request.header(HOST, endpoint.authority().map_or("", |authority| authority.as_str()));
    let request = request.body(Empty::<Bytes>::new()).map_err(|error| broken(&error))?;
    let answer = sender.send_request(request).await.map_err(|error| broken(&error))?;
    if answer.status() != StatusCode::OK {
        let hint = "has the app this identity, and is clientId right?";
        return Err(format!("IDENTITY_ENDPOINT answers with status {}: {hint}", answer.status().as_u16()));
    }
    let body = Limited::new(answer.into_body(), ANSWER).collect().await;
    Ok(body.map_err(|error| broken(&error))?.to_bytes())
}

/// A process that is ended when nobody waits for it any more.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        // One that has ended by itself cannot be killed.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Asks for a token of the person who is signed in on this machine.
async fn ask_azure_cli(wanted: &TokenFor) -> Result<Vec<u8>, String> {
    let mut command = Command::new("az");
    command.args(["account", "get-access-token", "--output", "json", "--resource", &wanted.resource]);
    let none = "the app has no identity (IDENTITY_ENDPOINT is not set)";
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
    let mut child = Ended(child.map_err(|error| format!("{none}, and az cannot be started ({error})"))?);
    // An answer is short enough for the pipe.
    let status = loop {
        match child.0.try_wait().map_err(|error| error.to_string())? {
            Some(status) => break status,
            None => sleep(Duration::from_millis(50)).await,
        }
    };
    if !status.success() {
        return Err(format!("{none}, and az account get-access-token fails: run az login"));
    }
    let mut answer = Vec::new();
    let output = child.0.stdout.take().ok_or("az has no output")?;
    output.take(ANSWER as u64).read_to_end(&mut answer).map_err(|error| error.to_string())?;
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn every_way_to_say_when_a_token_ends_is_read() {
        let now = UNIX_EPOCH + Duration::from_secs(1_000);
        for (answer, seconds) in [
            (json!({"expires_on": 1_790_000_000}), Some(1_790_000_000)),
            (json!({"expires_on": "1790000000"}), Some(1_790_000_000)),
            (json!({"expires_on": 1_790_000_000_000_u64}), Some(1_790_000_000)),
            (json!({"expires_on": "09/14/2026 00:00:00 PM +00:00"}), Some(1_789_387_200)),
            (json!({"expires_on": "06/19/2026 23:42:01 +00:00"}), Some(1_781_912_521)),
            (json!({"expires_on": "02/29/2028 12:00:00 AM +00:00"}), Some(1_835_395_200)),
            (json!({"expires_on": "12/31/9999 23:59:59 +00:00"}), Some(253_402_300_799)),
            (json!({"expires_in": "60"}), Some(1_060)),
            (json!({"expires_on": 0, "expires_in": 60}), Some(0)),
            (json!({"expires_on": "soon", "expires_in": 60}), Some(1_060)),
            (json!({"expires_on": "13/40/2026 00:00:00 +00:00"}), None),
            (json!({"expires_on": "06/19/2026 23:42:01 +02:00"}), None),
            (json!({"expires_on": -5}), None),
            (json!({"expires_in": u64::MAX}), None),
            (json!({}), None),
        ] {
            let end = end_of(&answer, now).map(|end| end.duration_since(UNIX_EPOCH).expect("after 1970").as_secs());
            assert_eq!(end, seconds, "{answer}");
        }
    }
}
