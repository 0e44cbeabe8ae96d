//! Nothing cites what is not there: the files, headings, sections and rules that documents, comments and strings name.

use crate::support::repository;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// The page with the rules `S1` to `X2`.
const CONTRACT: &str = "docs/azure-contract.md";

/// Endings of the files that are read.
const TEXTS: [&str; 10] = ["rs", "md", "sh", "py", "toml", "yml", "bicep", "wit", "js", "mjs"];

/// Endings of the files that a path may name. TOML is none of them: apps of tests have files of that name.
const SOURCES: [&str; 7] = ["rs", "sh", "py", "bicep", "wit", "js", "mjs"];

/// Folders without text of ours.
const FOREIGN: [&str; 6] = ["target", "dist", "node_modules", ".git", "deps", "captures"];

/// A file of the repository.
struct Text {
    /// Its path below the repository's folder.
    path: PathBuf,
    content: String,
}

impl Text {
    fn is(&self, extension: &str) -> bool {
        self.path.extension().is_some_and(|found| found == extension)
    }

    /// The words that may be paths, each with its line.
    fn paths(&self) -> impl Iterator<Item = (&str, &str)> {
        self.content.lines().flat_map(|line| {
            let words = line.split(|letter| !in_path(letter)).map(|word| word.trim_end_matches('.'));
            words.map(move |word| (word, line))
        })
    }

    /// What the line says beside code: a comment, or all of a document.
    fn prose<'l>(&self, line: &'l str) -> Option<&'l str> {
        match self.path.extension()?.to_str()? {
            "md" => Some(line),
            "sh" | "py" | "toml" | "yml" => Some(line.split_once('#')?.1),
            _ => Some(line.split_once("//")?.1),
        }
    }

    /// Where a path in this file may begin: at the top, in `docs`, or in a folder that the file is in.
    fn finds(&self, named: &str) -> bool {
        let mut bases = self.path.ancestors().skip(1).chain([Path::new("docs")]);
        bases.any(|base| repository().join(base).join(named).exists())
    }

    /// The document that a `§` at this place belongs to. None for a standard's.
    fn cites(&self, before: &str) -> Option<PathBuf> {
        // As if comments had no line ends, and without the other sections of the same list.
        let words: Vec<&str> =
            before.split_whitespace().filter(|word| !word.starts_with("//") && *word != "#").collect();
        let mut words = words.into_iter().rev().skip_while(|word| word.contains('§'));
        let (last, previous) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let named = last.trim_start_matches(|letter: char| !letter.is_ascii_alphanumeric());
        if named.ends_with(".md") {
            let path = Path::new(named);
            return Some(if path.starts_with("docs") { path.to_owned() } else { Path::new("docs").join(path) });
        }
        (!previous.ends_with("RFC")).then(|| self.path.clone())
    }
}

/// Every text of the repository but this one, which names what is not there.
fn texts() -> Vec<Text> {
    let (root, mut folders, mut texts) = (repository(), vec![repository()], Vec::new());
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap();
            let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
            if path.is_dir() && !FOREIGN.contains(&name) {
                folders.push(path);
            } else if TEXTS.contains(&extension) && !path.ends_with("it/documents.rs") {
                let content = fs::read_to_string(&path).unwrap();
                texts.push(Text { path: path.strip_prefix(&root).unwrap().to_owned(), content });
            }
        }
    }
    assert!(texts.len() > 150, "{}", texts.len());
    texts
}

/// Whether a path of ours may have this letter.
fn in_path(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || "_./-".contains(letter)
}

/// The headings of a document, without the text of its code blocks.
fn headings(document: &str) -> impl Iterator<Item = &str> {
    let mut is_code = false;
    document.lines().filter_map(move |line| {
        is_code ^= line.starts_with("```");
        (!is_code && line.starts_with('#')).then(|| line.trim_start_matches('#').trim())
    })
}

/// What GitHub calls a heading in a link.
fn anchor(heading: &str) -> String {
    let letters = heading.chars().filter(|letter| letter.is_alphanumeric() || " -_".contains(*letter));
    letters.map(|letter| if letter == ' ' { '-' } else { letter.to_ascii_lowercase() }).collect()
}

/// Rules that a line names: in its prose (`S4`), or in the name of a test (`s4_`).
fn rules(text: &Text, line: &str) -> Vec<String> {
    let name = line.split_once("fn ").map(|(_, name)| name.split('(').next().unwrap_or_default());
    let (words, groups) = match (text.prose(line), name) {
        (Some(prose), _) => (prose, "SJFPX"),
        (None, Some(name)) if text.path.starts_with("host/tests") => (name, "sjfpx"),
        _ => return Vec::new(),
    };
    let words = words.split(|letter: char| !letter.is_ascii_alphanumeric());
    let is_rule = |word: &&str| {
        let number = word.strip_prefix(|first| groups.contains(first)).unwrap_or_default();
        matches!(number.len(), 1 | 2) && number.bytes().all(|digit| digit.is_ascii_digit())
    };
    words.filter(is_rule).map(str::to_ascii_uppercase).collect()
}

