//! Loading every guest of an app without serving it.

use super::compose::Parts;
use super::ready::Loading;
use crate::config::Config;
use crate::engine::code::Processors;
use crate::engine::room::Fit;
use crate::observe::machine::Machine;
use std::sync::Arc;

/// What `flexwasm check` found.
pub struct Checked {
    /// What each guest's compiled file is good for.
    pub compiled: Vec<String>,
    /// What is wrong, one line each.
    pub broken: Vec<String>,
    /// Bytes that the largest guest starts with.
    pub initial_memory: u64,
    /// What the guests need in a slot, each the most of any. None if there is no guest.
    pub fit: Option<Fit>,
}

/// Loads every guest, and reports what is wrong with it, and what the compiled file beside it is good for.
///
/// # Errors
/// When the process has no room for the pool.
pub async fn run(config: Config, machine: Arc<Machine>) -> Result<Checked, String> {
    let parts = Parts::new(&config, &machine)?;
    let mut loading = Loading::start(&parts.swaps);
    loading.finish().await;
    let (mut compiled, mut broken) = (Vec::new(), loading.broken());
    let loaded: Vec<_> = parts.guests.iter().filter_map(|place| place.guest()).collect();
    let initial_memory = loaded.iter().map(|guest| guest.initial_memory).max().unwrap_or(0);
    let fit = loaded.iter().map(|guest| guest.fit).reduce(Fit::and);
    broken.extend(loading.undelivered());
    for (function, guest) in config.functions.iter().zip(parts.guests.iter()) {
        let Some(guest) = guest.guest().filter(|_| function.guest.source.is_none()) else { continue };
        let file = guest.compiled.as_deref().unwrap_or(&function.script_file).display().to_string();
        match guest.code_beside() {
            Ok(None) => compiled.push(format!("{file} absent: compiled at the first start, then in the cache folder")),
            Ok(Some(Processors::ThisKind)) => compiled.push(format!("{file} compiled for processors like this one")),
            Ok(Some(Processors::EveryKind)) => {
                compiled.push(format!("{file} compiled for every processor of its kind"));
            }
            Err(why) => broken.push(format!(
                "function {}: {file} {why}: it would not be used; remove it, or run `flexwasm compile`",
                function.name
            )),
        }
    }
    Ok(Checked { compiled, broken, initial_memory, fit })
}
