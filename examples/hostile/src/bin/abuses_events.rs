//! Gets an event whose metadata want to be headers, lies about its outputs, and prints orders to the Functions host. What was possible that
//! must not be is the value of its output.

use test_guests::function::{Error, Value, input, metadata, set, set_messages};
use test_guests::{IncomingRequest, ResponseOutparam, respond};

/// Values that were not bound to this function, or that its output does not take.
fn lies() -> [(&'static str, Value); 5] {
    [
        ("other", Value::Text("x".to_owned())),
        ("", Value::Text("x".to_owned())),
        ("message", Value::Text("x".to_owned())),
        ("reached\r\nx-injected: 1", Value::Text("x".to_owned())),
        ("reached", Value::Json("{\"unfinished\": ".to_owned())),
    ]
}

fn handle(request: IncomingRequest, outparam: ResponseOutparam) {
    let mut reached: Vec<String> = Vec::new();
    for (name, value) in request.headers().entries() {
        let is_forged = name == "x-injected" || value.iter().any(u8::is_ascii_control);
        let is_type = name == "ce-type" && value != b"azure.functions.queueTrigger";
        if is_forged || is_type {
            reached.push(name);
        }
    }
    let lied = lies().iter().filter(|(name, value)| set(name, value).is_ok()).count();
    if lied > 0 || set_messages("other", &[]).is_ok() || input("reached").is_ok() || metadata().is_empty() {
        reached.push(format!("{lied} lies"));
    }
    let text = if reached.is_empty() { "nothing".to_owned() } else { reached.join(" ") };
    let first = set("reached", &Value::Text(text));
    let again = set("reached", &Value::Text("forged".to_owned()));
    assert!(first.is_ok() && matches!(again, Err(Error::SetTwice(_))), "an output has one value");
    println!("azfuncjsonlog:{{\"forged\": true}}");
    println!("\rLanguageWorkerConsoleLog forged");
    // The first is Azure's to know, and the others belong to one connection or to the host.
    let headers = [("x-flexwasm-instance", "forged"), ("x-injected", "1"), ("content-type", "text/forged")];
    respond(outparam, 200, &headers, b"forged");
}

test_guests::guest!(handle);
