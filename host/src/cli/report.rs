//! What `flexwasm check --json` and `flexwasm explain --json` print. Their keys are documented in docs/operate.md, and stay.
//!
//! A setting has the name that it has in `host.json`. Every duration is in milliseconds, every size in bytes.

use crate::config::builtin::Builtin;
use crate::config::connections::Connections;
use crate::config::function_json::{AuthLevel, Trigger};
use crate::config::middleware::Middleware;
use crate::config::source::{Ask, Smoke};
use crate::config::{Config, Function, Grants};
use crate::describe::{self, Asks};
use crate::engine::memory;
use crate::guest::LoadError;
use crate::guest::composition::Part as Composed;
use crate::guest::footprint::{Footprint, Part};
use crate::observe::machine::Machine;
use crate::package::Package;
use serde_json::{Value, json};
use std::path::Path;
use std::time::Duration;

/// What has been found so far. Whatever an early end leaves open is `null`.
#[derive(Default)]
pub struct Report {
    package: Option<Value>,
    pub config: Option<Config>,
    pub compiled: Vec<String>,
    pub problems: Vec<String>,
}

impl Report {
    /// Notes what is in the package.
    pub fn pack(&mut self, zip: &Path, package: &Package) {
        let file = |(name, mode, bytes): (&str, u32, u64)| json!({ "name": name, "mode": format!("{mode:04o}"), "bytes": bytes });
        self.package = Some(json!({
            "file": zip.display().to_string(),
            "files": package.files().map(file).collect::<Vec<_>>(),
        }));
    }

    /// The document.
    pub fn json(&self, machine: &Machine) -> Value {
        let config = self.config.as_ref();
        json!({
            "version": env!("CARGO_PKG_VERSION"),
            "inOrder": self.problems.is_empty(),
            "problems": self.problems,
            "warnings": config.map_or_else(Vec::new, |config| config.notes.clone()),
            "machine": {
                "kernel": machine.kernel,
                "memory": machine.memory_total,
                "processors": machine.cpu_count,
            },
            "package": self.package,
            "residency": config.map(|config| json!({
                "slots": config.pool_size + 1, "bytesPerSlot": memory::keep(config.pool_size, config.total_memory),
            })),
            "deploy": config.map(deploy),
            "settings": config.map(settings),
            "functions": config.map(|config| {
                config.functions.iter().map(|named| function(config, named)).collect::<Vec<_>>()
            }),
            "compiled": self.compiled,
        })
    }
}

/// What `deploy.sh` tells the platform: as many requests for an instance as its pool has slots, and the largest body that any
/// function takes, because the Functions host holds a body of known length whole before the host's limits are asked. And what it allows
/// the app and waits for: what bindings reach, and the functions.
fn deploy(config: &Config) -> Value {
    let Connections { queues, tables, others } = Connections::of(&config.functions);
    json!({
        "functions": config.functions.iter().map(|function| &*function.name).collect::<Vec<_>>(),
        "storageQueues": queues,
        "storageTables": tables,
        "connections": others,
        "perInstanceConcurrency": config.pool_size,
        "requestBodySizeLimit": config.functions.iter().map(|function| function.limits.request_body).max(),
    })
}

fn settings(config: &Config) -> Value {
    json!({
        "pool": { "size": config.pool_size },
        "queue": { "length": config.queue_length, "timeout": millis(config.queue_timeout) },
        "limits": {
            "totalMemory": config.total_memory,
            "memories": config.memories,
            "coreInstances": config.core_instances,
            "requestHead": config.request_head,
            "spool": config.spool,
            "connections": config.connections,
        },
        "drain": { "timeout": millis(config.drain_timeout) },
        "headers": format!("{:?}", config.headers).to_lowercase(),
        "log": {
            "level": config.log_level.to_string().to_lowercase(),
            "requests": format!("{:?}", config.log_requests).to_lowercase(),
            "slow": config.log_slow.map(millis),
            "timestamps": config.log_timestamps,
        },
    })
}

