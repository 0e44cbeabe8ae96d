//! May send requests to an API, to which the host adds a token, and to another server that repeats what it gets. Tries to see the token, and
//! answers with all that it sees.

use std::env;
use test_guests::bindings::wasi::http::outgoing_handler;
use test_guests::bindings::wasi::http::types::{IncomingResponse, Method, OutgoingRequest, Scheme};
use test_guests::{Fields, IncomingRequest, ResponseOutparam, respond};

/// Headers that somebody on the way might take for his own, or that some servers repeat.
const HEADERS: [&[(&str, &str)]; 9] = [
    &[("authorization", "Bearer forged")],
    &[("authorization", ""), ("Authorization", "Basic x")],
    &[("connection", "authorization"), ("proxy-connection", "authorization")],
    &[("x-a", "b\r\nHost: ECHO"), ("x-a\r\nhost", "ECHO")],
    &[("host", "ECHO"), ("x-forwarded-host", "ECHO")],
    &[("transfer-encoding", "chunked"), ("content-length", "5")],
    &[("expect", "100-continue"), ("te", "trailers"), ("trailer", "authorization")],
    &[("x_authorization", "x"), ("proxy-authorization", "Bearer forged")],
    &[("access-control-request-headers", "authorization"), ("forwarded", "host=ECHO")],
];
const PATHS: [&str; 7] =
    ["/", "/redirect", "http://ECHO/", "//ECHO/", "/@ECHO/", "/ HTTP/1.1\r\nHost: ECHO\r\n\r\n", "*"];

fn handle(_: IncomingRequest, outparam: ResponseOutparam) {
    let [api, echo] = ["API", "ECHO"].map(|name| env::var(name).expect("it is granted"));
    let plain = ask(&Method::Get, &Scheme::Http, &api, "/", &[]);
    assert!(plain.as_ref().is_ok_and(|response| response.status() == 200), "the host adds no token");
    let mut seen = vec![tell(plain, &echo)];
    for path in PATHS {
        for headers in [&[][..]].iter().chain(&HEADERS) {
            let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, value.replace("ECHO", &echo))).collect();
            seen.push(tell(ask(&Method::Get, &Scheme::Http, &api, &path.replace("ECHO", &echo), &headers), &echo));
        }
    }
    for method in [Method::Options, Method::Connect, Method::Other("TRACE".to_owned())] {
        seen.push(tell(ask(&method, &Scheme::Http, &api, "/", &[]), &echo));
    }
    for authority in [format!("{api}@{echo}"), format!("{echo}@{api}"), format!("{api}."), format!("{api}#{echo}")] {
        seen.push(tell(ask(&Method::Get, &Scheme::Http, &authority, "/", &[]), &echo));
    }
    // What errors say: of a server that speaks something else.
    seen.push(tell(ask(&Method::Get, &Scheme::Https, &api, "/", &[]), &echo));
    respond(outparam, 200, &[], seen.join("\n").as_bytes());
}

/// Sends a request and waits for its answer, or for why there is none.
fn ask(
    method: &Method,
    scheme: &Scheme,
    authority: &str,
    path: &str,
    headers: &[(&str, String)],
) -> Result<IncomingResponse, String> {
    let fields = Fields::new();
    for (name, value) in headers {
        fields.append(name, value.as_bytes()).map_err(|error| format!("{error:?}"))?;
    }
    let request = OutgoingRequest::new(fields);
    let set = request.set_method(method).is_ok()
        && request.set_scheme(Some(scheme)).is_ok()
        && request.set_authority(Some(authority)).is_ok()
        && request.set_path_with_query(Some(path)).is_ok();
    if !set {
        return Err("it cannot be asked".to_owned());
    }
    let sent = outgoing_handler::handle(request, None).map_err(|code| format!("{code:?}"))?;
    sent.subscribe().block();
    let response = sent.get().expect("it is ready").expect("it is taken once");
    response.map_err(|code| format!("{code:?}"))
}

/// All of an answer. A redirect is followed to where it leads, with what came back as headers.
fn tell(answer: Result<IncomingResponse, String>, echo: &str) -> String {
    let response = match answer {
        Ok(response) => response,
        Err(why) => return why,
    };
    let headers = response.headers().entries();
    let mut told = format!("{} {headers:?} ", response.status());
    if let Some((_, to)) = headers.iter().find(|(name, _)| name == "location") {
        told += &String::from_utf8_lossy(to);
        let back: Vec<_> =
            headers.iter().map(|(name, value)| (name.as_str(), String::from_utf8_lossy(value).into_owned())).collect();
        for headers in [&[][..], &back] {
            told += &ask(&Method::Get, &Scheme::Http, echo, "/", headers).map_or_else(|why| why, |it| body(&it));
        }
    }
    told + &body(&response)
}

fn body(response: &IncomingResponse) -> String {
    let body = response.consume().expect("taken once");
    let stream = body.stream().expect("taken once");
    let mut text = Vec::new();
    while let Ok(chunk) = stream.blocking_read(64 * 1024) {
        text.extend(chunk);
    }
    String::from_utf8_lossy(&text).into_owned()
}

test_guests::guest!(handle);
