//! The host's end of the control socket.

use crate::guest::Keep;
use crate::guest::artifact::Artifact;
use crate::private;
use crate::swap::{Outcome, Swap, Version};
use bytes::Bytes;
use http::request::Parts;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::{Value, json};
use std::convert::Infallible;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::UnixListener;
use tokio::task::JoinSet;

/// For a request head on a connection.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// Connections at the same time: people, not load.
const CONNECTIONS: usize = 16;

/// A socket that people can reach the host by. Its file is removed when this is dropped.
pub struct Control {
    listener: UnixListener,
    path: PathBuf,
}

impl Control {
    /// Listens at the first of `sockets` that can be used.
    ///
    /// # Errors
    /// Why none can, for a person: another host serves the same app, say.
    pub fn listen(sockets: &[PathBuf]) -> Result<Self, String> {
        if let Some(path) = sockets.iter().find(|path| UnixStream::connect(path).is_ok()) {
            return Err(format!("another host serves the same app, and has {}", path.display()));
        }
        let mut refused = Vec::new();
        for path in sockets {
            match listen(path) {
                Ok(listener) => return Ok(Self { listener, path: path.clone() }),
                Err(why) => refused.push(format!("{} {why}", path.display())),
            }
        }
        Err(refused.join("; "))
    }

    /// Answers for as long as it is polled.
    pub async fn serve(self, swaps: Arc<[Arc<Swap>]>) {
        let mut connections = JoinSet::new();
        loop {
            while connections.len() >= CONNECTIONS {
                connections.join_next().await;
            }
            let Ok((stream, _)) = self.listener.accept().await else {
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            };
            let swaps = Arc::clone(&swaps);
            let answer = service_fn(move |request| {
                let swaps = Arc::clone(&swaps);
                async move { Ok::<_, Infallible>(answer(&swaps, request).await) }
            });
            let mut http = hyper::server::conn::http1::Builder::new();
            http.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT);
            connections.spawn(async move {
                // Who leaves in the middle gets no answer; what was under way has no effect.
                let _ = http.serve_connection(TokioIo::new(stream), answer).await;
            });
            while connections.try_join_next().is_some() {}
        }
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

fn listen(path: &Path) -> Result<UnixListener, String> {
    let folder = path.parent().expect("a socket lies in a folder");
    private::open(folder).map_err(|why| format!("cannot be made: {} {why}", folder.display()))?;
    // Of one that was killed.
    let _ = fs::remove_file(path);
    let listener = UnixListener::bind(path).map_err(|error| format!("cannot be made ({error})"))?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).map_err(|error| error.to_string())?;
    Ok(listener)
}

async fn answer(swaps: &[Arc<Swap>], request: Request<Incoming>) -> Response<Full<Bytes>> {
    let (head, mut body) = request.into_parts();
    let result = match act(swaps, &head, &mut body).await {
        Ok(outcome) => (StatusCode::OK, described(outcome)),
        Err((status, why)) => (status, json!({ "error": why })),
    };
    // Who is still sending would find the connection closed, and not the answer.
    while let Some(Ok(_)) = body.frame().await {}
    let mut response = Response::new(Full::from(result.1.to_string()));
    *response.status_mut() = result.0;
    response
}

/// Does what is asked, or says why not.
async fn act(swaps: &[Arc<Swap>], head: &Parts, body: &mut Incoming) -> Result<Outcome, (StatusCode, String)> {
    let path = head.uri.path();
    let (action, name) = path.trim_start_matches('/').split_once('/').unwrap_or_default();
    if head.method != Method::POST || !matches!(action, "swap" | "rollback") {
        return Err((
            StatusCode::NOT_FOUND,
            "the host does not know this request: use the same version of flexwasm".to_owned(),
        ));
    }
    let Some(swap) = swaps.iter().find(|swap| *swap.function.name == *name) else {
        let names: Vec<&str> = swaps.iter().map(|swap| &*swap.function.name).collect();
        return Err((StatusCode::NOT_FOUND, format!("there is no function {name}: name one of {}", names.join(", "))));
    };
    if action == "rollback" {
        let why = |why| (StatusCode::CONFLICT, format!("function {name} {why}"));
        return swap.rollback().map_err(why);
    }
    let most = usize::try_from(swap.function.guest.max_size).expect("1 GiB at the most");
    let body = Limited::new(body, most).collect().await;
    let body = body.map_err(|error| match error.downcast_ref::<LengthLimitError>() {
        Some(_) => {
            (StatusCode::PAYLOAD_TOO_LARGE, crate::guest::artifact::NoArtifact::TooLarge(most as u64).to_string())
        }
        None => (StatusCode::BAD_REQUEST, format!("the guest did not arrive ({error})")),
    })?;
    let origin = "the guest from the command line";
    let artifact = tokio::task::spawn_blocking(move || Artifact::new(origin.to_owned(), body.to_bytes().into()));
    let artifact = artifact.await.expect("a digest is taken without panic").map_err(Into::into);
    let published = match artifact {
        Ok(artifact) => swap.publish(artifact, Keep::Always).await,
        Err(why) => Err(why),
    };
    published.map_err(|why| {
        swap.refuse(origin, &why);
        (StatusCode::UNPROCESSABLE_ENTITY, why.to_string())
    })
}

fn described(outcome: Outcome) -> Value {
    let version = |version: Version| json!({ "generation": version.generation, "digest": version.digest.to_string() });
    match outcome {
        Outcome::Swapped { old, new, took, notes } => json!({
            "old": old.map(version),
            "new": version(new),
            "took_ms": took.as_secs_f64() * 1e3,
            "notes": notes,
        }),
        Outcome::Unchanged(same) => json!({ "unchanged": version(same) }),
    }
}
