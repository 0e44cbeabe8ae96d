//! The same requests as one HTML file that needs nothing else.

use super::Timeline;
use crate::draw::{Page, Parts};

/// The page. It loads nothing, from anywhere.
pub fn page(timeline: &Timeline) -> String {
    let script = include_str!("timeline.js");
    Page::new(&Parts { title: "flexwasm: timeline", style: "", script, data: &timeline.json(), asks: false }).html
}
