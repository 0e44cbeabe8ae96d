//! Pages that draw slots, requests and curves: one file, whatever is drawn, that loads nothing.
//!
//! `draw.js` and `draw.css` have what all of them share.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

/// A page and what it may do.
#[derive(Debug)]
pub struct Page {
    /// The whole page.
    pub html: String,
    /// A Content-Security-Policy (Level 3): its own script and style, and nothing from anywhere else.
    pub policy: String,
}

/// What a page consists of.
pub struct Parts<'a> {
    /// In the browser's tab.
    pub title: &'a str,
    /// Rules beside those that all pages share.
    pub style: &'a str,
    /// What draws, with what all pages share.
    pub script: &'a str,
    /// What it draws.
    pub data: &'a Value,
    /// Whether it may ask where it came from for more.
    pub asks: bool,
}

impl Page {
    /// Puts it together.
    pub fn new(Parts { title, style, script, data, asks }: &Parts<'_>) -> Self {
        let style = format!("\n{}{style}", include_str!("draw.css"));
        let script = format!("\n\"use strict\";\n{}{script}", include_str!("draw.js"));
        let connect = if *asks { "; connect-src 'self'" } else { "" };
        let policy = format!(
            "default-src 'none'; script-src {}; style-src {}; img-src data:{connect}; base-uri 'none'; form-action 'none'",
            hash(&script),
            hash(&style)
        );
        // In JSON `<` occurs in strings only, where it may be escaped: nothing in the data ends the element that it stands in.
        let data = data.to_string().replace('<', "\\u003c");
        let html = format!(
            "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n\
             <meta http-equiv=\"Content-Security-Policy\" content=\"{policy}\">\n\
             <meta name=\"viewport\" content=\"width=device-width\">\n<meta name=\"referrer\" content=\"no-referrer\">\n\
             <link rel=\"icon\" href=\"data:,\">\n<title>{title}</title>\n<style>{style}</style>\n<main></main>\n\
             <noscript>This page is drawn by JavaScript, which is switched off.</noscript>\n\
             <script type=\"application/json\" id=\"data\">{data}</script>\n<script>{script}</script>\n</html>\n"
        );
        Self { html, policy }
    }
}

/// How a policy names an element with this content.
fn hash(content: &str) -> String {
    format!("'sha256-{}'", BASE64_STANDARD.encode(Sha256::digest(content)))
}
