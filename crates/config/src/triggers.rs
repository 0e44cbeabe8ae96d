//! What Azure makes of a function's bindings: what it would trip over, and what is right but good to know.
//!
//! Defaults are those of the extensions of queues and Service Bus in version 5 of the bundle (host.json reference of Azure Functions).

use super::bindings::{self, is_output, is_trigger, says, text};
use super::section::{Problem, Problems};
use super::{self as config, AppSettings, host_json, member};
use serde_json::Value;
use std::collections::BTreeSet;

/// Types whose extensions the Functions host has in itself.
const BUILT_IN: [&str; 3] = ["httptrigger", "http", "timertrigger"];

/// What the bindings of one function are compared with.
pub struct App<'a> {
    /// `host.json`.
    pub host: &'a Value,
    /// What may stand in for its values.
    pub settings: &'a AppSettings,
    /// Whether the app brings extensions of its own in place of a bundle.
    pub own_extensions: bool,
    /// Slots.
    pub pool_size: u32,
}

/// One function.
pub struct Declared<'a> {
    name: &'a str,
    document: &'a Value,
    all: &'a [Value],
}

impl<'a> Declared<'a> {
    /// What its `function.json` declares.
    pub fn new(name: &'a str, document: &'a Value) -> Self {
        Self { name, document, all: bindings::of(document) }
    }

    /// What Azure would not load the function with.
    pub fn problems(&self, app: &App) -> Vec<Problem> {
        let mut problems = Problems::default();
        let file = format!("{}/function.json", self.name);
        let near = || self.all.iter().filter_map(|binding| member(binding, "type")).find(|kind| is_near(kind));
        match self.all.iter().filter(|binding| is_trigger(binding)).count() {
            0 => match near() {
                Some(kind) => {
                    let remedy = "starts no function: write a type that ends in Trigger, such as \"queueTrigger\"";
                    problems.add(&file, "bindings.type", Some(kind), remedy);
                }
                None => {
                    let remedy = "none has a type that ends in Trigger, so nothing starts the function: add one, such as \
                                  \"queueTrigger\"";
                    problems.add(&file, "bindings", None, remedy);
                }
            },
            1 => {}
            _ => {
                let remedy = "must have exactly one trigger: give each trigger a function of its own";
                problems.add(&file, "bindings", None, remedy);
            }
        }
        let mut names = BTreeSet::new();
        for binding in self.all {
            let (kind, direction) = (word(binding, "type"), word(binding, "direction"));
            if kind.is_empty() {
                problems.add(
                    &file,
                    "bindings.type",
                    member(binding, "type"),
                    "name the binding's type, such as \"queueTrigger\"",
                );
            }
            let name = text(binding, "name").unwrap_or_default();
            if name.is_empty() {
                problems.add(&file, "bindings.name", member(binding, "name"), "give every binding a name");
            } else if !names.insert(name.to_ascii_lowercase()) {
                problems.add(
                    &file,
                    "bindings.name",
                    Some(&name.into()),
                    "two bindings have this name: rename one of them",
                );
            }
            let direction_fits = match &*direction {
                "" => is_trigger(binding),
                "in" | "inout" => true,
                "out" => !is_trigger(binding),
                _ => false,
            };
            if !direction_fits {
                let remedy = "must be \"in\" for a trigger, and \"in\" or \"out\" for any other binding";
                problems.add(&file, "bindings.direction", member(binding, "direction"), remedy);
            }
        }
        let extension =
            self.all.iter().map(|binding| word(binding, "type")).find(|kind| !BUILT_IN.contains(&kind.as_str()));
        if let Some(kind) = extension.filter(|kind| !kind.is_empty())
            && member(app.host, "extensionBundle").is_none()
            && !app.own_extensions
        {
            let remedy = format!(
                "is missing, but function {} has a binding of type {kind}: add {{\"id\": \"Microsoft.Azure.Functions.ExtensionBundle\", \
                 \"version\": \"[4.*, 5.0.0)\"}}",
                self.name
            );
            problems.add(host_json::FILE, "extensionBundle", None, remedy);
        }
        problems.0
    }

