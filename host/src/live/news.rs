//! The last swaps and failures, with their explanation.

use super::millis;
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// How many of each kind are kept: many failures hide no swap.
const KEPT: usize = 20;
/// Characters of an explanation.
const MOST: usize = 600;

/// The last of them.
#[derive(Default)]
pub struct News {
    failures: Mutex<VecDeque<Item>>,
    swaps: Mutex<VecDeque<Item>>,
}

/// What has happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// An invocation has failed; with the word for its outcome.
    Failed(&'static str),
    /// A guest has taken another one's place, or was not allowed to; with a word for it.
    Swap(&'static str),
}

struct Item {
    at: Duration,
    kind: Kind,
    function: Arc<str>,
    text: String,
}

impl News {
    /// Notes what has happened just now. The text is for a person.
    pub fn add(&self, kind: Kind, function: &Arc<str>, mut text: String, at: Duration) {
        if let Some((end, _)) = text.char_indices().nth(MOST) {
            text.truncate(end);
            text.push('…');
        }
        let place = match kind {
            Kind::Failed(_) => &self.failures,
            Kind::Swap(_) => &self.swaps,
        };
        let mut items = place.lock().unwrap_or_else(PoisonError::into_inner);
        if items.len() == KEPT {
            items.pop_front();
        }
        items.push_back(Item { at, kind, function: Arc::clone(function), text });
    }

    /// All of them, the oldest first.
    pub fn json(&self) -> Value {
        let mut all: Vec<(Duration, Value)> = Vec::new();
        for place in [&self.failures, &self.swaps] {
            let items = place.lock().unwrap_or_else(PoisonError::into_inner);
            all.extend(items.iter().map(|Item { at, kind, function, text }| {
                let (Kind::Failed(word) | Kind::Swap(word)) = kind;
                (*at, json!({ "atMs": millis(*at).round(), "kind": word, "function": &**function, "text": text }))
            }));
        }
        all.sort_by_key(|(at, _)| *at);
        all.into_iter().map(|(_, item)| item).collect()
    }
}
