//! An envelope on its way to a host that runs, as the Functions host sends it.

use super::envelope::Envelope;
use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST, HeaderMap};
use http::response::Parts;
use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use uuid::Uuid;

/// What a host answered.
#[derive(Debug)]
pub struct Answered {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The whole body.
    pub body: Bytes,
}

/// Posts it to the host at `address`, such as `127.0.0.1:7071`. It takes as long as the function may take.
///
/// # Errors
/// For a person: the host cannot be reached, or broke off.
pub async fn post(address: &str, envelope: &Envelope) -> Result<Answered, String> {
    let broken = |error: &dyn std::error::Error| format!("the host at {address} did not answer ({error})");
    let stream = TcpStream::connect(address).await.map_err(|error| broken(&error))?;
    let request = Request::post(format!("/{}", envelope.function))
        .header(HOST, address)
        .header(CONTENT_TYPE, "application/json; charset=utf-8")
        .header("X-Azure-Functions-InvocationId", Uuid::new_v4().to_string())
        .body(Full::new(Bytes::from(envelope.to_string())));
    let request = request.map_err(|error| broken(&error))?;
    let (head, body) = exchange(stream, request).await.map_err(|error| broken(&error))?;
    Ok(Answered { status: head.status, headers: head.headers, body })
}

/// One request over a connection of its own, and its whole answer.
///
/// # Errors
/// What hyper says of the connection.
pub async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    request: Request<Full<Bytes>>,
) -> hyper::Result<(Parts, Bytes)> {
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let (head, body) = sender.send_request(request).await?.into_parts();
    Ok((head, body.collect().await?.to_bytes()))
}
