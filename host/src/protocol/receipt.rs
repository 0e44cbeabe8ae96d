//! The headers that say what ran an invocation and how long it took, in the response of a guest.

use crate::config::settings::Headers;
use crate::observe::machine::{Machine, current_thread};
use crate::observe::text::Text;
use crate::run::Timings;
use crate::sandbox::Identity;
use http::header::{HeaderMap, HeaderName, HeaderValue};
use std::time::Duration;

const INSTANCE: HeaderName = HeaderName::from_static("x-flexwasm-instance");
const HOST: HeaderName = HeaderName::from_static("x-flexwasm-host");
const SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");

/// Bytes that suffice for each of them, unless names are long.
const USUAL: usize = 192;

/// What there is to say.
pub struct Receipt<'a> {
    /// How much of it is said.
    pub headers: Headers,
    /// Which instance it was.
    pub identity: &'a Identity,
    /// Where it ran.
    pub machine: &'a Machine,
    /// How long it waited for a slot.
    pub queued: Duration,
    /// How long its parts took.
    pub timings: Timings,
}

impl Receipt<'_> {
    /// Puts it into a response, in the place of what its guest has imitated.
    pub fn write(&self, response: &mut HeaderMap) {
        if self.headers != Headers::Full {
            response.remove(HOST);
        }
        if self.headers == Headers::Off {
            response.remove(INSTANCE);
            return;
        }
        let Identity { instance, slot, pool_size, served, generation, digest } = self.identity;
        let mut text = Text::with_capacity(USUAL);
        text.number(*instance).add("; slot=").number(*slot).add("; pool=").number(*pool_size);
        text.add("; served=").number(*served).add("; generation=").number(*generation);
        text.add("; digest=").add(digest.short());
        set(response, INSTANCE, &text);
        if self.headers == Headers::Full {
            let machine = self.machine;
            let (thread, name) = current_thread();
            let host = machine.platform_instance.as_ref().unwrap_or(&machine.host_name);
            text.clear();
            text.add("\"").add(host).add("\"; pid=").number(machine.process_id);
            text.add("; thread=").number(thread).add("; name=\"").add(&*name);
            text.add("\"; kernel=\"").add(&machine.kernel).add("\"");
            set(response, HOST, &text);
            text.clear();
            text.add("queue;dur=").millis(self.queued).add(", instantiate;dur=").millis(self.timings.instantiate);
            text.add(", guest;dur=").millis(self.timings.head);
            // Beside what the guest says of itself.
            response.extend(value(&text).map(|value| (SERVER_TIMING, value)));
        }
    }
}

/// Sets a header. A host name that is no header value stays out, and so does what stands in its place.
fn set(response: &mut HeaderMap, name: HeaderName, text: &Text) {
    match value(text) {
        Some(value) => drop(response.insert(name, value)),
        None => drop(response.remove(name)),
    }
}

fn value(text: &Text) -> Option<HeaderValue> {
    HeaderValue::from_bytes(text.as_bytes()).ok()
}
