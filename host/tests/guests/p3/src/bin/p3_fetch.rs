//! Sends its request on to the URL in `x-url`, and answers with what comes back, streaming in both directions, and with its length if it
//! is HEAD. A URL may go without a path. With `x-copy` it moves the request's body itself; else it hands it on.
//! Every `x-send: name=value` is a header of what it sends.

use p3_test_guests::bindings::wasi::http0_3_0::types::{Method, Scheme};
use p3_test_guests::bindings::wit_stream;
use p3_test_guests::{ErrorCode, Request, Response, client, consume, copy, fields, respond, spawn_local, wit_future};

async fn handle(request: Request) -> Result<Response, ErrorCode> {
    let url = request.get_headers().get("x-url").into_iter().next().expect("a URL");
    let url = String::from_utf8(url).expect("a URL");
    let rest = url.strip_prefix("http://").expect("a URL");
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let method = request.get_method();
    let headers = fields(&[]);
    for line in request.get_headers().get("x-send") {
        let at = line.iter().position(|byte| *byte == b'=').expect("a name and a value");
        let name = String::from_utf8_lossy(&line[..at]).into_owned();
        headers.append(&name, &line[at + 1..]).expect("a valid header");
    }
    let copies = request.get_headers().has("x-copy");
    let (mut contents, mut trailers) = consume(request);
    if copies {
        let ((mut to, copied), (end, ending)) = (wit_stream::new(), wit_future::new(|| Ok(None)));
        let (from, all) = (std::mem::replace(&mut contents, copied), std::mem::replace(&mut trailers, ending));
        spawn_local(async move {
            copy(from, &mut to).await;
            drop(to);
            let _ = end.write(all.await).await;
        });
    }
    let (out, _) = Request::new(headers, Some(contents), trailers, None);
    out.set_method(&method).expect("a valid method");
    out.set_scheme(Some(&Scheme::Http)).expect("a valid scheme");
    out.set_authority(Some(authority)).expect("a valid authority");
    out.set_path_with_query((!path.is_empty()).then_some(path)).expect("a valid path");
    let answer = match client::send(out).await {
        Ok(answer) => answer,
        Err(code) => return Ok(respond(format!("{code:?}"))),
    };
    let lengths = if matches!(method, Method::Head) { answer.get_headers().get("content-length") } else { Vec::new() };
    let headers = fields(&[]);
    headers.set("content-length", &lengths).expect("a valid header");
    let (read, done) = wit_future::new(|| Ok(()));
    drop(read);
    let (contents, trailers) = Response::consume_body(answer, done);
    Ok(Response::new(headers, Some(contents), trailers).0)
}

p3_test_guests::guest!(handle);
