//! The command line's end of the control socket.

use crate::send::post::exchange;
use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::Full;
use serde_json::Value;
use std::io::Write as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use tokio::net::UnixStream;

/// How often the command says that it still waits.
const PROGRESS: Duration = Duration::from_secs(5);

/// Asks the host behind one of `sockets` for `POST path`, and puts its answer into words.
///
/// # Errors
/// For a person: nobody is there, or the host refused.
pub async fn ask(sockets: &[PathBuf], path: &str, body: Vec<u8>) -> Result<String, String> {
    let stream = connect(sockets).await?;
    let request = Request::post(path).header(http::header::HOST, "localhost").body(Full::new(Bytes::from(body)));
    let request = request.map_err(|_| "a function's name has letters, digits, - and _".to_owned())?;
    let begun = Instant::now();
    let mut answer = Box::pin(exchange(stream, request));
    let (head, body) = loop {
        tokio::select! {
            answered = &mut answer => break answered.map_err(|error| broken(&error))?,
            () = tokio::time::sleep(PROGRESS) => {
                let seconds = begun.elapsed().as_secs();
                // Where nobody reads it, the answer still counts.
                let _ = writeln!(
                    std::io::stderr().lock(),
                    "flexwasm: still being checked after {seconds} s; large guests are compiled for long"
                );
            }
        }
    };
    let answer: Value = serde_json::from_slice(&body).map_err(|error| broken(&error))?;
    match head.status {
        StatusCode::OK => Ok(in_words(&answer)),
        _ => Err(answer["error"].as_str().unwrap_or("the host refused without a reason").to_owned()),
    }
}

/// Asks the host behind one of `sockets` for `GET path`.
///
/// # Errors
/// For a person: nobody is there, or the host refused.
pub async fn see(sockets: &[PathBuf], path: &str) -> Result<Value, String> {
    let stream = connect(sockets).await?;
    let request = Request::get(path).header(http::header::HOST, "localhost").body(Full::new(Bytes::new()));
    let request = request.map_err(|error| broken(&error))?;
    let (_, body) = exchange(stream, request).await.map_err(|error| broken(&error))?;
    serde_json::from_slice(&body).map_err(|error| broken(&error))
}

fn broken(error: &dyn std::error::Error) -> String {
    format!("the host did not answer ({error}): look at its log")
}

async fn connect(sockets: &[PathBuf]) -> Result<UnixStream, String> {
    for socket in sockets {
        if let Ok(stream) = UnixStream::connect(socket).await {
            return Ok(stream);
        }
    }
    Err("no host of this app runs here as this user: start it with `flexwasm run`, or name its folder with --app"
        .to_owned())
}

fn in_words(answer: &Value) -> String {
    let version = |value: &Value| {
        let digest = value["digest"].as_str().unwrap_or_default();
        format!("generation {} ({digest})", value["generation"])
    };
    if let Some(same) = answer.get("unchanged") {
        return format!("outcome: unchanged, {} is this very guest", version(same));
    }
    let mut text = match &answer["old"] {
        Value::Null => String::new(),
        old => format!("old: {}\n", version(old)),
    };
    text += &format!("new: {}\n", version(&answer["new"]));
    text += &format!("took: {:.1} ms\n", answer["took_ms"].as_f64().unwrap_or_default());
    text += &format!("outcome: {}", answer["outcome"].as_str().unwrap_or("swapped"));
    for note in answer["notes"].as_array().into_iter().flatten() {
        text += &format!("\nnote: the new guest {}", note.as_str().unwrap_or_default());
    }
    text
}
