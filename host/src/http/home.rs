//! What a person finds at `/` where no function has that path: the page that shows the pool ([`live`]), and what that page asks for.
//!
//! | request | answer |
//! |---|---|
//! | `GET /` | the page |
//! | the same, of which `Accept` names `text/event-stream` | a report whenever something changes |
//! | the same, with `application/json` | one report |
//!
//! `since` in the query says what was seen already. It is for this machine alone, so only those get it who name this machine.

use super::admin::names_this_machine;
use super::respond::HostResponse;
use crate::config::function_json::Trigger;
use crate::config::{Config, Role};
use crate::live::{self, Feed, Live, Row};
use crate::protocol::routes;
use http::header::{ACCEPT, ORIGIN};
use http::request::Parts;
use http::{Method, StatusCode};
use std::net::SocketAddr;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// Answers a request for `/` to a host that listens on `local`. Streams end when `stop` says so.
///
/// # Errors
/// Why nothing is shown.
pub fn answer(
    config: &Config,
    live: &Arc<Live>,
    local: SocketAddr,
    head: &Parts,
    stop: &CancellationToken,
) -> Result<HostResponse, HostResponse> {
    let refuse = |status, why| HostResponse::not_shown(status, why);
    if !local.ip().is_loopback() {
        let why = "the pool is shown only where the host listens on a loopback address; elsewhere ask `flexwasm top`";
        return Err(refuse(StatusCode::FORBIDDEN, why));
    }
    if !names_this_machine(head) {
        return Err(refuse(StatusCode::FORBIDDEN, "the Host header does not name this machine: use localhost"));
    }
    // A page of the same origin does not name itself in a question that changes nothing.
    if head.headers.contains_key(ORIGIN) {
        return Err(refuse(StatusCode::FORBIDDEN, "the pool is not shown to pages of other origins"));
    }
    if !matches!(head.method, Method::GET | Method::HEAD) {
        return Err(HostResponse::wrong_method(&[Method::GET, Method::HEAD]));
    }
    let accepts = |kind| head.headers.get_all(ACCEPT).iter().any(|it| it.to_str().is_ok_and(|it| it.contains(kind)));
    let since = live.cursor(since(head));
    if accepts("text/event-stream") {
        let stream = live.stream(since, stop.clone());
        return stream.map(HostResponse::stream).ok_or_else(|| {
            refuse(StatusCode::SERVICE_UNAVAILABLE, "too many pages look on already: close some of them")
        });
    }
    if accepts("application/json") {
        return Ok(HostResponse::report(live.report(since).text));
    }
    let row = |function: &crate::config::Function| {
        let url = urls(config, local).find(|(name, ..)| **name == *function.name);
        (Arc::clone(&function.name), url.map(|(_, methods, url)| (methods, url)))
    };
    let rows: Vec<_> = config.functions.iter().map(row).collect();
    let rows = rows.iter().map(|(name, called)| Row { name, called: called.clone() });
    Ok(HostResponse::page(live::page(Feed::Events, rows)))
}

/// What its reader has seen.
fn since(head: &Parts) -> &str {
    let members = head.uri.query().unwrap_or_default().split('&');
    members.filter_map(|member| member.strip_prefix("since=")).next().unwrap_or_default()
}

/// Name, methods and URL of every plain HTTP function of a host that listens on `local`.
pub fn urls(config: &Config, local: SocketAddr) -> impl Iterator<Item = (&str, String, String)> {
    config.functions.iter().filter_map(move |function| {
        let Trigger::Http { route, methods, .. } = &function.trigger else { return None };
        let methods = methods
            .as_ref()
            .map_or("any".to_owned(), |methods| methods.iter().map(Method::as_str).collect::<Vec<_>>().join(","));
        let path = if config.role == Role::Serve { "/".to_owned() } else { routes::path(&config.route_prefix, route) };
        Some((&*function.name, methods, format!("http://{local}{path}")))
    })
}
