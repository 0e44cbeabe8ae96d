//! Stands in front of a guest under the name that its environment has: answers `?stop=NAME` itself, traps at `?trap=NAME`, tells at
//! `?ask=NAME` whether it may send a request, and passes everything else on. Its name, what else it knows of its environment, and
//! whether it has folders are added to `x-via`.

use p3_test_guests::bindings::wasi::http0_3_0::types::Scheme;
use p3_test_guests::{ErrorCode, Request, Response, client, fields, next, respond, wit_future};

async fn handle(request: Request) -> Result<Response, ErrorCode> {
    let names: Vec<_> = std::env::vars().map(|(name, _)| name).filter(|name| name != "NAME").collect();
    let name = std::env::var("NAME").or_else(|_| std::env::var("OTHER")).unwrap_or_else(|_| "nobody".to_owned());
    let path = request.get_path_with_query().unwrap_or_default();
    let asked = |what: &str| path.ends_with(&format!("?{what}={name}"));
    if asked("stop") {
        return Ok(respond(format!("stopped at {name}")));
    }
    if asked("ask") {
        let (_, trailers) = wit_future::new(|| Ok(None));
        let (out, _) = Request::new(fields(&[]), None, trailers, None);
        out.set_scheme(Some(&Scheme::Http)).expect("a valid scheme");
        let authority = request.get_headers().get("x-ask").into_iter().next().expect("an authority");
        out.set_authority(Some(&String::from_utf8(authority).expect("text"))).expect("a valid authority");
        let answer = client::send(out).await;
        return Ok(respond(
            answer.map_or_else(|code| format!("{code:?}"), |answer| answer.get_status_code().to_string()),
        ));
    }
    assert!(!asked("trap"), "as asked");
    let response = next::handle(request).await?;
    let (status, headers) = (response.get_status_code(), response.get_headers().clone());
    let via = format!("{name} [{}] {}", names.join(","), std::fs::read_dir("/").is_ok());
    headers.append("x-via", via.as_bytes()).expect("a valid header");
    let (_, read) = wit_future::new(|| Ok(()));
    let (contents, trailers) = Response::consume_body(response, read);
    let (response, _) = Response::new(headers, Some(contents), trailers);
    response.set_status_code(status).expect("it was one");
    Ok(response)
}

p3_test_guests::guest!(handle);
