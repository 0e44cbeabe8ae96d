//! Stands in front of a guest under the name that its environment has: answers `?stop=NAME` itself, traps at `?trap=NAME`, exits at
//! `?exit=NAME`, computes without end at `?spin=NAME`, tells at `?ask=NAME` whether it may send a request and at `?find=NAME` what it
//! finds in its configuration and its store, and passes everything else on; at `?copy` it copies what it passes on. Its name, what
//! else it knows of its environment, and whether it has folders are added to `x-via`.

use p3_test_guests::bindings::wasi::http0_3_0::types::Scheme;
use p3_test_guests::{
    ErrorCode, Request, Response, StreamReader, client, consume, copy, fields, next, respond, spawn_local, wit_future,
    wit_stream,
};

mod granted {
    wit_bindgen::generate!({
        path: "../../../../wit",
        inline: "
            package test:granted;
            world imports {
                import wasi:config/store@0.2.0-rc.1;
                import wasi:keyvalue/store@0.2.0-draft;
                import wasi:keyvalue/atomics@0.2.0-draft;
                import wasi:keyvalue/store@0.2.0-draft2;
                import wasi:keyvalue/batch@0.2.0-draft2;
            }
        ",
        world: "test:granted/imports",
        generate_all,
    });
}
use granted::wasi::config::store as config;
use granted::wasi::keyvalue0_2_0_draft::{atomics, store};
use granted::wasi::keyvalue0_2_0_draft2::{batch as batch2, store as store2};

/// What the part is granted of configuration and stores: each call adds 1 to a number of its own.
fn found() -> String {
    let names: Vec<_> = config::get_all().expect("it answers").into_iter().map(|(name, _)| name).collect();
    let count = store::open("default").and_then(|bucket| {
        bucket.set("last", b"word")?;
        atomics::increment(&bucket, "count", 1)
    });
    let read =
        store2::open("default").and_then(|bucket| batch2::get_many(&bucket, &["count".to_owned(), "last".to_owned()]));
    let read =
        read.map(|pairs| pairs.into_iter().filter_map(|(_, value)| String::from_utf8(value?).ok()).collect::<Vec<_>>());
    format!("{names:?} {count:?} {read:?}")
}

/// The same bytes, which pass through the memory of this part.
fn through(from: StreamReader<u8>) -> StreamReader<u8> {
    let (mut to, copied) = wit_stream::new();
    spawn_local(async move {
        copy(from, &mut to).await;
    });
    copied
}

fn again(request: Request) -> Request {
    let (method, path, headers) = (request.get_method(), request.get_path_with_query(), request.get_headers().clone());
    let (contents, trailers) = consume(request);
    let (request, _) = Request::new(headers, Some(through(contents)), trailers, None);
    request.set_method(&method).expect("it was one");
    request.set_path_with_query(path.as_deref()).expect("it was one");
    request
}

async fn handle(request: Request) -> Result<Response, ErrorCode> {
    let names: Vec<_> = std::env::vars().map(|(name, _)| name).filter(|name| name != "NAME").collect();
    let name = std::env::var("NAME").or_else(|_| std::env::var("OTHER")).unwrap_or_else(|_| "nobody".to_owned());
    let path = request.get_path_with_query().unwrap_or_default();
    let asked = |what: &str| path.ends_with(&format!("?{what}={name}"));
    if asked("stop") {
        return Ok(respond(format!("stopped at {name}")));
    }
    if asked("find") {
        return Ok(respond(found()));
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
    if asked("exit") {
        std::process::exit(1);
    }
    while asked("spin") {}
    let copies = path.ends_with("?copy");
    let response = next::handle(if copies { again(request) } else { request }).await?;
    let (status, headers) = (response.get_status_code(), response.get_headers().clone());
    let via = format!("{name} [{}] {}", names.join(","), std::fs::read_dir("/").is_ok());
    headers.append("x-via", via.as_bytes()).expect("a valid header");
    let (_, read) = wit_future::new(|| Ok(()));
    let (contents, trailers) = Response::consume_body(response, read);
    let contents = if copies { through(contents) } else { contents };
    let (response, _) = Response::new(headers, Some(contents), trailers);
    response.set_status_code(status).expect("it was one");
    Ok(response)
}

p3_test_guests::guest!(handle);
