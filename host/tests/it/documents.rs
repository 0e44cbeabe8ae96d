//! What the code cites of docs/azure-contract.md stands there.

use crate::support::repository;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

const CONTRACT: &str = "azure-contract.md";

/// The Rust sources of the host and of these tests.
fn sources() -> Vec<PathBuf> {
    let mut folders = vec![repository().join("host/src"), repository().join("host/tests/it")];
    let mut sources = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            match path.extension() {
                _ if path.is_dir() => folders.push(path),
                Some(extension) if extension == "rs" => sources.push(path),
                _ => {}
            }
        }
    }
    assert!(sources.len() > 50);
    sources
}

/// Rules that a line names in a comment (`S4`) or in the name of a test (`s4_`).
fn rules(line: &str) -> impl Iterator<Item = String> {
    let (comment, upper) = match (line.split_once("//"), line.split_once("fn ")) {
        (Some((_, comment)), _) => (comment.to_owned(), true),
        (None, Some((_, name))) => (name.split('(').next().unwrap_or_default().to_owned(), false),
        (None, None) => (String::new(), true),
    };
    let words: Vec<String> = comment.split(|letter: char| !letter.is_ascii_alphanumeric()).map(str::to_owned).collect();
    words.into_iter().filter_map(move |word| {
        let group = if upper { "SJFPX" } else { "sjfpx" };
        let number = word.strip_prefix(|first| group.contains(first))?;
        (matches!(number.len(), 1 | 2) && number.parse::<u8>().is_ok()).then(|| word.to_ascii_uppercase())
    })
}

#[test]
fn every_rule_and_section_that_is_cited_stands_in_the_contract() {
    let contract = fs::read_to_string(repository().join("docs").join(CONTRACT)).unwrap();
    let (mut cited, mut missing) = (BTreeSet::new(), Vec::new());
    for source in sources() {
        let text = fs::read_to_string(&source).unwrap();
        let mut miss = |what: String| missing.push(format!("{what} in {}", relative(&source)));
        for line in text.lines() {
            for rule in rules(line) {
                if !contract.contains(&format!("- **{rule}** ")) {
                    miss(rule.clone());
                }
                cited.insert(rule);
            }
        }
        for (_, after) in text.match_indices(CONTRACT).map(|(at, name)| text.split_at(at + name.len())) {
            let Some(section) = after.strip_prefix(" §") else { continue };
            let number = section.split(|letter: char| !letter.is_ascii_digit() && letter != '.').next().unwrap();
            let number = number.trim_end_matches('.');
            if !contract.lines().any(|line| line.trim_start_matches('#').starts_with(&format!(" {number} "))) {
                miss(format!("§{number}"));
            }
        }
    }
    assert!(missing.is_empty(), "not in {CONTRACT}: {missing:?}");
    assert!(cited.contains("S4") && cited.contains("P8"), "{cited:?}");
}

fn relative(source: &Path) -> String {
    source.strip_prefix(repository()).unwrap().display().to_string()
}
