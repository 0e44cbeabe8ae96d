//! `function.json`: one function's trigger, route, guest and overrides.

use super::bindings::{is_output, says};
use super::builtin::{BUILTIN_KEYS, Builtin};
use super::event::{self, EVENT_KEYS, Event};
use super::middleware::{self, Written};
use super::route::Template;
use super::section::{Problem, Problems, Section};
use super::settings::{FUNCTION_KEYS, FunctionPatch, HOST_KEYS};
use super::source::{Ask, GUEST_KEYS, GuestSettings, Smoke};
use super::{AppSettings, member, misspelt};
use http::Method;
use serde_json::Value;

/// What one `function.json` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FunctionFile {
    /// How the function is called.
    pub trigger: Trigger,
    /// What is wrong with its route, if anything; it then stands for the paths that were probably meant.
    pub objection: Option<Problem>,
    /// What the host answers in place of a guest, if so.
    pub builtin: Option<Builtin>,
    /// The guest's file as written, relative to the function's folder; empty where the host answers.
    pub script_file: String,
    /// Its bindings, and the `event` part of our section.
    pub event: Event,
    /// Our section, but for `guest` and `event`.
    pub patch: FunctionPatch,
    /// Where the guest comes from.
    pub guest: GuestSettings,
    /// What stands in front of it, the outermost first. None if nothing is said about it.
    pub middleware: Option<Vec<Written>>,
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
        /// How the caller proves itself.
        auth: AuthLevel,
    },
    /// Anything else arrives as a JSON envelope; [`FunctionFile::event`] says how it is read.
    Envelope,
}

/// `authLevel`: which key the Functions host asks the caller for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuthLevel {
    /// None.
    Anonymous,
    /// The function's or the host's.
    Function,
    /// The host's master key.
    Admin,
}

impl FunctionFile {
    /// Reads one document; None when it is so wrong that nothing of it can be used, with the mistakes noted.
    pub fn read(
        name: &str,
        file: &str,
        document: &Value,
        settings: &AppSettings,
        route_prefix: &str,
        problems: &mut Problems,
    ) -> Option<Self> {
        // The Functions host looks for these two exactly as they are written here, and for the members of a binding in any case.
        for key in ["bindings", "scriptFile"] {
            if let Some((near, _)) = misspelt(document, key) {
                problems.add(file, near, None, format!("Azure does not know this key; did you mean {key}?"));
            }
        }
        let trigger = trigger(name, file, document, route_prefix, problems);
        let mut section = Section::of_file(file, document, problems);
        let builtin = Builtin::take(&mut section);
        let patch = FunctionPatch::take(&mut section);
        let guest = GuestSettings::read(&mut section, settings);
        let middleware = middleware::take(&mut section);
        let of_event = event::Settings::take(&mut section);
        let elsewhere = "applies to the whole host: move it to the flexwasm section of host.json";
        let known = [&FUNCTION_KEYS[..], &GUEST_KEYS[..], &EVENT_KEYS[..], &BUILTIN_KEYS].concat();
        section.finish(&known, (&HOST_KEYS, elsewhere));
        let script_file = match (builtin, document.get("scriptFile")) {
            (None, Some(Value::String(path))) if !path.is_empty() => Some(path.clone()),
            (None, other) => {
                let remedy = "name the guest's file, such as \"scriptFile\": \"guest.wasm\"";
                problems.add(file, "scriptFile", other, remedy);
                None
            }
            (Some(_), None) => Some(String::new()),
            (Some(_), other) => {
                problems.add(file, "scriptFile", other, "leave it out: the host answers by itself (flexwasm.builtin)");
                None
            }
        };
        if builtin.is_some() {
            let own = document.get("flexwasm").and_then(Value::as_object);
            if own.is_some_and(|own| own.len() > 1) {
                problems.add(
                    file,
                    "flexwasm",
                    None,
                    "may have nothing beside builtin: there is no guest to set it for",
                );
            }
            let keyed = |auth: &AuthLevel| *auth != AuthLevel::Anonymous;
            match &trigger {
                Some((Trigger::Http { auth, .. }, _)) if keyed(auth) => {}
                Some((Trigger::Http { .. }, _)) => {
                    let remedy = "must be function or admin: what the pool does is not for everybody";
                    problems.add(file, "bindings.authLevel", Some(&"anonymous".into()), remedy);
                }
                Some((Trigger::Envelope, _)) => {
                    let remedy = "needs exactly one input, an httpTrigger, and one output, http";
                    problems.add(file, "flexwasm.builtin", None, remedy);
                }
                // That has been noted.
                None => {}
            }
        }
        let middleware = middleware.map(|entries| middleware::read(file, entries, settings, problems));
        let event = Event::read(file, document, of_event, problems);
        let (trigger, objection) = trigger?;
        if let (Trigger::Http { .. }, Some(Smoke { ask: Ask::Event(file_of_event), .. })) = (&trigger, &guest.smoke) {
            let value = Value::from(file_of_event.display().to_string());
            let remedy = "a function that is called by HTTP alone gets no events: use guest.smoke.path";
            problems.add(file, "flexwasm.guest.smoke.event", Some(&value), remedy);
        }
        Some(Self { trigger, objection, builtin, script_file: script_file?, event, patch, guest, middleware })
    }
}

