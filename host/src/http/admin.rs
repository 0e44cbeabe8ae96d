//! `POST /admin/functions/NAME`: a function that is started by hand, as the Functions host's endpoint of this name does it. Only
//! stand-alone: the Functions host answers these paths itself.
//!
//! Seen of the real one: 202 as soon as the request is taken; 400 without a body of JSON, or where `input` is an object; 404 for a
//! name that no function has, in any case. What a queue's function gets without input never reaches a handler. Whatever pages of
//! other origins can send without being asked about it (a form, a text) starts nothing.

use super::received::Received;
use super::request_body::RequestBody;
use super::respond::HostResponse;
use crate::config::{self, Config, Role, member};
use crate::protocol::media_type;
use crate::send::envelope::{Envelope, Function};
use crate::send::event::Event;
use crate::send::post::post;
use http::header::HOST;
use http::request::Parts;
use http::uri::Authority;
use http::{Method, StatusCode};
use http_body_util::BodyExt as _;
use serde_json::Value;
use std::net::SocketAddr;
use tokio_util::task::TaskTracker;

/// The most that a body may have, in bytes: what the Functions host hands on as one text.
const MAX_BODY: u64 = 1 << 20;

/// The function that a request to this path is to start, as it is spelled.
pub fn function(role: Role, head: &Parts) -> Option<&str> {
    let below = |prefix: &str| {
        let (start, rest) = head.uri.path().split_at_checked(prefix.len())?;
        start.eq_ignore_ascii_case(prefix).then_some(rest)
    };
    below("/admin/functions/").filter(|name| role == Role::StandAlone && !name.is_empty())
}

/// What somebody wants to start.
pub struct Asked<'a> {
    /// Of this host.
    pub config: &'a Config,
    /// Where it listens.
    pub local: SocketAddr,
    /// Owner of what goes on behind the answer.
    pub tasks: &'a TaskTracker,
    /// The name that was given.
    pub name: &'a str,
}

impl Asked<'_> {
    /// Starts it, if all is right.
    ///
    /// # Errors
    /// Why nothing is started.
    pub async fn answer(self, head: &Parts, body: Received) -> Result<HostResponse, HostResponse> {
        let refuse = |status, why: &str| HostResponse::not_started(status, why);
        if !self.local.ip().is_loopback() {
            return Err(refuse(
                StatusCode::FORBIDDEN,
                "functions are started by hand only where the host listens on a loopback address",
            ));
        }
        if !names_this_machine(head) {
            return Err(refuse(StatusCode::FORBIDDEN, "the Host header does not name this machine: use localhost"));
        }
        if head.method != Method::POST {
            return Err(HostResponse::wrong_method(&[Method::POST]));
        }
        let found = self.config.functions.iter().find(|function| function.name.eq_ignore_ascii_case(self.name));
        let Some(found) = found else { return Err(refuse(StatusCode::NOT_FOUND, "there is no function of this name")) };
        let kind = media_type(&head.headers);
        if !["application/json", "text/json"].iter().any(|json| kind.eq_ignore_ascii_case(json)) {
            return Err(refuse(StatusCode::UNSUPPORTED_MEDIA_TYPE, "send content-type: application/json"));
        }
        let (body, _watch) = RequestBody::new(body, MAX_BODY)?;
        let body = body.collect().await.map_err(|error| refuse(StatusCode::BAD_REQUEST, &error.to_string()))?;
        let input = input(&body.to_bytes()).map_err(|why| refuse(StatusCode::BAD_REQUEST, why))?;
        if let Some(envelope) =
            envelope(found, input.as_deref()).map_err(|why| refuse(StatusCode::BAD_REQUEST, &why))?
        {
            let address = self.local.to_string();
            self.tasks.spawn(async move {
                // How the invocation ended stands in its own closing line.
                if let Err(why) = post(&address, &envelope).await {
                    tracing::warn!(function = envelope.function, "started by hand, but {why}");
                }
            });
        }
        Ok(HostResponse::accepted())
    }
}

/// What the function gets; none where the Functions host would not ask it.
fn envelope(found: &config::Function, input: Option<&str>) -> Result<Option<Envelope>, String> {
    let function = Function::new(&found.name, &found.bindings)?;
    if function.kind() == "httptrigger" {
        return Err(format!("{} is called by requests to its own path", found.name));
    }
    Event::by_hand(&function, input)
}

/// Whether the request is for this machine by name: a page of another origin whose name was made to mean this machine names itself.
pub fn names_this_machine(head: &Parts) -> bool {
    let host = head.headers.get(HOST).and_then(|value| value.to_str().ok()?.parse::<Authority>().ok());
    let named = head.uri.authority().cloned().or(host);
    let name = named.as_ref().map(|authority| authority.host().trim_matches(['[', ']']));
    name.is_some_and(|name| {
        name.eq_ignore_ascii_case("localhost")
            || name.parse().is_ok_and(|address: std::net::IpAddr| address.is_loopback())
    })
}

/// `input`, in any case; none where it is null or missing.
fn input(body: &[u8]) -> Result<Option<String>, &'static str> {
    const EXAMPLE: &str = "send an object of JSON, such as {\"input\": \"a text\"}";
    let document: Value = serde_json::from_slice(body).map_err(|_| EXAMPLE)?;
    if !document.is_object() {
        return Err(EXAMPLE);
    }
    match member(&document, "input") {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(Value::Array(_) | Value::Object(_)) => Err("input is a text: put JSON into it as a text"),
        Some(scalar) => Ok(Some(scalar.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn d15_12_the_body_is_read_as_the_functions_host_reads_it() {
        let text = |body: &str| input(body.as_bytes());
        assert_eq!(text(r#"{"input":"x"}"#), Ok(Some("x".to_owned())));
        assert_eq!(text(r#"{"INPUT":"x"}"#), Ok(Some("x".to_owned())));
        assert_eq!(text(r#"{"input":5}"#), Ok(Some("5".to_owned())));
        for none in ["{}", r#"{"input":null}"#] {
            assert_eq!(text(none), Ok(None));
        }
        for wrong in ["", "x", "[]", "\"x\"", r#"{"input":{"a":1}}"#, r#"{"input":[]}"#] {
            assert!(text(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn only_names_of_this_machine_start_anything() {
        let named = |host: &str| {
            let request = http::Request::post("/admin/functions/x").header(HOST, host).body(()).expect("a request");
            names_this_machine(&request.into_parts().0)
        };
        for host in ["localhost", "LOCALHOST:7071", "127.0.0.1:7071", "[::1]:7071"] {
            assert!(named(host), "{host}");
        }
        for host in ["example.com", "localhost.example.com:7071", "10.0.0.1", "0.0.0.0:7071"] {
            assert!(!named(host), "{host}");
        }
    }
}
