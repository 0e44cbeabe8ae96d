//! What holds for every text that the parsers of this module may be given: they never panic, and what they accept keeps its
//! meaning in the form in which it is printed. The cases are the same in every run.

use super::event::EVENT_KEYS;
use super::function_json::{FunctionFile, Trigger};
use super::host_json::AzureHost;
use super::route::Template;
use super::section::{Problems, Section};
use super::settings::{FUNCTION_KEYS, FunctionPatch, HOST_KEYS, HostPatch};
use super::source::{GUEST_KEYS, GuestSettings, Location};
use super::{AppSettings, Circumstances, units};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use serde_json::{Map, Value, json};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::Duration;

fn cases(cases: u32) -> ProptestConfig {
    ProptestConfig { cases, rng_seed: RngSeed::Fixed(7), failure_persistence: None, ..ProptestConfig::default() }
}

/// App settings of which one is what `%SECRET%` means.
fn settings() -> AppSettings {
    [("SECRET".to_owned(), "AccountKey".to_owned())].into()
}

/// Numbers with units, right and wrong, and anything else.
fn quantity() -> impl Strategy<Value = String> {
    let unit = prop_oneof![
        Just(""),
        Just("ms"),
        Just("s"),
        Just("h"),
        Just("B"),
        Just("KiB"),
        Just("GiB"),
        Just("MB"),
        Just("x")
    ];
    prop_oneof![
        (any::<u64>(), unit.clone()).prop_map(|(n, unit)| format!("{n}{unit}")),
        (0..5000_u64, unit).prop_map(|(n, unit)| format!("{n}{unit}")),
        any::<String>()
    ]
}

