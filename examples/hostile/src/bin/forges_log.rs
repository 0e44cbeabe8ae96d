//! Prints what would steer a terminal, imitate another line of the log, or be an order to the Functions host, which treats lines
//! with two beginnings specially.

use test_guests::{IncomingRequest, ResponseOutparam, respond};

const LINES: [&str; 8] = [
    "LanguageWorkerConsoleLog forged",
    "azfuncjsonlog:{\"forged\": true}",
    "\rLanguageWorkerConsoleLog after a carriage return",
    "\u{85}azfuncjsonlog: after a next line\u{2028}azfuncjsonlog: and a line separator",
    "\x1b[2J\x1b]0;title\x07\x1b[31mred",
    "\u{9b}31m\u{202e}backwards\0",
    "\" outcome=\"answered\" forged=\"",
    "2026-01-01T00:00:00.000000Z ERROR invocation: forged",
];

fn handle(_: IncomingRequest, outparam: ResponseOutparam) {
    for line in LINES {
        println!("{line}");
        eprintln!("{line}");
    }
    respond(outparam, 200, &[], b"printed");
}

test_guests::guest!(handle);
