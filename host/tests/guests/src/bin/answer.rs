//! Answers as its request's body says: a status, header lines, an empty line, a body. `print: TEXT` among the headers is printed, and
//! `trap: now` ends it. To Azure's JSON it answers in Azure's JSON.

use test_guests::{IncomingRequest, ResponseOutparam, read, respond};

fn handle(request: IncomingRequest, outparam: ResponseOutparam) {
    let mut wanted = Vec::new();
    read(&request, |chunk| {
        wanted.extend_from_slice(chunk);
        true
    });
    if wanted.starts_with(b"{") {
        println!("{}", String::from_utf8_lossy(&wanted));
        return respond(outparam, 200, &[], br#"{"Outputs": {"copy": "aGk="}, "Logs": ["mine"]}"#);
    }
    let end = wanted.windows(2).position(|pair| pair == b"\n\n").unwrap_or(wanted.len());
    let head = String::from_utf8_lossy(&wanted[..end]).into_owned();
    let body = wanted.get(end + 2..).unwrap_or_default();
    let (status, lines) = head.split_once('\n').unwrap_or((&head, ""));
    let mut headers: Vec<(&str, &str)> = lines.lines().filter_map(|line| line.split_once(": ")).collect();
    for (_, text) in headers.iter().filter(|(name, _)| *name == "print") {
        println!("{text}");
    }
    assert!(!headers.contains(&("trap", "now")), "as the body says");
    headers.retain(|(name, _)| *name != "print");
    respond(outparam, status.parse().expect("a status"), &headers, body);
}

test_guests::guest!(handle);