/// JSON of every kind, a few levels deep.
fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        quantity().prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::btree_map(key(), inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

/// Words that the files use, and others.
fn key() -> impl Strategy<Value = String> {
    let known = [
        "flexwasm",
        "pool",
        "size",
        "reuse",
        "limits",
        "memory",
        "cpu",
        "log",
        "level",
        "grants",
        "env",
        "bindings",
        "type",
        "direction",
        "route",
        "methods",
        "authLevel",
        "scriptFile",
        "version",
        "extensions",
        "http",
        "routePrefix",
        "maxConcurrentRequests",
        "functionTimeout",
        "customHandler",
    ];
    prop_oneof![3 => proptest::sample::select(known.to_vec()).prop_map(str::to_owned), 1 => any::<String>()]
}

/// A `flexwasm` section with some of these keys; nearly every value fits its key.
fn section(keys: [&[&'static str]; 2]) -> impl Strategy<Value = Value> {
    let keys = keys.concat();
    let entry = proptest::sample::select(keys)
        .prop_flat_map(|key| (Just(key), prop_oneof![30 => fitting(key), 1 => any_json()]));
    vec(entry, 0..12).prop_map(|entries| {
        let mut section = Map::new();
        for (key, value) in entries {
            match key.split_once('.') {
                None => drop(section.insert(key.to_owned(), value)),
                Some((group, name)) => section.entry(group).or_insert_with(|| json!({}))[name] = value,
            }
        }
        Value::Object(section)
    })
}

/// What a key may be set to.
fn fitting(key: &str) -> BoxedStrategy<Value> {
    let word = |words: &'static [&str]| proptest::sample::select(words).prop_map(Value::from).boxed();
    match key {
        "headers" => word(&["full", "id", "off"]),
        "event.mode" => word(&["request", "envelope"]),
        "event.path" => "/[a-z/?%]{0,6}".prop_map(Value::from).boxed(),
        "event.type" | "event.source" | "event.rejected" => "[a-z]{1,4}".prop_map(Value::from).boxed(),
        "log.requests" => word(&["all", "problems", "none"]),
        "log.timestamps" | "telemetry.applicationInsights" => any::<bool>().prop_map(Value::from).boxed(),
        "log.level" => word(&["error", "warn", "info", "debug"]),
        "guest.source" => source().prop_map(Value::from).boxed(),
        "guest.username" => "[a-z%:]{0,4}".prop_map(Value::from).boxed(),
        "guest.password" => word(&["%SECRET%"]),
        "guest.sha256" => "[0-9a-fA-F]{64}".prop_map(Value::from).boxed(),
        "guest.poll" => (1..100_u32).prop_map(|n| json!(format!("{n}s"))).boxed(),
        "guest.maxSize" => (64..256_u32).prop_map(|n| json!(format!("{n}KiB"))).boxed(),
        "guest.smoke.path" => "/[a-z/?#%]{0,6}".prop_map(Value::from).boxed(),
        "guest.smoke.event" => "[a-z./]{0,4}".prop_map(Value::from).boxed(),
        "guest.smoke.status" => (200..600_u32).prop_map(Value::from).boxed(),
        "grants.keyvalue" => "[a-z]{1,4}".prop_map(|name| json!({ name: "memory" })).boxed(),
        "grants.env" | "grants.config" => vec("[A-Z]{1,4}", 0..3).prop_map(Value::from).boxed(),
        "guest.middleware" => vec("[a-z]{1,4}", 0..2).prop_map(Value::from).boxed(),
        key if ["imeout", "cpu", "slow"].iter().any(|end| key.ends_with(end)) => {
            (1..10_000_u32, prop_oneof![Just("ms"), Just("s"), Just("m")])
                .prop_map(|(n, unit)| json!(format!("{n}{unit}")))
                .boxed()
        }
        key if ["emory", "Call", "random", "Body", "Head", "log", "logRate"].iter().any(|end| key.ends_with(end)) => {
            (64..256_u32).prop_map(|n| json!(format!("{n}KiB"))).boxed()
        }
        _ => (20..1000_u32).prop_map(Value::from).boxed(),
    }
}

/// Sources, right and wrong, with secrets where they can be.
fn source() -> impl Strategy<Value = String> {
    let pieces = [
        "a",
        "B",
        ".",
        "/",
        ":",
        "@",
        "?",
        "#",
        "%",
        "443",
        "localhost",
        "[::1]",
        "127.0.0.1",
        "SECRET",
        "%SECRET%",
        "\\",
        "é",
        "@sha256:",
        " ",
        "\t",
    ];
    let scheme = prop_oneof![Just("https://"), Just("HTTP://"), Just("oci://"), Just("oci://a.example/"), Just("")];
    let digest = prop_oneof![4 => Just(String::new()), 1 => "@sha256:[0-9a-f]{64}"];
    let middle = prop_oneof![
        vec(proptest::sample::select(pieces.to_vec()), 0..7).prop_map(|list| list.concat()),
        any::<String>()
    ];
    (scheme, middle, digest).prop_map(|(scheme, middle, digest)| format!("{scheme}{middle}{digest}"))
}

/// Templates, right and wrong.
fn template() -> impl Strategy<Value = String> {
    let segment = prop_oneof![
        "[a-z]{1,5}",
        Just("{id}".to_owned()),
        Just("{id:int}".to_owned()),
        Just("{id:guid?}".to_owned()),
        Just("{id=5}".to_owned()),
        Just("{*rest}".to_owned()),
        Just("{when:datetime}".to_owned()),
        Just("{a:length(1,3):min(2)}-{b}.{c?}".to_owned()),
        Just(r"v{z:regex(^\d{{2}}$)}".to_owned()),
        "[{}a?*:=/().-]{0,9}",
        "\\{[a-z]:[a-z]{3,8}(\\([0-9,]{0,3}\\))?[?=]?\\}",
        any::<String>(),
    ];
    vec(segment, 0..5).prop_map(|segments| segments.join("/"))
}

proptest! {
    #![proptest_config(cases(2000))]

    #[test]
    fn sizes_keep_their_value(text in quantity()) {
        if let Ok(bytes) = units::size(&text) {
            prop_assert!(bytes > 0);
            prop_assert_eq!(units::size(&units::spell_size(bytes)), Ok(bytes));
        }
    }

    #[test]
    fn durations_keep_their_value(text in quantity()) {
        if let Ok(duration) = units::duration(&text) {
            prop_assert!(!duration.is_zero());
            prop_assert_eq!(units::duration(&units::spell_duration(duration)), Ok(duration));
        }
    }

    /// What is accepted is encrypted or stays here, and reads the same when it is written; what is refused is shown without
    /// query and user.
    #[test]
    fn sources_keep_their_meaning_and_their_secrets(text in source()) {
        let read = |text: &str| {
            let mut problems = Problems::default();
            let document = json!({ "flexwasm": { "guest": { "source": text } } });
            let remote = GuestSettings::read(&mut Section::of_file("f", &document, &mut problems), &settings()).source;
            (remote, problems.0)
        };
        let (remote, problems) = read(&text);
        prop_assert_eq!(remote.is_some(), problems.is_empty());
        for shown in problems.iter().filter_map(|problem| problem.value.as_ref()).filter(|_| !text.starts_with('%')) {
            prop_assert!(!shown.replacen("@sha256:", "", 1).contains(['?', '#', '@']), "{shown}");
        }
        let Some(remote) = remote else { return Ok(()) };
        let url = match &remote.location {
            Location::Http(url) => url,
            Location::Oci(artifact) => &artifact.registry,
        };
        prop_assert!(url.username().is_empty() && url.password().is_none() && url.query().is_none());
        let here = ["localhost", "127.0.0.1", "[::1]"].contains(&url.host_str().unwrap_or_default());
        prop_assert!(url.scheme() == "https" || here, "{url}");
        prop_assert_eq!(read(&remote.to_string()).0, Some(remote));
    }

    #[test]
    fn templates_keep_their_paths(text in template(), path in vec("[a-z0-9-]{0,5}", 0..5)) {
        let path: Vec<Cow<'_, str>> = path.iter().map(Cow::from).collect();
        if let Ok(template) = Template::parse(&text) {
            let again = Template::parse(&template.to_string()).expect("its printed form is one");
            prop_assert_eq!(&again, &template);
            prop_assert!(again.same_paths(&template));
            prop_assert_eq!(again.matches(&path), template.matches(&path));
            prop_assert!(!again.matches(&path) || again.overlaps(&template));
        }
    }

    /// Two templates that fit one path are known to overlap.
    #[test]
    fn no_overlap_is_missed(a in template(), b in template(), path in vec("[a-z0-9.-]{1,4}", 0..4)) {
        let path: Vec<Cow<'_, str>> = path.iter().map(Cow::from).collect();
        if let (Ok(a), Ok(b)) = (Template::parse(&a), Template::parse(&b)) {
            prop_assert_eq!(a.overlaps(&b), b.overlaps(&a));
            prop_assert!(!(a.matches(&path) && b.matches(&path)) || a.overlaps(&b), "{a} and {b} fit {path:?}");
        }
    }

    #[test]
    fn a_template_of_words_fits_its_own_path(words in vec("[a-zA-Z]{1,6}", 0..5)) {
        let template = Template::parse(&words.join("/")).expect("words are literals");
        let path: Vec<Cow<'_, str>> = words.iter().map(|word| word.to_uppercase().into()).collect();
        prop_assert!(template.matches(&path));
    }
}

proptest! {
    #![proptest_config(cases(500))]

    /// What is refused is named, and the rest has the meaning that it has as app settings.
    #[test]
    fn a_section_means_the_same_in_a_file_and_as_app_settings(section in section([&HOST_KEYS, &FUNCTION_KEYS])) {
        let mut problems = Problems::default();
        let document = json!({ "flexwasm": section });
        let of_file = HostPatch::read(Section::of_file("host.json", &document, &mut problems));
        for problem in &problems.0 {
            prop_assert!(problem.key.starts_with("flexwasm") && !problem.remedy.is_empty(), "{problem}");
        }
        let good = problems.0.is_empty();
        let mut settings = BTreeMap::new();
        spell("flexwasm", &section, &mut settings);
        let pairs = settings.iter().map(|(name, text)| (name.as_str(), text.as_str()));
        let mut problems = Problems::default();
        let of_settings = HostPatch::read(Section::of_app_settings(pairs, &mut problems));
        if good {
            prop_assert!(problems.0.is_empty(), "{:?}", problems.0);
            prop_assert_eq!(&of_settings, &of_file);
        }
        // A stronger source that says the same, or nothing, changes nothing.
        prop_assert_eq!(&of_file.over(&of_file), &of_file);
        prop_assert_eq!(&HostPatch::default().over(&of_file), &of_file);
        prop_assert_eq!(&of_file.over(&HostPatch::default()), &of_file);
        prop_assert_eq!(super::settings::Limits::from(&FunctionPatch::default()), super::settings::Limits::default());
    }

    #[test]
    fn any_host_json_is_read_or_refused(document in any_json(), settings in proptest::collection::btree_map("(AzureFunctionsJobHost|flexwasm)__[a-z_]{0,12}", any::<String>(), 0..4)) {
        let mut problems = Problems::default();
        let azure = AzureHost::read(&document, &settings, &mut problems);
        HostPatch::read(Section::of_file("host.json", &document, &mut problems));
        prop_assert!(azure.function_timeout.is_none_or(|timeout| timeout > Duration::ZERO) || !problems.0.is_empty());
    }

    #[test]
    fn any_function_json_is_read_or_refused(
        document in any_json(), route in template(), methods in any_json(), level in any_json(),
        section in section([&FUNCTION_KEYS, &[&GUEST_KEYS[..], &EVENT_KEYS[..]].concat()]),
    ) {
        let mut problems = Problems::default();
        let file = FunctionFile::read("f", "f/function.json", &document, &settings(), "api", &mut problems);
        prop_assert!(file.is_some() || !problems.0.is_empty());
        let document = json!({
            "scriptFile": "guest.wasm", "flexwasm": section,
            "bindings": [
                { "type": "httpTrigger", "direction": "in", "route": route, "methods": methods, "authLevel": level },
                { "type": "http", "direction": "out" },
            ],
        });
        let mut problems = Problems::default();
        match FunctionFile::read("f", "f/function.json", &document, &settings(), "api", &mut problems) {
            Some(FunctionFile { trigger: Trigger::Http { route: read, .. }, objection: None, .. }) => {
                let text = if route.trim().is_empty() { "f" } else { &route };
                prop_assert_eq!(Template::parse(text), Ok(read));
            }
            Some(FunctionFile { trigger: Trigger::Http { route: read, .. }, objection: Some(why), .. }) => {
                prop_assert!(read == Template::meant(&route) && !why.remedy.is_empty());
            }
            Some(other) => prop_assert!(false, "{other:?}"),
            None => prop_assert!(!problems.0.is_empty()),
        }
    }
}

proptest! {
    #![proptest_config(cases(300))]

    /// Whatever the three files hold, an app is read or every mistake is named.
    #[test]
    fn any_app_is_read_or_refused(host in text(), function in text(), local in text()) {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::create_dir(folder.path().join("f")).expect("made");
        for (name, text) in [("host.json", host), ("f/function.json", function), ("local.settings.json", local)] {
            std::fs::write(folder.path().join(name), text).expect("written");
        }
        let given = Circumstances {
            machine_memory: 1 << 30,
            listen: None,
            cache_folders: Vec::new(),
            control_sockets: Vec::new(),
        };
        for load in [super::load, super::load_as_deployed] {
            match load(folder.path(), settings(), &given) {
                Ok(config) => prop_assert!(config.functions.len() <= 1),
                Err(problems) => prop_assert!(problems.iter().all(|problem| !problem.remedy.is_empty()) && !problems.is_empty()),
            }
        }
    }
}

/// A file's text: JSON of the right form, of any form, or anything.
fn text() -> impl Strategy<Value = String> {
    let right = json!({
        "version": "2.0", "Values": { "A": 1 }, "scriptFile": "guest.wasm", "flexwasm": {},
        "bindings": [{ "type": "httpTrigger", "route": "{a}-{b}" }, { "type": "http", "direction": "out" }],
    });
    let pieces = ["{", "}", "[", "]", "'", "\"", "//", "/*", "*/", ",", ":", "a", "0x1", "\\u", "\u{feff}", "é", "\n"];
    prop_oneof![
        3 => Just(right.to_string()),
        2 => any_json().prop_map(|value| value.to_string()),
        2 => vec(proptest::sample::select(pieces.to_vec()), 0..12).prop_map(|list| list.concat()),
        1 => any::<String>(),
    ]
}

/// The leaves of a section as app settings.
fn spell(name: &str, value: &Value, settings: &mut BTreeMap<String, String>) {
    match value {
        // Its value is an object.
        Value::Object(members) if name != "flexwasm__grants__keyvalue" => {
            members.iter().for_each(|(key, member)| spell(&format!("{name}__{key}"), member, settings));
        }
        Value::String(text) => drop(settings.insert(name.to_owned(), text.clone())),
        other => drop(settings.insert(name.to_owned(), other.to_string())),
    }
}
