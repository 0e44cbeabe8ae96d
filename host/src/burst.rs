//! Many requests to the demonstration's function at the same time, here or deployed: the one way in which anybody sends them.

use crate::source::root_cause;
use crate::timeline::{Receipt, Request, Source, Timeline};
use crate::tls;
use reqwest::header::HeaderValue;
use reqwest::{Client, Url, redirect};
use serde_json::Value;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

/// How long an answer may take beyond its delay, a cold start included.
const PATIENCE: Duration = Duration::from_secs(120);

/// What callers with a function key send, and the variable that it is read from, as `test_concurrency.sh` does.
const KEY_HEADER: &str = "x-functions-key";
/// See [`KEY_HEADER`].
pub const KEY: &str = "FUNCTION_KEY";

/// Sends requests to one function.
#[derive(Clone)]
pub struct Sender {
    client: Client,
    url: Url,
}

impl Sender {
    /// Sends them to the function at `url`, with this function key.
    ///
    /// # Errors
    /// For a person: the key is none, or nothing can be encrypted.
    pub fn new(url: Url, key: Option<String>) -> Result<Self, String> {
        let tls = tls::config().map_err(|error| format!("cannot encrypt ({error})"))?;
        let mut builder =
            Client::builder().tls_backend_preconfigured(tls).redirect(redirect::Policy::none()).referer(false);
        if let Some(key) = key {
            let key = HeaderValue::from_str(&key).map_err(|_| format!("{KEY} holds no function key: copy it anew"))?;
            builder = builder.default_headers([(KEY_HEADER.try_into().expect("a header"), key)].into_iter().collect());
        }
        let client = builder.build().map_err(|error| format!("cannot prepare requests ({error})"))?;
        Ok(Self { client, url })
    }

    /// The URL without what may be a key.
    pub fn shown(&self) -> String {
        format!("{}{}", self.url.origin().ascii_serialization(), self.url.path())
    }

    /// Sends one request, which sleeps for `delay` seconds. Its times count from `begun`.
    pub async fn ask(&self, delay: f64, begun: Instant) -> Request {
        let mut url = self.url.clone();
        url.query_pairs_mut().append_pair("delay", &delay.to_string());
        let patience = PATIENCE.saturating_add(Duration::from_secs_f64(delay));
        let now = || begun.elapsed().as_secs_f64() * 1e3;
        let sent = now();
        let exchange = async {
            let response = self.client.get(url).timeout(patience).send().await?;
            let (status, headers) = (response.status(), response.headers().clone());
            Ok((status, headers, response.bytes().await?))
        };
        let exchanged: reqwest::Result<_> = exchange.await;
        let answered = now();
        let receipt = match exchanged {
            // reqwest's own words would repeat the URL, which may hold a key.
            Err(error) if error.is_timeout() => Err(format!("had no answer within {} s", patience.as_secs())),
            Err(error) => Err(format!(
                "had no answer ({}): check the URL, and that the app runs there",
                root_cause(&error.without_url())
            )),
            Ok((status, _, body)) if !status.is_success() => Err(refusal(status.as_u16(), &body)),
            Ok((_, headers, body)) => Receipt::read(&body)
                .or_else(|| Receipt::of_headers(&headers, sent, answered))
                .ok_or_else(|| "got no receipt: set headers to \"full\" (app setting flexwasm__headers), or name the URL of http_trigger".to_owned()),
        };
        Request { sent, answered, receipt, fault: None }
    }

    /// Sends as many as that at once, each on a connection of its own.
    pub async fn burst(&self, requests: u32, delay: f64) -> Timeline {
        let begun = Instant::now();
        let mut sent = JoinSet::new();
        for _ in 0..requests {
            let sender = self.clone();
            sent.spawn(async move { sender.ask(delay, begun).await });
        }
        let mut requests = sent.join_all().await;
        let total = begun.elapsed().as_secs_f64();
        requests.sort_by(|one, other| one.sent.total_cmp(&other.sent));
        Timeline { source: Source::Burst { url: self.shown(), delay }, total, requests }
    }
}

/// The status, and the host's reason where it gives one.
fn refusal(status: u16, body: &[u8]) -> String {
    let answer: Value = serde_json::from_slice(body).unwrap_or_default();
    match answer["error"]["message"].as_str() {
        Some(why) => format!("got HTTP {status}: {why}"),
        None => format!("got HTTP {status}"),
    }
}
