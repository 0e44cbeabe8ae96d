//! The examples of middleware in `examples/middleware`, each in front of a guest.

use crate::middleware::loaded;
use crate::support::{App, get, guests, repository};
use crate::swap::tell;
use std::fs;

const ANYBODY: &str = r#""authLevel": "anonymous""#;

/// An Ed25519 key as RFC 8037 writes it, and tokens for Ada: a good one until 2100, and others that are not valid.
const KEY: &str = r#"{"kty":"OKP","crv":"Ed25519","x":"A6EHv_POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg"}"#;
const GOOD: &str = "eyJhbGciOiJFZERTQSJ9.eyJzdWIiOiJhZGEiLCJleHAiOjQxMDI0NDQ4MDB9.hY6DC2_2T05VyNkO1r058g3os0v3z2RdVkTAv1OsLIEnnfSJnhWcCANCjnWGY3vWv8mRzdcSwTssm5ZPRbZGDA";
const BAD: [(&str, &str); 6] = [
    (
        "expired",
        "eyJhbGciOiJFZERTQSJ9.eyJzdWIiOiJhZGEiLCJleHAiOjEwMDAwMDAwMDB9.yFQdLDzJTcjHrY9h_WnIM_x73mqliA1xFrqc7L__z4oOWRXpKbwGM-rbY7llcTnvOm4CdX2NMAoOkhCpc7MfAw",
    ),
    (
        "not valid yet",
        "eyJhbGciOiJFZERTQSJ9.eyJuYmYiOjQxMDI0NDQwMDAsImV4cCI6NDEwMjQ0NDgwMH0.ArLbnqEpp8tU9J8z2MIFOUAJIcK8YzRb-K4grvDCBgxVu0jVQEgOIBDgfyorWhVbeIyP5Ykl8-o2rrE88CSVBw",
    ),
    (
        "for ever",
        "eyJhbGciOiJFZERTQSJ9.eyJzdWIiOiJhZGEifQ.e6cpxrosNUOJOj9c3VXRFBgVfnUzBJk3m8WePw7Hgd4VgDK8FQhrYNmNuxRkU7mVuhldjEwmiQsJYZgbxx9hBw",
    ),
    (
        "of another key",
        "eyJhbGciOiJFZERTQSJ9.eyJzdWIiOiJhZGEiLCJleHAiOjQxMDI0NDQ4MDB9.wA78ERYAb82OdjbHXbxoK7_qla0TgMmy1zA1SShqMohRIljM7H0O8QntMLiEm0VjUvSsKgOi5eHq29LiIin8Ag",
    ),
    (
        "without an algorithm",
        "eyJhbGciOiJub25lIn0.eyJzdWIiOiJhZGEiLCJleHAiOjQxMDI0NDQ4MDB9.ShVHiG_rHxP-5UUaTZcN7mAPqrH2HQgGEukmQn69bn6uI29iKBVRePCxFoRgcMEIQmC499Vk_F963MjxYe9DDQ",
    ),
    (
        "with an extension that has to be understood",
        "eyJhbGciOiJFZERTQSIsImNyaXQiOlsieCJdfQ.eyJzdWIiOiJhZGEiLCJleHAiOjQxMDI0NDQ4MDB9.7AeLaNcLpP3eRXvniMGk-asQXWbcPyM-Z61FxGdm1Y7UqaV465WOw1rhg91k6sxNNrdlCa83oS_IQb7I0MX0CQ",
    ),
];