fn function(config: &Config, function: &Function) -> Value {
    let Function { name, builtin, script_file, guest, middleware, limits, share, reuse, grants, refused, .. } =
        function;
    let smoke = |Smoke { ask, status }: &Smoke| {
        let status = status.map(|status| status.as_u16());
        match ask {
            Ask::Path(path) => json!({ "path": path.as_str(), "status": status.unwrap_or(200) }),
            Ask::Event(file) => json!({ "event": file.display().to_string(), "status": status }),
        }
    };
    let part = |Middleware { file, source, grants, .. }: &Middleware| json!({ "file": &**file, "source": source.as_ref().map(ToString::to_string), "grants": granted(grants) });
    json!({
        "name": &**name,
        "trigger": trigger(config, &function.trigger),
        "refused": refused.as_deref(),
        "builtin": builtin.map(Builtin::word),
        "file": builtin.is_none().then(|| script_file.display().to_string()),
        "guest": {
            "source": guest.source.as_ref().map(ToString::to_string),
            "maxSize": guest.max_size,
            "compileTimeout": millis(guest.compile_timeout),
            "poll": millis(guest.poll),
            "smoke": guest.smoke.as_ref().map(smoke),
            "middleware": middleware.iter().map(part).collect::<Vec<_>>(),
        },
        "pool": {
            "share": share.to_string(), "reuse": reuse.requests, "idleTimeout": millis(reuse.idle_timeout),
        },
        "grants": granted(grants),
        "limits": {
            "timeout": millis(limits.timeout),
            "cpu": millis(limits.cpu),
            "memory": limits.memory,
            "tableElements": limits.table_elements,
            "handles": limits.handles,
            "hostCall": limits.host_call,
            "random": limits.random,
            "requestBody": limits.request_body,
            "responseHeaders": limits.response_headers,
            "responseHead": limits.response_head,
            "responseBody": limits.response_body,
            "log": limits.log,
            "logRate": limits.log_rate,
            "outgoing": limits.outgoing,
            "outgoingConcurrent": limits.outgoing_concurrent,
        },
    })
}

fn granted(grants: &Grants) -> Value {
    json!({
        "env": grants.variables(),
        "config": grants.configured(),
        "dirs": grants.folders(),
        "hosts": grants.servers(),
        "keyvalue": grants.stores(),
    })
}

/// What `flexwasm explain --json` prints about a function: what its guest asks for, and everything that is set.
pub fn explained(config: &Config, named: &Function) -> Result<Value, LoadError> {
    if named.builtin.is_some() {
        return Ok(function(config, named));
    }
    let Asks {
        wasm, digest, wasi, gets, footprint: Footprint { needs, stack, modules, parts, .. }, parts: files, ..
    } = describe::asks(named)?;
    let file = |file: &Composed| json!({ "file": &*file.name, "sha256": file.digest.to_string() });
    let import = |(import, gets): (String, String)| json!({ "interface": import, "gets": gets });
    let part = |Part { name, needs }: Part| {
        json!({
            "name": name, "memory": needs.memory, "memories": needs.memories, "coreInstances": needs.core_instances,
        })
    };
    let mut document = function(config, named);
    document["asks"] = json!({
        "bytes": wasm.len(),
        "sha256": digest.to_string(),
        "wasi": wasi.to_string(),
        "imports": gets.into_iter().map(import).collect::<Vec<_>>(),
        "beginsWith": {
            "memory": needs.memory, "memories": needs.memories, "tables": needs.tables, "stack": stack, "coreModules": modules,
        },
        "composedOf": files.iter().map(file).collect::<Vec<_>>(),
        "parts": parts.into_iter().map(part).collect::<Vec<_>>(),
    });
    Ok(document)
}

/// None for a function that gets JSON envelopes.
fn trigger(config: &Config, trigger: &Trigger) -> Option<Value> {
    let Trigger::Http { route, methods, auth } = trigger else { return None };
    let path = [config.route_prefix.as_str(), &route.to_string()].join("/");
    let auth = match auth {
        AuthLevel::Anonymous => "anonymous",
        AuthLevel::Function => "function",
        AuthLevel::Admin => "admin",
    };
    let methods: Option<Vec<&str>> =
        methods.as_ref().map(|methods| methods.iter().map(|method| method.as_str()).collect());
    Some(json!({ "route": format!("/{}", path.trim_matches('/')), "methods": methods, "authLevel": auth }))
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
