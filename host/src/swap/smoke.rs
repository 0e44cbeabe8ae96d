//! What a new guest has to answer before it is published: a `GET`, or an event with the envelope that Azure would send.

use crate::config::Function;
use crate::config::file::{self, MAX_SETTINGS};
use crate::config::source::{Ask, Smoke};
use crate::guest::{Guest, LoadError};
use crate::invocation::bindings::Bindings;
use crate::protocol::envelope::decode::{self, Asked};
use crate::run::Question;
use crate::send::envelope;
use crate::send::event::Event;
use crate::send::fate::Attempts;
use http::StatusCode;
use serde_json::Value;
use std::sync::Arc;

/// What the function's guest is asked, if it is asked anything.
///
/// # Errors
/// [`LoadError::Smoke`]: the event cannot be read, or is none of the function's trigger.
pub async fn question(function: &Function, guest: &Guest) -> Result<Option<Question>, LoadError> {
    let Some(Smoke { ask, status }) = &function.guest.smoke else { return Ok(None) };
    let file = match ask {
        Ask::Path(path) => return Ok(Some(Question::get(path, status.unwrap_or(StatusCode::OK)))),
        Ask::Event(file) => file,
    };
    let shown = format!("with the event {}", file.display());
    let path = file.clone();
    let read = tokio::task::spawn_blocking(move || file::read(&path, MAX_SETTINGS)).await;
    let payload = read.expect("a file is read without panic").map_err(|why| format!("it {why}"));
    let asked = payload.and_then(|payload| asked(function, guest, &payload));
    let Asked { head, origin, body, beside, .. } = asked.map_err(|why| LoadError::Smoke {
        path: shown.clone(),
        why,
        expected: "a file with the payload of an event".to_owned(),
    })?;
    let bindings = beside.map(|beside| beside as Arc<dyn Bindings>);
    Ok(Some(Question { shown, head, body, origin, bindings, expected: *status }))
}

/// The request that the guest gets of an event with this payload.
fn asked(function: &Function, guest: &Guest, payload: &[u8]) -> Result<Asked, String> {
    let declared = envelope::Function::new(&function.name, &function.bindings)?;
    let attempts = Attempts::read(&declared, &Value::Null, &Value::Null);
    let envelope = Event { payload, metadata: &[], run: 1 }.envelope(&declared, attempts)?.to_string();
    let outputs = guest.asks_for_bindings().then_some(usize::MAX);
    decode::decode(function, "smoke", Question::here(), envelope.as_bytes(), outputs).map_err(|bad| bad.to_string())
}
