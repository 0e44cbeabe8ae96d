//! A function that is called with JSON envelopes: its bindings, and `flexwasm.event` of its `function.json`.

use super::bindings::{self, is_output, is_trigger, says, text};
use super::kind::{Kind as _, Setting, Word};
use super::section::{Problems, Section};
use http::uri::PathAndQuery;
use serde_json::Value;

/// Keys that only a `function.json` may have.
pub const EVENT_KEYS: [&str; 5] = ["event.mode", "event.path", "event.type", "event.source", "event.rejected"];

const MODE: Word<Mode> = Word(&[("request", Mode::Request), ("envelope", Mode::Envelope)]);

/// What a guest is given of an envelope.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// The payload, as the body of an HTTP request.
    #[default]
    Request,
    /// Azure's JSON, which it also answers.
    Envelope,
}

/// How the envelopes of a function are read and answered.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Event {
    /// What starts the function.
    pub trigger: Binding,
    /// What else comes in.
    pub inputs: Vec<Binding>,
    /// What may go out.
    pub outputs: Vec<Binding>,
    /// The trigger is HTTP, and Azure asks its callers for a key.
    pub keyed: bool,
    /// Where the trigger listens, as `function.json` spells it: a queue, a container, a topic.
    pub place: Option<String>,
    /// What the guest is given.
    pub mode: Mode,
    /// The path of the guest's request; none for `/{function}`.
    pub path: Option<PathAndQuery>,
    /// `ce-type`; none for the trigger's kind.
    pub kind: Option<String>,
    /// `ce-source`; none for where the trigger listens.
    pub source: Option<String>,
    /// The output binding that takes the payload of a rejected event.
    pub rejected: Option<String>,
}

/// One binding of a `function.json`, as far as the values that pass through it depend on it.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Binding {
    /// Its name.
    pub name: String,
    /// Its type as it is spelled, such as `queueTrigger`.
    pub kind: String,
    /// `"dataType": "binary"`.
    pub binary: bool,
    /// `"cardinality": "many"`.
    pub many: bool,
}

impl Binding {
    /// Whether it has this type; Azure does not tell upper from lower case.
    pub fn is(&self, kind: &str) -> bool {
        self.kind.eq_ignore_ascii_case(kind)
    }

    fn read(binding: &Value) -> Self {
        let own = |key| text(binding, key).unwrap_or_default().to_owned();
        Self {
            name: own("name"),
            kind: own("type"),
            binary: says(binding, "dataType", "binary"),
            many: says(binding, "cardinality", "many"),
        }
    }
}

impl Event {
    /// One row for each of [`EVENT_KEYS`].
    pub fn table() -> Vec<Setting> {
        let row = |key, range, default: &str| Setting { key, scope: "function", range, default: default.to_owned() };
        let [mode, path, kind, source, rejected] = EVENT_KEYS;
        vec![
            row(mode, MODE.range(), "request"),
            row(path, vec![], "/ and the function's name"),
            row(kind, vec![], "azure.functions. and the trigger's type"),
            row(source, vec![], "the trigger's type and where it listens"),
            row(rejected, vec![], "none"),
        ]
    }

    /// Reads bindings and settings of one `function.json`.
    pub fn read(file: &str, document: &Value, settings: Settings, problems: &mut Problems) -> Self {
        let Settings { mode, path, kind, source, rejected } = settings;
        let (outputs, inputs): (Vec<_>, Vec<_>) = bindings::of(document).iter().partition(|binding| is_output(binding));
        let nothing = Value::Null;
        let trigger = inputs.iter().find(|binding| is_trigger(binding)).copied().unwrap_or(&nothing);
        let places = ["queueName", "path", "topicName", "eventHubName", "containerName", "collectionName"];
        let place = places.into_iter().filter_map(|key| text(trigger, key)).find(|place| !place.is_empty());
        let outputs: Vec<_> = outputs.into_iter().map(Binding::read).collect();
        if let Some(name) = rejected.as_ref().filter(|name| !outputs.iter().any(|output| output.name == **name)) {
            let remedy = "there is no output binding of this name: use the name of one that takes the payload";
            problems.add(file, "flexwasm.event.rejected", Some(&name.as_str().into()), remedy);
        }
        Self {
            keyed: says(trigger, "type", "httpTrigger") && !says(trigger, "authLevel", "anonymous"),
            inputs: inputs.into_iter().filter(|input| !std::ptr::eq(*input, trigger)).map(Binding::read).collect(),
            trigger: Binding::read(trigger),
            outputs,
            place: place.map(str::to_owned),
            mode,
            path,
            kind,
            source,
            rejected,
        }
    }
}