fn trigger(
    name: &str,
    file: &str,
    document: &Value,
    route_prefix: &str,
    problems: &mut Problems,
) -> Option<(Trigger, Option<Problem>)> {
    let bindings = match document.get("bindings") {
        Some(Value::Array(bindings)) if !bindings.is_empty() => bindings,
        other => {
            problems.add(file, "bindings", other, "declare at least one binding, as a list of objects");
            return None;
        }
    };
    // As the Functions host counts them.
    let (outputs, inputs): (Vec<_>, Vec<_>) = bindings.iter().partition(|binding| is_output(binding));
    let ([input], [output]) = (&inputs[..], &outputs[..]) else { return Some((Trigger::Envelope, None)) };
    if !says(input, "type", "httpTrigger") || !says(output, "type", "http") {
        return Some((Trigger::Envelope, None));
    }

    let text = match member(input, "route") {
        None | Some(Value::Null) => Some(name),
        // One that is blank is the function's name too.
        Some(Value::String(route)) => {
            Some(Some(route.as_str()).filter(|route| !route.trim().is_empty()).unwrap_or(name))
        }
        Some(other) => {
            problems.add(file, "bindings.route", Some(other), "must be text, such as \"orders/{id}\"");
            None
        }
    };
    let methods = match member(input, "methods") {
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
    let auth = match member(input, "authLevel") {
        None | Some(Value::Null) => Some(AuthLevel::Function),
        Some(Value::String(level)) => match level.to_ascii_lowercase().as_str() {
            "anonymous" => Some(AuthLevel::Anonymous),
            "function" => Some(AuthLevel::Function),
            "admin" => Some(AuthLevel::Admin),
            _ => None,
        },
        Some(_) => None,
    };
    if auth.is_none() {
        problems.add(file, "bindings.authLevel", member(input, "authLevel"), "must be anonymous, function or admin");
    }
    let text = text?;
    let (route, objection) = match accepted(text, route_prefix) {
        Ok(route) => (route, None),
        Err(remedy) => {
            let (file, key, value) =
                (file.to_owned(), "bindings.route".to_owned(), Some(Value::from(text).to_string()));
            (Template::meant(text), Some(Problem { file, key, value, remedy }))
        }
    };
    Some((Trigger::Http { route, methods: methods?, auth: auth? }, objection))
}

/// Reads a route that the Functions host accepts: its own paths are reserved (`ValidateHttpFunction` in
/// Azure/azure-functions-host), and it joins prefix and route with a slash.
fn accepted(text: &str, route_prefix: &str) -> Result<Template, String> {
    let start = text.trim_matches('/').to_lowercase();
    if let Some(word) = ["admin", "runtime"].into_iter().find(|word| start.starts_with(word)) {
        return Err(format!("begins with {word}, which Azure keeps for itself: give it another route"));
    }
    if text.starts_with('/') && !route_prefix.is_empty() {
        return Err(format!(
            "begins with a slash, which Azure refuses below the prefix {route_prefix:?}: leave it out"
        ));
    }
    Template::parse(text)
}
