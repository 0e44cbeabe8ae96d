//! An envelope on its way to a host that runs, as the Functions host sends it.

use super::envelope::Envelope;
use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST, HeaderMap};
use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::TokioIo;
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
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|error| broken(&error))?;
    tokio::spawn(connection);
    let request = Request::post(format!("/{}", envelope.function))
        .header(HOST, address)
        .header(CONTENT_TYPE, "application/json; charset=utf-8")
        .header("X-Azure-Functions-InvocationId", Uuid::new_v4().to_string())
        .body(Full::new(Bytes::from(envelope.to_string())));
    let request = request.map_err(|error| broken(&error))?;
    let response = sender.send_request(request).await.map_err(|error| broken(&error))?;
    let (head, body) = response.into_parts();
    let body = body.collect().await.map_err(|error| broken(&error))?.to_bytes();
    Ok(Answered { status: head.status, headers: head.headers, body })
}
