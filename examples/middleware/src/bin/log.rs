//! Prints a line of JSON for each request: method, path, status, and the milliseconds until the head of the answer was there. Queries are
//! left out, because they can hold secrets.

use middleware_examples::{ErrorCode, Method, Request, Response, in_front, next};
use serde_json::json;
use std::time::Instant;

async fn handle(request: Request) -> Result<Response, ErrorCode> {
    let begun = Instant::now();
    let method = spelled(request.get_method());
    let path = request.get_path_with_query().unwrap_or_default();
    let answer = next::handle(request).await;
    let (status, error) = match &answer {
        Ok(response) => (Some(response.get_status_code()), None),
        Err(code) => (None, Some(format!("{code:?}"))),
    };
    let path = path.split('?').next();
    let ms = begun.elapsed().as_secs_f64() * 1e3;
    println!("{}", json!({ "method": method, "path": path, "status": status, "error": error, "ms": ms }));
    answer
}

fn spelled(method: Method) -> String {
    match method {
        Method::Other(name) => name,
        known => format!("{known:?}").trim_start_matches("Method::").to_uppercase(),
    }
}

in_front!(handle);
