//! Tries to end a header, and a head, where it likes, and to say what only the host may say. Reports what it was allowed to set.

use test_guests::{Fields, IncomingRequest, ResponseOutparam, respond};

const FORBIDDEN: [(&str, &str); 12] = [
    ("x-a\r\nx-injected", "1"),
    ("x-a: 1\r\nx-injected", "1"),
    ("x-a", "1\r\nx-injected: 1"),
    ("x-a", "1\nx-injected: 1"),
    ("x-a", "1\r\n\r\nHTTP/1.1 200 OK\r\nx-injected: 1\r\n\r\n"),
    ("x-a", "1\0"),
    ("x a", "1"),
    ("", "1"),
    ("transfer-encoding", "chunked"),
    ("connection", "close, x-flexwasm-instance"),
    ("keep-alive", "timeout=1000000"),
    ("upgrade", "h2c"),
];

/// Any guest may set them, and no caller may see them.
const FORGED: [(&str, &str); 2] = [("x-flexwasm-instance", "forged"), ("x-flexwasm-host", "forged")];

fn handle(_: IncomingRequest, outparam: ResponseOutparam) {
    let is_allowed =
        |(name, value): &(&str, &str)| Fields::from_list(&[((*name).to_owned(), value.as_bytes().to_vec())]).is_ok();
    let allowed: Vec<_> = FORBIDDEN.into_iter().filter(is_allowed).collect();
    let text = if allowed.is_empty() { "nothing".to_owned() } else { format!("{allowed:?}") };
    respond(outparam, 200, &[&allowed[..], &FORGED].concat(), text.as_bytes());
}

test_guests::guest!(handle);
