//! The page that draws reports.

use crate::draw::{Page, Parts};
use serde_json::json;

/// How the page gets its reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Feed {
    /// As server-sent events, while it is looked at.
    Events,
    /// It asks every two seconds, while it is looked at.
    Questions,
}

/// A function that the page lists.
pub struct Row<'a> {
    /// Its name.
    pub name: &'a str,
    /// The methods that it takes, and where it is called, if it is a plain HTTP function.
    pub called: Option<(String, String)>,
}

/// The page.
pub fn page<'a>(feed: Feed, functions: impl Iterator<Item = Row<'a>>) -> Page {
    let row = |Row { name, called }: Row<'_>| {
        let (methods, url) = called.unzip();
        json!({ "name": name, "methods": methods, "url": url })
    };
    let feed = if feed == Feed::Events { "events" } else { "questions" };
    let data = json!({ "feed": feed, "functions": functions.map(row).collect::<Vec<_>>() });
    let (style, script) = (include_str!("live.css"), include_str!("live.js"));
    Page::new(&Parts { title: "flexwasm", style, script, data: &data, asks: true })
}
