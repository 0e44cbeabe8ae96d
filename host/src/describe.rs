//! What is configured, and what a guest asks for and gets, in words for a person. Names of granted variables, never values.

use crate::capabilities::{self, parts};
use crate::config::digest::Digest;
use crate::config::event::{EVENT_KEYS, Event, Mode};
use crate::config::function_json::{AuthLevel, Trigger};
use crate::config::middleware::Middleware;
use crate::config::settings::{Granted, HostSettings, Instances, Limits, Reuse};
use crate::config::source::{Ask, GuestSettings};
use crate::config::units::{spell_duration, spell_size};
use crate::config::{Config, Function};
use crate::engine::{Wasi, memory};
use crate::guest::LoadError;
use crate::guest::artifact::Artifact;
use crate::guest::composition::{self, Part as Composed};
use crate::guest::footprint::{Footprint, Part};
use crate::guest::interfaces::Interfaces;
use crate::guest::linked;
use http::StatusCode;
use std::fmt::Write as _;
use std::sync::Arc;

/// What `rustc` links is more than a guest needs that answers requests: 1 MiB.
const LARGE_STACK: u64 = 256 << 10;

/// The effective settings, as `flexwasm check` prints them.
pub fn settings(config: &Config) -> String {
    let mut rows = Vec::new();
    let mut say = |key: &str, value: String| rows.push((key.to_owned(), value));
    for (key, value) in HostSettings::list(config) {
        say(key, value);
    }
    for function in &config.functions {
        say("", String::new());
        say("function", function.name.to_string());
        match &function.trigger {
            Trigger::Http { route, methods, auth } => {
                let methods = methods.as_ref().map_or("any".to_owned(), |methods| format!("{methods:?}"));
                let path = [config.route_prefix.as_str(), &route.to_string()].join("/");
                say("  route", format!("/{}", path.trim_matches('/')));
                say("  methods", methods);
                let key = match auth {
                    AuthLevel::Anonymous => "not needed",
                    AuthLevel::Function => "needed",
                    AuthLevel::Admin => "the master key is needed",
                };
                say("  function key", key.to_owned());
            }
            Trigger::Envelope => {
                say("  trigger", format!("{}, in a JSON envelope", function.event.trigger.kind));
                event(&function.event).into_iter().for_each(|(key, value)| say(&format!("  {key}"), value));
            }
        }
        if let Some(builtin) = function.builtin {
            say("  builtin", builtin.word());
            continue;
        }
        say("  guest", function.script_file.display().to_string());
        for (key, value) in source(function).into_iter().chain(limits(function)).chain(grants(function)) {
            say(&format!("  {key}"), value);
        }
    }
    table(&rows)
}

