//! Sends requests on: to the URL in `x-url`, as often at the same time as `x-times` says. Streams the body of one through in both
//! directions, with its length if it is HEAD; of several it tells what came of each. Every `x-send: name=value` is a header of what it sends.

use test_guests::bindings::wasi::http::outgoing_handler;
use test_guests::bindings::wasi::http::types::{
    ErrorCode, FutureIncomingResponse, IncomingResponse, Method, OutgoingRequest, RequestOptions, Scheme,
};
use test_guests::{Fields, IncomingRequest, OutgoingBody, ResponseOutparam, begin, read, respond, write};

fn handle(request: IncomingRequest, outparam: ResponseOutparam) {
    let header = |name: &str| {
        let value = request.headers().get(name).into_iter().next();
        value.map(|value| String::from_utf8_lossy(&value).into_owned())
    };
    let url = header("x-url").expect("a URL");
    let milliseconds = |name: &str| header(name).and_then(|text| text.parse::<u64>().ok()).map(|ms| ms * 1_000_000);
    let send = || {
        let (out, body) = prepare(&request, &url);
        let options = RequestOptions::new();
        let _ = options.set_connect_timeout(milliseconds("x-connect-ms"));
        let _ = options.set_first_byte_timeout(milliseconds("x-first-ms"));
        let _ = options.set_between_bytes_timeout(milliseconds("x-between-ms"));
        (outgoing_handler::handle(out, Some(options)), body)
    };
    if let Some(times) = header("x-times").and_then(|text| text.parse::<usize>().ok()) {
        let sent: Vec<_> = (0..times).map(|_| send()).collect();
        let came: Vec<String> = sent
            .into_iter()
            .map(|(sent, body)| {
                let _ = OutgoingBody::finish(body, None);
                match sent.and_then(wait) {
                    Ok(response) => response.status().to_string(),
                    Err(code) => format!("{code:?}"),
                }
            })
            .collect();
        return respond(outparam, 200, &[], came.join(" ").as_bytes());
    }

    let (sent, body) = send();
    let answer = sent.and_then(|sent| {
        let stream = body.write().expect("taken once");
        read(&request, |chunk| write(&stream, chunk));
        drop(stream);
        let _ = OutgoingBody::finish(body, None);
        wait(sent)
    });
    let answer = match answer {
        Ok(answer) => answer,
        Err(code) => return respond(outparam, 502, &[], format!("{code:?}").as_bytes()),
    };
    let status = answer.status();
    let said = |name: &str| answer.headers().get(name).first().map(|value| String::from_utf8_lossy(value).into_owned());
    let (location, length) = (said("location"), said("content-length"));
    let mut headers: Vec<_> = location.iter().map(|to| ("x-location", to.as_str())).collect();
    if matches!(request.method(), Method::Head) {
        headers.extend(length.iter().map(|length| ("content-length", length.as_str())));
    }
    let to = begin(outparam, status, &headers);
    let stream = to.write().expect("taken once");
    let body = answer.consume().expect("taken once");
    let from = body.stream().expect("taken once");
    loop {
        match from.blocking_read(64 * 1024) {
            Ok(chunk) if write(&stream, &chunk) => {}
            Err(test_guests::StreamError::Closed) => break,
            // Unfinished, so that the client sees it.
            _ => return,
        }
    }
    drop((from, stream));
    OutgoingBody::finish(to, None).expect("as long as it was announced");
}

fn prepare(request: &IncomingRequest, url: &str) -> (OutgoingRequest, OutgoingBody) {
    let (scheme, rest) = url.split_once("://").expect("a scheme");
    let slash = rest.find('/').unwrap_or(rest.len());
    let (authority, path) = rest.split_at(slash);
    let headers = Fields::new();
    for line in request.headers().get("x-send") {
        let at = line.iter().position(|byte| *byte == b'=').expect("a name and a value");
        let name = String::from_utf8_lossy(&line[..at]);
        headers.append(&name, &line[at + 1..]).expect("a valid header");
    }
    let out = OutgoingRequest::new(headers);
    let scheme = match scheme {
        "http" => Scheme::Http,
        "https" => Scheme::Https,
        other => Scheme::Other(other.to_owned()),
    };
    out.set_method(&request.method()).expect("a valid method");
    out.set_scheme(Some(&scheme)).expect("a valid scheme");
    out.set_authority(Some(authority)).expect("a valid authority");
    out.set_path_with_query((!path.is_empty()).then_some(path)).expect("a valid path");
    let body = out.body().expect("taken once");
    (out, body)
}

fn wait(sent: FutureIncomingResponse) -> Result<IncomingResponse, ErrorCode> {
    sent.subscribe().block();
    sent.get().expect("it is ready").expect("it is taken once")
}

test_guests::guest!(handle);