    /// What is good to know.
    pub fn notes(&self, app: &App) -> Vec<String> {
        let Some(trigger) = self.all.iter().find(|binding| is_trigger(binding)) else { return Vec::new() };
        let (name, kind) = (self.name, word(trigger, "type"));
        let mut notes = Vec::new();
        let number = |key: &str| {
            let found = host_json::look(app.host, app.settings, key);
            found.and_then(|value| config::text(&value)?.trim().parse::<u64>().ok())
        };
        let retries =
            member(self.document, "retry").and_then(|retry| member(retry, "maxRetryCount")).and_then(Value::as_i64);
        let at_once = match &*kind {
            "queuetrigger" => {
                let batch = number("extensions.queues.batchSize").unwrap_or(16);
                let more = number("extensions.queues.newBatchThreshold").unwrap_or(batch / 2);
                Some((batch + more, "extensions.queues.batchSize and newBatchThreshold"))
            }
            "servicebustrigger" => Some((
                number("extensions.serviceBus.maxConcurrentCalls").unwrap_or(16),
                "extensions.serviceBus.maxConcurrentCalls",
            )),
            _ => None,
        };
        if let Some((most, keys)) = at_once.filter(|(most, _)| *most > u64::from(app.pool_size)) {
            notes.push(format!(
                "function {name}: Azure sends up to {most} messages at once to an instance ({keys} in host.json), but pool.size is {}: \
                 the others wait, and fail after queue.timeout; lower the one or raise the other",
                app.pool_size
            ));
        }
        match (&*kind, retries) {
            ("queuetrigger" | "blobtrigger", Some(retries)) if retries > 0 => {
                let key = if kind == "blobtrigger" { "blobs.poisonBlobThreshold" } else { "queues.maxDequeueCount" };
                let tries = number(&format!("extensions.{key}")).unwrap_or(5);
                let runs = tries.saturating_mul(retries.unsigned_abs().saturating_add(1));
                notes.push(format!(
                    "function {name}: what fails runs up to {runs} times: {tries} tries (extensions.{key}), each with {retries} retries \
                     (retry in function.json)"
                ));
            }
            ("eventhubtrigger" | "cosmosdbtrigger", None) => notes.push(format!(
                "function {name}: Azure goes on behind an event that failed, so it is lost: set retry in {name}/function.json, or keep \
                 it with an output binding (event.rejected)"
            )),
            _ => {}
        }
        if kind == "queuetrigger" && word(trigger, "queueName").ends_with("-poison") {
            notes.push(format!(
                "function {name}: a queue whose name ends in -poison has no poison queue: a message that fails comes again after 10 \
                 minutes, without end"
            ));
        }
        for output in self.all.iter().filter(|binding| is_output(binding)) {
            if says(output, "dataType", "binary") && says(output, "type", "queue") {
                notes.push(format!(
                    "function {name}: output {} has \"dataType\": \"binary\", so it takes only text: leave dataType out to send any bytes",
                    text(output, "name").unwrap_or_default()
                ));
            }
        }
        notes
    }
}

/// Whether a type is probably meant for a trigger's.
fn is_near(kind: &Value) -> bool {
    kind.as_str().is_some_and(|kind| kind.to_ascii_lowercase().contains("tri"))
}

