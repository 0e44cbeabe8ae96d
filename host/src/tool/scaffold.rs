//! A new app, from templates that are files: an app around one function, and the source of its guest.

use super::sources::{Language, MADE_FOLDERS};
use super::wit;
use crate::config::{self, host_json};
use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

/// Stands in the app's files for the name of the app, which is also its function's.
const PLACEHOLDER: &str = "NAME";

/// The longest name that [`proposal`] makes of a longer one, in letters.
const PROPOSED: usize = 40;

/// A file of a template: its path, its text, and whether it is to be started.
type File = (&'static str, &'static str, bool);

/// The files of a folder below `templates`.
macro_rules! files {
    ($folder:literal: $($name:literal)*) => {
        &[$(($name, include_str!(concat!("templates/", $folder, "/", $name)))),*]
    };
}

/// What an app begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Trigger {
    /// Requests
    Http,
    /// A schedule: every five minutes
    Timer,
    /// The messages of a queue
    Queue,
    /// Requests of MCP clients (Model Context Protocol), which call tools
    Mcp,
}

/// What a guest in Rust is written with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Style {
    /// The interfaces of WASI, by wit-bindgen
    Bindings,
    /// The routes and handlers of axum, by wstd: for HTTP functions
    Axum,
}

/// What every app begins with: the demonstration's own settings among it.
const APP: [File; 4] = [
    (host_json::FILE, include_str!("../../../host.json"), false),
    ("local.settings.json", include_str!("../../../local.settings.json"), false),
    (".funcignore", include_str!("templates/app/.funcignore"), false),
    (".gitignore", include_str!("templates/app/.gitignore"), false),
];

/// Stands first in `host.json`.
const VERSION: &str = "\"version\": \"2.0\",";
/// What it needs beside that for triggers that the Functions host does not have itself.
const EXTENSIONS: &str = r#"
  "extensionBundle": { "id": "Microsoft.Azure.Functions.ExtensionBundle", "version": "[4.*, 5.0.0)" },"#;

/// The crates of guests in Rust, beside the one that makes the bindings: what an HTTP guest has, and what is in its place.
const CRATE: &str = "form_urlencoded = \"1\"\n";
/// What makes the bindings.
const BINDINGS: &str =
    "wit-bindgen = { version = \"0.63\", default-features = false, features = [\"macros\", \"realloc\"] }\n";
/// What is in the place of both for axum.
const AXUM: &str = r#"axum = { version = "0.8", default-features = false, features = ["query"] }
serde = { version = "1", features = ["derive"] }
wstd = "0.6"
wstd-axum = "0.6"
"#;

impl Trigger {
    /// What the app has for it.
    fn files(self) -> [File; 3] {
        macro_rules! files {
            ($folder:literal $function:literal) => {
                [
                    ("README.md", include_str!(concat!("templates/", $folder, "/", "README.md")), false),
                    ("test.sh", include_str!(concat!("templates/", $folder, "/test.sh")), true),
                    ("NAME/function.json", include_str!(concat!("templates/", $function, "/function.json")), false),
                ]
            };
        }
        match self {
            Self::Http => files!("http" "http"),
            Self::Timer => files!("event" "timer"),
            Self::Queue => files!("event" "queue"),
            Self::Mcp => files!("mcp" "mcp"),
        }
    }

    /// The script or the library that answers. None in a language or style that there is no template in.
    fn handler(self, language: Language, style: Style) -> Option<&'static str> {
        Some(match (self, language) {
            (Self::Http, Language::Rust) if style == Style::Axum => include_str!("templates/http/axum.rs"),
            _ if style == Style::Axum => return None,
            (Self::Http, Language::Rust) => include_str!("templates/http/lib.rs"),
            (Self::Http, Language::Javascript) => include_str!("templates/http/app.js"),
            (Self::Http, Language::Python) => include_str!("templates/http/app.py"),
            (Self::Timer | Self::Queue, Language::Rust) => include_str!("templates/event/lib.rs"),
            (Self::Timer | Self::Queue, Language::Javascript) => include_str!("templates/event/app.js"),
            (Self::Timer | Self::Queue, Language::Python) => include_str!("templates/event/app.py"),
            (Self::Mcp, Language::Rust) => include_str!("templates/mcp/lib.rs"),
            (Self::Mcp, Language::Javascript) => include_str!("templates/mcp/app.js"),
            (Self::Mcp, Language::Python) => return None,
        })
    }

    /// What one of the files says in an app with this trigger.
    fn adapted(self, style: Style, text: &str) -> String {
        match self {
            Self::Http if style == Style::Axum => text.replace(BINDINGS, "").replace(CRATE, AXUM),
            Self::Http => text.to_owned(),
            Self::Timer => text.replace(CRATE, ""),
            Self::Queue => text.replace(CRATE, "").replace(VERSION, &[VERSION, EXTENSIONS].concat()),
            Self::Mcp => text.replace(CRATE, "serde_json = \"1\"\n"),
        }
    }
}

