//! Whole apps, read from their files.

use super::connections::Connections;
use super::file::MAX_SETTINGS;
use super::function_json::Trigger;
use super::local_settings::Cors;
use super::section::Problem;
use super::{AppSettings, Circumstances, Config, load, load_as_deployed};
use std::borrow::Cow;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::Duration;

/// The smallest host.json that the Functions host starts a custom handler with.
const SMALLEST: &str = r#"{"version":"2.0","customHandler":{"description":{"defaultExecutablePath":"flexwasm"},"enableForwardingHttpRequest":true,"enableProxyingHttpRequest":true}}"#;

struct App {
    folder: tempfile::TempDir,
    settings: AppSettings,
    memory: u64,
}

impl App {
    fn new(host_json: &str) -> Self {
        let app =
            Self { folder: tempfile::tempdir().expect("a folder"), settings: AppSettings::new(), memory: 2 << 30 };
        app.file("host.json", host_json)
    }

    fn file(self, name: &str, text: &str) -> Self {
        let path = self.folder.path().join(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        fs::write(path, text).expect("written");
        self
    }

    fn function(self, name: &str, trigger: &str) -> Self {
        self.with_settings(name, trigger, "{}")
    }

    fn with_settings(self, name: &str, trigger: &str, settings: &str) -> Self {
        let text = format!(
            r#"{{"scriptFile":"guest.wasm","flexwasm":{settings},"bindings":[{{"type":"httpTrigger","direction":"in","name":"req"{trigger}}},{{"type":"http","direction":"out","name":"res"}}]}}"#
        );
        self.file(&format!("{name}/function.json"), &text)
    }

    fn set(mut self, name: &str, value: &str) -> Self {
        self.settings.insert(name.to_owned(), value.to_owned());
        self
    }

    fn memory(mut self, memory: u64) -> Self {
        self.memory = memory;
        self
    }

    fn read(
        &self,
        load: fn(&Path, AppSettings, &Circumstances) -> Result<Config, Vec<Problem>>,
    ) -> Result<Config, Vec<String>> {
        let given = Circumstances {
            machine_memory: self.memory,
            listen: None,
            cache_folders: Vec::new(),
            control_sockets: Vec::new(),
        };
        let said = |problems: Vec<Problem>| problems.iter().map(ToString::to_string).collect();
        load(self.folder.path(), self.settings.clone(), &given).map_err(said)
    }

    fn deployed(&self) -> Config {
        self.read(load_as_deployed).expect("it can be served")
    }

    fn alone(&self) -> Config {
        self.read(load).expect("it can be served")
    }
}

fn objections(config: &Config) -> Vec<String> {
    config.objections.iter().map(ToString::to_string).collect()
}

/// The function that a path below the prefix leads to, whatever the method.
fn answers<'c>(config: &'c Config, path: &str) -> Option<&'c str> {
    let path: Vec<Cow<'_, str>> = path.split('/').map(Cow::from).collect();
    let fits = |trigger: &Trigger| matches!(trigger, Trigger::Http { route, .. } if route.matches(&path));
    config.functions.iter().find(|function| fits(&function.trigger)).map(|function| &*function.name)
}

#[test]
fn functions_stand_in_the_order_of_the_functions_host() {
    let mut app = App::new(SMALLEST);
    for name in ["list", "Details", "a_b", "aB", "a-b", "Zoo"] {
        app = app.function(name, "");
    }
    let config = app.deployed();
    let names: Vec<&str> = config.functions.iter().map(|function| &*function.name).collect();
    assert_eq!(names, ["a-b", "aB", "a_b", "Details", "list", "Zoo"]);
}

