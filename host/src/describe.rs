//! What is configured, and what a guest asks for and gets, in words for a person. Names of granted variables, never values.

use crate::config::function_json::{AuthLevel, Trigger};
use crate::config::source::GuestSettings;
use crate::config::units::{spell_duration, spell_size};
use crate::config::{Config, Function};
use crate::engine::Size;
use crate::guest::artifact::{Artifact, NoArtifact};
use crate::guest::footprint::Footprint;
use crate::guest::interfaces::Interfaces;
use crate::observe::machine::Scan;
use std::fmt::Write as _;

/// Memory and stack above these sizes cost a fresh instance more than its request does, where all of them is copied back. Measured with
/// the demonstration: a stack of 64 KiB in place of 1 MiB, as rustc links it, makes 2.4 times the answers.
const LARGE_MEMORY: u64 = 4 << 20;
const LARGE_STACK: u64 = 256 << 10;

/// The effective settings, as `flexwasm check` prints them.
pub fn settings(config: &Config) -> String {
    let mut rows = vec![
        ("pool.size", config.pool_size.to_string()),
        ("queue.length", config.queue_length.to_string()),
        ("queue.timeout", spell_duration(config.queue_timeout)),
        ("limits.totalMemory", spell_size(config.total_memory)),
        ("limits.coreInstances", config.core_instances.to_string()),
        ("limits.requestHead", spell_size(config.request_head)),
        (
            "limits.spool",
            config.spool.map_or("half of the temporary folder's free space, at most 512MiB".to_owned(), spell_size),
        ),
        ("limits.connections", config.connections.to_string()),
        ("drain.timeout", spell_duration(config.drain_timeout)),
        ("headers", format!("{:?}", config.headers).to_lowercase()),
        ("log.level", config.log_level.to_string().to_lowercase()),
        ("log.requests", format!("{:?}", config.log_requests).to_lowercase()),
        ("log.slow", config.log_slow.map_or("off".to_owned(), spell_duration)),
        ("log.timestamps", config.log_timestamps.to_string()),
    ];
    for function in &config.functions {
        rows.push(("", String::new()));
        rows.push(("function", function.name.to_string()));
        match &function.trigger {
            Trigger::Http { route, methods, auth } => {
                let methods = methods.as_ref().map_or("any".to_owned(), |methods| format!("{methods:?}"));
                let path = [config.route_prefix.as_str(), &route.to_string()].join("/");
                rows.push(("  route", format!("/{}", path.trim_matches('/'))));
                rows.push(("  methods", methods));
                let key = match auth {
                    AuthLevel::Anonymous => "not needed",
                    AuthLevel::Function => "needed",
                    AuthLevel::Admin => "the master key is needed",
                };
                rows.push(("  function key", key.to_owned()));
            }
            Trigger::Envelope => rows.push(("  trigger", "JSON envelope: answered with 501".to_owned())),
        }
        rows.push(("  guest", function.script_file.display().to_string()));
        rows.extend(source(function));
        rows.extend(limits(function));
        rows.push(("  grants.env", format!("{:?}", variables(function))));
        rows.push(("  grants.dirs", format!("{:?}", folders(function))));
        rows.push(("  grants.hosts", format!("{:?}", servers(function))));
    }
    table(&rows)
}

/// How much memory the slots of engines of this size keep between two requests, on this kernel.
pub fn residency(size: &Size, kernel: &str) -> String {
    let slots = u64::from(size.slots) + 1;
    let kept = match size.keep_resident {
        0 => "slots keep nothing between two requests".to_owned(),
        bytes => {
            let whole = if size.scan == Scan::On { "of what the guest wrote" } else { "of its memory, written or not" };
            let (each, all) = (spell_size(round(bytes)), spell_size(round(bytes * slots)));
            format!("between two requests each of {slots} slots keeps up to {each} {whole}, {all} in all")
        }
    };
    format!("memory of slots: kernel {kernel}, {}: {kept}", size.scan)
}

