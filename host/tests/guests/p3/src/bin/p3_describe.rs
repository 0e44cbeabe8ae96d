//! Tells what it sees of the request head and of its host, a line each.

use p3_test_guests::{ErrorCode, Request, Response, diagnostics, respond};

async fn handle(request: Request) -> Result<Response, ErrorCode> {
    let facts = diagnostics::describe();
    let mut text = format!(
        "method: {:?}\nscheme: {:?}\nauthority: {}\npath: {}\nserved: {}\ninvocation: {}\n",
        request.get_method(),
        request.get_scheme(),
        request.get_authority().unwrap_or_default(),
        request.get_path_with_query().unwrap_or_default(),
        facts.instance.served,
        facts.invocation.id.as_deref().unwrap_or("none"),
    );
    for (name, value) in request.get_headers().copy_all() {
        text += &format!("header: {name}={}\n", String::from_utf8_lossy(&value));
    }
    Ok(respond(text))
}

p3_test_guests::guest!(handle);