/// Where the handler of a guest in this language is, and what is beside it, by path in the function's folder.
fn source(language: Language) -> (&'static str, &'static [(&'static str, &'static str)]) {
    match language {
        Language::Rust => ("src/lib.rs", files!("rust": "Cargo.toml" ".cargo/config.toml")),
        Language::Javascript => ("app.js", files!("javascript": "package.json" "package-lock.json")),
        Language::Python => ("app.py", files!("python": "requirements.txt")),
    }
}

/// Why there is no new app. Nothing is left behind.
#[derive(Debug, thiserror::Error)]
pub enum NotMade {
    /// The name.
    #[error("{0:?} cannot be the name of an app: {1}; run `flexwasm new {2}`")]
    Name(String, &'static str, String),
    /// There is no template.
    #[error(
        "there is no MCP server in Python to begin with; run `flexwasm new {0} --trigger mcp --language javascript`"
    )]
    Language(String),
    /// There is no template.
    #[error("axum is for HTTP functions in Rust; run `flexwasm new {0} --style axum`")]
    Style(String),
    /// Somebody's file or folder.
    #[error("{0} is there already, and is left as it is: choose another name")]
    Exists(String),
    /// The disk is full, say.
    #[error(
        "{0} cannot be made in this folder ({1}): go to one that you may write to, then run the same command again"
    )]
    Write(String, std::io::Error),
}

/// Makes the folder `name` in `parent`, with an app whose function has the same name.
///
/// # Errors
/// [`NotMade`].
pub fn create(parent: &Path, name: &str, language: Language, trigger: Trigger, style: Style) -> Result<(), NotMade> {
    if let Some(objection) = objection(name) {
        return Err(NotMade::Name(name.to_owned(), objection, proposal(name)));
    }
    let handler = trigger.handler(language, style).ok_or_else(|| match style {
        Style::Bindings => NotMade::Language(name.to_owned()),
        Style::Axum => NotMade::Style(name.to_owned()),
    })?;
    let unwritable = |error: std::io::Error| NotMade::Write(name.to_owned(), error);
    if fs::symlink_metadata(parent.join(name)).is_ok() {
        return Err(NotMade::Exists(name.to_owned()));
    }
    // Under another name until it is whole.
    let staged = tempfile::Builder::new().prefix(".flexwasm-new-").tempdir_in(parent).map_err(unwritable)?;
    fill(staged.path(), name, (language, trigger, style), handler).map_err(unwritable)?;
    match renameat_with(CWD, staged.path(), CWD, parent.join(name), RenameFlags::NOREPLACE) {
        Ok(()) => Ok(()),
        Err(Errno::EXIST) => Err(NotMade::Exists(name.to_owned())),
        Err(error) => Err(unwritable(error.into())),
    }
}

fn fill(
    folder: &Path,
    name: &str,
    (language, trigger, style): (Language, Trigger, Style),
    handler: &str,
) -> std::io::Result<()> {
    // Temporary folders are for their owner only.
    fs::set_permissions(folder, Permissions::from_mode(0o755))?;
    let named = |text: &str| trigger.adapted(style, text).replace(PLACEHOLDER, name);
    for (path, text, is_program) in APP.into_iter().chain(trigger.files()) {
        let path = folder.join(path.replace(PLACEHOLDER, name));
        write(&path, &named(text))?;
        if is_program {
            fs::set_permissions(path, Permissions::from_mode(0o755))?;
        }
    }
    let function = folder.join(name);
    let (path, others) = source(language);
    for (path, text) in [(path, handler)].iter().chain(others) {
        write(&function.join(path), &named(text))?;
    }
    // The others are built with the interfaces of the flexwasm that builds them; rustc reads these from the crate.
    if language == Language::Rust && style == Style::Bindings {
        wit::write(&function.join("wit"))?;
    }
    Ok(())
}

