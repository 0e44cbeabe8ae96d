//! The official client of MCP, for the templates of a server.

use crate::support::{Host, output, repository};
use std::fs;
use std::process::Command;

/// What a server has to be started with: a slot for each of the client's sessions, and less memory than its largest call takes.
pub const SETTINGS: [(&str, &str); 2] = [("flexwasm__pool__size", "64"), ("flexwasm__limits__memory", "64MiB")];

/// Lets the official client use the function of this name: 50 sessions at once, of which one makes its guest trap.
pub fn serves_the_official_client_and_survives_a_trap(host: &Host, function: &str) {
    let mut client = Command::new("node");
    // As an argument, so that Node looks for packages in the working directory.
    let script = fs::read_to_string(repository().join("host/tests/mcp/client.mjs")).unwrap();
    client.args(["--input-type=module", "--eval", &script]);
    client.arg(format!("http://127.0.0.1:{}/api/{function}", host.port)).current_dir(repository().join("target/mcp"));
    let (status, stdout, stderr) = output(client);
    assert!(status.success() && stdout == "passed\n", "{status} {stdout}{stderr}");
    // The call whose client has gone, and the one that was too large.
    host.closing_line("client-gone");
    host.closing_line("faulted");
    let faults = host.log().iter().filter(|line| line.contains("outcome=\"faulted\"")).count();
    assert_eq!(faults, 1);
}