/// The settings of a function that gets envelopes.
fn event(event: &Event) -> [(&'static str, String); 5] {
    let [mode, path, kind, source, rejected] = EVENT_KEYS;
    let or = |value: &Option<String>, default: &str| value.clone().unwrap_or_else(|| default.to_owned());
    let spelled = if event.mode == Mode::Request { "request" } else { "envelope" };
    [
        (mode, spelled.to_owned()),
        (path, or(&event.path.as_ref().map(ToString::to_string), "the function's name")),
        (kind, or(&event.kind, "the trigger's type")),
        (source, or(&event.source, "where the trigger listens")),
        (rejected, or(&event.rejected, "none")),
    ]
}

/// How much memory slots keep of guests with one memory between two requests.
pub fn residency(config: &Config) -> String {
    let (slots, each) = (u64::from(config.pool_size) + 1, memory::keep(config.pool_size, config.total_memory));
    let (each, all) = (spell_size(round(each)), spell_size(round(each * slots)));
    format!(
        "memory of slots: between two requests each of {slots} slots keeps up to {each} of what guests write, {all} in all"
    )
}

/// In whole MiB, or KiB below that.
fn round(bytes: u64) -> u64 {
    let unit = if bytes >= 1 << 20 { 20 } else { 10 };
    bytes >> unit << unit
}

/// What an instance of the component begins with, and how many modules are left once it is `linked`.
fn footprint(found: &Footprint, linked: Option<u32>) -> Vec<(String, String)> {
    let Footprint { needs, stack, modules, parts, .. } = found;
    let memory = spell_size(needs.memory);
    let stack = match *stack {
        0 => "not stated in the component".to_owned(),
        stack if stack > LARGE_STACK => {
            let cost = "it counts in limits.memory and limits.totalMemory of every instance";
            format!("{}: {cost}; `rustc -C link-arg=-zstack-size=65536` links a smaller one", spell_size(stack))
        }
        stack => spell_size(stack),
    };
    let mut rows = vec![("    memory".to_owned(), memory)];
    if needs.memories > 1 {
        rows.push(("    memories".to_owned(), format!("{}, which share limits.memory", needs.memories)));
    }
    let modules = match linked {
        Some(left) => format!("{modules}, linked to {left} before they are compiled"),
        None => modules.to_string(),
    };
    rows.extend([("    stack".to_owned(), stack), ("    core modules".to_owned(), modules)]);
    for Part { name, needs } in parts {
        let size = spell_size(needs.memory);
        let words = format!(
            "{}: {} memories of {size}, {} core instances",
            name.as_deref().unwrap_or("unnamed"),
            needs.memories,
            needs.core_instances
        );
        rows.push(("    part".to_owned(), words));
    }
    rows
}

/// What the file of a guest tells, and what the guest would get.
pub struct Asks {
    /// The file.
    pub origin: String,
    /// All of it.
    pub wasm: Vec<u8>,
    /// Its SHA-256.
    pub digest: Digest,
    /// The version of WASI that it is for.
    pub wasi: Wasi,
    /// What it imports, and in words what it gets of that.
    pub gets: Vec<(String, String)>,
    /// What an instance begins with.
    pub footprint: Footprint,
    /// What it was composed of here, if it has middleware.
    pub parts: Arc<[Composed]>,
}

/// What the guest of a function asks for. It is not run.
///
/// # Errors
/// [`LoadError`], if a file is no component, or does not fit what stands in front of it.
pub fn asks(function: &Function) -> Result<Asks, LoadError> {
    let artifact = composition::read(function)?;
    let Artifact { origin, wasm, digest, interfaces: Interfaces { mut imports, wasi }, footprint, parts, .. } =
        artifact;
    imports.sort();
    let gets = imports.iter().map(|import| gets(function, import)).collect();
    Ok(Asks { origin, wasm, digest, wasi, gets, footprint, parts })
}

/// What is imported, by which component if it stands in front of the guest, and what that gets of it.
fn gets(function: &Function, import: &str) -> (String, String) {
    let of_part =
        parts::of_name(import).and_then(|(part, interface)| Some((function.middleware.get(part)?, interface)));
    match of_part {
        Some((Middleware { file, grants, .. }, interface)) => {
            let function = Function { grants: grants.clone(), ..function.clone() };
            (format!("{interface} of {file}"), capabilities::describe(&function, interface))
        }
        None => (import.to_owned(), capabilities::describe(function, import)),
    }
}

/// What the guest of a function asks for, what it gets, and what its limits are. It is not run.
///
/// # Errors
/// As [`asks`].
pub fn guest(function: &Function) -> Result<String, LoadError> {
    let Asks { origin, wasm, digest, wasi, gets, footprint: begins, parts } = asks(function)?;
    let mut text = format!("function {}: a guest of {wasi}\n", function.name);
    let file = format!("{origin} ({:.1} MB)", wasm.len() as f64 / 1e6);
    text += &table(&[("  guest", file), ("  sha256", digest.to_string())]);
    if !parts.is_empty() {
        text += "\n  is composed of, what sees a request first\n";
        text += &table(
            &parts.iter().map(|part| (format!("    {}", part.name), part.digest.to_string())).collect::<Vec<_>>(),
        );
    }
    text += "\n  asks for, and gets\n";
    text += &table(&gets.into_iter().map(|(import, gets)| (format!("    {import}"), gets)).collect::<Vec<_>>());
    text += "\n  begins with\n";
    let linked = linked::link(&wasm).map(|linked| Footprint::of(&linked).modules);
    text += &table(&footprint(&begins, linked));
    text += "\n  limits\n";
    let indented: Vec<_> = limits(function).into_iter().map(|(key, value)| (format!("    {key}"), value)).collect();
    text += &table(&indented);
    Ok(text)
}

/// What a guest that asks for `new` does not get, for want of a grant, though one that asks for `old` did not miss it.
pub fn not_granted(function: &Function, old: &[String], new: &[String]) -> Vec<String> {
    let interface = |import: &str| import.split('@').next().unwrap_or_default().to_owned();
    let known: Vec<String> = old.iter().map(|import| interface(import)).collect();
    let asked = new.iter().filter(|import| !known.contains(&interface(import)));
    let note = |import: &String| {
        let (import, gets) = gets(function, import);
        gets.starts_with("nothing: grants.").then(|| format!("asks for {import} and gets {gets}"))
    };
    asked.filter_map(note).collect()
}

/// That no function has this name, and which ones there are.
pub fn unknown(name: &str, functions: &[&str]) -> String {
    match functions {
        [] => format!("there is no function {name}, and no other one"),
        functions => format!("there is no function {name}: name one of {}", functions.join(", ")),
    }
}

/// The functions that have no guest to ask: name, state and why, in a sentence.
pub fn idle(config: &Config) -> Vec<(Arc<str>, &'static str, String)> {
    let of_function = |function: &Function| {
        let name = &function.name;
        let (state, why) = match (&function.refused, function.builtin) {
            (Some(why), _) => ("refused", why.to_string()),
            (None, Some(builtin)) => {
                let word = builtin.word();
                (
                    "builtin",
                    format!(
                        "function {name} is answered by the host itself (flexwasm.builtin {word}): it has no guest"
                    ),
                )
            }
            (None, None) => return None,
        };
        Some((Arc::clone(name), state, why))
    };
    let switched_off = |(name, setting): &(Arc<str>, String)| {
        let why = format!(
            "function {name} is disabled by the app setting {setting}: set it to false, and start the host again"
        );
        (Arc::clone(name), "disabled", why)
    };
    config.functions.iter().filter_map(of_function).chain(config.disabled.iter().map(switched_off)).collect()
}

/// Where the guest comes from, without what may be secret.
fn source(function: &Function) -> [(&'static str, String); 11] {
    let GuestSettings { source, sha256, max_size, compile_timeout, poll, smoke } = &function.guest;
    let none = || "none".to_owned();
    let (path, event) = match smoke.as_ref().map(|smoke| &smoke.ask) {
        None => (None, None),
        Some(Ask::Path(path)) => (Some(path.to_string()), None),
        Some(Ask::Event(file)) => (None, Some(file.display().to_string())),
    };
    let status = |status: Option<StatusCode>, ask: &Ask| match (status, ask) {
        (Some(status), _) => status.as_u16().to_string(),
        (None, Ask::Path(_)) => "200".to_owned(),
        (None, Ask::Event(_)) => "any of success".to_owned(),
    };
    let part = |Middleware { file, source, .. }: &Middleware| match source {
        Some(source) => format!("{file} from {source}"),
        None => file.to_string(),
    };
    let middleware: Vec<String> = function.middleware.iter().map(part).collect();
    let credentials = source.as_ref().and_then(|remote| remote.credentials.as_ref());
    let secret = credentials.map_or_else(none, |_| "set, not shown".to_owned());
    [
        ("guest.source", source.as_ref().map_or_else(|| "the file itself".to_owned(), ToString::to_string)),
        ("guest.username", secret.clone()),
        ("guest.password", secret),
        ("guest.sha256", sha256.as_ref().map_or_else(none, ToString::to_string)),
        ("guest.middleware", if function.middleware.is_empty() { none() } else { middleware.join(", ") }),
        ("guest.maxSize", spell_size(*max_size)),
        ("guest.compileTimeout", spell_duration(*compile_timeout)),
        ("guest.poll", spell_duration(*poll)),
        ("guest.smoke.path", path.unwrap_or_else(none)),
        ("guest.smoke.event", event.unwrap_or_else(none)),
        ("guest.smoke.status", smoke.as_ref().map_or_else(none, |smoke| status(smoke.status, &smoke.ask))),
    ]
}

fn limits(function: &Function) -> Vec<(&'static str, String)> {
    let Function { share, reuse: Reuse { requests: reuse, idle_timeout }, .. } = *function;
    let instances = Instances::list(&Instances { share, reuse, idle_timeout });
    instances.into_iter().chain(Limits::list(&function.limits)).collect()
}

fn grants(function: &Function) -> Vec<(&'static str, String)> {
    let grants = &function.grants;
    let hosts = grants.hosts.iter().map(|server| server.grant.clone()).collect();
    let keyvalue = grants.keyvalue.iter().map(|store| store.written.clone()).collect();
    let (env, config, dirs) = (grants.variables(), grants.configured(), grants.folders());
    Granted::list(&Granted { env, config, dirs, hosts, keyvalue })
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guest::footprint::Needs;

    #[test]
    fn the_owner_of_a_guest_with_a_large_stack_is_told_how_to_link_a_smaller_one() {
        let needs = Needs { memory: 17 << 16, memories: 1, ..Needs::default() };
        let told = |stack: u64| {
            let rows = footprint(&Footprint { needs, stack, modules: 1, ..Footprint::default() }, None);
            rows.into_iter().find(|(key, _)| key.trim() == "stack").expect("a row").1
        };
        assert_eq!(told(64 << 10), "64KiB");
        let large = told(1 << 20);
        assert!(large.starts_with("1MiB: it counts in limits.memory"), "{large}");
        assert!(large.contains("`rustc -C link-arg=-zstack-size=65536`"), "{large}");
    }
}
