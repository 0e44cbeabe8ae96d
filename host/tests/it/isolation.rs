//! What one request leaves in memory, tables and globals is not in the next, whatever guest it runs and whatever slots keep.

use crate::support::{App, eventually, flexwasm, guests, output, repository};
use std::fs;

/// With the first of these `limits.totalMemory` a slot keeps 4 MiB at the most, and some of these guests write 6; with the other it keeps
/// everything.
const MEMORY: [&str; 2] = ["64MiB", "256MiB"];

fn settings(memory: &str) -> String {
    format!(r#"{{"pool": {{"size": 3}}, "limits": {{"totalMemory": "{memory}", "cpu": "20s"}}}}"#)
}

/// Bytes from one write to the next, and pages that the memory grows by.
const PATTERNS: [(&str, u32, u32); 5] =
    [("dense", 8, 0), ("each", 4096, 0), ("sparse", 64 * 4096, 0), ("grown", 8, 48), ("sparsely", 16 * 4096, 48)];

/// Requests of each of them after which its slot has looked for pages that it need not keep open.
const ALONE: usize = 12;

fn dirty(step: u32, growth: u32) -> Vec<u8> {
    let text = fs::read_to_string(repository().join("host/tests/wat/dirty.wat")).unwrap();
    wat::parse_str(text.replace("STEP", &step.to_string()).replace("GROWTH", &growth.to_string())).unwrap()
}

/// More guests than slots, all at once, so that they take slots from each other; then each of them alone, so that it meets nothing but
/// its own traces.
fn nothing_is_left(memory: &str) {
    let app = PATTERNS.iter().fold(App::new(&settings(memory)), |app, (name, step, growth)| {
        app.function(name, guests::COUNTER).file(&format!("{name}/guest.wasm"), &dirty(*step, *growth))
    });
    let host = app.function("counter", guests::COUNTER).start();
    let ask = |name: &str| {
        let answer = host.get(&format!("/api/{name}"));
        // The guest has no words for an answer. If it found something, it trapped.
        assert_eq!(answer.status, 500, "{name}");
    };
    std::thread::scope(|scope| {
        for first in 0..4 {
            let ask = &ask;
            scope.spawn(move || (0..20).for_each(|round| ask(PATTERNS[(first + round) % PATTERNS.len()].0)));
        }
    });
    for (name, ..) in PATTERNS {
        (0..ALONE).for_each(|_| ask(name));
    }
    assert_eq!(host.get("/api/counter").text(), "1");
    // Each on a connection of its own, so the last of them may be told behind the answer.
    let expected = 4 * 20 + PATTERNS.len() * ALONE;
    let ended = || host.log().iter().filter(|line| line.contains("returned without setting a response")).count();
    eventually("every request is told", || ended() >= expected);
    drop(host.closing_line("answered"));
    assert_eq!(ended(), expected, "{:#?}", host.log());
}

#[test]
fn nothing_of_a_request_is_left_where_slots_keep_what_it_writes() {
    nothing_is_left(MEMORY[1]);
}

#[test]
fn nothing_of_a_request_is_left_where_it_writes_more_than_slots_keep() {
    nothing_is_left(MEMORY[0]);
}

#[test]
fn what_slots_keep_and_what_guests_begin_with_is_told() {
    let app =
        App::new(&settings(MEMORY[0])).function("small", guests::DEMONSTRATION).function("large", guests::COUNTER);
    let app = app.file("large/guest.wasm", &dirty(8, 0));
    let told = |command: &str| {
        let mut flexwasm = flexwasm();
        flexwasm.current_dir(app.path()).arg(command);
        output(flexwasm).1
    };
    let check = told("check");
    let kept =
        "memory of slots: between two requests each of 4 slots keeps up to 4MiB of what guests write, 16MiB in all";
    assert!(check.lines().any(|line| line == kept), "{check}");
    let explained = told("explain");
    let row = |function: &str, key: &str| {
        let rows = explained.split("function ").find(|part| part.starts_with(function)).unwrap();
        rows.lines().find(|line| line.trim().starts_with(key)).unwrap().trim().to_owned()
    };
    assert!(row("small", "stack").ends_with(" 64KiB"), "{explained}");
    assert!(row("large", "memory").ends_with(" 6MiB"), "{explained}");
}
