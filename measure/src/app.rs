//! App folders, and files of the project.

use crate::server::{self, Program};
use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use testkit::App;

/// Adds a plain HTTP function, which anybody may call, with a `flexwasm` section of its own.
pub fn add_function(app: App, name: &str, route: &str, guest: &[u8], settings: &Value) -> App {
    let trigger = format!(r#""authLevel": "anonymous", "route": {}"#, Value::from(route));
    app.with_guest(name, guest, &trigger, &settings.to_string())
}

/// Adds a function that takes messages of a queue and sends others, which it calls `reached`.
pub fn add_queue(app: App, name: &str, guest: &[u8], settings: &Value) -> App {
    let file = json!({"scriptFile": "guest.wasm", "flexwasm": settings, "bindings": [
        {"type": "queueTrigger", "direction": "in", "name": "message", "queueName": "in"},
        {"type": "queue", "direction": "out", "name": "reached", "queueName": "out"},
    ]});
    app.function_json(name, &file.to_string()).file(&format!("{name}/guest.wasm"), guest)
}

/// Puts the compiled file of a guest below the project's folder into a function's folder, so that the app is ready at once.
pub fn compiled(app: App, name: &str, guest: &str) -> Result<App> {
    let code = read(&Path::new(guest).with_extension("cwasm").display().to_string())?;
    Ok(app.file(&format!("{name}/guest.cwasm"), &code))
}

/// The bytes of a file below the project's folder.
pub fn read(path: &str) -> Result<Vec<u8>> {
    let path = crate::root().join(path);
    fs::read(&path).with_context(|| format!("cannot read {}", path.display()))
}

/// The host that serves an app, and where it will listen.
pub fn host(app: &App, smoke: bool) -> (Command, SocketAddr) {
    let address = server::free_address();
    let mut command = Program::Flexwasm.command(smoke);
    command.current_dir(app.path()).args(["--listen", &address.to_string()]);
    (command, address)
}
