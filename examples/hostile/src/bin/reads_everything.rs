//! Reads every environment variable, argument and file that it can think of, and reports what it got.

use std::io::Read as _;
use test_guests::{IncomingRequest, ResponseOutparam, respond};

const FILES: [&str; 14] = [
    "/proc/self/environ",
    "/proc/self/cmdline",
    "/proc/self/maps",
    "/proc/1/environ",
    "/etc/passwd",
    "/etc/hostname",
    "/dev/stdin",
    "host.json",
    "local.settings.json",
    "./host.json",
    "../local.settings.json",
    "../../../../../../../../etc/passwd",
    "guest.wasm",
    "/home/site/wwwroot/host.json",
];
const FOLDERS: [&str; 6] = ["/", ".", "..", "/proc/self/fd", "/tmp", "/home"];

fn handle(_: IncomingRequest, outparam: ResponseOutparam) {
    let mut got = Vec::new();
    got.extend(std::env::vars().map(|(name, value)| format!("{name}={value}")));
    got.extend(std::env::args());
    got.extend(FILES.iter().filter_map(|file| std::fs::read_to_string(file).ok()));
    got.extend(FOLDERS.iter().filter(|folder| std::fs::read_dir(folder).is_ok()).map(ToString::to_string));
    got.extend(std::fs::write("/tmp/hostile", "x").map(|()| "wrote a file".to_owned()));
    let mut input = String::new();
    let _ = std::io::stdin().read_to_string(&mut input);
    got.extend(Some(input).filter(|input| !input.is_empty()));
    let text = if got.is_empty() { "nothing".to_owned() } else { got.join("\n") };
    respond(outparam, 200, &[], text.as_bytes());
}

test_guests::guest!(handle);
