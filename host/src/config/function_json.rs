//! `function.json`: one function's trigger, route, guest and overrides.

use super::AppSettings;
use super::route::Template;
use super::section::{Problems, Section};
use super::settings::{FUNCTION_KEYS, FunctionPatch, HOST_KEYS};
use super::source::{GUEST_KEYS, GuestSettings};
use http::Method;
use serde_json::Value;

/// What one `function.json` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FunctionFile {
    /// How the function is called.
    pub trigger: Trigger,
    /// The guest's file as written, relative to the function's folder.
    pub script_file: String,
    /// Our section, but for `guest`.
    pub patch: FunctionPatch,
    /// Where the guest comes from.
    pub guest: GuestSettings,
}

/// How the Functions host calls a function.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trigger {
    /// Exactly one input, an httpTrigger, and exactly one output, http: the request arrives as the client sent it
    /// (azure-contract.md §2.1).
    Http {
        /// The route below the prefix.
        route: Template,
        /// Methods that are served; none means all.
        methods: Option<Vec<Method>>,
        /// Whether the caller proves itself with a function key (`authLevel` other than anonymous).
        keyed: bool,
    },
    /// Anything else arrives as a JSON envelope, which this version does not speak.
    Envelope,
}

impl FunctionFile {
    /// Reads one document; None when it is so wrong that nothing of it can be used, with the mistakes noted.
    pub fn read(
        name: &str,
        file: &str,
        document: &Value,
        settings: &AppSettings,
        problems: &mut Problems,
    ) -> Option<Self> {
        let trigger = trigger(name, file, document, problems);
        let script_file = match document.get("scriptFile") {
            Some(Value::String(path)) if !path.is_empty() => Some(path.clone()),
            other => {
                problems.add(
                    file,
                    "scriptFile",
                    other,
                    "name the guest's file, such as \"scriptFile\": \"guest.wasm\"",
                );
                None
            }
        };
        let mut section = Section::of_file(file, document, problems);
        let patch = FunctionPatch::read(&mut section);
        let guest = GuestSettings::read(&mut section, settings);
        let elsewhere = "applies to the whole host: move it to the flexwasm section of host.json";
        section.finish(&[&FUNCTION_KEYS[..], &GUEST_KEYS[..]].concat(), (&HOST_KEYS, elsewhere));
        Some(Self { trigger: trigger?, script_file: script_file?, patch, guest })
    }
}

fn trigger(name: &str, file: &str, document: &Value, problems: &mut Problems) -> Option<Trigger> {
    let bindings = match document.get("bindings") {
        Some(Value::Array(bindings)) if !bindings.is_empty() => bindings,
        other => {
            problems.add(file, "bindings", other, "declare at least one binding, as a list of objects");
            return None;
        }
    };
    let is = |binding: &Value, key: &str, word: &str| {
        binding.get(key).and_then(Value::as_str).is_some_and(|value| value.eq_ignore_ascii_case(word))
    };
    // As the Functions host counts them: a trigger may leave out its direction.
    let (outputs, inputs): (Vec<_>, Vec<_>) = bindings.iter().partition(|binding| is(binding, "direction", "out"));
    let ([input], [output]) = (&inputs[..], &outputs[..]) else { return Some(Trigger::Envelope) };
    if !is(input, "type", "httpTrigger") || !is(output, "type", "http") {
        return Some(Trigger::Envelope);
    }

    let route = match input.get("route") {
        None | Some(Value::Null) => Some(name),
        Some(Value::String(route)) => Some(route.as_str()),
        Some(other) => {
            problems.add(file, "bindings.route", Some(other), "must be text, such as \"orders/{id}\"");
            None
        }
    };
    let route = route.and_then(|text| {
        let noted = |remedy: String| problems.add(file, "bindings.route", Some(&text.into()), remedy);
        Template::parse(text).map_err(noted).ok()
    });
    let methods = match input.get("methods") {
        None | Some(Value::Null) => Some(None),
        Some(list) => {
            let method = |value: &Value| Method::from_bytes(value.as_str()?.to_ascii_uppercase().as_bytes()).ok();
            let methods = list.as_array().and_then(|methods| methods.iter().map(method).collect::<Option<Vec<_>>>());
            if methods.is_none() {
                problems.add(file, "bindings.methods", Some(list), "must be a list such as [\"get\", \"post\"]");
            }
            // An empty list means all, as in the Functions host.
            methods.map(|methods| Some(methods).filter(|methods| !methods.is_empty()))
        }
    };
    let keyed = match input.get("authLevel") {
        None | Some(Value::Null) => Some(true),
        Some(Value::String(level)) => match level.to_ascii_lowercase().as_str() {
            "anonymous" => Some(false),
            "function" | "admin" => Some(true),
            _ => None,
        },
        Some(_) => None,
    };
    if keyed.is_none() {
        problems.add(file, "bindings.authLevel", input.get("authLevel"), "must be anonymous, function or admin");
    }
    Some(Trigger::Http { route: route?, methods: methods?, keyed: keyed? })
}
