//! A folder with `host.json` and functions, as Azure's tools write it.

use crate::{Host, flexwasm, free_port};
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

/// A folder with `host.json` and functions.
pub struct App {
    folder: tempfile::TempDir,
}

impl App {
    /// An app whose `flexwasm` section of host.json is `settings`, with forwarding and proxying on. Each request writes its line
    /// and each answer names its instance, unless the settings say otherwise.
    pub fn new(settings: &str) -> Self {
        let mut section: serde_json::Value = serde_json::from_str(settings).unwrap();
        if let Some(section) = section.as_object_mut() {
            section.entry("headers").or_insert("id".into());
            let log = section.entry("log").or_insert_with(|| serde_json::json!({}));
            if let Some(log) = log.as_object_mut() {
                log.entry("requests").or_insert("all".into());
            }
        }
        Self::with_host_json(&format!(
            r#"{{"version": "2.0", "someone": {{"elses": "key"}}, "extensions": {{"http": {{"routePrefix": "api"}}}},
                "customHandler": {{"description": {{"defaultExecutablePath": "flexwasm"}},
                    "enableForwardingHttpRequest": true, "enableProxyingHttpRequest": true}},
                "flexwasm": {section}}}"#
        ))
    }

    /// An app with this `host.json`.
    pub fn with_host_json(text: &str) -> Self {
        let app = Self { folder: tempfile::tempdir().unwrap() };
        fs::write(app.path().join("host.json"), text).unwrap();
        app
    }

    /// The folder, which is gone when this is dropped.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Adds a plain HTTP function at `/api/{name}`.
    pub fn function(self, name: &str, guest: &str) -> Self {
        self.routed(name, guest, r#""authLevel": "anonymous""#, "{}")
    }

    /// Adds a plain HTTP function with more to say about its trigger, and a `flexwasm` section.
    pub fn routed(self, name: &str, guest: &str, trigger: &str, settings: &str) -> Self {
        self.with_guest(name, &fs::read(guest).unwrap(), trigger, settings)
    }

    /// The same with the bytes of a guest.
    pub fn with_guest(self, name: &str, guest: &[u8], trigger: &str, settings: &str) -> Self {
        let file = format!(
            r#"{{"scriptFile": "guest.wasm", "flexwasm": {settings}, "bindings": [
                {{"type": "httpTrigger", "direction": "in", "name": "req", {trigger}}},
                {{"type": "http", "direction": "out", "name": "res"}}]}}"#
        );
        self.function_json(name, &file).file(&format!("{name}/guest.wasm"), guest)
    }

    /// Adds a `function.json`, and no guest.
    pub fn function_json(self, name: &str, text: &str) -> Self {
        self.file(&format!("{name}/function.json"), text.as_bytes())
    }

    /// Writes a file below the folder.
    pub fn file(self, name: &str, content: &[u8]) -> Self {
        let path = self.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
        self
    }

    /// Starts the host as the Functions host does, and waits until it answers the readiness probe.
    pub fn start(&self) -> Host {
        self.start_with(&[])
    }

    /// The same with more in its environment.
    pub fn start_with(&self, environment: &[(&str, &str)]) -> Host {
        let host = self.spawn(free_port(), environment);
        host.probe();
        host
    }

    /// The command as a user who owns nothing here: root may read and write everything, so root runs it as nobody.
    pub fn as_nobody(&self) -> Command {
        let binary = self.path().join("flexwasm");
        // By another process: a file that this one holds open for writing while a test beside it forks could not be run.
        let copied = Command::new("cp").arg(crate::binary()).arg(&binary).status().unwrap();
        assert!(copied.success());
        fs::set_permissions(self.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let mut command = Command::new(binary);
        let cache = self.path().join("cache");
        fs::create_dir(&cache).unwrap();
        command.env_clear().current_dir(self.path()).env("XDG_CACHE_HOME", &cache);
        if rustix::process::geteuid().is_root() {
            chown(&cache, Some(65534), Some(65534)).unwrap();
            command.uid(65534).gid(65534);
        }
        command
    }

    /// Starts the host on `port` without waiting.
    pub fn spawn(&self, port: u16, environment: &[(&str, &str)]) -> Host {
        let mut command = flexwasm();
        command.current_dir(self.path()).env("FUNCTIONS_CUSTOMHANDLER_PORT", port.to_string());
        command.env("FUNCTIONS_APP_ROOT_PATH", self.path()).envs(environment.iter().copied());
        Host::spawn(command, port)
    }
}
