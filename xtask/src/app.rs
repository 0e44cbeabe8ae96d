//! App folders, as Azure's tools write them.

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use std::fs;
use std::path::Path;

/// Adds a plain HTTP function, which anybody may call, with a `flexwasm` section of its own.
pub fn add_function(app: &Path, name: &str, route: &str, guest: &[u8], settings: &Value) -> Result<()> {
    let folder = app.join(name);
    let trigger = json!({ "scriptFile": "guest.wasm", "flexwasm": settings, "bindings": [
        { "type": "httpTrigger", "direction": "in", "name": "req", "authLevel": "anonymous", "route": route },
        { "type": "http", "direction": "out", "name": "res" },
    ]});
    fs::create_dir(&folder)
        .and_then(|()| fs::write(folder.join("function.json"), trigger.to_string()))
        .and_then(|()| fs::write(folder.join("guest.wasm"), guest))
        .with_context(|| format!("cannot write {}", folder.display()))
}

/// The bytes of a file below the project's folder.
pub fn read(path: &str) -> Result<Vec<u8>> {
    let path = crate::root().join(path);
    fs::read(&path).with_context(|| format!("cannot read {}", path.display()))
}
