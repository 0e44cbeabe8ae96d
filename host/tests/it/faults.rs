//! What the operator reads of a guest that failed, and what its client does not.

use crate::support::{App, Host, ID, component, get, guests, repository};
use std::fs;

const SETTINGS: &str =
    r#"{"limits": {"memory": "16MiB", "tableElements": 1000, "cpu": "200ms", "handles": 64, "responseBody": "1KiB"}}"#;

/// Asks, checks that the client gets the host's own words alone, and answers the reason in the closing line.
fn reason(host: &Host, target: &str) -> String {
    let answer = host.get(target);
    let words = "the function failed; the log has the reason";
    let expected =
        serde_json::json!({"error": {"reason": "guest-failed", "message": words, "invocation_id": ID}}).to_string();
    assert_eq!((answer.status, answer.text()), (500, expected));
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert_eq!(answer.header("x-flexwasm-instance"), None);
    let line = host.closing_line("faulted");
    assert!(line.contains(ID), "{line}");
    line.split("reason=").nth(1).unwrap().to_owned()
}

#[test]
fn a_fault_is_explained_in_one_line() {
    for (guest, words) in [
        (
            guests::TRAP_BEFORE,
            &[
                "trapped: reached code that must not run, as a panic",
                "incoming_handler::_export_handle",
                "standard error",
            ][..],
        ),
        (
            guests::OVERFLOW,
            &["trapped: used up its stack (out of bounds memory access), in overflow::deeper: ", "recursion"],
        ),
        (guests::BOMB, &["trapped: ", "handle", "after limits.memory of 16MiB reached: raise it, or let"]),
        (guests::SPIN, &["was ended: limits.cpu of 200ms reached, in ", "raise it, or let the guest compute less"]),
        (
            guests::HOARD,
            &["was ended: limits.handles of 64 reached, in ", "handle", ": raise it, or let the guest drop"],
        ),
        (guests::EXIT, &["called exit with status 0: let the handler return instead"]),
    ] {
        let host = App::new(SETTINGS).function("bad", guest).start();
        let reason = reason(&host, "/api/bad");
        for word in words {
            assert!(reason.contains(word), "{word:?} is not in {reason}");
        }
        assert!(
            !["std::", "core::", "rust_panic", "abort"].iter().any(|machinery| reason.contains(machinery)),
            "{reason}"
        );
        assert!(reason.matches(" < ").count() < 8, "{reason}");
    }
}

#[test]
fn a_fault_of_code_without_a_standard_library_is_explained_too() {
    for (handler, words) in [
        (
            "(drop (i32.load (i32.const -4)))",
            "trapped: accessed memory beyond the end of its own (out of bounds memory access), in handle: a wrong pointer",
        ),
        (
            "(drop (i32.div_u (i32.const 1) (i32.const 0)))",
            "trapped: divided an integer by zero (integer divide by zero), in handle: ",
        ),
        (
            "(call $handle (i32.const 0) (i32.const 0))",
            "trapped: used up its call stack (call stack exhausted), in handle: look for a recursion",
        ),
        (
            "(call_indirect (i32.const 0))",
            "trapped: called a function pointer that points to nothing (uninitialized element), in handle: ",
        ),
        (
            "(if (i32.eq (table.grow (ref.null func) (i32.const 1000)) (i32.const -1)) (then unreachable))",
            "(wasm `unreachable` instruction executed), in handle, after limits.tableElements of 1000 reached: raise it",
        ),
    ] {
        let app = App::new(SETTINGS).function("bad", guests::COUNTER);
        let host = app.file("bad/guest.wasm", &component("handle", handler)).start();
        let reason = reason(&host, "/api/bad");
        assert!(reason.contains(words), "{words:?} is not in {reason}");
    }
}

#[test]
fn one_element_less_fits_into_the_tables() {
    let grow = "(if (i32.eq (table.grow (ref.null func) (i32.const 999)) (i32.const -1)) (then unreachable))";
    let app = App::new(SETTINGS).function("bad", guests::COUNTER);
    let host = app.file("bad/guest.wasm", &component("handle", grow)).start();
    assert!(reason(&host, "/api/bad").contains("returned without setting a response"));
}

#[test]
fn a_name_of_a_guest_cannot_flood_the_log() {
    let text = fs::read_to_string(repository().join("host/tests/wat/component.wat")).unwrap();
    let name = "n".repeat(1 << 20);
    let text = text.replace("(func $handle (export", &format!("(func ${name} (export"));
    let guest = wat::parse_str(text.replace("(; handle ;)", "unreachable")).unwrap();
    let app = App::new("{}").function("bad", guests::COUNTER).file("bad/guest.wasm", &guest);
    let host = app.start();
    let reason = reason(&host, "/api/bad");
    assert!(reason.contains(", in nnnn") && reason.len() < 1000, "{}", reason.len());
}

#[test]
fn a_deadline_and_an_upload_name_their_limits_too() {
    let app = App::new(r#"{"limits": {"timeout": "300ms", "requestBody": "1KiB"}}"#).function("sleep", guests::SLEEP);
    let host = app.start();
    assert_eq!(host.get("/api/sleep?ms=3600000").status, 504);
    host.line(&["outcome=\"deadline\"", "reason=\"limits.timeout of 300ms reached: raise it, or let"]);
    let long = get("/api/sleep").replacen("\r\n\r\n", "\r\nContent-Length: 1025\r\n\r\n", 1);
    let answer = host.connect().ask(long);
    assert_eq!((answer.status, answer.reason().as_str()), (413, "request-body-too-large"));
    host.line(&[
        "outcome=\"refused\"",
        "reason=\"limits.requestBody of 1KiB reached: raise it, or let clients send less\"",
    ]);
}
