//! The guest: an app of axum. Each request calls [`main`] in an instance of its own.

use axum::Router;
use axum::extract::Query;
use axum::routing::get;
use serde::Deserialize;

#[wstd_axum::http_server]
fn main() -> Router {
    // Paths are those of the requests, with the prefix of host.json and the route of function.json.
    Router::new().route("/api/NAME", get(hello).post(hello))
}

/// What the query may say.
#[derive(Deserialize)]
struct Parameters {
    name: Option<String>,
}

async fn hello(Query(parameters): Query<Parameters>) -> String {
    let name = parameters.name.as_deref().unwrap_or("World");
    format!("Hello, {name}!\n")
}
