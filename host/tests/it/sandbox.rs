//! What a guest can see and reach.

use crate::support::{App, Host, SECRET, flexwasm, guests, output};
use std::os::unix::fs::symlink;

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

#[test]
fn a_granted_folder_is_read_and_nothing_else() {
    let settings = r#"{"grants": {"dirs": ["file/data"]}}"#;
    let app = App::new("{}").routed("file", guests::FILE, r#""authLevel": "anonymous""#, settings);
    let app = app.file("file/data/words", b"read me").file("file/secret", b"not me").file("file/data/deep/er", b"");
    let data = app.path().join("file/data");
    symlink("../secret", data.join("up")).expect("a link");
    symlink("/etc/passwd", data.join("away")).expect("a link");
    symlink("words", data.join("beside")).expect("a link");
    let host = app.start();

    assert_eq!(host.get("/api/file?list=/file/data").text(), "away beside deep up words");
    for path in ["words", "beside", "deep/../words"] {
        assert_eq!(host.get(&format!("/api/file?read=/file/data/{path}")).text(), "read me", "{path}");
    }
    for path in ["data/up", "data/away", "secret", "data/../secret", "data/../../host.json"] {
        assert_eq!(host.get(&format!("/api/file?read=/file/{path}")).status, 403, "{path}");
    }
    for path in ["words", "new", "deep/new"] {
        assert_eq!(host.get(&format!("/api/file?write=/file/data/{path}")).status, 403, "{path}");
    }
    assert_eq!(std::fs::read(data.join("words")).expect("it is there"), b"read me");
}

#[test]
fn serve_takes_folders_below_the_working_directory() {
    let app = App::new("{}").file("data/words", b"read me");
    let serve = |folder: &str| {
        let mut command = flexwasm();
        command.current_dir(app.path()).args(["serve", guests::FILE, "--listen", "127.0.0.1:0", "--dir", folder]);
        command
    };
    assert_eq!(Host::announced(serve("data")).get("/?read=/data/words").text(), "read me");
    let (status, _, stderr) = output(serve("none"));
    assert_eq!(status.code(), Some(1));
    assert!(stderr.contains(r#"command line: --dir = "none": cannot be read"#), "{stderr}");
}
