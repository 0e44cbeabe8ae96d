//! The connections of one function to other servers: checked before they are made, kept for the next request, bounded.
//!
//! A request is sent on a connection that is keyed by the *address* that was checked, beside scheme, name and port: a name
//! that resolves to something else the next time gets no old connection. Redirects are the guest's business.

use super::addresses::is_public;
use super::tls;
use crate::config::hosts::{Grant, Name, Target};
use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep, sleep, timeout};
use tokio_util::task::AbortOnDropHandle;
use wasmtime_wasi_http::{Error, RequestOptions, WasiBody};

/// Connections of a function, idle ones included; who needs one more waits for it as long as for a connection.
const OPEN: usize = 64;
/// Idle ones of them.
const IDLE: usize = 16;
/// How long a connection stays idle: shorter than what servers grant.
const IDLE_TIME: Duration = Duration::from_secs(30);
/// For a connection, with everything that it takes: a place, the name's addresses, TCP, TLS.
const CONNECT: Duration = Duration::from_secs(10);
/// For the head of an answer, and between two pieces of its body.
const SILENCE: Duration = Duration::from_secs(60);
/// Bytes of an answer's head.
const HEAD: usize = 64 << 10;

/// Sends the requests of one function.
#[derive(Debug)]
pub struct Client {
    grants: Vec<Grant>,
    open: Arc<Semaphore>,
    idle: Mutex<Idle>,
}

#[derive(Debug, Default)]
struct Idle {
    connections: HashMap<Key, Vec<(Connection, Instant)>>,
    count: usize,
    /// A task closes those that have been idle for too long.
    watched: bool,
}

/// What two requests must have in common to share a connection.
type Key = (Target, SocketAddr);

/// Dropping it closes it.
#[derive(Debug)]
struct Connection {
    sender: SendRequest<WasiBody>,
    _driver: AbortOnDropHandle<()>,
    _place: OwnedSemaphorePermit,
}

/// Why there is no answer.
pub enum Failure {
    /// The name is granted, but resolves to addresses of private use, such as this one.
    Private(IpAddr),
    /// As `wasi:http` names it.
    Http(Error),
}

impl<E: Into<Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Http(error.into())
    }
}

impl Client {
    /// A client, if anything is granted.
    pub fn for_grants(grants: &[Grant]) -> Option<Arc<Self>> {
        let client = || Self { grants: grants.to_vec(), open: Arc::new(Semaphore::new(OPEN)), idle: Mutex::default() };
        (!grants.is_empty()).then(|| Arc::new(client()))
    }

    /// Whether requests may be sent there.
    pub fn allows(&self, target: &Target) -> bool {
        self.grants.iter().any(|grant| grant.allows(target))
    }

    /// Sends a request to a granted target and waits for the head of the answer. Its URI is a path, its `Host` is set.
    ///
    /// Dropping the future, or the body before its end, closes the connection.
    ///
    /// # Errors
    /// [`Failure`]: time-outs, an address of private use, what the network and the other side do.
    pub async fn send(
        self: &Arc<Self>,
        target: Target,
        mut request: Request<WasiBody>,
        options: RequestOptions,
    ) -> Result<Response<ResponseBody>, Failure> {
        let connect_limit = options.connect_timeout.unwrap_or(CONNECT);
        let first_byte = options.first_byte_timeout.unwrap_or(SILENCE);
        let addresses = timeout(connect_limit, self.resolve(&target)).await.map_err(|_| Error::DnsTimeout)??;
        let (key, connection, response) = loop {
            let taken = addresses.iter().find_map(|address| self.take(&(target.clone(), *address)));
            let reused = taken.is_some();
            let (key, mut connection) = match taken {
                Some(taken) => taken,
                None => {
                    let connected = timeout(connect_limit, self.connect(&target, &addresses)).await;
                    connected.map_err(|_| Error::ConnectionTimeout)??
                }
            };
            match timeout(first_byte, connection.sender.try_send_request(request)).await {
                Ok(Ok(response)) => break (key, connection, response),
                // Nothing of it has left: the server has closed the connection that was kept.
                Ok(Err(mut error)) => match error.take_message().filter(|_| reused) {
                    Some(unsent) => request = unsent,
                    None => return Err(error.into_error().into()),
                },
                Err(_) => return Err(Error::ConnectionReadTimeout.into()),
            }
        };
        let between = options.between_bytes_timeout.unwrap_or(SILENCE);
        Ok(response.map(|incoming| ResponseBody {
            incoming,
            between,
            silence: Box::pin(sleep(between)),
            open: Some((key, connection)),
            client: Arc::downgrade(self),
        }))
    }

    /// Addresses that the target may be reached at, at least one. What a name resolves to has to be public, or granted itself.
    async fn resolve(&self, target: &Target) -> Result<Vec<SocketAddr>, Failure> {
        let name = match &target.name {
            Name::Address(address) => return Ok(vec![SocketAddr::new(*address, target.port)]),
            Name::Host(name) => name,
        };
        let failed = |_| Error::DnsError { rcode: None, info_code: None };
        let found: Vec<SocketAddr> =
            tokio::net::lookup_host((name.as_str(), target.port)).await.map_err(failed)?.collect();
        let (allowed, private): (Vec<_>, Vec<_>) = found.into_iter().partition(|address| {
            is_public(address.ip()) || self.allows(&Target { name: Name::Address(address.ip()), ..target.clone() })
        });
        match (&allowed[..], &private[..]) {
            ([], [address, ..]) => Err(Failure::Private(address.ip())),
            ([], []) => Err(Error::DestinationNotFound.into()),
            _ => Ok(allowed),
        }
    }