#[test]
fn every_link_leads_to_a_file_and_a_heading() {
    let mut missing = Vec::new();
    for text in texts().into_iter().filter(|text| text.is("md")) {
        for link in text.content.split("](").skip(1) {
            let link = link.split(')').next().unwrap();
            let (file, heading) = link.split_once('#').unwrap_or((link, ""));
            if file.contains("://") {
                continue;
            }
            let target = repository().join(&text.path);
            let target = if file.is_empty() { target } else { target.parent().unwrap().join(file) };
            let there = target.exists()
                && (heading.is_empty() || {
                    let document = fs::read_to_string(&target).unwrap();
                    headings(&document).any(|found| anchor(found) == heading)
                });
            if !there {
                missing.push(format!("{link} in {}", text.path.display()));
            }
        }
    }
    assert!(missing.is_empty(), "{missing:#?}");
}

#[test]
fn every_file_that_is_named_is_there() {
    let mut missing = Vec::new();
    for text in texts() {
        for (word, line) in text.paths() {
            let path = Path::new(word);
            let Some(extension) = path.extension().and_then(|extension| extension.to_str()) else { continue };
            let is_document = extension == "md";
            // In code a path may be that of an app or of a test. What begins so is built, or a part of a URL.
            let is_prose = text.prose(line).is_some_and(|prose| prose.contains(word));
            let is_source = is_prose && SOURCES.contains(&extension) && word.contains('/');
            let is_ours = !["//", "target/"].iter().any(|begin| word.starts_with(begin));
            if (is_document || is_source) && is_ours && !text.finds(word) {
                missing.push(format!("{word} in {}", text.path.display()));
            }
        }
    }
    assert!(missing.is_empty(), "{missing:#?}");
}

#[test]
fn every_section_that_is_cited_is_there() {
    let (mut missing, mut cited) = (Vec::new(), BTreeSet::new());
    for text in texts() {
        for (at, sign) in text.content.match_indices('§') {
            let Some(document) = text.cites(&text.content[..at]) else { continue };
            let number =
                text.content[at + sign.len()..].split(|letter: char| !letter.is_ascii_digit() && letter != '.').next();
            let number = number.unwrap_or_default().trim_end_matches('.');
            let sections = fs::read_to_string(repository().join(&document)).unwrap_or_default();
            if !headings(&sections).any(|heading| heading.split(' ').next() == Some(number)) {
                missing.push(format!("{} §{number} in {}", document.display(), text.path.display()));
            }
            cited.insert((document, number.to_owned()));
        }
    }
    assert!(missing.is_empty(), "{missing:#?}");
    // They are found also after a line end, and in a list.
    for (document, number) in [("azure-contract.md", "1.8"), ("azure-contract.md", "2.3"), ("flex-deploy.md", "3.4")] {
        assert!(cited.contains(&(Path::new("docs").join(document), number.to_owned())), "{cited:?}");
    }
}

#[test]
fn every_rule_that_is_cited_is_in_the_contract() {
    let contract = fs::read_to_string(repository().join(CONTRACT)).unwrap();
    let (mut missing, mut cited) = (Vec::new(), BTreeSet::new());
    for text in texts() {
        for rule in text.content.lines().flat_map(|line| rules(&text, line)) {
            if !contract.contains(&format!("- **{rule}** ")) {
                missing.push(format!("{rule} in {}", text.path.display()));
            }
            cited.insert(rule);
        }
    }
    assert!(missing.is_empty(), "not in {CONTRACT}: {missing:#?}");
    assert!(cited.contains("S4") && cited.contains("P8"), "{cited:?}");
}

#[test]
fn the_map_of_the_architecture_is_true() {
    let page = fs::read_to_string(repository().join("ARCHITECTURE.md")).unwrap();
    let texts = texts();
    let is_module = |named: &str| {
        // The configuration is a crate, so its modules have no folder of that name.
        let named =
            named.strip_prefix("config/").map_or(format!("src/{named}"), |module| format!("config/src/{module}"));
        let (file, folder) = (format!("{named}.rs"), format!("{named}/mod.rs"));
        texts.iter().any(|text| text.path.ends_with(&file) || text.path.ends_with(&folder))
    };
    // Every other piece is code.
    let named = page.split('`').skip(1).step_by(2).filter(|named| named.contains('/'));
    let is_path = |named: &&str| named.chars().all(in_path);
    let is_built = |named: &str| ["target/", "dist/"].iter().any(|begin| named.starts_with(begin));
    let missing: Vec<&str> = named
        .filter(is_path)
        .filter(|named| !is_built(named) && !is_module(named) && !repository().join(named).exists())
        .collect();
    assert!(missing.is_empty(), "ARCHITECTURE.md names what is not there: {missing:?}");

    let folders = texts.iter().filter_map(|text| text.path.components().next()?.as_os_str().to_str());
    let folders: BTreeSet<&str> = folders.filter(|name| repository().join(name).is_dir()).collect();
    let untold: Vec<_> = folders.iter().filter(|folder| !page.contains(&format!("`{folder}/"))).collect();
    assert!(untold.is_empty(), "ARCHITECTURE.md does not say what is in {untold:?}");

    for library in ["crates/runtime/src/lib.rs", "host/src/lib.rs"] {
        let text = fs::read_to_string(repository().join(library)).unwrap();
        let modules = text.lines().filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';'));
        let untold: Vec<_> = modules.filter(|module| !text.contains(&format!("//! | [`{module}`] |"))).collect();
        assert!(untold.is_empty(), "the map of {library} lacks {untold:?}");
    }
}
