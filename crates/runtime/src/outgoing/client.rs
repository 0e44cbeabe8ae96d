//! The connections of one function to other servers: checked before they are made, kept for the next request, bounded.
//!
//! A request is sent on a connection that is keyed by the *address* that was checked, beside scheme, name and port: a name
//! that resolves to something else the next time gets no old connection. Redirects are the guest's business.
//!
//! Every failure is given the name that `wasi:http` has for it. What WASI would name itself, it would also log, for each
//! request and without saying whose it was.

use super::addresses::is_public;
use super::credentials::Granted;
use super::identity::Tokens;
use super::upload::Upload;
use crate::config::hosts::{Name, Server, Target};
use crate::tls::Trust;
use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use http::{Method, Request, Response};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs as _};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio::time::{Instant, Sleep, sleep, sleep_until, timeout, timeout_at};
use tokio_util::task::AbortOnDropHandle;
use wasmtime_wasi_http::{Error, RequestOptions, WasiBody};

/// Connections of a function that are in use at the same time. Who needs one more waits for it as long as for a connection.
const IN_USE: usize = 48;
/// Idle ones beside them.
const IDLE: usize = 16;
/// The most that a function may have.
pub const CONNECTIONS: usize = IN_USE + IDLE;
/// How long a connection stays idle: shorter than what servers grant.
const IDLE_TIME: Duration = Duration::from_secs(30);
/// How long one may take to become idle after its answer, because its request has not left yet.
const SETTLE: Duration = Duration::from_secs(1);
/// Names that are looked up at the same time.
const LOOK_UPS: usize = 8;
/// How long an address has to itself before the next one is tried beside it (RFC 8305, section 5).
const HEAD_START: Duration = Duration::from_millis(250);
/// Addresses of a name that are tried.
const ADDRESSES: usize = 8;
/// For a connection, with everything that it takes: a place, the name's addresses, TCP, TLS.
const CONNECT: Duration = Duration::from_secs(10);
/// For the head of an answer, and between two pieces of its body.
const SILENCE: Duration = Duration::from_secs(60);
/// Bytes of an answer's head.
const HEAD: usize = 64 << 10;

/// Sends the requests of one function, or those of the host's own to one server.
#[derive(Debug)]
pub struct Client {
    grants: Vec<Arc<Granted>>,
    /// The owner of the app says where it sends to, and no guest: names may then resolve to addresses of private use.
    own: bool,
    trust: Arc<Trust>,
    places: Arc<Semaphore>,
    look_ups: Arc<Semaphore>,
    idle: Mutex<Idle>,
}

#[derive(Debug, Default)]
struct Idle {
    /// The one that has been idle for longest is the first.
    kept: Vec<Kept>,
    /// Closes those that have been idle for too long, as long as there are any.
    watch: Option<AbortOnDropHandle<()>>,
    /// Those that are about to become idle, each in its place among those in use.
    settling: JoinSet<()>,
}

#[derive(Debug)]
struct Kept {
    key: Key,
    connection: Connection,
    since: Instant,
}

impl Kept {
    /// Whether a request may be sent on it.
    fn is_good(&self) -> bool {
        self.since.elapsed() < IDLE_TIME && self.connection.sender.is_ready()
    }
}

/// What two requests must have in common to share a connection.
type Key = (Target, SocketAddr);

/// Dropping it closes it.
#[derive(Debug)]
struct Connection {
    sender: SendRequest<WasiBody>,
    _driver: AbortOnDropHandle<()>,
}

