//! Servers that an attacker may send requests to: one that wants the token which the host adds, the identity that has it, and another origin
//! that repeats what it gets.

use crate::process;
use anyhow::{Context as _, Result};
use serde_json::json;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;
use testkit::SECRET;

/// For the head of a request.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long a token is good: it is renewed again and again while the attack runs.
const TOKEN_SECONDS: u32 = 4;

/// Where they are. They end with this process.
pub struct Upstream {
    pub api: SocketAddr,
    pub identity: SocketAddr,
    pub echo: SocketAddr,
}

impl Upstream {
    /// Starts all of them on one processor.
    pub fn start(processor: usize) -> Result<Self> {
        let echo = serve(processor, |head| answer("200 OK", "", &head.join("\n")))?;
        let authorized = format!("authorization: bearer {}", SECRET.to_lowercase());
        let api = serve(processor, move |head| {
            if !head.iter().any(|line| line.to_lowercase() == authorized) {
                answer("401 Unauthorized", "", "")
            } else if head.first().is_some_and(|line| line.contains(" /redirect ")) {
                answer("307 Temporary Redirect", &format!("location: http://{echo}/\r\n"), "")
            } else {
                answer("200 OK", "", "good")
            }
        })?;
        let token = json!({ "access_token": SECRET, "expires_in": TOKEN_SECONDS, "token_type": "Bearer" }).to_string();
        let identity = serve(processor, move |_| answer("200 OK", "", &token))?;
        Ok(Self { api, identity, echo })
    }
}

fn answer(status: &str, headers: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\n{headers}connection: close\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

/// Answers the head of each request, one for each connection.
fn serve(processor: usize, answer: impl Fn(&[String]) -> String + Clone + Send + 'static) -> Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").context("cannot listen")?;
    let address = listener.local_addr()?;
    thread::spawn(move || {
        process::bind_to(processor)?;
        for stream in listener.incoming() {
            let (stream, answer) = (stream?, answer.clone());
            // An attacker may leave at any time.
            thread::spawn(move || drop(serve_one(&stream, answer)));
        }
        anyhow::Ok(())
    });
    Ok(address)
}

fn serve_one(mut stream: &TcpStream, answer: impl Fn(&[String]) -> String) -> std::io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    let lines = BufReader::new(stream).lines();
    let head =
        lines.take_while(|line| line.as_ref().map_or(true, |line| !line.is_empty())).collect::<Result<Vec<_>, _>>()?;
    stream.write_all(answer(&head).as_bytes())
}
