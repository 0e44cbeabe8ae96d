//! The page that shows the pool ([`live`]), and what that page asks for: stand-alone at `/`, where no function has that path, and at the
//! path of a function that says `"builtin": "view"`.
//!
//! | request | answer |
//! |---|---|
//! | `GET` | the page |
//! | the same, of which `Accept` names `text/event-stream`, but not behind the Functions host | a report whenever something changes |
//! | the same, with `application/json` | one report |
//!
//! `since` in the query says what was seen already. Behind the Functions host, that asks for the function's key, and a request that lasts
//! would keep the machine billed. Stand-alone it is for this machine alone, so only requests that name this machine get it.

use super::accepts;
use super::admin::names_this_machine;
use super::respond::HostResponse;
use crate::config::function_json::Trigger;
use crate::config::{Config, Function, Role};
use crate::live::{self, Feed, Live, Row};
use crate::protocol::routes;
use http::header::ORIGIN;
use http::request::Parts;
use http::{Method, StatusCode};
use std::net::SocketAddr;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// Answers a request to a host that listens on `local`. Streams end when `stop` says so.
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
    let is_own = config.role == Role::StandAlone;
    if is_own {
        admit(local, head)?;
    }
    if !matches!(head.method, Method::GET | Method::HEAD) {
        return Err(HostResponse::wrong_method(&[Method::GET, Method::HEAD]));
    }
    let since = live.cursor(since(head));
    if is_own && accepts(&head.headers, "text/event-stream") {
        let stream = live.stream(since, stop.clone());
        return stream.map(HostResponse::stream).ok_or_else(|| {
            let why = "too many pages look on already: close some of them";
            HostResponse::not_shown(StatusCode::SERVICE_UNAVAILABLE, why)
        });
    }
    if accepts(&head.headers, "application/json") {
        return Ok(HostResponse::report(live.report(since).text));
    }
    let listed = config.functions.iter().filter(|function| function.builtin.is_none());
    let called = |function| if is_own { called(config, local, function) } else { None };
    let rows = listed.map(|function| Row { name: &function.name, called: called(function) });
    let feed = if is_own { Feed::Events } else { Feed::Questions };
    Ok(HostResponse::page(live::page(feed, rows)))
}

/// Whether somebody on this machine asks.
fn admit(local: SocketAddr, head: &Parts) -> Result<(), HostResponse> {
    let refuse = |why| Err(HostResponse::not_shown(StatusCode::FORBIDDEN, why));
    if !local.ip().is_loopback() {
        return refuse("the pool is shown only where the host listens on a loopback address: ask `flexwasm top`");
    }
    if !names_this_machine(head) {
        return refuse("the Host header does not name this machine: use localhost");
    }
    // A page of the same origin does not name itself in a question that changes nothing.
    if head.headers.contains_key(ORIGIN) {
        return refuse("the pool is not shown to pages of other origins");
    }
    Ok(())
}

/// What its reader has seen.
fn since(head: &Parts) -> &str {
    let members = head.uri.query().unwrap_or_default().split('&');
    members.filter_map(|member| member.strip_prefix("since=")).next().unwrap_or_default()
}

/// Methods and URL of a function of a host that listens on `local`, if it is a plain HTTP function.
pub fn called(config: &Config, local: SocketAddr, function: &Function) -> Option<(String, String)> {
    let Trigger::Http { route, methods, .. } = &function.trigger else { return None };
    let methods = methods
        .as_ref()
        .map_or("any".to_owned(), |methods| methods.iter().map(Method::as_str).collect::<Vec<_>>().join(","));
    let path = if config.role == Role::Serve { "/".to_owned() } else { routes::path(&config.route_prefix, route) };
    Some((methods, format!("http://{local}{path}")))
}
