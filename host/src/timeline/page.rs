//! The same burst as one HTML file that needs nothing else.

use super::Timeline;
use serde_json::Value;

/// The page. It loads nothing, from anywhere.
pub fn page(timeline: &Timeline) -> String {
    let data = data(&timeline.json());
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; script-src 'unsafe-inline'; style-src \
         'unsafe-inline'\">\n<meta name=\"viewport\" content=\"width=device-width\">\n<title>flexwasm: timeline</title>\n\
         <style>\n{}</style>\n<main></main>\n<script type=\"application/json\" id=\"data\">{data}</script>\n\
         <script>\n{}</script>\n</html>\n",
        include_str!("timeline.css"),
        include_str!("timeline.js"),
    )
}

/// JSON that cannot end the element which it stands in: `<` occurs in strings only, where it may be escaped.
fn data(value: &Value) -> String {
    value.to_string().replace('<', "\\u003c")
}
