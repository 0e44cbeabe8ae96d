//! The accept loop.

use super::Stop;
use super::connection;
use super::service::Service;
use super::socket::Socket;
use crate::config::Config;
use crate::config::keyvalue::Place;
use crate::outgoing;
use rustix::process::{Resource, getrlimit, setrlimit};
use std::collections::HashSet;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;

/// Connections that may wait to be accepted: bursts wait here, they are never refused. Linux caps it at
/// `net.core.somaxconn`, 4096 by default.
const BACKLOG: u32 = 4096;
/// After a failed accept that is no fault of a client: file descriptors or memory have run out and need time.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// File descriptors that are kept for everything that is not a connection, those of guests apart.
const SPARE_DESCRIPTORS: usize = 256;

/// A port that is ours, though nobody can connect yet.
pub struct Claim(TcpSocket);

/// Takes the port before the guests are loaded, so that a taken one is known at once (S6). Connections are refused until
/// [`Claim::listen`], which the Functions host takes for "not ready yet" and tries again (S2).
///
/// # Errors
/// With the address and the reason, such as `address already in use`.
pub fn claim(address: SocketAddr) -> io::Result<Claim> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() };
    let claimed = socket.and_then(|socket| {
        // A process that was killed leaves connections in TIME_WAIT; the next one starts on the same port (S11).
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        Ok(Claim(socket))
    });
    claimed.map_err(|error| explain(address, &error))
}

impl Claim {
    /// Starts to accept connections into the backlog.
    ///
    /// # Errors
    /// As [`claim`]: another process that claimed the port too may have been faster.
    pub fn listen(self) -> io::Result<TcpListener> {
        let address = self.0.local_addr()?;
        self.0.listen(BACKLOG).map_err(|error| explain(address, &error))
    }
}

fn explain(address: SocketAddr, error: &io::Error) -> io::Error {
    let reason = match error.kind() {
        // The Functions host looks for these words (azure-contract.md §1.5).
        io::ErrorKind::AddrInUse => "address already in use: stop the other process, or choose another port".to_owned(),
        _ => error.to_string(),
    };
    io::Error::new(error.kind(), format!("cannot listen on {address}: {reason}"))
}

/// Accepts until told to stop; every connection is a task of `tasks`. Beyond `limits.connections`, or what the process has file
/// descriptors for, they wait in the backlog.
pub async fn serve(listener: TcpListener, service: Arc<Service>, stop: Stop, tasks: TaskTracker) {
    let permits = Arc::new(Semaphore::new(connection_limit(&service.setup.config)));
    loop {
        let permit = Arc::clone(&permits).acquire_owned();
        let Some(permit) = stop.gently.run_until_cancelled(permit).await else { return };
        let permit = permit.expect("the semaphore is never closed");
        let stream = loop {
            let Some(accepted) = stop.gently.run_until_cancelled(listener.accept()).await else { return };
            match accepted {
                Ok((stream, _)) => break stream,
                Err(error) if is_clients_fault(&error) => {}
                Err(error) => {
                    tracing::error!(%error, "cannot accept a connection, trying again");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        };
        // What fails here has lost its client already.
        let Ok(socket) = Socket::new(stream) else { continue };
        let (service, stop) = (Arc::clone(&service), stop.clone());
        tasks.spawn(async move {
            connection::drive(socket, service, stop).await;
            drop(permit);
        });
    }
}

fn is_clients_fault(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

/// Raises the soft limit of file descriptors to the hard one, and tells how many there may be; none for no limit.
pub fn raise_descriptor_limit() -> Option<usize> {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    // Where it cannot be raised, the old limit holds.
    let _ = setrlimit(Resource::Nofile, limit);
    getrlimit(Resource::Nofile).current.and_then(|limit| usize::try_from(limit).ok())
}

/// How many clients of other servers there are: one for each guest, or part of one, that may send requests, and one for each store in
/// Azure.
fn clients(config: &Config) -> usize {
    let grants = || {
        let functions = config.functions.iter();
        functions.flat_map(|it| it.middleware.iter().map(|part| &part.grants).chain([&it.grants]))
    };
    let senders = grants().filter(|grants| !grants.hosts.is_empty()).count();
    let places = grants().flat_map(|grants| &grants.keyvalue).map(|store| &store.place);
    senders + places.filter(|place| matches!(place, Place::Azure(_))).collect::<HashSet<_>>().len()
}

/// How many connections there may be.
fn connection_limit(config: &Config) -> usize {
    let descriptors = raise_descriptor_limit();
    let spare = SPARE_DESCRIPTORS + clients(config) * outgoing::CONNECTIONS;
    let room = descriptors.unwrap_or(usize::MAX).saturating_sub(spare).clamp(16, Semaphore::MAX_PERMITS);
    room.min(config.connections as usize)
}
