//! `flexwasm send` and `POST /admin/functions/NAME`: events of the Functions host, made by hand.

use crate::support::{App, Host, flexwasm, guests, output, repository};
use crate::swap::tell;
use std::fs;

/// A function whose messages come from the queue `orders` and whose answer becomes a blob, and one at `/api/plain`.
fn orders(guest: &str) -> App {
    let bindings = r#"{"scriptFile": "guest.wasm", "bindings": [
        {"type": "queueTrigger", "direction": "in", "name": "order", "queueName": "orders"},
        {"type": "blob", "direction": "out", "name": "receipt", "path": "receipts/{rand-guid}.txt"}]}"#;
    let app = App::new("{}").function("plain", guests::COUNTER).function_json("orders", bindings);
    app.file("orders/guest.wasm", &fs::read(guest).unwrap())
}

fn stand_alone(app: &App) -> Host {
    let mut command = flexwasm();
    command.current_dir(app.path()).args(["--listen", "127.0.0.1:0"]);
    Host::announced(command)
}

/// The exit code of `flexwasm send`, and what it printed.
fn send(app: &App, arguments: &[&str]) -> (Option<i32>, String, String) {
    let mut command = flexwasm();
    command.current_dir(app.path()).arg("send").args(arguments);
    let (status, stdout, stderr) = output(command);
    (status.code(), stdout, stderr)
}

#[test]
fn a_failure_is_shown_with_what_azure_would_do() {
    let app = orders(guests::TRAP_BEFORE);
    let _host = stand_alone(&app);
    let (code, stdout, stderr) = send(&app, &["orders", "--text", "hello"]);
    assert_eq!((code, &*stderr), (Some(1), ""), "{stdout}");
    assert!(
        stdout.starts_with("failed after ") && stdout.ends_with("\nAzure would run again: try 2 of 5\n"),
        "{stdout}"
    );
    let (code, stdout, _) = send(&app, &["orders", "--attempt", "5"]);
    assert!(
        code == Some(1) && stdout.ends_with("\nAzure would move the message to orders-poison, after 5 tries\n"),
        "{stdout}"
    );
}

#[test]
fn a_rejected_event_is_shown_as_rejected() {
    let app = orders(guests::ANSWER);
    let _host = stand_alone(&app);
    let (code, stdout, stderr) = send(&app, &["orders", "--text", "200\nx-flexwasm-disposition: reject\n\n"]);
    assert_eq!((code, &*stderr), (Some(0), ""), "{stdout}");
    assert!(stdout.starts_with("rejected after ") && stdout.contains("never sends it again"), "{stdout}");
}

#[test]
#[ignore = "needs target/examples: cargo xtask test"]
fn the_orders_of_the_example_become_receipts_in_javascript_and_python() {
    let function = fs::read_to_string(repository().join("examples/events/orders/function.json")).unwrap();
    for language in ["js", "python"] {
        let guest = fs::read(repository().join(format!("target/examples/orders-{language}.wasm"))).unwrap();
        // The other one for its address.
        let app = App::new("{}").function("plain", guests::COUNTER).function_json("orders", &function);
        let app = app.file("orders/guest.wasm", &guest);
        // Compiling takes up to a minute, and an event that comes before fails.
        let mut compile = flexwasm();
        compile.arg("compile").arg(app.path().join("orders/guest.wasm"));
        assert!(output(compile).0.success());
        let _host = stand_alone(&app);
        let (code, stdout, stderr) = send(&app, &["orders", "--text", "two loaves, très frais", "--metadata", "Id=7"]);
        assert_eq!((code, &*stderr), (Some(0), ""), "{language}: {stdout}");
        assert!(stdout.contains("receipt of order 7\ntwo loaves, très frais\n"), "{language}: {stdout}");
        assert!(stdout.contains("log\n  order 7 is taken\n"), "{language}: {stdout}");
        let (code, stdout, _) = send(&app, &["orders"]);
        assert!(code == Some(1) && stdout.contains("status 500"), "{language}: {stdout}");
    }
}

