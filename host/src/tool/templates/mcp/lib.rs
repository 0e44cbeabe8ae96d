//! The guest: an MCP server (Model Context Protocol over streamable HTTP). It has no sessions: each request calls [`App::handle`] in an
//! instance of its own, which knows nothing of the one before, so any machine can answer.

mod bindings {
    wit_bindgen::generate!({ path: "wit", world: "guest", generate_all });
}

use bindings::exports::wasi::http::incoming_handler::Guest;
use bindings::flexwasm::host::diagnostics;
use bindings::wasi::http::types::{Fields, IncomingRequest, Method, OutgoingBody, OutgoingResponse, ResponseOutparam};
use bindings::wasi::io::streams::{OutputStream, StreamError};
use serde_json::{Value, json};
use std::time::Duration;

/// Revisions of the protocol that this speaks, the newest first.
const VERSIONS: [&str; 2] = ["2025-11-25", "2025-06-18"];
const STEPS: u32 = 10;

struct App;

impl Guest for App {
    fn handle(request: IncomingRequest, outparam: ResponseOutparam) {
        let message = match message(&request) {
            Ok(message) => message,
            Err((status, answer)) => return respond(outparam, status, &answer),
        };
        let (id, params) = (&message["id"], &message["params"]);
        let result = match message["method"].as_str() {
            // What nobody waits for. A cancelled call runs in another instance: it ends when its client closes the connection.
            _ if message.get("id").is_none() => return respond(outparam, 202, &Value::Null),
            None => return respond(outparam, 202, &Value::Null),
            Some("initialize") => {
                let wanted = params["protocolVersion"].as_str().unwrap_or_default();
                json!({
                    "protocolVersion": VERSIONS.into_iter().find(|version| *version == wanted).unwrap_or(VERSIONS[0]),
                    "capabilities": { "tools": {} },
                    "serverInfo": { "name": "NAME", "version": "0.1.0" },
                })
            }
            Some("ping") => json!({}),
            Some("tools/list") => json!({ "tools": tools() }),
            Some("tools/call") => match params["name"].as_str() {
                Some(name @ ("what_am_i_running_on" | "slow_work")) => return call(outparam, id, name, params),
                _ => return respond(outparam, 200, &failure(id, -32602, "there is no such tool")),
            },
            Some(_) => return respond(outparam, 200, &failure(id, -32601, "there is no such method")),
        };
        respond(outparam, 200, &success(id, &result));
    }
}

bindings::export!(App with_types_in bindings);

fn tools() -> Value {
    json!([
        {
            "name": "what_am_i_running_on",
            "description": "Tells which machine and which instance of this server answer.",
            "inputSchema": { "type": "object" },
        },
        {
            "name": "slow_work",
            "description": "Works for some seconds, and reports its progress.",
            "inputSchema": {
                "type": "object",
                "properties": { "seconds": { "type": "number", "minimum": 0, "maximum": 60 } },
                "required": ["seconds"],
            },
        },
    ])
}

fn what_am_i_running_on() -> String {
    let (machine, instance) = (diagnostics::get_machine(), diagnostics::get_instance());
    format!(
        "{}, {} processors, {} MB: instance {} in slot {} of {}",
        machine.platform,
        machine.cpu_count,
        machine.memory_total >> 20,
        instance.id,
        instance.slot,
        instance.pool_size,
    )
}

fn slow_work(arguments: &Value, progress: impl Fn(u32)) -> Result<String, String> {
    let seconds = arguments["seconds"].as_f64().filter(|seconds| (0.0..=60.0).contains(seconds));
    let seconds = seconds.ok_or("seconds must be a number from 0 to 60")?;
    for step in 1..=STEPS {
        // An instance that waits holds no thread.
        std::thread::sleep(Duration::from_secs_f64(seconds / f64::from(STEPS)));
        progress(step);
    }
    Ok(format!("worked for {seconds} s"))
}

