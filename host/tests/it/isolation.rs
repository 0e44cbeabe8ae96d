//! What one request leaves in memory, tables and globals is not in the next, whatever guest it runs and however slots are reset.

use crate::support::{App, eventually, flexwasm, guests, output, repository};
use std::fs;

/// Slots of 6 MiB each keep 4 MiB at the most: some of these guests write more.
const SETTINGS: &str = r#"{"pool": {"size": 3}, "limits": {"totalMemory": "64MiB", "cpu": "20s"}, "headers": "full"}"#;

/// Bytes from one write to the next, and pages that the memory grows by.
const PATTERNS: [(&str, u32, u32); 5] =
    [("dense", 8, 0), ("each", 4096, 0), ("sparse", 64 * 4096, 0), ("grown", 8, 48), ("sparsely", 16 * 4096, 48)];

fn dirty(step: u32, growth: u32) -> Vec<u8> {
    let text = fs::read_to_string(repository().join("host/tests/wat/dirty.wat")).unwrap();
    wat::parse_str(text.replace("STEP", &step.to_string()).replace("GROWTH", &growth.to_string())).unwrap()
}

/// More guests than slots, all at once, so that they take slots from each other while these are being mapped; then each of them
/// alone, so that it meets nothing but its own traces.
fn nothing_is_left(environment: &[(&str, &str)], kernel: &[&str]) {
    let app = PATTERNS.iter().fold(App::new(SETTINGS), |app, (name, step, growth)| {
        app.function(name, guests::COUNTER).file(&format!("{name}/guest.wasm"), &dirty(*step, *growth))
    });
    let host = app.function("counter", guests::COUNTER).start_with(environment);
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
        (0..4).for_each(|_| ask(name));
    }
    let answer = host.get("/api/counter");
    assert_eq!(answer.text(), "1");
    let told = answer.header("x-flexwasm-host").unwrap();
    assert!(kernel.iter().any(|words| told.contains(words)), "{told}");
    // Each on a connection of its own, so the last of them may be told behind the answer.
    let expected = 4 * 20 + PATTERNS.len() * 4;
    let ended = || host.log().iter().filter(|line| line.contains("returned without setting a response")).count();
    eventually("every request is told", || ended() >= expected);
    drop(host.closing_line("answered"));
    assert_eq!(ended(), expected, "{:#?}", host.log());
}

#[test]
fn nothing_of_a_request_is_left_where_the_kernel_tells_what_was_written() {
    nothing_is_left(&[], &["; pagemap-scan=on", "; pagemap-scan=missing"]);
}

#[test]
fn nothing_of_a_request_is_left_where_it_does_not() {
    nothing_is_left(&[("FLEXWASM_PAGEMAP_SCAN", "off")], &["; pagemap-scan=off", "; pagemap-scan=missing"]);
}

#[test]
fn what_slots_keep_and_what_guests_begin_with_is_told() {
    let app = App::new(SETTINGS).function("small", guests::DEMONSTRATION).function("large", guests::COUNTER);
    let app = app.file("large/guest.wasm", &dirty(8, 0));
    let told = |command: &str| {
        let mut flexwasm = flexwasm();
        flexwasm.current_dir(app.path()).arg(command).env("FLEXWASM_PAGEMAP_SCAN", "off");
        output(flexwasm).1
    };
    let check = told("check");
    // The memory of 6 MiB fits nobody's share, the small one does.
    let line = check.lines().find(|line| line.starts_with("memory of slots: kernel ")).unwrap();
    assert!(line.contains("PAGEMAP_SCAN") && line.contains("each of 4 slots keeps up to "), "{line}");
    let explained = told("explain");
    let row = |function: &str, key: &str| {
        let rows = explained.split("function ").find(|part| part.starts_with(function)).unwrap();
        rows.lines().find(|line| line.trim().starts_with(key)).unwrap().trim().to_owned()
    };
    assert!(row("small", "stack").ends_with(" 64KiB"), "{explained}");
    assert!(row("large", "memory").contains("6MiB: kernels without PAGEMAP_SCAN"), "{explained}");
}
