//! The templates of an MCP server, used by the official client.

use crate::support::{Host, output, repository};
use crate::templates::{build, with_tools};
use crate::tool::Place;
use std::fs;
use std::process::Command;

/// The app of this language with a call that never ends by itself: `endless` stands in its source where a loop `begins`.
fn serves_the_official_client_and_survives_a_trap(language: &str, file: &str, begins: &str, endless: &str) {
    let place = Place::new();
    let name = format!("mcp-{language}");
    let app = place.app_with(&name, &["--language", language, "--trigger", "mcp"]);
    let source = app.join(&name).join(file);
    let text = fs::read_to_string(&source).unwrap();
    assert!(text.contains(begins), "{text}");
    fs::write(&source, text.replace(begins, endless)).unwrap();
    let host_json = fs::read_to_string(app.join("host.json")).unwrap();
    let settings = r#""flexwasm": {"pool": {"size": 64}, "limits": {"cpu": "3s"}}"#;
    fs::write(app.join("host.json"), host_json.replace(r#""flexwasm": {}"#, settings)).unwrap();

    // Built and compiled beforehand, because that takes its time.
    let flexwasm = |arguments: &[&str]| {
        let mut command = place.flexwasm(&app, arguments);
        with_tools(&mut command);
        command
    };
    build(flexwasm(&["build"]), &app.join(&name));
    let (status, _, stderr) = output(flexwasm(&["compile", &format!("{name}/guest.wasm")]));
    assert!(status.success(), "{stderr}");
    let host = Host::announced(flexwasm(&["--listen", "127.0.0.1:0"]));
    let mut client = Command::new("node");
    // As an argument, so that Node looks for packages in the working directory.
    let script = fs::read_to_string(repository().join("host/tests/mcp/client.mjs")).unwrap();
    client.args(["--input-type=module", "--eval", &script]);
    client.arg(format!("http://127.0.0.1:{}/api/{name}", host.port)).current_dir(repository().join("target/mcp"));
    let (status, stdout, stderr) = output(client);
    assert!(status.success() && stdout == "passed\n", "{status} {stdout}{stderr}");
    // The call whose client has gone, and the one that would not end.
    host.closing_line("client-gone");
    let faulted = host.closing_line("faulted");
    assert!(faulted.contains("limits.cpu"), "{faulted}");
    let faults = host.log().iter().filter(|line| line.contains("outcome=\"faulted\"")).count();
    assert_eq!(faults, 1);
}

#[test]
#[ignore = "needs node, npm, target/mcp and a network: cargo xtask test"]
fn an_mcp_server_in_rust_serves_the_official_client_and_survives_a_trap() {
    let endless = "while seconds == 13.0 {\n std::hint::black_box(());\n }\n for step in";
    serves_the_official_client_and_survives_a_trap("rust", "src/lib.rs", "for step in", endless);
}

#[test]
#[ignore = "needs node, npm, target/mcp and a network: cargo xtask test"]
fn an_mcp_server_in_javascript_serves_the_official_client_and_survives_a_trap() {
    let endless = "while (seconds === 13);\nfor (let step";
    serves_the_official_client_and_survives_a_trap("javascript", "app.js", "for (let step", endless);
}
