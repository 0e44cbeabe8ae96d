//! The limits that an invocation can run into, in words: key, value, and what to do about it.

use crate::config::settings::Limits;
use crate::config::units::{spell_duration, spell_size};
use std::fmt;
use std::time::Duration;
use wasmtime::component::ResourceTableError;
use wasmtime_wasi_http::FieldMapError;

/// A limit that an invocation ran into, with its value: bytes, a time or a count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hit {
    /// From the arrival of the head to the last byte.
    Timeout(Duration),
    /// Time on a thread.
    Cpu(Duration),
    /// Of its own memory.
    Memory(u64),
    /// Of the memory of all guests.
    TotalMemory(u64),
    /// Of its tables.
    TableElements(u32),
    /// Of what the host keeps for it.
    Handles(u32),
    /// Of what one call may hand over.
    HostCall(u64),
    /// Of random bytes in one call.
    Random(u64),
    /// Of the request's body.
    RequestBody(u64),
    /// Lines of the answer's head.
    ResponseHeaders(u32),
    /// Bytes of the answer's head.
    ResponseHead(u64),
    /// Of the answer's body.
    ResponseBody(u64),
}

impl Hit {
    /// The limit that made the engine or WASI end the guest, if it was one. Some of their errors have no type that could be
    /// told by anything but its words.
    pub fn behind(error: &wasmtime::Error, limits: &Limits) -> Option<Self> {
        if let Some(hit) = error.downcast_ref() {
            return Some(*hit);
        }
        if matches!(error.downcast_ref(), Some(ResourceTableError::Full)) {
            return Some(Self::Handles(limits.handles));
        }
        if matches!(error.downcast_ref(), Some(FieldMapError::TotalSizeTooBig | FieldMapError::TooManyFields)) {
            return Some(Self::ResponseHead(limits.response_head));
        }
        let words = error.root_cause().to_string();
        match &*words {
            words if words.ends_with(": store handle limit exceeded") => Some(Self::Handles(limits.handles)),
            words if words.ends_with("fuel allocated for hostcalls has been exhausted") => {
                Some(Self::HostCall(limits.host_call))
            }
            words if words.starts_with("requested len ") => Some(Self::Random(limits.random)),
            _ => None,
        }
    }

    /// Key below `limits`, value, and what to do about it.
    fn words(self) -> (&'static str, String, &'static str) {
        match self {
            Self::Timeout(limit) => ("timeout", spell_duration(limit), "raise it, or let the function answer sooner"),
            Self::Cpu(limit) => {
                ("cpu", spell_duration(limit), "raise it, or let the guest compute less for one request")
            }
            Self::Memory(limit) => ("memory", spell_size(limit), "raise it, or let the guest keep less in memory"),
            Self::TotalMemory(limit) => (
                "totalMemory",
                format!("{}, shared by all guests,", spell_size(limit)),
                "raise it, lower pool.size, or let the guests keep less in memory",
            ),
            Self::TableElements(limit) => {
                ("tableElements", limit.to_string(), "raise it, or let the guest grow its tables less")
            }
            Self::Handles(limit) => {
                ("handles", limit.to_string(), "raise it, or let the guest drop what it needs no more")
            }
            Self::HostCall(limit) => {
                ("hostCall", spell_size(limit), "raise it, or let the guest hand over less in one call")
            }
            Self::Random(limit) => {
                ("random", spell_size(limit), "raise it, or let the guest ask for fewer random bytes at a time")
            }
            Self::RequestBody(limit) => ("requestBody", spell_size(limit), "raise it, or let clients send less"),
            Self::ResponseHeaders(limit) => {
                ("responseHeaders", limit.to_string(), "raise it, or let the guest set fewer headers")
            }
            Self::ResponseHead(limit) => {
                ("responseHead", spell_size(limit), "raise it, or let the guest set shorter headers")
            }
            Self::ResponseBody(limit) => ("responseBody", spell_size(limit), "raise it, or let the guest answer less"),
        }
    }

    /// What to do about it, as it follows the name of the limit.
    pub fn remedy(self) -> &'static str {
        self.words().2
    }

    /// The limit and what to do about it.
    pub fn explained(self) -> String {
        format!("{self}: {}", self.remedy())
    }
}

/// Key and value.
impl fmt::Display for Hit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (key, value, _) = self.words();
        write!(f, "limits.{key} of {value} reached")
    }
}

impl std::error::Error for Hit {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::settings::{FUNCTION_KEYS, HOST_KEYS};

    #[test]
    fn every_limit_names_a_setting_its_value_and_what_to_do() {
        for (hit, words) in [
            (Hit::Timeout(Duration::from_secs(1)), "limits.timeout of 1s reached: raise it, or let the function"),
            (Hit::Cpu(Duration::from_millis(1500)), "limits.cpu of 1500ms reached: raise it, or let the guest compute"),
            (Hit::Memory(16 << 20), "limits.memory of 16MiB reached: raise it"),
            (Hit::TotalMemory(1 << 30), "limits.totalMemory of 1GiB, shared by all guests, reached: raise it, lower"),
            (Hit::TableElements(7), "limits.tableElements of 7 reached: raise it"),
            (Hit::Handles(8), "limits.handles of 8 reached: raise it"),
            (Hit::HostCall(1000), "limits.hostCall of 1000B reached: raise it"),
            (Hit::Random(64), "limits.random of 64B reached: raise it"),
            (Hit::RequestBody(1024), "limits.requestBody of 1KiB reached: raise it"),
            (Hit::ResponseHeaders(3), "limits.responseHeaders of 3 reached: raise it"),
            (Hit::ResponseHead(2048), "limits.responseHead of 2KiB reached: raise it"),
            (Hit::ResponseBody(1), "limits.responseBody of 1B reached: raise it"),
        ] {
            let said = hit.explained();
            assert!(said.starts_with(words), "{said}");
            let key = said.split(' ').next().expect("a first word");
            assert!(FUNCTION_KEYS.contains(&key) || HOST_KEYS.contains(&key), "{key}");
        }
    }

    #[test]
    fn limits_of_the_engine_are_known_by_what_it_says() {
        let limits = Limits::default();
        let behind = |error: wasmtime::Error| Hit::behind(&error.context("while calling"), &limits);
        let said = |words: &'static str| behind(wasmtime::Error::msg(words));
        assert_eq!(behind(Hit::Cpu(limits.cpu).into()), Some(Hit::Cpu(limits.cpu)));
        assert_eq!(behind(ResourceTableError::Full.into()), Some(Hit::Handles(1024)));
        assert_eq!(behind(ResourceTableError::NotPresent.into()), None);
        assert_eq!(behind(FieldMapError::TotalSizeTooBig.into()), Some(Hit::ResponseHead(64 << 10)));
        assert_eq!(behind(FieldMapError::Forbidden.into()), None);
        assert_eq!(said("cannot allocate another handle: store handle limit exceeded"), Some(Hit::Handles(1024)));
        assert_eq!(said("requested len 9 exceeds limit 8"), Some(Hit::Random(64 << 10)));
        assert_eq!(said("something else"), None);
    }
}
