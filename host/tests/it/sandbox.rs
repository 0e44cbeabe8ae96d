//! What a guest can see and reach.

use crate::support::{App, SECRET, guests};

#[test]
fn nothing_is_granted_by_default() {
    let text = App::new("{}").function("env", guests::ENV).start().get("/api/env").text();
    assert_eq!(text, "files: false\nnetwork: false\n");
}

#[test]
fn a_named_app_setting_reaches_the_guest_and_no_other() {
    let settings = r#"{"grants": {"env": ["GREETING"]}}"#;
    let app = App::new("{}").routed("env", guests::ENV, r#""authLevel": "anonymous""#, settings);
    let text = app.start_with(&[("GREETING", "hello")]).get("/api/env").text();
    assert!(text.starts_with("GREETING=hello\nfiles: false\n"), "{text}");
    assert!(!text.contains(SECRET));
}

#[test]
fn an_app_setting_overrides_both_files() {
    let app = App::new(r#"{"grants": {"env": []}, "pool": {"size": 4}}"#).routed(
        "env",
        guests::ENV,
        r#""authLevel": "anonymous""#,
        r#"{"grants": {"env": []}}"#,
    );
    let host = app.start_with(&[
        ("GREETING", "hi"),
        ("flexwasm__grants__env", r#"["GREETING"]"#),
        ("flexwasm__pool__size", "7"),
    ]);
    let answer = host.get("/api/env");
    assert!(answer.text().starts_with("GREETING=hi\n"), "{}", answer.text());
    assert_eq!(answer.instance()["pool"], "7");
}