    /// Connects to the first address that answers.
    async fn connect(&self, target: &Target, addresses: &[SocketAddr]) -> Result<(Key, Connection), Error> {
        let place = Arc::clone(&self.open).acquire_owned().await.expect("the semaphore is never closed");
        let mut last = Error::DestinationNotFound;
        for address in addresses {
            match TcpStream::connect(address).await {
                Ok(stream) => {
                    // A stream that is gone already fails below.
                    let _ = stream.set_nodelay(true);
                    let (sender, driver) = if target.tls {
                        let server = match &target.name {
                            Name::Host(name) => {
                                ServerName::try_from(name.clone()).map_err(|_| Error::HttpRequestUriInvalid)?
                            }
                            Name::Address(address) => ServerName::from(*address),
                        };
                        handshake(tls::connect(stream, server).await.map_err(Error::Tls)?).await?
                    } else {
                        handshake(stream).await?
                    };
                    let connection = Connection { sender, _driver: driver, _place: place };
                    return Ok(((target.clone(), *address), connection));
                }
                Err(error) => last = Error::Connect(error),
            }
        }
        Err(last)
    }

    fn idle(&self) -> MutexGuard<'_, Idle> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An idle connection that is still good.
    fn take(&self, key: &Key) -> Option<(Key, Connection)> {
        let mut idle = self.idle();
        let kept = idle.connections.get_mut(key)?;
        let mut looked_at = 0;
        let found =
            std::iter::from_fn(|| kept.pop()).inspect(|_| looked_at += 1).find(|(kept, _)| kept.sender.is_ready());
        if kept.is_empty() {
            idle.connections.remove(key);
        }
        idle.count -= looked_at;
        found.map(|(connection, _)| (key.clone(), connection))
    }

    /// Keeps a connection whose answer was read to the end.
    fn keep(self: &Arc<Self>, key: Key, connection: Connection) {
        let mut idle = self.idle();
        if connection.sender.is_closed() || idle.count >= IDLE {
            return;
        }
        idle.connections.entry(key).or_default().push((connection, Instant::now()));
        idle.count += 1;
        if !std::mem::replace(&mut idle.watched, true) {
            tokio::spawn(watch(Arc::downgrade(self)));
        }
    }

    /// Closes what has been idle for too long. Answers whether anything is left.
    fn sweep(&self) -> bool {
        let mut idle = self.idle();
        idle.connections.retain(|_, kept| {
            kept.retain(|(connection, since)| since.elapsed() < IDLE_TIME && !connection.sender.is_closed());
            !kept.is_empty()
        });
        idle.count = idle.connections.values().map(Vec::len).sum();
        idle.watched = idle.count > 0;
        idle.watched
    }
}

/// Sweeps as long as a connection is idle and anybody has the client.
async fn watch(client: Weak<Client>) {
    loop {
        sleep(IDLE_TIME / 2).await;
        if !client.upgrade().is_some_and(|client| client.sweep()) {
            return;
        }
    }
}

async fn handshake(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
) -> Result<(SendRequest<WasiBody>, AbortOnDropHandle<()>), Error> {
    let (sender, connection) = http1::Builder::new().max_buf_size(HEAD).handshake(TokioIo::new(stream)).await?;
    // What ends it is told to whoever waits for an answer.
    let driver = tokio::spawn(async move { drop(connection.await) });
    Ok((sender, AbortOnDropHandle::new(driver)))
}

/// The body of an answer. Read to its end, it leaves its connection to the next request; dropped before, it closes it.
pub struct ResponseBody {
    incoming: Incoming,
    between: Duration,
    silence: Pin<Box<Sleep>>,
    open: Option<(Key, Connection)>,
    client: Weak<Client>,
}

impl ResponseBody {
    fn end(&mut self) {
        if let (Some((key, connection)), Some(client)) = (self.open.take(), self.client.upgrade()) {
            client.keep(key, connection);
        }
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let this = &mut *self;
        let Poll::Ready(frame) = Pin::new(&mut this.incoming).poll_frame(cx) else {
            ready!(this.silence.as_mut().poll(cx));
            this.open = None;
            return Poll::Ready(Some(Err(Error::ConnectionReadTimeout)));
        };
        match &frame {
            Some(Ok(_)) => this.silence.as_mut().reset(Instant::now() + this.between),
            Some(Err(_)) => this.open = None,
            None => this.end(),
        }
        Poll::Ready(frame.map(|frame| frame.map_err(Error::from)))
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}

impl Drop for ResponseBody {
    fn drop(&mut self) {
        // Nobody asks a body that has ended for another frame.
        if self.incoming.is_end_stream() {
            self.end();
        }
    }
}