#[test]
fn a_route_without_a_prefix_must_not_take_the_envelopes_of_another_function() {
    let timer =
        r#"{"scriptFile": "guest.wasm", "bindings": [{"type": "timerTrigger", "direction": "in", "name": "t"}]}"#;
    let objections = |prefix: &str, methods: &str| {
        let host = format!(
            r#"{{"version": "2.0", "extensions": {{"http": {{"routePrefix": "{prefix}"}}}},
                "customHandler": {{"enableForwardingHttpRequest": true}}}}"#
        );
        let app = App::new(&host).function("All", &format!(r#", "route": "{{*rest}}"{methods}"#));
        let found = app.file("OnTime/function.json", timer).deployed().objections;
        found.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    let found = objections("", "");
    assert!(found.len() == 1 && found[0].contains("takes POST /OnTime"), "{found:?}");
    assert_eq!(objections("", r#", "methods": ["get"]"#), [""; 0]);
    assert_eq!(objections("api", ""), [""; 0]);
}

#[test]
fn routes_that_overlap_must_not_differ_in_what_they_demand_or_grant() {
    let route = |route: &str, auth: &str| format!(r#","route":"{route}","authLevel":"{auth}","methods":["get"]"#);
    let app = App::new(SMALLEST)
        .function("Details", &route("products/{id}", "anonymous"))
        .function("List", &route("products/list", "function"));
    let config = app.deployed();
    assert_eq!(answers(&config, "products/list"), Some("Details"));
    let said = objections(&config);
    assert_eq!(said.len(), 1, "{said:?}");
    let words = r#"List/function.json: bindings.route = "products/list": fits paths that function Details (products/{id}) answers too, with another authLevel"#;
    assert!(said[0].starts_with(words), "{said:?}");

    let app = App::new(SMALLEST)
        .function("Details", &route("products/{id}", "admin"))
        .function("List", &route("products/list", "function"));
    assert!(objections(&app.deployed())[0].contains("another authLevel"));
    let app = App::new(SMALLEST).function("Details", &route("products/{id}", "anonymous")).with_settings(
        "List",
        &route("products/list", "anonymous"),
        r#"{"grants":{"hosts":["https://a.example"]}}"#,
    );
    assert!(objections(&app.deployed())[0].contains("other grants"));
    let app = App::new(SMALLEST)
        .function("Details", &route("products/{id}", "anonymous"))
        .function("Other", &route("Products/{name}", "anonymous"));
    assert!(objections(&app.deployed())[0].contains("this one is never asked"));
    // Nothing to object to: equal demands, disjoint paths, disjoint methods.
    let app = App::new(SMALLEST)
        .function("Details", &route("products/{id}", "anonymous"))
        .function("List", &route("products/list", "anonymous"))
        .function("Numbers", &route("n/{id:int}", "anonymous"))
        .function("Words", &route("n/{word:alpha}", "function"))
        .function("Make", r#","route":"products/{id}","authLevel":"admin","methods":["post"]"#);
    assert_eq!(objections(&app.deployed()), [""; 0]);
}

#[test]
fn what_the_host_answers_by_itself_needs_a_key_and_no_guest() {
    let bindings = |auth: &str| {
        format!(
            r#""bindings":[{{"type":"httpTrigger","direction":"in","authLevel":"{auth}"}},{{"type":"http","direction":"out"}}]"#
        )
    };
    let view = |text: String| App::new(SMALLEST).file("view/function.json", &text);
    let own = r#""flexwasm":{"builtin":"view"}"#;
    let config = view(format!("{{{own},{}}}", bindings("function"))).deployed();
    assert!(config.functions[0].builtin.is_some() && !config.functions[0].runs());
    let queue = r#""bindings":[{"type":"queueTrigger","direction":"in","name":"q","queueName":"q"}]"#.to_owned();
    let more = r#""flexwasm":{"builtin":"view","limits":{"cpu":"1s"}}"#;
    for (own, bindings, words) in [
        (own, bindings("anonymous"), "bindings.authLevel = \"anonymous\": must be function or admin"),
        (own, queue, "flexwasm.builtin: needs exactly one input, an httpTrigger, and one output, http"),
        (more, bindings("admin"), "flexwasm: may have nothing beside builtin"),
        (
            r#""scriptFile":"x.wasm","flexwasm":{"builtin":"view"}"#,
            bindings("admin"),
            "scriptFile = \"x.wasm\": leave it out",
        ),
        (r#""flexwasm":{"builtin":"vieuw"}"#, bindings("admin"), "flexwasm.builtin = \"vieuw\": must be \"view\""),
    ] {
        let said = view(format!("{{{own},{bindings}}}")).read(load).expect_err("refused");
        assert!(said.iter().any(|line| line.contains(words)), "{words}: {said:?}");
    }
    let enveloped = r#"{"version":"2.0","customHandler":{"description":{"defaultExecutablePath":"flexwasm"}}}"#;
    let app = App::new(enveloped).file("view/function.json", &format!("{{{own},{}}}", bindings("admin")));
    let said = app.read(load_as_deployed).expect_err("refused");
    assert!(said[0].contains("customHandler.enableForwardingHttpRequest: must be true"), "{said:?}");
}

#[test]
fn a_route_that_azure_refuses_costs_its_function() {
    for (route, words) in [
        ("admin/x", "begins with admin, which Azure keeps for itself"),
        ("administration/x", "begins with admin"),
        ("/Runtime/x", "begins with runtime"),
        ("/x", "begins with a slash, which Azure refuses below the prefix \"api\""),
        ("{a}{b}", "put text between them"),
        ("{z:tomorrow}", "is not known: use int"),
    ] {
        let app = App::new(SMALLEST).function("odd", &format!(r#","route":"{route}""#)).function("good", "");
        let config = app.deployed();
        let said = objections(&config);
        assert!(said.len() == 1 && said[0].starts_with("odd/function.json: bindings.route = "), "{said:?}");
        assert!(said[0].contains(words), "{said:?}");
        let runs: Vec<bool> = config.functions.iter().map(super::Function::runs).collect();
        assert_eq!(runs, [true, false]);
    }
    // A function whose name is its route.
    let config = App::new(SMALLEST).function("adminTasks", "").deployed();
    assert!(objections(&config)[0].contains("begins with admin"));
    let without_prefix = r#"{"version":"2.0","extensions":{"http":{"routePrefix":""}}}"#;
    assert_eq!(objections(&App::new(without_prefix).function("one", r#","route":"/x""#).alone()), [""; 0]);
    for blank in ["", "  "] {
        let config = App::new(SMALLEST).function("hello", &format!(r#","route":"{blank}""#)).deployed();
        assert_eq!(answers(&config, "hello"), Some("hello"));
    }
}

#[test]
fn azures_keys_are_read_in_any_case_and_its_settings_are_text() {
    let app = App::new(
        r#"{"version":"2.0","Extensions":{"Http":{"RoutePrefix":"v1","MAXconcurrentREQUESTS":"7"}},"FunctionTimeout":"00:01:00",
            "customHandler":{"EnableProxyingHttpRequest":true}}"#,
    )
    .file(
        "hi/function.json",
        r#"{"scriptFile":"guest.wasm","bindings":[{"Type":"httpTrigger","Direction":"in","Route":"x","AuthLevel":"Anonymous"},{"TYPE":"http","DIRECTION":"out"}]}"#,
    );
    let config = app.deployed();
    assert_eq!((config.route_prefix.as_str(), config.pool_size, answers(&config, "x")), ("v1", 7, Some("hi")));

    let app = App::new(SMALLEST).function("hi", "").set("AzureFunctionsJobHost__extensions__http__routePrefix", "1");
    let app =
        app.set("azurefunctionsjobhost__version", "2.0").set("AzureFunctionsJobHost__functionTimeout", "00:00:30");
    let config = app.deployed();
    assert_eq!((config.route_prefix.as_str(), config.functions[0].limits.timeout), ("1", Duration::from_secs(28)));

    // What Azure reads only as it is written, and what is ours.
    for (host_json, words) in [
        (r#"{"VERSION":"2.0"}"#, r#"host.json: VERSION = "2.0": Azure does not know this key; did you mean version?"#),
        (r#"{"version":"2.0","FlexWasm":{}}"#, "host.json: FlexWasm: unknown key; did you mean flexwasm?"),
        (
            r#"{"version":"2.0","flexwasm":{"Pool":{"size":1}}}"#,
            "flexwasm.Pool.size: unknown key; did you mean pool.size?",
        ),
    ] {
        let said = App::new(host_json).function("hi", "").read(load).expect_err(host_json);
        assert!(said.len() == 1 && said[0].contains(words), "{said:?}");
    }
    let said = App::new(SMALLEST).file("hi/function.json", r#"{"ScriptFile":"x","bindings":[{}]}"#).read(load);
    assert!(
        said.expect_err("wrong")[0]
            .contains("hi/function.json: ScriptFile: Azure does not know this key; did you mean scriptFile?")
    );
}

#[test]
fn comments_trailing_commas_and_single_quotes_are_read() {
    let app = App::new(
        "\u{feff}{ // a comment\n 'version': \"2.0\", /* another */ \"flexwasm\": {\"pool\": {\"size\": 3,},}, }",
    );
    let app = app
        .function("hi", "")
        .file("local.settings.json", "{ 'Values': { 'flexwasm__queue__length': 9, }, /* end */ }");
    let config = app.alone();
    assert_eq!((config.pool_size, config.queue_length), (3, 9));
    for (text, words) in [
        ("{\"version\": \"2.0\"", "Unterminated object on line 1 column 1"),
        ("{\"version\": \"2.0\"\n \"x\": 1}", "Expected comma on line "),
        ("{version: 1}", "on line 1 column 2"),
        ("", "must be a JSON object"),
        (&"[".repeat(100_000), "is not valid JSON"),
    ] {
        let said = App::new(text).function("hi", "").read(load).expect_err(text);
        assert!(said[0].contains(words), "{said:?}");
    }
}

#[test]
fn no_default_contradicts_the_files() {
    let read = |host_json: &str| App::new(host_json).function("one", "").function("two", "").deployed();
    let timeout = |host_json: &str| {
        let config = read(host_json);
        (config.functions[0].limits.timeout, config.notes.iter().any(|note| note.starts_with("limits.timeout is ")))
    };
    let with = |time: &str| format!(r#"{{"version":"2.0","functionTimeout":"{time}"}}"#);
    for (host_json, expected, said) in [
        (r#"{"version":"2.0"}"#.to_owned(), 220_000, false),
        (SMALLEST.to_owned(), 220_000, false),
        (with("-1"), 220_000, false),
        (with("1.00:00:00"), 220_000, false),
        (with("00:05:00"), 220_000, false),
        (with("00:05"), 220_000, false),
        (with("00:03:42"), 220_000, false),
        (with("00:01:00"), 58_000, true),
        (with("00:00:10"), 9_000, true),
        (with("00:00:01.5"), 1_350, true),
        (with("00:00:00.001"), 0, true),
    ] {
        let (timeout, told) = timeout(&host_json);
        assert_eq!((timeout.as_millis(), told), (expected, said), "{host_json}");
    }

    // A drain has a time of its own, whatever an invocation may take.
    for host_json in [SMALLEST.to_owned(), with("00:00:01.5"), with("-1")] {
        assert_eq!(read(&host_json).drain_timeout.as_secs(), 30, "{host_json}");
    }

    // What somebody has written is refused, once where every function inherits it.
    let whole = r#"{"version":"2.0","functionTimeout":"00:00:10","flexwasm":{"limits":{"timeout":"10s"}}}"#;
    let said = App::new(whole).function("one", "").function("two", "").read(load_as_deployed).expect_err("too long");
    assert_eq!(
        said,
        [
            "host.json: flexwasm.limits.timeout: is 10s, but must be below functionTimeout (10s), at which the Functions host kills every invocation"
        ]
    );
    let app =
        App::new(&with("00:00:10")).with_settings("one", "", r#"{"limits":{"timeout":"11s"}}"#).function("two", "");
    let said = app.read(load_as_deployed).expect_err("too long");
    assert!(said.len() == 1 && said[0].starts_with("one/function.json: flexwasm.limits.timeout: is 11s"), "{said:?}");
    let app = App::new(SMALLEST).function("one", "").set("flexwasm__limits__timeout", "31m");
    assert!(
        app.read(load_as_deployed).expect_err("too long")[0]
            .starts_with("app settings: flexwasm__limits__timeout: is 1860s")
    );

    let memory = |memory: u64, host_json: &str| App::new(host_json).function("one", "").memory(memory << 20).deployed();
    for (machine, total, each) in [(64, 16, 16), (256, 64, 64), (512, 212, 128), (2048, 1228, 128), (4096, 2457, 128)] {
        let config = memory(machine, SMALLEST);
        assert_eq!(
            (config.total_memory >> 20, config.functions[0].limits.memory >> 20),
            (total, each),
            "{machine} MiB"
        );
    }
    assert_eq!(App::new(SMALLEST).function("one", "").memory(512 << 20).alone().total_memory >> 20, 307);
    let config = memory(2048, r#"{"version":"2.0","flexwasm":{"limits":{"totalMemory":"64MiB"}}}"#);
    assert_eq!(config.functions[0].limits.memory, 64 << 20);

    let pool = |requests: &str| {
        let config =
            read(&format!(r#"{{"version":"2.0","extensions":{{"http":{{"maxConcurrentRequests":{requests}}}}}}}"#));
        (config.pool_size, config.queue_length)
    };
    assert_eq!((pool("-1"), pool("1"), pool("2147483647"), pool("null")), ((16, 32), (1, 2), (6000, 12_000), (16, 32)));
}

#[test]
fn local_settings_are_read_as_func_reads_them() {
    let app = App::new(SMALLEST).function("on", "").function("off", "").function("Out", "").function("gone", "");
    let app = app.set("EMPTY", "").set("TAKEN", "environment").file(
        "local.settings.json",
        r#"{"isEncrypted": "false", "values": {"NUMBER": 5, "FLAG": true, "NOTHING": null, "EMPTY": "file", "TAKEN": "file",
            "DATE": "2020-01-01T00:00:00", "AzureWebJobs.off.Disabled": "true", "azurewebjobs_out_disabled": 1,
            "AzureWebJobs__gone__Disabled": "True", "AzureWebJobs.on.Disabled": "false"},
            "connectionStrings": {"Db": "Server=a", "Other": {"connectionString": "Server=b", "ProviderName": "x"}},
            "host": {"LocalHttpPort": 8299, "CORS": "http://localhost:3000, https://a.example/", "CORSCredentials": true}}"#,
    );
    let granted = r#"{"grants":{"env":["NUMBER","FLAG","EMPTY","TAKEN","DATE","ConnectionStrings:Db","ConnectionStrings:Other"]}}"#;
    let app = app.with_settings("on", "", granted);
    let config = app.alone();
    let names: Vec<&str> = config.functions.iter().map(|function| &*function.name).collect();
    assert_eq!((names, config.listen.port()), (vec!["on"], 8299));
    let disabled: Vec<&str> = config.disabled.iter().map(|(name, _)| &**name).collect();
    assert_eq!(disabled, ["gone", "off", "Out"]);
    let values: Vec<&str> = config.functions[0].grants.env.iter().map(|(_, value)| value.as_str()).collect();
    assert_eq!(values, ["5", "True", "file", "environment", "2020-01-01T00:00:00", "Server=a", "Server=b"]);
    let origins = ["http://localhost:3000", "https://a.example"].map(|origin| origin.parse().expect("a value"));
    assert_eq!(config.cors, Some(Cors { origins: Some(origins.into()), credentials: true }));
    for words in [
        "Values.NOTHING is null",
        "function off is disabled by the app setting AzureWebJobs.off.Disabled",
        "function Out",
        "function gone",
    ] {
        assert!(config.notes.iter().any(|note| note.contains(words)), "{:?}", config.notes);
    }

    for (text, words) in [
        (r#"{"Values": {"A": {}}}"#, "Values.A: must be text"),
        (r#"{"Values": []}"#, "Values: must be an object"),
        (r#"{"IsEncrypted": true}"#, "IsEncrypted: only func can read it encrypted"),
        (r#"{"Host": {"LocalHttpPort": 0}}"#, "Host.LocalHttpPort = 0: must be a port from 1 to 65535"),
        (r#"{"Host": {"CORS": "*", "CORSCredentials": true}}"#, "Host.CORSCredentials: browsers refuse credentials"),
        (r#"{"Host": {"CORS": ["*"]}}"#, "Host.CORS = [\"*\"]: must be \"*\" or origins"),
        (r#"{"Host": {"CORS": 5}}"#, "Host.CORS = 5: must be \"*\" or origins without a path"),
        (r#"{"Host": {"CORS": "foo"}}"#, "Host.CORS = \"foo\": must be"),
        (r#"{"Host": {"CORS": "https://b, http://a/b"}}"#, "Host.CORS = \"https://b, http://a/b\": must be"),
        (r#"{"Host": {"CORSCredentials": "yes"}}"#, "Host.CORSCredentials = \"yes\": must be true or false"),
        (r#"{"ConnectionStrings": {"A": 1, "B": []}}"#, "ConnectionStrings.B: must be text, or an object"),
    ] {
        let said = App::new(SMALLEST).function("on", "").file("local.settings.json", text).read(load).expect_err(text);
        assert!(said.len() == 1 && said[0].contains(words), "{said:?}");
    }
}

#[test]
fn a_file_with_settings_that_has_no_end_is_named() {
    for file in ["host.json", "hi/function.json", "local.settings.json"] {
        for (target, words) in
            [("/dev/zero", "is not a regular file: put a file there"), ("/", "is not a regular file")]
        {
            let app = App::new(SMALLEST).function("hi", "").file("local.settings.json", "{}");
            let path = app.folder.path().join(file);
            fs::remove_file(&path).expect("it was there");
            symlink(target, &path).expect("a link");
            assert_eq!(app.read(load).expect_err(file).len(), 1);
            assert!(app.read(load).expect_err(file)[0].starts_with(&format!("{file}: {words}")));
        }
        let app = App::new(SMALLEST).function("hi", "").file(file, &" ".repeat((MAX_SETTINGS + 1) as usize));
        let said = app.read(load).expect_err(file);
        assert_eq!(said, [format!("{file}: is larger than 4MiB: remove what it does not need")]);
    }
}

#[test]
fn a_mistake_in_an_entry_of_middleware_is_named_by_its_own_key() {
    let said = |entries: &str, of_host: bool| {
        let own = format!(r#"{{"guest":{{"middleware":{entries}}}}}"#);
        let app = match of_host {
            true => App::new(&format!(r#"{{"version":"2.0","flexwasm":{own}}}"#)).function("f", ""),
            false => App::new(SMALLEST).with_settings("f", "", &own),
        };
        app.read(load).expect_err(entries)
    };
    for (entry, words) in [
        (r#"7"#, " = 7: must be a file, or an object such as"),
        (r#"{"file":5}"#, ".file = 5: must be a file"),
        (r#"{"file":"x","sha256":"12"}"#, ".sha256 = \"12\": must be 64 hexadecimal digits"),
        (r#"{"file":"x","grant":{}}"#, ".grant: unknown key; remove it, or use one of: file"),
        (r#"{"file":"x","grants":7}"#, ".grants: must be an object with settings such as \"env\""),
        (r#"{"file":"x","grants":{"env":[1]}}"#, ".grants.env = [1]: must be a list of app setting names"),
        (r#"{"file":"x","grants":{"env":["NOPE"]}}"#, ".grants.env = \"NOPE\": there is no app setting"),
        (r#"{"file":"x","grants":{"dirs":["nope"]}}"#, ".grants.dirs = \"nope\": cannot be read"),
        (r#"{"file":"x","grants":{"hosts":["a"]}}"#, ".grants.hosts = \"a\": is not scheme://host"),
        (r#"{"file":"x","grants":{"keyvalue":{"a":"%NOPE%"}}}"#, ".grants.keyvalue = \"a\": there is no app setting"),
        (r#"{"file":"x","username":"u"}"#, ".username: is for a source, but there is none"),
        (r#"{"file":"x","limits":{"cpu":"1s"}}"#, ".limits.cpu: is for the whole function"),
    ] {
        for (file, of_host) in [("f/function.json", false), ("host.json", true)] {
            let said = said(&format!(r#"["first", {entry}]"#), of_host);
            assert!(said[0].starts_with(&format!("{file}: flexwasm.guest.middleware[1]{words}")), "{said:?}");
            assert_eq!(said.len(), 1, "{said:?}");
        }
    }
    let right = r#"{"guest":{"middleware":["a", {"file":"b","grants":{}}]},"pool":{},"event":{}}"#;
    assert_eq!(App::new(SMALLEST).with_settings("f", "", right).alone().functions[0].middleware.len(), 2);
}

#[test]
fn a_group_of_settings_is_an_object_and_a_known_one() {
    for (own, words) in [
        (r#"{"pool":[]}"#, "flexwasm.pool: must be an object with settings such as \"size\""),
        (r#"{"pool":null}"#, "flexwasm.pool: must be an object with settings such as \"size\""),
        (r#"{"grants":5}"#, "flexwasm.grants: must be an object with settings such as \"env\""),
        (r#"{"event":5}"#, "flexwasm.event: applies to one function: move it"),
        (r#"{"nope":{}}"#, "flexwasm.nope: unknown key; remove it, or use one of: pool.size"),
        (r#"{"pool":{"nope":{}}}"#, "flexwasm.pool.nope: unknown key; remove it"),
        (r#"{"pool":{"size":{}}}"#, "flexwasm.pool.size = {}: must be a whole number"),
    ] {
        let app = App::new(&format!(r#"{{"version":"2.0","flexwasm":{own}}}"#)).function("f", "");
        let said = app.read(load).expect_err(own);
        assert!(said.len() == 1 && said[0].starts_with(&format!("host.json: {words}")), "{said:?}");
    }
    let said = App::new(SMALLEST).function("f", "").set("flexwasm__pool", "5").read(load).expect_err("no setting");
    assert_eq!(
        said,
        ["app settings: flexwasm__pool: is a group of settings: set one of them, such as flexwasm__pool__size"]
    );
    App::new(r#"{"version":"2.0","flexwasm":{"pool":{},"guest":{},"event":{}}}"#).function("f", "").alone();
}

#[test]
fn settings_for_events_are_refused_where_none_come() {
    let own = r#"{"event":{"mode":"request","path":"/x"}}"#;
    let said = App::new(SMALLEST).with_settings("f", "", own).read(load).expect_err("it gets no events");
    let words = |key: &str| {
        format!("f/function.json: flexwasm.event.{key}: is for events, but a function that is called by HTTP")
    };
    assert!(said.len() == 2 && said[0].starts_with(&words("mode")) && said[1].starts_with(&words("path")), "{said:?}");
    // Without forwarding every request comes as an event.
    let enveloped = App::new(r#"{"version":"2.0"}"#).with_settings("f", "", own).deployed();
    assert!(enveloped.functions[0].event.path.is_some());
}

#[test]
fn forwarding_alone_is_told_what_it_lacks() {
    let forwarding = r#"{"version":"2.0","customHandler":{"enableForwardingHttpRequest":true}}"#;
    let notes = App::new(forwarding).function("one", "").deployed().notes;
    assert!(notes[0].contains("enableProxyingHttpRequest is not true: answers do not stream"), "{notes:?}");
    assert_eq!(App::new(SMALLEST).function("one", "").deployed().notes, [""; 0]);
}

#[test]
fn a_table_in_the_storage_of_the_functions_host_is_known_to_whoever_deploys() {
    for (place, tables) in [
        ("azure-table:%AzureWebJobsStorage%/counters", true),
        ("azure-blob:%AzureWebJobsStorage%/pages", false),
        ("azure-table:%OTHER%/counters", false),
        ("memory", false),
    ] {
        let grants = format!(r#"{{"grants":{{"keyvalue":{{"default":"{place}"}}}}}}"#);
        let app = App::new(SMALLEST).with_settings("f", "", &grants);
        let app = app.set("AzureWebJobsStorage__accountName", "acme").set("OTHER__accountName", "other");
        assert_eq!(Connections::of(&app.deployed().functions).tables, tables, "{place}");
    }
}
