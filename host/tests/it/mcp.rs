//! The templates of an MCP server, used by the official client.

use crate::support::{Host, output, repository};
use crate::tool::{Place, with_tools};
use std::fs;
use std::process::Command;

#[test]
#[ignore = "needs node, npm, target/mcp and a network: cargo xtask test"]
fn an_mcp_server_serves_the_official_client_and_survives_a_trap() {
    // With a call in each that never ends by itself.
    for (language, file, loop_begins, endless) in [
        ("rust", "src/lib.rs", "for step in", "while seconds == 13.0 {\n std::hint::black_box(());\n }\n for step in"),
        ("javascript", "app.js", "for (let step", "while (seconds === 13);\nfor (let step"),
    ] {
        let place = Place::new();
        let app = place.app_with("mcp", &["--language", language, "--trigger", "mcp"]);
        let source = app.join("mcp").join(file);
        let text = fs::read_to_string(&source).unwrap();
        assert!(text.contains(loop_begins), "{text}");
        fs::write(&source, text.replace(loop_begins, endless)).unwrap();
        let host_json = fs::read_to_string(app.join("host.json")).unwrap();
        let settings = r#""flexwasm": {"pool": {"size": 64}, "limits": {"cpu": "3s"}}"#;
        fs::write(app.join("host.json"), host_json.replace(r#""flexwasm": {}"#, settings)).unwrap();

        // Built and compiled beforehand, because that takes its time.
        let flexwasm = |arguments: &[&str]| {
            let mut command = place.flexwasm(&app, arguments);
            with_tools(&mut command);
            command
        };
        for arguments in [&["build"][..], &["compile", "mcp/guest.wasm"]] {
            let (status, _, stderr) = output(flexwasm(arguments));
            assert!(status.success(), "{language}: {stderr}");
        }
        let host = Host::announced(flexwasm(&["--listen", "127.0.0.1:0"]));
        let mut client = Command::new("node");
        // As an argument, so that Node looks for packages in the working directory.
        let script = fs::read_to_string(repository().join("host/tests/mcp/client.mjs")).unwrap();
        client.args(["--input-type=module", "--eval", &script]);
        client.arg(format!("http://127.0.0.1:{}/api/mcp", host.port)).current_dir(repository().join("target/mcp"));
        let (status, stdout, stderr) = output(client);
        assert!(status.success() && stdout == "passed\n", "{language}: {status} {stdout}{stderr}");
        // The call whose client has gone, and the one that would not end.
        host.closing_line("client-gone");
        let faulted = host.closing_line("faulted");
        assert!(faulted.contains("limits.cpu"), "{faulted}");
        let faults = host.log().iter().filter(|line| line.contains("outcome=\"faulted\"")).count();
        assert_eq!(faults, 1);
    }
}