/// Why there is no answer.
#[derive(Debug)]
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
    pub fn for_grants(grants: &[Server], trust: &Arc<Trust>, tokens: &Tokens) -> Option<Arc<Self>> {
        let granted = || grants.iter().map(|server| Arc::new(Granted::new(server, tokens))).collect();
        (!grants.is_empty()).then(|| Self::new(granted(), false, trust))
    }

    /// A client for requests that the host makes up by itself.
    pub fn of_the_host(trust: &Arc<Trust>) -> Arc<Self> {
        Self::new(Vec::new(), true, trust)
    }

    fn new(grants: Vec<Arc<Granted>>, own: bool, trust: &Arc<Trust>) -> Arc<Self> {
        Arc::new(Self {
            grants,
            own,
            trust: Arc::clone(trust),
            places: Arc::new(Semaphore::new(IN_USE)),
            look_ups: Arc::new(Semaphore::new(LOOK_UPS)),
            idle: Mutex::default(),
        })
    }

    /// Whether requests may be sent there, at least some.
    pub fn allows(&self, target: &Target) -> bool {
        self.grants.iter().any(|granted| granted.grant.allows(target))
    }

    /// What grants a request. The path is that without its query. Where several do, they add the same to it.
    pub fn grant_of(&self, target: &Target, method: &Method, path: &str) -> Option<Arc<Granted>> {
        self.grants.iter().find(|granted| granted.grant.allows_request(target, method, path)).cloned()
    }

    /// Sends a request to a granted target and waits for the head of the answer. Its URI is a path, its `Host` is set. Its
    /// body does not end cleanly any more once it is `cut`.
    ///
    /// Dropping the future, or the body before its end, closes the connection.
    ///
    /// # Errors
    /// [`Failure`]: time-outs, an address of private use, what the network and the other side do.
    pub async fn send(
        self: &Arc<Self>,
        target: Target,
        request: Request<WasiBody>,
        options: RequestOptions,
        cut: Arc<AtomicBool>,
    ) -> Result<Response<ResponseBody>, Failure> {
        let connect_by = Instant::now() + options.connect_timeout.unwrap_or(CONNECT);
        let place = timeout_at(connect_by, place(&self.places)).await.map_err(|_| Error::ConnectionTimeout)?;
        let addresses = timeout_at(connect_by, self.resolve(&target)).await.map_err(|_| Error::DnsTimeout)??;
        let moved = Arc::<AtomicBool>::default();
        let mut request = request.map(|body| Upload { body, cut, moved: Arc::clone(&moved) }.boxed_unsync());
        let (key, connection, response) = loop {
            let taken = addresses.iter().find_map(|address| self.take(&(target.clone(), *address)));
            let reused = taken.is_some();
            let (key, mut connection) = match taken {
                Some(taken) => taken,
                None => {
                    let connected = timeout_at(connect_by, self.connect(&target, &addresses)).await;
                    connected.map_err(|_| Error::ConnectionTimeout)??
                }
            };
            let answer = connection.sender.try_send_request(request);
            match patiently(options.first_byte_timeout.unwrap_or(SILENCE), &moved, answer).await {
                Some(Ok(response)) => break (key, connection, response),
                // Nothing of it has left: the server has closed the connection that was kept.
                Some(Err(mut error)) => match error.take_message().filter(|_| reused) {
                    Some(unsent) => request = unsent,
                    None => return Err(broken(&error.into_error()).into()),
                },
                None => return Err(Error::ConnectionReadTimeout.into()),
            }
        };
        let between = options.between_bytes_timeout.unwrap_or(SILENCE);
        Ok(response.map(|incoming| ResponseBody {
            incoming,
            between,
            silence: Box::pin(sleep(between)),
            open: Some((key, connection, place)),
            client: Arc::downgrade(self),
        }))
    }

    /// Addresses that the target may be reached at, at least one. What a name resolves to has to be public, or granted itself.
    async fn resolve(&self, target: &Target) -> Result<Vec<SocketAddr>, Failure> {
        let name = match &target.name {
            Name::Address(address) => return Ok(vec![SocketAddr::new(*address, target.port)]),
            Name::Host(name) => name,
        };
        let look_up = place(&self.look_ups).await;
        let (name, port) = (name.clone(), target.port);
        // Nobody can call the resolver back. It keeps its place until it has answered, whoever has stopped waiting: else a
        // guest with short time-outs could take all threads that the host has for such work.
        let resolving = tokio::task::spawn_blocking(move || {
            let found = (name.as_str(), port).to_socket_addrs().map(Vec::from_iter);
            drop(look_up);
            found
        });
        let found = resolving.await.map_err(io::Error::other).flatten();
        let found = found.map_err(|_| Error::DnsError { rcode: None, info_code: None })?;
        let (allowed, private): (Vec<_>, Vec<_>) = found.into_iter().partition(|address| {
            self.own
                || is_public(address.ip())
                || self.allows(&Target { name: Name::Address(address.ip()), ..target.clone() })
        });
        match (&allowed[..], &private[..]) {
            ([], [address, ..]) => Err(Failure::Private(address.ip())),
            ([], []) => Err(Error::DestinationNotFound.into()),
            _ => Ok(allowed),
        }
    }

    /// Connects to the address that answers first.
    async fn connect(&self, target: &Target, addresses: &[SocketAddr]) -> Result<(Key, Connection), Error> {
        let (address, stream) = reach(addresses).await?;
        // A stream that is gone already fails below.
        let _ = stream.set_nodelay(true);
        let connection = if target.tls {
            let server = match &target.name {
                Name::Host(name) => ServerName::try_from(name.clone()).map_err(|_| Error::HttpRequestUriInvalid)?,
                Name::Address(address) => ServerName::from(*address),
            };
            handshake(self.trust.connect(stream, server).await.map_err(|error| unencrypted(&error))?).await?
        } else {
            handshake(stream).await?
        };
        Ok(((target.clone(), address), connection))
    }

    fn idle(&self) -> MutexGuard<'_, Idle> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An idle connection that is still good, the one used last first.
    fn take(&self, key: &Key) -> Option<(Key, Connection)> {
        let mut idle = self.idle();
        loop {
            let at = idle.kept.iter().rposition(|kept| kept.key == *key)?;
            let kept = idle.kept.remove(at);
            if kept.is_good() {
                return Some((kept.key, kept.connection));
            }
        }
    }

    /// Keeps a connection whose answer was read to the end.
    fn keep(self: &Arc<Self>, key: Key, connection: Connection) {
        let mut idle = self.idle();
        if idle.kept.len() == IDLE {
            idle.kept.remove(0);
        }
        idle.kept.push(Kept { key, connection, since: Instant::now() });
        let watching = watch(Arc::downgrade(self));
        idle.watch.get_or_insert_with(|| AbortOnDropHandle::new(tokio::spawn(watching)));
    }

    /// Keeps a connection as soon as it is ready for another request; until then it keeps its place.
    fn settle(self: &Arc<Self>, key: Key, mut connection: Connection, place: OwnedSemaphorePermit) {
        let client = Arc::downgrade(self);
        let mut idle = self.idle();
        while idle.settling.try_join_next().is_some() {}
        idle.settling.spawn(async move {
            if matches!(timeout(SETTLE, connection.sender.ready()).await, Ok(Ok(())))
                && let Some(client) = client.upgrade()
            {
                client.keep(key, connection);
            }
            drop(place);
        });
    }

    /// Closes what has been idle for too long. Answers when to look again, if anything is left.
    fn sweep(&self) -> Option<Instant> {
        let mut idle = self.idle();
        idle.kept.retain(Kept::is_good);
        let next = idle.kept.first().map(|kept| kept.since + IDLE_TIME);
        if next.is_none() {
            // The task that asks ends by itself.
            idle.watch = None;
        }
        next
    }
}