/// The text that a binding has under this key, in lower case; empty for none.
fn word(binding: &Value, key: &str) -> String {
    text(binding, key).unwrap_or_default().to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const NOTHING: &AppSettings = &AppSettings::new();

    fn app(host: &Value) -> App<'_> {
        App { host, settings: NOTHING, own_extensions: false, pool_size: 16 }
    }

    fn notes(host: Value, function: Value) -> Vec<String> {
        Declared::new("f", &function).notes(&app(&host))
    }

    #[test]
    fn an_app_setting_stands_in_for_the_size_of_a_batch() {
        let name = "AzureFunctionsJobHost__extensions__queues__batchSize".to_owned();
        let settings = AppSettings::from([(name, "32".to_owned())]);
        let queue = json!({"bindings": [{"type": "queueTrigger", "name": "m", "queueName": "q"}]});
        let host = json!({"extensions": {"queues": {"batchSize": 1}}});
        let found = Declared::new("f", &queue).notes(&App { settings: &settings, ..app(&host) });
        assert!(found.len() == 1 && found[0].contains("up to 48 messages"), "{found:?}");
    }

    fn problems(host: Value, bindings: Value) -> Vec<String> {
        let function = json!({ "bindings": bindings });
        Declared::new("f", &function).problems(&app(&host)).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn batches_are_compared_with_the_pool() {
        let queue = json!({"bindings": [{"type": "queueTrigger", "name": "m", "queueName": "q"}]});
        let found = notes(json!({}), queue.clone());
        assert!(
            found.len() == 1 && found[0].contains("up to 24 messages") && found[0].contains("pool.size is 16"),
            "{found:?}"
        );
        let small = json!({"extensions": {"queues": {"batchSize": 8, "newBatchThreshold": 8}}});
        assert_eq!(notes(small, queue), [""; 0]);
        let bus = json!({"bindings": [{"type": "serviceBusTrigger", "name": "m"}]});
        assert_eq!(notes(json!({}), bus.clone()), [""; 0]);
        let found = notes(json!({"extensions": {"serviceBus": {"maxConcurrentCalls": 17}}}), bus);
        assert!(found[0].contains("up to 17 messages"), "{found:?}");
    }

    #[test]
    fn d15_8_a_failure_that_is_a_loss_is_called_one() {
        for kind in ["eventHubTrigger", "cosmosDBTrigger"] {
            let mut function = json!({"bindings": [{"type": kind, "name": "e"}]});
            let found = notes(json!({}), function.clone());
            assert!(found[0].contains("it is lost: set retry in f/function.json"), "{found:?}");
            function["retry"] = json!({"strategy": "fixedDelay", "maxRetryCount": 3});
            assert_eq!(notes(json!({}), function), [""; 0]);
        }
    }

    #[test]
    fn runs_are_tries_times_retries_and_a_poison_queue_has_none() {
        let host = json!({"extensions": {"queues": {"batchSize": 1}}});
        let function = json!({
            "bindings": [{"type": "queueTrigger", "name": "m", "queueName": "jobs-poison"}], "retry": {"maxRetryCount": 2},
        });
        let found = notes(host, function);
        assert!(
            found.len() == 2 && found[0].contains("up to 15 times") && found[1].contains("without end"),
            "{found:?}"
        );
        let output = json!({"type": "queue", "direction": "out", "name": "o", "dataType": "binary"});
        let found = notes(json!({}), json!({"bindings": [{"type": "timerTrigger", "name": "t"}, output]}));
        assert!(found.len() == 1 && found[0].contains("output o"), "{found:?}");
    }

    #[test]
    fn what_azure_does_not_load_is_refused() {
        let bundle = json!({"extensionBundle": {"id": "x", "version": "[4.*, 5.0.0)"}});
        let queue = json!({"type": "queueTrigger", "direction": "in", "name": "m"});
        assert_eq!(problems(bundle.clone(), json!([queue])), [""; 0]);
        assert_eq!(problems(json!({}), json!([{"type": "timerTrigger", "name": "t"}])), [""; 0]);
        let one = |host: &Value, bindings: Value, words: &str| {
            let found = problems(host.clone(), bindings);
            assert!(found.len() == 1 && found[0].contains(words), "{found:?}");
        };
        one(&json!({}), json!([queue]), "host.json: extensionBundle: is missing");
        one(&bundle, json!([queue, {"type": "timerTrigger", "name": "t"}]), "exactly one trigger");
        let near = json!([{"type": "queuetriggr", "direction": "in", "name": "m"}]);
        one(
            &bundle,
            near,
            "f/function.json: bindings.type = \"queuetriggr\": starts no function: write a type that ends in",
        );
        let none = json!([{"type": "queue", "direction": "in", "name": "m"}]);
        one(&bundle, none, "f/function.json: bindings: none has a type that ends in Trigger");
        one(&bundle, json!([queue, {"type": "queue", "direction": "out", "name": "M"}]), "two bindings have this name");
        one(&bundle, json!([queue, {"type": "queue", "name": "o"}]), "bindings.direction");
        one(&bundle, json!([queue, {"type": "queue", "direction": "out"}]), "give every binding a name");
        one(&bundle, json!([queue, {"direction": "out", "name": "o"}]), "bindings.type");
        one(&bundle, json!([{"type": "queueTrigger", "direction": "out", "name": "m"}]), "bindings.direction");
    }
}
