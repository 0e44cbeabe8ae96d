//! The host's end of the operator plane: its sockets, and which requests are heard.

use super::plane::{Answer, Plane, Refused};
use super::token::{Proof, Token};
use crate::http::listener;
use crate::private;
use bytes::Bytes;
use http::header::{ALLOW, CONNECTION, CONTENT_TYPE, WWW_AUTHENTICATE};
use http::{HeaderName, HeaderValue, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::{Value, json};
use std::convert::Infallible;
use std::fs;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

/// For a request head on a connection.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// For the rest of a body that nobody asked for.
const REST_TIMEOUT: Duration = Duration::from_secs(60);
/// Bytes of a request head.
const MAX_HEAD: usize = 64 << 10;
/// Connections to each socket at the same time: people, not load.
const CONNECTIONS: usize = 16;

/// Where operators reach the host. The files are removed when this is dropped.
pub struct Control {
    socket: Socket,
    port: Option<Port>,
}

/// A socket that only our user can reach.
struct Socket {
    listener: UnixListener,
    path: PathBuf,
}

/// A port that every user of this machine can reach.
struct Port {
    listener: TcpListener,
    token: Token,
}

impl Control {
    /// Listens at the first of `sockets` that can be used, and at `port`, if there is one.
    ///
    /// # Errors
    /// Why it cannot, for a person: another host serves the same app, or has the port, say.
    pub fn listen(sockets: &[PathBuf], port: Option<SocketAddr>) -> Result<Self, String> {
        if let Some(path) = sockets.iter().find(|path| UnixStream::connect(path).is_ok()) {
            return Err(format!("another host serves the same app, and has {}", path.display()));
        }
        let mut refused = Vec::new();
        for path in sockets {
            match Socket::listen(path) {
                Ok(socket) => {
                    let port = port.map(|address| Port::listen(address, path.with_extension("token"))).transpose()?;
                    return Ok(Self { socket, port });
                }
                Err(why) => refused.push(format!("{} {why}", path.display())),
            }
        }
        Err(refused.join("; "))
    }

    /// Answers for as long as it is polled.
    pub async fn serve(self, plane: Plane) {
        let Self { socket, port } = self;
        let plane = Arc::new(plane);
        let accept = |context: &mut Context<'_>| socket.listener.poll_accept(context).map_ok(|(stream, _)| stream);
        let ours = each(accept, Arc::new(Door { plane: Arc::clone(&plane), proof: None }));
        let everybody = async {
            if let Some(Port { listener, token }) = port {
                let accept = |context: &mut Context<'_>| listener.poll_accept(context).map_ok(|(stream, _)| stream);
                each(accept, Arc::new(Door { plane, proof: Some(token.proof) })).await;
            }
        };
        tokio::join!(ours, everybody);
    }
}

impl Socket {
    fn listen(path: &Path) -> Result<Self, String> {
        let folder = path.parent().expect("a socket lies in a folder");
        private::open(folder).map_err(|why| format!("cannot be made: {} {why}", folder.display()))?;
        // Of one that was killed.
        let _ = fs::remove_file(path);
        let listener = UnixListener::bind(path).map_err(|error| format!("cannot be made ({error})"))?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).map_err(|error| error.to_string())?;
        Ok(Self { listener, path: path.to_owned() })
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

impl Port {
    fn listen(address: SocketAddr, token: PathBuf) -> Result<Self, String> {
        let listener = listener::claim(address).and_then(listener::Claim::listen).map_err(|error| error.to_string())?;
        let local = listener.local_addr().map_err(|error| error.to_string())?;
        let shown = token.display().to_string();
        let token = Token::make(token).map_err(|error| format!("{shown} cannot be made ({error})"))?;
        tracing::info!("operators are answered at {local} with the token in {shown}");
        Ok(Self { listener, token })
    }
}

/// Serves each connection that is accepted, for as long as it is polled.
async fn each<S: AsyncRead + AsyncWrite + Send + Unpin + 'static>(
    accept: impl Fn(&mut Context<'_>) -> Poll<io::Result<S>>,
    door: Arc<Door>,
) {
    let mut connections = JoinSet::new();
    loop {
        while connections.len() >= CONNECTIONS {
            connections.join_next().await;
        }
        let Ok(stream) = poll_fn(&accept).await else {
            sleep(Duration::from_millis(100)).await;
            continue;
        };
        let door = Arc::clone(&door);
        let answer = service_fn(move |request| {
            let door = Arc::clone(&door);
            async move { Ok::<_, Infallible>(door.answer(request).await) }
        });
        let mut http = hyper::server::conn::http1::Builder::new();
        http.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT).max_buf_size(MAX_HEAD);
        connections.spawn(async move {
            // A client that leaves in the middle gets no answer; what was under way has no effect.
            let _ = http.serve_connection(TokioIo::new(stream), answer).await;
        });
        while connections.try_join_next().is_some() {}
    }
}

/// What the requests of one socket pass.
struct Door {
    plane: Arc<Plane>,
    /// What everybody has to bring, where anybody can reach the socket.
    proof: Option<Proof>,
}

impl Door {
    async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let (head, mut body) = request.into_parts();
        if self.proof.is_some_and(|proof| !proof.is_in(&head.headers)) {
            let why = "this port answers only requests with its token, as Authorization: Bearer TOKEN";
            let response = respond(StatusCode::UNAUTHORIZED, &json!({ "error": why }));
            // Nothing of a stranger's body is read.
            return with(with(response, WWW_AUTHENTICATE, "Bearer"), CONNECTION, "close");
        }
        let response = match self.plane.answer(&head, &mut body).await {
            Ok(Answer::Document(found)) => respond(StatusCode::OK, &found),
            Ok(Answer::Report(text)) => with(Response::new(Full::from(text)), CONTENT_TYPE, "application/json"),
            Ok(Answer::Metrics { format, text }) => {
                with(Response::new(Full::from(text)), CONTENT_TYPE, format.content_type())
            }
            Err(Refused { status, why, allow }) => {
                let response = respond(status, &json!({ "error": why }));
                match allow {
                    Some(methods) => with(response, ALLOW, methods),
                    None => response,
                }
            }
        };
        // A client that is still sending would find the connection closed, and not the answer.
        let _ = timeout(REST_TIMEOUT, async { while let Some(Ok(_)) = body.frame().await {} }).await;
        response
    }
}

fn respond(status: StatusCode, document: &Value) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(document.to_string()));
    *response.status_mut() = status;
    with(response, CONTENT_TYPE, "application/json")
}

fn with(mut response: Response<Full<Bytes>>, name: HeaderName, value: &'static str) -> Response<Full<Bytes>> {
    response.headers_mut().insert(name, HeaderValue::from_static(value));
    response
}