/// Sweeps as long as a connection is idle and anybody has the client.
async fn watch(client: Weak<Client>) {
    let mut next = Instant::now() + IDLE_TIME;
    loop {
        sleep_until(next).await;
        match client.upgrade().and_then(|client| client.sweep()) {
            Some(again) => next = again,
            None => return,
        }
    }
}

/// Connects to the address that answers first. They are tried in the resolver's order, each with a head start.
async fn reach(addresses: &[SocketAddr]) -> Result<(SocketAddr, TcpStream), Error> {
    let mut untried = addresses.iter().copied().take(ADDRESSES);
    let (mut tried, mut last) = (FuturesUnordered::new(), Error::DestinationNotFound);
    loop {
        if let Some(address) = untried.next() {
            tried.push(async move { (address, TcpStream::connect(address).await) });
        }
        let answer = if untried.len() > 0 {
            match timeout(HEAD_START, tried.next()).await {
                Ok(answer) => answer,
                Err(_) => continue,
            }
        } else {
            tried.next().await
        };
        match answer {
            Some((address, Ok(stream))) => return Ok((address, stream)),
            Some((_, Err(error))) => last = unreachable(&error),
            None => return Err(last),
        }
    }
}

/// Waits for one of a number of places.
async fn place(places: &Arc<Semaphore>) -> OwnedSemaphorePermit {
    Arc::clone(places).acquire_owned().await.expect("the semaphore is never closed")
}

/// Waits for an answer, but no longer than `limit` after the last piece of the request has `moved`; at the most twice as
/// long. None when there is none.
async fn patiently<T>(limit: Duration, moved: &AtomicBool, answer: impl Future<Output = T>) -> Option<T> {
    let mut answer = pin!(answer);
    loop {
        match timeout(limit, answer.as_mut()).await {
            Ok(answer) => return Some(answer),
            Err(_) if moved.swap(false, Ordering::Relaxed) => {}
            Err(_) => return None,
        }
    }
}