/// A function of WASI 0.3 that counts, behind one of the examples.
fn example(file: &str, grants: &str) -> App {
    let settings = format!(r#"{{"guest": {{"middleware": [{{"file": "part.wasm", "grants": {grants}}}]}}}}"#);
    let app = App::new("{}").routed("f", guests::P3_COUNTER, ANYBODY, &settings);
    app.file("f/part.wasm", &fs::read(file).unwrap())
}

#[test]
fn the_example_of_a_token_check_lets_valid_tokens_pass() {
    let app = example(guests::AUTH, r#"{"env": ["JWT_PUBLIC_KEY"]}"#);
    let host = app.start_with(&[("JWT_PUBLIC_KEY", KEY)]);
    loaded(&host, "f");
    let with = |header: &str| host.connect().ask(get("/api/f").replacen("\r\n", &format!("\r\n{header}\r\n"), 1));
    for scheme in ["Bearer", "bearer"] {
        assert_eq!(with(&format!("Authorization: {scheme} {GOOD}")).text(), "1");
    }
    for header in ["X-Nothing: 1".to_owned(), "Authorization: Basic YTpi".to_owned(), format!("Authorization: {GOOD}")]
    {
        let answer = with(&header);
        assert_eq!((answer.status, answer.header("www-authenticate")), (401, Some("Bearer")), "{header}");
    }
    for (what, token) in
        BAD.into_iter().chain([("a word", "word"), ("three words", "a.b.c"), ("cut", &GOOD[..GOOD.len() - 2])])
    {
        let answer = with(&format!("Authorization: Bearer {token}"));
        let challenge = answer.header("www-authenticate");
        assert_eq!((answer.status, challenge), (401, Some("Bearer error=\"invalid_token\"")), "{what}");
    }
    // With a key that is none nobody passes.
    let host = app.start_with(&[("JWT_PUBLIC_KEY", "{}")]);
    loaded(&host, "f");
    let request = get("/api/f").replacen("\r\n", &format!("\r\nAuthorization: Bearer {GOOD}\r\n"), 1);
    assert_eq!(host.connect().ask(request).status, 500);
    host.line(&["of part.wasm: "]);
}

#[test]
fn the_example_of_a_cache_answers_in_the_place_of_the_guest() {
    let app = example(guests::CACHE, r#"{"keyvalue": {"cache": "memory"}}"#);
    let host = app.start();
    loaded(&host, "f");
    let hits = |request: &str| {
        let answer = host.connect().ask(request);
        assert_eq!((answer.status, answer.text()), (200, "1".to_owned()));
        answer.header("x-cache") == Some("hit")
    };
    assert!(!hits(&get("/api/f?a")));
    assert!(hits(&get("/api/f?a")));
    assert!(!hits(&get("/api/f?b")));
    assert!(!hits(&get("/api/f?a").replacen("\r\n", "\r\nCookie: a=b\r\n", 1)));
    assert!(!hits(&get("/api/f?a").replacen("GET", "DELETE", 1)));
    // Without a store it is in nobody's way.
    let host = example(guests::CACHE, "{}").start();
    loaded(&host, "f");
    assert_eq!((host.get("/api/f").text(), host.get("/api/f").header("x-cache")), ("1".to_owned(), None));
}

#[test]
fn the_example_of_a_cache_passes_on_what_it_does_not_keep() {
    let settings = r#"{"guest": {"middleware": [{"file": "part.wasm", "grants": {"keyvalue": {"cache": "memory"}}}]}}"#;
    let app = App::new("{}").routed("fails", guests::P3_FAILS_LATE, ANYBODY, settings);
    let app = app.routed("endless", guests::P3_STREAM, ANYBODY, settings);
    let cache = fs::read(guests::CACHE).unwrap();
    let host = app.file("fails/part.wasm", &cache).file("endless/part.wasm", &cache).start();
    for function in ["fails", "endless"] {
        loaded(&host, function);
    }
    for _ in 0..2 {
        let answer = host.get("/api/fails");
        // The cache waits for the end of what it may keep, so that the failure is told in time.
        assert_eq!((answer.status, answer.header("x-cache")), (500, None));
    }
    let mut client = host.connect();
    client.write(get("/api/endless"));
    assert_eq!(client.response_head().status, 200);
    let mut bytes = 0;
    while bytes < 1 << 20 {
        bytes += client.chunk().expect("more").len();
    }
}

#[test]
fn the_example_of_a_log_prints_json() {
    let app = example(guests::LOG, "{}");
    let host = app.start();
    loaded(&host, "f");
    assert_eq!(host.get("/api/f?secret=1").text(), "1");
    let line = host.line(&[r#"{\"method\":\"GET\",\"path\":\"/api/f\",\"status\":200,"#]);
    assert!(!line.contains("secret"), "{line}");
}

#[test]
#[ignore = "needs target/examples: cargo xtask test"]
fn the_example_in_javascript_lets_requests_with_the_key_pass() {
    let settings = r#"{"guest": {"middleware": [{"file": "part.wasm", "grants": {"env": ["API_KEY"]}}]}}"#;
    let app = App::new("{}").routed("f", guests::COUNTER, ANYBODY, settings);
    let app = app.file("f/part.wasm", &fs::read(guests::PART).unwrap());
    let host = app.start_with(&[("API_KEY", "a key")]);
    loaded(&host, "f");
    // Compiling takes up to a minute where this very chain was never compiled before.
    let key = repository().join("target/examples/key-js.wasm");
    let (status, said, stderr) = tell(app.path(), &["swap", "f", key.to_str().unwrap(), "--part", "part.wasm"]);
    assert!(status.success(), "{said}{stderr}");
    let with = |header: &str| host.connect().ask(get("/api/f").replacen("\r\n", &format!("\r\n{header}\r\n"), 1));
    assert_eq!(with("X-API-Key: a key").text(), "1");
    for header in ["X-Nothing: 1", "X-API-Key: another", "X-API-Key: a kez", "X-API-Key:"] {
        assert_eq!(with(header).status, 401, "{header}");
    }
}
