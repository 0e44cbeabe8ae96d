//! What the bindings of an app reach, and its stores, for whoever has to allow it.

use super::Function;
use super::bindings::text;
use std::collections::BTreeSet;

/// What the Functions host calls its own storage; bindings may leave out the first half.
const OWN: [&str; 2] = ["AzureWebJobsStorage", "Storage"];

/// What the bindings of an app and its stores reach.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Connections {
    /// Queues in the storage of the Functions host. Its blobs are reached in any case.
    pub queues: bool,
    /// Tables there.
    pub tables: bool,
    /// The app settings that name everything else, as bindings spell them.
    pub others: BTreeSet<String>,
}

impl Connections {
    /// Those of these functions.
    pub fn of(functions: &[Function]) -> Self {
        let stores = functions.iter().flat_map(|function| &function.grants.keyvalue);
        let tables = stores.filter_map(|store| store.written.table_of()).any(|setting| setting == OWN[0]);
        let mut found = Self { tables, ..Self::default() };
        for binding in functions.iter().flat_map(|function| &*function.bindings) {
            let kind = text(binding, "type").unwrap_or_default().to_ascii_lowercase();
            let connection = text(binding, "connection").filter(|name| !name.is_empty());
            match connection {
                Some(name) if !OWN.contains(&name) => {
                    found.others.insert(name.to_owned());
                }
                // A trigger of blobs keeps those that it has still to read, and those that failed, in queues.
                _ => match &*kind {
                    "queuetrigger" | "queue" | "blobtrigger" => found.queues = true,
                    "table" => found.tables = true,
                    _ => {}
                },
            }
        }
        found
    }
}