/// Why nobody could be reached, as `wasi:http` names it.
fn unreachable(error: &io::Error) -> Error {
    use io::ErrorKind::{
        AddrNotAvailable, ConnectionRefused, ConnectionReset, HostUnreachable, NetworkUnreachable, TimedOut,
    };
    match error.kind() {
        ConnectionRefused => Error::ConnectionRefused,
        ConnectionReset => Error::ConnectionTerminated,
        TimedOut => Error::ConnectionTimeout,
        AddrNotAvailable | HostUnreachable | NetworkUnreachable => Error::DestinationIpUnroutable,
        _ => Error::DestinationUnavailable,
    }
}

/// Why a connection could not be encrypted, as `wasi:http` names it.
fn unencrypted(error: &io::Error) -> Error {
    match error.get_ref().and_then(|inner| inner.downcast_ref()) {
        Some(rustls::Error::InvalidCertificate(_)) => Error::TlsCertificateError,
        Some(rustls::Error::AlertReceived(alert)) => {
            Error::TlsAlertReceived { alert_id: Some(u8::from(*alert)), alert_message: Some(format!("{alert:?}")) }
        }
        Some(_) => Error::TlsProtocolError,
        None => Error::ConnectionTerminated,
    }
}

/// Why an exchange did not end well, as `wasi:http` names it.
fn broken(error: &hyper::Error) -> Error {
    if error.is_user() {
        Error::InternalError(Some("the request's body was not finished".to_owned()))
    } else if error.is_parse_too_large() {
        Error::HttpResponseHeaderSectionSize(None)
    } else if error.is_parse() {
        Error::HttpProtocolError
    } else {
        Error::HttpResponseIncomplete
    }
}

async fn handshake(stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static) -> Result<Connection, Error> {
    let handshake = http1::Builder::new().max_buf_size(HEAD).handshake(TokioIo::new(stream)).await;
    let (sender, connection) = handshake.map_err(|error| broken(&error))?;
    // What ends it is told to whoever waits for an answer.
    let driver = tokio::spawn(async move { drop(connection.await) });
    Ok(Connection { sender, _driver: AbortOnDropHandle::new(driver) })
}

/// The body of an answer. Read to its end, it leaves its connection to the next request; dropped before, it closes it.
pub struct ResponseBody {
    incoming: Incoming,
    between: Duration,
    silence: Pin<Box<Sleep>>,
    open: Option<(Key, Connection, OwnedSemaphorePermit)>,
    client: Weak<Client>,
}

impl ResponseBody {
    /// Leaves the connection to the next request, as soon as it is ready for one.
    fn end(&mut self) {
        let (Some((key, connection, place)), Some(client)) = (self.open.take(), self.client.upgrade()) else {
            return;
        };
        if connection.sender.is_ready() {
            return client.keep(key, connection);
        }
        // Its end has yet to be noted, or the server has answered before it had the whole request.
        client.settle(key, connection, place);
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
        Poll::Ready(frame.map(|frame| frame.map_err(|error| broken(&error))))
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::{pending, poll_fn};

    #[tokio::test]
    async fn an_address_that_answers_nobody_does_not_keep_the_next_one_from_being_tried() {
        let listen = |backlog| {
            let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
            socket.bind("127.0.0.1:0".parse().expect("an address")).expect("bound");
            socket.listen(backlog).expect("listening")
        };
        let (mute, good, nobody) = (listen(0), listen(8), listen(8));
        let [mute_at, good_at, nobody_at] =
            [&mute, &good, &nobody].map(|listener| listener.local_addr().expect("an address"));
        drop(nobody);
        // Its backlog full, Linux drops what arrives, as a firewall would.
        let mut full = Vec::new();
        while let Ok(connected) = timeout(Duration::from_millis(300), TcpStream::connect(mute_at)).await {
            full.push(connected.expect("it is queued"));
        }
        for addresses in [[mute_at, nobody_at, good_at], [nobody_at, mute_at, good_at]] {
            let reached = timeout(CONNECT, reach(&addresses)).await.expect("in time").map_err(|_| "unreachable");
            assert_eq!(reached.expect("it listens").0, good_at);
        }
        assert!(matches!(reach(&[nobody_at, nobody_at]).await, Err(Error::ConnectionRefused)));
    }

    #[tokio::test]
    async fn patience_begins_anew_as_long_as_the_request_moves() {
        let moved = AtomicBool::new(true);
        let limit = Duration::from_millis(1);
        // Answered in the second span, which there is only because of what moved in the first.
        let answer = poll_fn(|_| if moved.load(Ordering::Relaxed) { Poll::Pending } else { Poll::Ready(()) });
        assert_eq!(patiently(limit, &moved, answer).await, Some(()));
        assert_eq!(patiently(limit, &moved, pending::<()>()).await, None);
    }
}
