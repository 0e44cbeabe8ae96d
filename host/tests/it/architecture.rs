//! The invariants of ARCHITECTURE.md that say which module may know which.

use crate::support::repository;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Where modules stand, beside the crate of the configuration, which is one.
const CRATES: &[&str] = &["crates/runtime/src", "host/src"];

/// The modules of [`CRATES`], lowest first: each may use those before it.
const ORDER: &[&str] = &[
    "config",
    "observe",
    "tls",
    "private",
    "invocation",
    "engine",
    "outgoing",
    "keyvalue",
    "sandbox",
    "capabilities",
    "guest",
    "pool",
    "run",
    "draw",
    "live",
    "protocol",
    "send",
    "http",
    "source",
    "export",
    "describe",
    "swap",
    "control",
    "package",
    "app",
    "timeline",
    "burst",
    "plan",
    "doctor",
    "tool",
    "cli",
];

/// A module and one after it that it uses all the same.
const EXCEPTIONS: &[(&str, &str)] = &[];

/// Words that the code of these modules may not have.
const UNKNOWN: &[(&[&str], &[&str])] = &[
    (&["protocol"], &["wasmtime::", "tokio::", "TcpStream"]),
    (
        &["engine", "guest", "sandbox", "capabilities", "outgoing", "pool", "run"],
        &["hyper::server", "hyper::service", "WEBSITE_"],
    ),
];

/// Every file of [`CRATES`] but the roots of libraries and of the binary: the top-level module that it belongs to, and its code.
fn files() -> Vec<(String, PathBuf, String)> {
    CRATES.iter().flat_map(|source| files_of(&repository().join(source))).collect()
}

fn files_of(source: &Path) -> Vec<(String, PathBuf, String)> {
    let (mut files, mut folders) = (Vec::new(), vec![source.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let name = path.strip_prefix(source).unwrap().to_owned();
            let module = name.iter().next().unwrap().to_str().unwrap().trim_end_matches(".rs").to_owned();
            if !["lib", "main"].contains(&module.as_str()) && !name.ends_with("tests.rs") {
                files.push((module, name, code(&path)));
            }
        }
    }
    files
}

/// A file's text without comments and without its tests, which stand at its end.
fn code(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap();
    let code = text.split("#[cfg(test)]\nmod ").next().unwrap().lines();
    code.filter_map(|line| line.split("//").next()).collect::<Vec<_>>().join("\n")
}

/// The top-level modules that code names after `crate::`, one or a list in braces.
fn used(code: &str) -> BTreeSet<&str> {
    let mut used = BTreeSet::new();
    for path in code.split("crate::").skip(1) {
        let Some(list) = path.strip_prefix('{') else {
            used.insert(first(path));
            continue;
        };
        let mut depth = 0;
        for (at, letter) in list.char_indices() {
            match letter {
                '{' => depth += 1,
                '}' if depth == 0 => break,
                '}' => depth -= 1,
                _ => {}
            }
            if depth == 0 && (at == 0 || letter == ',') {
                used.insert(first(list[at..].trim_start_matches([',', ' ', '\n'])));
            }
        }
    }
    used.remove("");
    used
}

/// The identifier that a text begins with.
fn first(text: &str) -> &str {
    text.split(|letter: char| letter != '_' && !letter.is_ascii_alphanumeric()).next().unwrap()
}

#[test]
fn modules_use_only_those_below_them() {
    let rank = |module: &str| ORDER.iter().position(|known| *known == module);
    let (mut wrong, mut seen, mut excepted) = (Vec::new(), BTreeSet::new(), BTreeSet::new());
    for (module, file, code) in files() {
        for other in used(&code) {
            if other == module {
                continue;
            }
            let exception = EXCEPTIONS.iter().find(|exception| **exception == (module.as_str(), other));
            excepted.extend(exception);
            if exception.is_none() && (rank(other).is_none() || rank(other) >= rank(&module)) {
                wrong.push(format!("{} may not use {other}", file.display()));
            }
        }
        seen.insert(module);
    }
    assert_eq!(wrong, Vec::<String>::new());
    assert_eq!(
        seen,
        ORDER[1..].iter().map(|module| (*module).to_owned()).collect::<BTreeSet<_>>(),
        "every module has its place in ORDER"
    );
    assert_eq!(excepted, EXCEPTIONS.iter().collect::<BTreeSet<_>>(), "an exception that nothing needs");
}

#[test]
fn modules_do_not_know_what_is_not_theirs() {
    let mut wrong = Vec::new();
    for (module, file, code) in files() {
        let unknown = UNKNOWN.iter().filter(|(modules, _)| modules.contains(&module.as_str()));
        for word in unknown.flat_map(|(_, words)| *words).filter(|word| code.contains(**word)) {
            wrong.push(format!("{} may not know {word}", file.display()));
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
}

#[test]
fn uses_are_found_however_they_are_written() {
    let code = "use crate::pool::Lease;\nuse crate::{engine, guest::{self, Guest},\n    observe};\nfn f(x: crate::config::App) {}";
    assert_eq!(used(code), BTreeSet::from(["config", "engine", "guest", "observe", "pool"]));
}