#[test]
fn what_cannot_be_sent_is_refused_in_words() {
    let app = orders(guests::ECHO).file("bytes", b"\xff");
    let refused = |arguments: &[&str], words: &str| {
        let (code, stdout, stderr) = send(&app, arguments);
        assert!(code == Some(1) && stdout.is_empty() && stderr.contains(words), "{arguments:?}: {stdout}{stderr}");
    };
    refused(&["orders"], "no host of this app runs here");
    refused(&["missing"], "there is no function missing: name one of orders, plain");
    refused(&["orders", "--data", "@nowhere"], "nowhere cannot be read");
    refused(&["orders", "--data", "@bytes"], "the payload is no UTF-8, which never reaches orders");
    for wrong in [&["orders", "--data", "bytes"][..], &["orders", "--attempt", "0"], &["orders", "--metadata", "x"]] {
        assert_eq!(send(&app, wrong).0, Some(2), "{wrong:?}");
    }
}

#[test]
fn a_function_that_is_not_asked_is_named_with_the_cause() {
    let view = fs::read_to_string(repository().join("examples/view/function.json")).unwrap();
    let app = orders(guests::ECHO).function_json("view", &view).function("off", guests::COUNTER);
    let app = app.file("local.settings.json", br#"{"Values": {"AzureWebJobs.off.Disabled": "true"}}"#);
    let _host = stand_alone(&app);
    // Names are found in any case.
    let (code, stdout, stderr) = send(&app, &["ORDERS", "--text", "hello"]);
    assert_eq!((code, &*stderr), (Some(0), ""), "{stdout}");
    for (name, words) in [
        ("missing", "there is no function missing: name one of "),
        ("off", "function off is disabled by the app setting AzureWebJobs.off.Disabled: set it to false"),
        ("view", "function view is answered by the host itself (flexwasm.builtin view)"),
    ] {
        for command in ["send", "rollback"] {
            let (status, _, stderr) = tell(app.path(), &[command, name]);
            assert!(
                status.code() == Some(1) && stderr.starts_with(&format!("flexwasm: {words}")),
                "{command}: {stderr}"
            );
        }
    }
}

#[test]
fn d15_12_a_function_is_started_by_hand_as_the_functions_host_does_it() {
    let app = orders(guests::ECHO);
    let host = stand_alone(&app);
    let ask = |request: &str, host_name: &str, headers: &str, body: &str| {
        let length = body.len();
        let head =
            format!("{request} HTTP/1.1\r\nHost: {host_name}\r\n{headers}Content-Length: {length}\r\n\r\n{body}");
        host.connect().ask(head)
    };
    const JSON: &str = "Content-Type: application/json\r\n";
    let post = |name: &str, body: &str| ask(&format!("POST /admin/functions/{name}"), "localhost:7071", JSON, body);
    for body in [r#"{"input":"x"}"#, r#"{"INPUT":"x"}"#, "{}", r#"{"input":null}"#] {
        let answer = post("orders", body);
        assert_eq!((answer.status, &*answer.text()), (202, ""), "{body}");
    }
    assert_eq!(post("ORDERS", r#"{"input":"x"}"#).status, 202);
    for body in ["", "x", "[]", r#"{"input":{"a":1}}"#] {
        assert_eq!(post("orders", body).status, 400, "{body}");
    }
    assert_eq!(post("missing", "{}").status, 404);
    assert!(post("plain", "{}").text().contains("requests to its own path"));
    let get = ask("GET /admin/functions/orders", "localhost", "", "");
    assert_eq!((get.status, get.header("allow")), (405, Some("POST")));
    // What pages of other origins can send unasked.
    assert_eq!(ask("POST /admin/functions/orders", "localhost", "Content-Type: text/plain\r\n", "{}").status, 415);
    assert_eq!(ask("POST /admin/functions/orders", "attacker.example", JSON, "{}").status, 403);
    // The event itself ends in a line of its own.
    host.line(&[" invocation: ", "function=orders"]);

    // Under the Functions host these paths are not ours.
    let under = app.start();
    let head =
        format!("POST /admin/functions/orders HTTP/1.1\r\nHost: localhost\r\n{JSON}Content-Length: 2\r\n\r\n{{}}");
    assert_eq!(under.connect().ask(head).status, 404);
}
