//! What a person finds at `/` where no function has that path: every function with its URL, and how busy the pool is.

use crate::config::function_json::Trigger;
use crate::config::{Config, Role};
use crate::pool::Occupancy;
use crate::protocol::routes;
use http::Method;
use std::net::SocketAddr;

/// The page, in HTML.
pub fn page(config: &Config, local: SocketAddr, occupancy: Occupancy) -> String {
    let rows: String = urls(config, local)
        .map(|(name, methods, url)| {
            format!("<tr><td>{name}</td><td>{methods}</td><td><a href=\"{url}\">{url}</a></td></tr>\n")
        })
        .collect();
    format!(
        "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\"><title>flexwasm</title>\n\
         <h1>flexwasm {}</h1>\n<p>{} of {} instances are busy, {} requests are waiting.</p>\n\
         <table><tr><th>Function</th><th>Methods</th><th>URL</th></tr>\n{rows}</table>\n</html>\n",
        env!("CARGO_PKG_VERSION"),
        occupancy.busy,
        occupancy.slots,
        occupancy.waiting,
    )
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