/// In whole MiB, or KiB below that.
fn round(bytes: u64) -> u64 {
    let unit = if bytes >= 1 << 20 { 20 } else { 10 };
    bytes >> unit << unit
}

/// What an instance of the component begins with, and what that costs where it is fresh.
fn footprint(found: Footprint) -> [(&'static str, String); 3] {
    let Footprint { memory, stack, modules } = found;
    let memory = if memory > LARGE_MEMORY {
        let cost = "kernels without PAGEMAP_SCAN (Linux 6.7) copy or fault in all of it for every fresh instance";
        format!("{}: {cost}; a smaller one, or pool.reuse, saves that", spell_size(memory))
    } else {
        spell_size(memory)
    };
    let stack = match stack {
        0 => "not told by the component".to_owned(),
        stack if stack > LARGE_STACK => {
            let cost = "kernels without PAGEMAP_SCAN (Linux 6.7) clear all of it for every fresh instance";
            format!("{}: {cost}; `rustc -C link-arg=-zstack-size=65536` links a smaller one", spell_size(stack))
        }
        stack => spell_size(stack),
    };
    [("    memory", memory), ("    stack", stack), ("    core modules", modules.to_string())]
}

/// What the guest of a function asks for, what it gets, and what its limits are. It is not run.
///
/// # Errors
/// [`NoArtifact`], if its file is no component.
pub fn guest(function: &Function) -> Result<String, NoArtifact> {
    let artifact = Artifact::read(&function.script_file, function.guest.max_size)?;
    let Artifact { origin, wasm, digest, interfaces: Interfaces { mut imports, wasi }, .. } = artifact;
    imports.sort();
    let mut text = format!("function {}: a guest of {wasi}\n", function.name);
    let file = format!("{origin} ({:.1} MB)", wasm.len() as f64 / 1e6);
    text += &table(&[("  guest", file), ("  sha256", digest.to_string())]);
    text += "\n  asks for, and gets\n";
    let gets: Vec<(String, String)> =
        imports.into_iter().map(|import| (format!("    {import}"), gets(function, &import))).collect();
    text += &table(&gets);
    text += "\n  begins with\n";
    text += &table(&footprint(Footprint::of(&wasm)));
    text += "\n  limits\n";
    let indented = limits(function).map(|(key, value)| (format!("  {key}"), value));
    text += &table(&indented);
    Ok(text)
}

/// What a guest that asks for `new` does not get, for want of a grant, though one that asks for `old` did not miss it.
pub fn not_granted(function: &Function, old: &[String], new: &[String]) -> Vec<String> {
    let interface = |import: &str| import.split('@').next().unwrap_or_default().to_owned();
    let known: Vec<String> = old.iter().map(|import| interface(import)).collect();
    let asked = new.iter().filter(|import| !known.contains(&interface(import)));
    let note = |import: &String| {
        let gets = gets(function, import);
        gets.starts_with("nothing: grants.").then(|| format!("asks for {import} and gets {gets}"))
    };
    asked.filter_map(note).collect()
}

/// What a guest of `function` gets when it asks for `import`.
fn gets(function: &Function, import: &str) -> String {
    let granted = |key: &str, names: Vec<String>| match &names[..] {
        [] => format!("nothing: {key} is empty"),
        names => format!("{} ({key})", names.join(", ")),
    };
    let interface = import.split('@').next().unwrap_or_default();
    let (package, name) = interface.split_once('/').unwrap_or((interface, ""));
    match (package, name) {
        ("flexwasm:host", "diagnostics") => "which process, thread, instance and machine it runs on".to_owned(),
        ("wasi:cli", "environment") => granted("grants.env", variables(function)),
        ("wasi:cli", "exit") => "its invocation ends, with status 500".to_owned(),
        ("wasi:cli", "stdout" | "stderr") => {
            format!("lines in the host's log, {} for each request", spell_size(function.limits.log))
        }
        ("wasi:cli", "stdin") => "nothing: it is empty".to_owned(),
        ("wasi:cli", name) if name.starts_with("terminal-") => "nothing: there is no terminal".to_owned(),
        ("wasi:filesystem", "preopens") => granted("grants.dirs", folders(function)),
        ("wasi:filesystem", _) => "what grants.dirs names, for reading".to_owned(),
        ("wasi:sockets", _) => "nothing: raw sockets are always denied".to_owned(),
        ("wasi:http", "outgoing-handler" | "client") => granted("grants.hosts", servers(function)),
        ("wasi:http" | "wasi:io", _) => "its own requests, answers and streams".to_owned(),
        ("wasi:clocks", _) => "the time".to_owned(),
        ("wasi:random", _) => format!("random numbers, {} in one call", spell_size(function.limits.random)),
        _ => "NOTHING: flexwasm has no such interface, so the guest cannot be loaded".to_owned(),
    }
}

fn variables(function: &Function) -> Vec<String> {
    function.grants.env.iter().map(|(name, _)| name.clone()).collect()
}

fn folders(function: &Function) -> Vec<String> {
    function.grants.dirs.iter().map(|dir| dir.guest_path.clone()).collect()
}

fn servers(function: &Function) -> Vec<String> {
    function.grants.hosts.iter().map(ToString::to_string).collect()
}

/// Where the guest comes from, without what may be secret.
fn source(function: &Function) -> [(&'static str, String); 9] {
    let GuestSettings { source, sha256, max_size, compile_timeout, poll, smoke } = &function.guest;
    let none = || "none".to_owned();
    let credentials = source.as_ref().and_then(|remote| remote.credentials.as_ref());
    let secret = credentials.map_or_else(none, |_| "set, not shown".to_owned());
    [
        ("  guest.source", source.as_ref().map_or_else(|| "the file itself".to_owned(), ToString::to_string)),
        ("  guest.username", secret.clone()),
        ("  guest.password", secret),
        ("  guest.sha256", sha256.as_ref().map_or_else(none, ToString::to_string)),
        ("  guest.maxSize", spell_size(*max_size)),
        ("  guest.compileTimeout", spell_duration(*compile_timeout)),
        ("  guest.poll", spell_duration(*poll)),
        ("  guest.smoke.path", smoke.as_ref().map_or_else(none, |smoke| smoke.path.to_string())),
        ("  guest.smoke.status", smoke.as_ref().map_or_else(none, |smoke| smoke.status.as_u16().to_string())),
    ]
}

fn limits(function: &Function) -> [(&'static str, String); 18] {
    let (limits, reuse) = (&function.limits, &function.reuse);
    [
        ("  pool.share", function.share.to_string()),
        ("  pool.reuse", reuse.requests.to_string()),
        ("  pool.idleTimeout", spell_duration(reuse.idle_timeout)),
        ("  limits.timeout", spell_duration(limits.timeout)),
        ("  limits.cpu", spell_duration(limits.cpu)),
        ("  limits.memory", spell_size(limits.memory)),
        ("  limits.tableElements", limits.table_elements.to_string()),
        ("  limits.handles", limits.handles.to_string()),
        ("  limits.hostCall", spell_size(limits.host_call)),
        ("  limits.random", spell_size(limits.random)),
        ("  limits.requestBody", spell_size(limits.request_body)),
        ("  limits.responseHeaders", limits.response_headers.to_string()),
        ("  limits.responseHead", spell_size(limits.response_head)),
        ("  limits.responseBody", limits.response_body.map_or("none".to_owned(), spell_size)),
        ("  limits.log", spell_size(limits.log)),
        ("  limits.logRate", spell_size(limits.log_rate)),
        ("  limits.outgoing", limits.outgoing.to_string()),
        ("  limits.outgoingConcurrent", limits.outgoing_concurrent.to_string()),
    ]
}

/// Two columns, a line each.
fn table(rows: &[(impl AsRef<str>, String)]) -> String {
    let width = rows.iter().map(|(key, _)| key.as_ref().len()).max().unwrap_or(0);
    rows.iter().fold(String::new(), |mut text, (key, value)| {
        let line = format!("{:width$} {value}", key.as_ref());
        writeln!(text, "{}", line.trim_end()).expect("a string takes every line");
        text
    })
}