/// A call answers with a stream of events, so that the client hears of its progress.
fn call(outparam: ResponseOutparam, id: &Value, name: &str, params: &Value) {
    let (body, stream) = begin(outparam, 200, "text/event-stream");
    let send = |message: &Value| write(&stream, &format!("data: {message}\n\n"));
    let token = &params["_meta"]["progressToken"];
    let progress = |step: u32| {
        if !token.is_null() {
            let told = json!({ "progressToken": token, "progress": step, "total": STEPS });
            send(&json!({ "jsonrpc": "2.0", "method": "notifications/progress", "params": told }));
        }
    };
    let done = match name {
        "slow_work" => slow_work(&params["arguments"], progress),
        _ => Ok(what_am_i_running_on()),
    };
    let is_error = done.is_err();
    let text = done.unwrap_or_else(|why| why);
    send(&success(id, &json!({ "content": [{ "type": "text", "text": text }], "isError": is_error })));
    drop(stream);
    let _ = OutgoingBody::finish(body, None);
}

fn success(id: &Value, result: &Value) -> Value {
    json!({ "jsonrpc": "2.0", "id": id, "result": result })
}

fn failure(id: &Value, code: i32, message: &str) -> Value {
    json!({ "jsonrpc": "2.0", "id": id, "error": { "code": code, "message": message } })
}

/// The message that the request carries, else the answer to it.
fn message(request: &IncomingRequest) -> Result<Value, (u16, Value)> {
    let header = |name: &str| request.headers().get(name).into_iter().next().and_then(|value| String::from_utf8(value).ok());
    // A page of another site must not call tools through its reader's browser.
    let authority = request.authority().unwrap_or_default();
    let is_own = |origin: String| origin.split_once("://").is_some_and(|(_, host)| host == authority);
    if !header("origin").is_none_or(is_own) {
        return Err((403, Value::Null));
    }
    // Nothing to listen to beside the answers, and no session to end.
    if !matches!(request.method(), Method::Post) {
        return Err((405, Value::Null));
    }
    let refused = |code: i32, why: &str| (400, failure(&Value::Null, code, why));
    if header("mcp-protocol-version").is_some_and(|version| !VERSIONS.contains(&&*version)) {
        return Err(refused(-32600, &format!("this speaks {}", VERSIONS.join(" and "))));
    }
    let body = read(request).ok_or_else(|| refused(-32700, "the body broke off"))?;
    let message: Value = serde_json::from_slice(&body).map_err(|_| refused(-32700, "this is no JSON"))?;
    if message["jsonrpc"] != "2.0" {
        return Err(refused(-32600, "this is no message of JSON-RPC 2.0"));
    }
    Ok(message)
}

/// The whole body, which the host bounds. None if it broke off.
fn read(request: &IncomingRequest) -> Option<Vec<u8>> {
    let body = request.consume().expect("the body is taken once");
    let stream = body.stream().expect("the stream is taken once");
    let mut bytes = Vec::new();
    loop {
        match stream.blocking_read(64 * 1024) {
            Ok(chunk) => bytes.extend(chunk),
            Err(StreamError::Closed) => return Some(bytes),
            Err(StreamError::LastOperationFailed(_)) => return None,
        }
    }
}

/// Sends a whole answer; null stands for an empty one.
fn respond(outparam: ResponseOutparam, status: u16, answer: &Value) {
    let (body, stream) = begin(outparam, status, "application/json");
    if !answer.is_null() {
        write(&stream, &answer.to_string());
    }
    drop(stream);
    let _ = OutgoingBody::finish(body, None);
}

/// Begins an answer.
fn begin(outparam: ResponseOutparam, status: u16, kind: &str) -> (OutgoingBody, OutputStream) {
    let headers = [("content-type".to_owned(), kind.as_bytes().to_vec())];
    let response = OutgoingResponse::new(Fields::from_list(&headers).expect("name and value of the header are valid"));
    response.set_status_code(status).expect("it is a status");
    let body = response.body().expect("the body is taken once");
    ResponseOutparam::set(outparam, Ok(response));
    let stream = body.write().expect("the stream is taken once");
    (body, stream)
}

/// A write that fails means that the caller has gone, and the host ends this instance. It takes 4096 bytes at the most.
fn write(stream: &OutputStream, text: &str) {
    for piece in text.as_bytes().chunks(4096) {
        let _ = stream.blocking_write_and_flush(piece);
    }
}
