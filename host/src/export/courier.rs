//! The way of batches to one address: tried again where that may help, no longer than the time-out of one batch, and no earlier
//! than the other side asks for (OTLP/HTTP Response and Throttling of the specification).

use super::losses::Losses;
use crate::config::telemetry::Collector;
use crate::outgoing::retry_after;
use crate::source::root_cause;
use crate::tls;
use bytes::Bytes;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use reqwest::{Client, Response, StatusCode, redirect};
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::sync::OnceCell;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

/// The longest pause that anybody is believed to ask for.
const LONGEST: Duration = Duration::from_secs(5 * 60);
/// The first pause where nobody asks for one; it doubles each time.
const FIRST: Duration = Duration::from_secs(1);
/// Bytes of an answer that are read.
const ANSWER: usize = 64 << 10;

/// One client for all who trust the same certificates, made when the first batch leaves.
#[derive(Default)]
pub struct Clients(BTreeMap<Trusted, Shared>);

type Shared = Arc<OnceCell<Client>>;

/// Whose certificates a client trusts.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Trusted {
    /// Nothing is encrypted. Reading the system's certificates would take time, at the end of the process too, and memory.
    Nobody,
    /// Whom the system trusts.
    System,
    /// These, in PEM.
    These(Arc<[u8]>),
}

impl Trusted {
    fn by(to: &Collector) -> Self {
        match &to.certificates {
            _ if to.url.scheme() == "http" => Self::Nobody,
            None => Self::System,
            Some(certificates) => Self::These(Arc::clone(certificates)),
        }
    }
}

/// What differs between those who are sent to.
#[derive(Clone, Copy)]
pub struct Manner {
    /// Of a batch.
    pub content_type: &'static str,
    /// How many items of a batch were rejected, by the answer of somebody who took it.
    pub rejected: fn(&[u8]) -> u64,
}

/// Sends batches to one address, one after the other.
pub struct Courier {
    client: Shared,
    to: Collector,
    manner: Manner,
    headers: HeaderMap,
    losses: Arc<Losses>,
    /// From then on there is one try for each batch, and no pause.
    pub stop: CancellationToken,
    /// The other side wants to be left alone until then.
    not_before: Instant,
}

/// A try that came to nothing.
struct Failure {
    /// Begins with a verb whose subject is the address.
    why: String,
    /// After how long another try may help, if ever.
    pause: Option<Duration>,
}

impl Courier {
    /// Sends to this address.
    pub fn new(
        clients: &mut Clients,
        to: &Collector,
        manner: Manner,
        losses: &Arc<Losses>,
        stop: &CancellationToken,
    ) -> Self {
        let mut headers: HeaderMap = to.headers.iter().cloned().collect();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(manner.content_type));
        let client = Arc::clone(clients.0.entry(Trusted::by(to)).or_default());
        let (to, losses, stop) = (to.clone(), Arc::clone(losses), stop.clone());
        Self { client, to, manner, headers, losses, stop, not_before: Instant::now() }
    }

    /// Sends a batch of so many items. What cannot be sent is lost.
    pub async fn deliver(&mut self, body: Vec<u8>, items: u64) {
        let body = Bytes::from(body);
        self.pause().await;
        let deadline = Instant::now() + self.to.timeout;
        for tries in 0.. {
            let last = self.stop.is_cancelled();
            let Err(Failure { why, pause }) = self.attempt(body.clone(), deadline, tries).await else { return };
            self.not_before = Instant::now() + pause.unwrap_or_default();
            if last || pause.is_none() || self.not_before >= deadline {
                self.losses.add(items, &why);
                return;
            }
            self.pause().await;
        }
    }

    /// Nothing is sent any more.
    pub fn finish(&self) {
        self.losses.finish();
    }

    async fn pause(&self) {
        tokio::select! { () = sleep_until(self.not_before) => {}, () = self.stop.cancelled() => {} }
    }

    async fn attempt(&self, body: Bytes, deadline: Instant, tries: u32) -> Result<(), Failure> {
        let pause = FIRST.mul_f64(0.5 + fastrand::f64() / 2.0) * 2_u32.pow(tries.min(8));
        let unreachable = |error: reqwest::Error| Failure {
            // Its own words would repeat the URL, which may hold a key.
            why: match error.is_timeout() {
                true => "does not answer in time".to_owned(),
                false => format!("cannot be reached ({})", root_cause(&error.without_url())),
            },
            pause: Some(pause),
        };
        let client = self
            .client
            .get_or_try_init(|| client(Trusted::by(&self.to)))
            .await
            .map_err(|why| Failure { why, pause: None })?;
        let request = client.post(self.to.url.clone()).headers(self.headers.clone()).body(body);
        let left = deadline.saturating_duration_since(Instant::now());
        let response = request.timeout(left).send().await.map_err(unreachable)?;
        let status = response.status();
        if status.is_success() {
            let rejected = (self.manner.rejected)(&read(response).await.map_err(unreachable)?);
            if rejected > 0 {
                self.losses.add(rejected, "takes a batch and rejects a part of it");
            }
            return Ok(());
        }
        let asked = retry_after(response.headers(), SystemTime::now());
        // Those that the specification lists; the others would answer the same again.
        let may_help = [
            StatusCode::TOO_MANY_REQUESTS,
            StatusCode::BAD_GATEWAY,
            StatusCode::SERVICE_UNAVAILABLE,
            StatusCode::GATEWAY_TIMEOUT,
        ];
        let pause = may_help.contains(&status).then(|| asked.unwrap_or(pause).min(LONGEST));
        Err(Failure { why: format!("answers {status}"), pause })
    }
}

/// # Errors
/// For the log: nothing can be encrypted.
async fn client(trusted: Trusted) -> Result<Client, String> {
    let make = move || {
        let tls = match trusted {
            Trusted::Nobody => tls::config_trusting(&[]),
            Trusted::System => tls::config(),
            Trusted::These(certificates) => tls::config_trusting(&certificates),
        };
        let tls = tls.map_err(|error| format!("cannot be asked ({error})"))?;
        let builder = Client::builder()
            .user_agent(concat!("flexwasm/", env!("CARGO_PKG_VERSION")))
            .tls_backend_preconfigured(tls)
            // Whatever a resolver says, because requests to this name are not encrypted.
            .resolve_to_addrs("localhost", &[(Ipv4Addr::LOCALHOST, 0).into(), (Ipv6Addr::LOCALHOST, 0).into()])
            .no_proxy()
            .referer(false)
            .redirect(redirect::Policy::none());
        builder.build().map_err(|error| format!("cannot be asked ({})", root_cause(&error)))
    };
    tokio::task::spawn_blocking(make).await.unwrap_or_else(|error| Err(format!("cannot be asked ({error})")))
}

/// The begin of an answer.
async fn read(mut response: Response) -> reqwest::Result<Vec<u8>> {
    let mut answer = Vec::new();
    while answer.len() < ANSWER
        && let Some(chunk) = response.chunk().await?
    {
        answer.extend_from_slice(&chunk);
    }
    Ok(answer)
}