/// The `event` settings of one `function.json`.
#[derive(Debug, Default)]
pub struct Settings {
    mode: Mode,
    path: Option<PathAndQuery>,
    kind: Option<String>,
    source: Option<String>,
    rejected: Option<String>,
}

impl Settings {
    /// Takes [`EVENT_KEYS`].
    pub fn take(section: &mut Section<'_>) -> Self {
        let text = |value: &Value| {
            let text = value.as_str().filter(|text| !text.is_empty() && !text.contains(char::is_control));
            text.map(str::to_owned).ok_or_else(|| "must be a text on one line".to_owned())
        };
        let path = |value: &Value| {
            let text = value.as_str().filter(|text| text.starts_with('/') && !text.contains('#'));
            let path = text.and_then(|text| text.parse().ok());
            path.ok_or_else(|| "must be a path that begins with /, such as \"/events/orders\"".to_owned())
        };
        let [mode, place, kind, source, rejected] = EVENT_KEYS;
        Self {
            mode: MODE.take(mode, section).unwrap_or_default(),
            path: section.take(place, path),
            kind: section.take(kind, text),
            source: section.take(source, text),
            rejected: section.take(rejected, text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(document: &Value) -> (Event, Vec<String>) {
        let mut problems = Problems::default();
        let mut section = Section::of_file("f/function.json", document, &mut problems);
        let settings = Settings::take(&mut section);
        section.finish(&EVENT_KEYS, (&[], ""));
        let event = Event::read("f/function.json", document, settings, &mut problems);
        (event, problems.0.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn bindings_are_told_by_direction_and_type() {
        let (event, problems) = read(&json!({
            "bindings": [
                {"type": "blob", "direction": "in", "name": "doc", "path": "docs/x", "dataType": "Binary"},
                {"TYPE": "QueueTrigger", "name": "m", "queueName": "orders"},
                {"type": "queue", "direction": "OUT", "name": "copy"},
            ],
            "flexwasm": {"event": {"mode": "envelope", "path": "/x", "type": "t", "source": "s", "rejected": "copy"}},
        }));
        assert_eq!(problems, [""; 0]);
        let binding =
            |name: &str, kind: &str, binary| Binding { name: name.into(), kind: kind.into(), binary, many: false };
        let expected = Event {
            trigger: binding("m", "QueueTrigger", false),
            inputs: vec![binding("doc", "blob", true)],
            outputs: vec![binding("copy", "queue", false)],
            keyed: false,
            place: Some("orders".to_owned()),
            mode: Mode::Envelope,
            path: Some(PathAndQuery::from_static("/x")),
            kind: Some("t".to_owned()),
            source: Some("s".to_owned()),
            rejected: Some("copy".to_owned()),
        };
        assert_eq!(event, expected);
    }

    #[test]
    fn a_mistake_names_key_value_and_remedy() {
        for (event, words) in [
            (json!({"mode": "raw"}), "flexwasm.event.mode = \"raw\": must be \"request\" or \"envelope\""),
            (json!({"path": "x"}), "flexwasm.event.path = \"x\": must be a path"),
            (json!({"type": "a\nb"}), "flexwasm.event.type = \"a\\nb\": must be a text on one line"),
            (json!({"rejected": "poison"}), "flexwasm.event.rejected = \"poison\": there is no output binding"),
        ] {
            let (_, problems) = read(&json!({"bindings": [], "flexwasm": {"event": event}}));
            assert!(problems.len() == 1 && problems[0].contains(words), "{problems:?}");
        }
    }
}