fn write(path: &Path, text: &str) -> std::io::Result<()> {
    fs::create_dir_all(path.parent().unwrap_or(Path::new(".")))?;
    fs::write(path, text)
}

/// What is wrong with a name that has to be that of a folder, of a function, and of its route.
fn objection(name: &str) -> Option<&'static str> {
    if !config::valid_name(name) {
        Some("it may have letters from a to z, digits, - and _, a letter first, at most 128, and not be \"host\"")
    } else if is_taken(name) {
        Some(
            "Azure keeps routes that begin with admin or runtime for itself, and tools keep dist, target and node_modules",
        )
    } else {
        None
    }
}

/// Whether Azure keeps the route (`ValidateHttpFunction` in Azure/azure-functions-host), or we keep the folder, for something else.
fn is_taken(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    name.starts_with("admin") || name.starts_with("runtime") || MADE_FOLDERS.contains(&&*name)
}

/// A name that would do, as like to this one as can be.
fn proposal(name: &str) -> String {
    let last = name.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
    let plain = |letter: char| if letter.is_ascii_alphanumeric() || letter == '_' { letter } else { '-' };
    let words: String = last.chars().map(plain).take(PROPOSED).collect();
    let words: Vec<&str> = words.split('-').filter(|word| !word.is_empty()).collect();
    let plain = words.join("-");
    match objection(&plain) {
        _ if plain.is_empty() => "hello".to_owned(),
        None => plain,
        Some(_) => format!("my-{plain}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::ValueEnum as _;

    #[test]
    fn a_name_that_would_not_work_is_refused_with_one_that_does() {
        let long = "a".repeat(200);
        for (name, proposed) in [
            ("1st", "my-1st"),
            ("a.b", "a-b"),
            ("Ünï", "n"),
            ("a b", "a-b"),
            ("it's", "it-s"),
            ("../x1", "x1"),
            ("/tmp/app/", "app"),
            (".", "hello"),
            ("", "hello"),
            ("-x1", "x1"),
            ("host", "my-host"),
            ("Admin-tool", "my-Admin-tool"),
            ("runtime", "my-runtime"),
            ("dist", "my-dist"),
            ("node_modules", "my-node_modules"),
            ("target", "my-target"),
            ("__pycache__", "my-__pycache__"),
            (&*long, &long[..PROPOSED]),
        ] {
            let folder = tempfile::tempdir().expect("a folder");
            let refused = create(folder.path(), name, Language::Rust, Trigger::Http, Style::Bindings)
                .expect_err(name)
                .to_string();
            assert!(refused.ends_with(&format!("; run `flexwasm new {proposed}`")), "{refused}");
            assert!(!refused.contains('\n') && objection(proposed).is_none(), "{refused}");
            assert_eq!(fs::read_dir(folder.path()).expect("there").count(), 0, "{name} left something behind");
        }
    }

    #[test]
    fn what_is_there_is_not_touched() {
        let folder = tempfile::tempdir().expect("a folder");
        fs::create_dir(folder.path().join("empty")).expect("made");
        fs::write(folder.path().join("file"), "mine").expect("written");
        std::os::unix::fs::symlink("nowhere", folder.path().join("link")).expect("made");
        for name in ["empty", "file", "link"] {
            let refused = create(folder.path(), name, Language::Python, Trigger::Http, Style::Bindings)
                .expect_err(name)
                .to_string();
            assert_eq!(refused, format!("{name} is there already, and is left as it is: choose another name"));
        }
        assert_eq!(fs::read_dir(folder.path()).expect("there").count(), 3);
        assert_eq!(fs::read_to_string(folder.path().join("file")).expect("there"), "mine");
        assert_eq!(fs::read_dir(folder.path().join("empty")).expect("there").count(), 0);
    }

    #[test]
    fn every_file_of_the_templates_is_used() {
        let mut used: Vec<&str> = APP.iter().map(|(_, text, _)| *text).collect();
        for trigger in Trigger::value_variants() {
            used.extend(trigger.files().map(|(_, text, _)| text));
            for language in Language::value_variants() {
                used.extend(Style::value_variants().iter().filter_map(|style| trigger.handler(*language, *style)));
                used.extend(source(*language).1.iter().map(|(_, text)| *text));
            }
        }
        let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src/tool/templates")];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).expect("a folder") {
                let path = entry.expect("an entry").path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    let text = fs::read_to_string(&path).expect("a text");
                    assert!(used.contains(&&*text), "{} is not used", path.display());
                }
            }
        }
    }

    #[test]
    fn a_template_has_what_its_trigger_needs() {
        let made = |trigger, language, file: &str| {
            let folder = tempfile::tempdir().expect("a folder");
            create(folder.path(), "app", language, trigger, Style::Bindings).unwrap_or_else(|error| panic!("{error}"));
            fs::read_to_string(folder.path().join("app").join(file)).expect("there")
        };
        for (trigger, bundle, crates) in [
            (Trigger::Http, false, "form_urlencoded"),
            (Trigger::Timer, false, "wit-bindgen"),
            (Trigger::Queue, true, "wit-bindgen"),
            (Trigger::Mcp, false, "serde_json"),
        ] {
            assert_eq!(made(trigger, Language::Rust, "host.json").contains("extensionBundle"), bundle);
            let manifest = made(trigger, Language::Rust, "app/Cargo.toml");
            let first = manifest.split("[dependencies]\n").nth(1).expect("dependencies");
            assert!(first.starts_with(crates), "{manifest}");
        }
        assert!(made(Trigger::Mcp, Language::Javascript, "app/app.js").contains("name: 'app'"));
        let folder = tempfile::tempdir().expect("a folder");
        let refused =
            create(folder.path(), "app", Language::Python, Trigger::Mcp, Style::Bindings).expect_err("no template");
        assert!(refused.to_string().ends_with("run `flexwasm new app --trigger mcp --language javascript`"));
        assert_eq!(fs::read_dir(folder.path()).expect("there").count(), 0);
    }

    #[test]
    fn an_app_of_axum_has_no_bindings_and_is_for_http_in_rust() {
        let folder = tempfile::tempdir().expect("a folder");
        let made = |name, language, trigger| create(folder.path(), name, language, trigger, Style::Axum);
        made("app", Language::Rust, Trigger::Http).unwrap_or_else(|error| panic!("{error}"));
        let function = folder.path().join("app/app");
        let manifest = fs::read_to_string(function.join("Cargo.toml")).expect("there");
        let (_, crates) = manifest.split_once("[dependencies]\n").expect("dependencies");
        assert!(crates.starts_with(&format!("{AXUM}\n")) && !function.join("wit").exists(), "{manifest}");
        assert!(fs::read_to_string(function.join("src/lib.rs")).expect("there").contains("\"/api/app\""));
        for (language, trigger) in [(Language::Rust, Trigger::Queue), (Language::Javascript, Trigger::Http)] {
            let refused = made("other", language, trigger).expect_err("no template").to_string();
            assert!(refused.ends_with("run `flexwasm new other --style axum`"), "{refused}");
        }
        assert_eq!(fs::read_dir(folder.path()).expect("there").count(), 1);
    }

    #[test]
    fn every_name_that_is_accepted_stands_where_it_should() {
        for name in ["my-app", "match", "test", "core", "guest", "std", "a", "A_1"] {
            let folder = tempfile::tempdir().expect("a folder");
            create(folder.path(), name, Language::Rust, Trigger::Http, Style::Bindings)
                .unwrap_or_else(|error| panic!("{error}"));
            let app = folder.path().join(name);
            let function = fs::read_to_string(app.join(name).join("function.json")).expect("there");
            assert!(function.contains(&format!("\"route\": \"{name}\"")), "{function}");
            assert!(app.join(name).join("wit/worlds.wit").exists() && !app.join("NAME").exists());
            assert_eq!(fs::metadata(&app).expect("there").permissions().mode() & 0o777, 0o755);
            assert!(fs::metadata(app.join("test.sh")).expect("there").permissions().mode() & 0o111 != 0);
        }
    }
}
