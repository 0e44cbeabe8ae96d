//! What the value of a setting may be: how it is read, how a person reads it again, and what the page of settings says about it.

use super::hosts::Grant;
use super::section::Section;
use super::units::{self, spell_duration, spell_size};
use serde_json::Value;
use std::time::Duration;

/// The most of a size that a wasm32 memory can have.
const MAX_MEMORY: u64 = 4 << 30;

/// A key, as the page of settings has to present it.
#[derive(Debug, Clone)]
pub struct Setting {
    /// The dotted key.
    pub key: &'static str,
    /// Where it may stand: `host`, `function` or `both`.
    pub scope: &'static str,
    /// What its meaning has to mention: the range, or each word that the value may be.
    pub range: Vec<String>,
    /// The default, spelled like a value or in words.
    pub default: String,
}

/// The values of one setting.
pub trait Kind {
    /// What the program uses.
    type Value;

    /// Reads a value as a file spells it.
    ///
    /// # Errors
    /// What to write instead, for a person.
    fn read(&self, value: &Value) -> Result<Self::Value, String>;

    /// Spells a value for a person.
    fn spell(&self, value: &Self::Value) -> String;

    /// What the page of settings has to say: the range, or each word. Empty where every value of the kind will do.
    fn range(&self) -> Vec<String> {
        Vec::new()
    }

    /// Takes the key from a section. None when it is absent, or wrong and noted.
    fn take(&self, key: &str, section: &mut Section<'_>) -> Option<Self::Value> {
        section.take(key, |value| self.read(value))
    }
}

/// A duration above zero.
pub struct Time;

impl Kind for Time {
    type Value = Duration;

    fn read(&self, value: &Value) -> Result<Duration, String> {
        units::duration(value.as_str().unwrap_or_default())
    }

    fn spell(&self, value: &Duration) -> String {
        spell_duration(*value)
    }
}

/// A duration from one second to so many hours.
pub struct UpToHours(pub u64);

impl Kind for UpToHours {
    type Value = Duration;

    fn read(&self, value: &Value) -> Result<Duration, String> {
        let duration = Time.read(value)?;
        let range = Duration::from_secs(1)..=Duration::from_secs(self.0 * 60 * 60);
        let fits = range.contains(&duration).then_some(duration);
        fits.ok_or_else(|| format!("must be a duration from 1s to {}h", self.0))
    }

    fn spell(&self, value: &Duration) -> String {
        spell_duration(*value)
    }

    fn range(&self) -> Vec<String> {
        vec![format!("1s to {}h", self.0)]
    }
}

/// A size above zero, in bytes.
pub struct Size;

impl Kind for Size {
    type Value = u64;

    fn read(&self, value: &Value) -> Result<u64, String> {
        units::size(value.as_str().unwrap_or_default())
    }

    fn spell(&self, value: &u64) -> String {
        spell_size(*value)
    }
}

/// A size from the first to the second, in bytes.
pub struct SizeWithin(pub u64, pub u64);

impl Kind for SizeWithin {
    type Value = u64;

    fn read(&self, value: &Value) -> Result<u64, String> {
        let bytes = Size.read(value)?;
        let fits = (self.0..=self.1).contains(&bytes).then_some(bytes);
        fits.ok_or_else(|| format!("must be a size from {} to {}", spell_size(self.0), spell_size(self.1)))
    }

    fn spell(&self, value: &u64) -> String {
        spell_size(*value)
    }

    fn range(&self) -> Vec<String> {
        vec![format!("{} to {}", spell_size(self.0), spell_size(self.1))]
    }
}

/// A size in a range, or 0 for none.
pub struct SizeOrZero(pub SizeWithin);

impl Kind for SizeOrZero {
    type Value = u64;

    fn read(&self, value: &Value) -> Result<u64, String> {
        if value.as_u64() == Some(0) || value.as_str() == Some("0") {
            return Ok(0);
        }
        self.0.read(value).map_err(|remedy| format!("{remedy}, or 0 for none"))
    }

    fn spell(&self, value: &u64) -> String {
        spell_size(*value)
    }

    fn range(&self) -> Vec<String> {
        [self.0.range(), vec!["`0`".to_owned()]].concat()
    }
}

/// What a linear memory may have, in bytes.
pub struct Memory;

impl Kind for Memory {
    type Value = u64;

    fn read(&self, value: &Value) -> Result<u64, String> {
        match Size.read(value)? {
            bytes if bytes > MAX_MEMORY => {
                Err("must be at most 4GiB, the most that a wasm32 memory can hold".to_owned())
            }
            bytes if bytes < 64 << 10 => Err("must be at least 64KiB, one WebAssembly page".to_owned()),
            bytes => Ok(bytes),
        }
    }

    fn spell(&self, value: &u64) -> String {
        spell_size(*value)
    }

    fn range(&self) -> Vec<String> {
        vec!["64KiB to 4GiB".to_owned()]
    }
}

/// A whole number from the first to the second.
pub struct Count(pub u32, pub u32);

impl Kind for Count {
    type Value = u32;

    fn read(&self, value: &Value) -> Result<u32, String> {
        let number = value.as_u64().and_then(|number| u32::try_from(number).ok());
        let fits = number.filter(|number| (self.0..=self.1).contains(number));
        fits.ok_or_else(|| format!("must be a whole number from {} to {}", self.0, self.1))
    }

    fn spell(&self, value: &u32) -> String {
        value.to_string()
    }

    fn range(&self) -> Vec<String> {
        vec![format!("{} to {}", self.0, self.1)]
    }
}

/// One of these words, with its meaning.
pub struct Word<T: 'static>(pub &'static [(&'static str, T)]);

impl<T: Copy + PartialEq> Kind for Word<T> {
    type Value = T;

    fn read(&self, value: &Value) -> Result<T, String> {
        let text = value.as_str().unwrap_or_default();
        let meant = self.0.iter().find(|(word, _)| *word == text).map(|(_, meaning)| *meaning);
        meant.ok_or_else(|| {
            let quoted: Vec<String> = self.0.iter().map(|(word, _)| format!("\"{word}\"")).collect();
            let (last, others) = quoted.split_last().expect("a kind without words");
            match others {
                [] => format!("must be {last}"),
                others => format!("must be {} or {last}", others.join(", ")),
            }
        })
    }

    fn spell(&self, value: &T) -> String {
        let spelled = self.0.iter().find(|(_, meaning)| meaning == value).map(|(word, _)| *word);
        spelled.unwrap_or_default().to_owned()
    }

    fn range(&self) -> Vec<String> {
        self.0.iter().map(|(word, _)| format!("`{word}`")).collect()
    }
}

/// Yes or no. An app setting is text.
pub struct Flag;

impl Kind for Flag {
    type Value = bool;

    fn read(&self, value: &Value) -> Result<bool, String> {
        match (value, value.as_str()) {
            (Value::Bool(on), _) => Ok(*on),
            (_, Some("true")) => Ok(true),
            (_, Some("false")) => Ok(false),
            _ => Err("must be true or false".to_owned()),
        }
    }

    fn spell(&self, value: &bool) -> String {
        value.to_string()
    }
}

/// A list of texts; what they are is said where it is anything else.
pub struct List(pub &'static str);

impl Kind for List {
    type Value = Vec<String>;

    fn read(&self, value: &Value) -> Result<Vec<String>, String> {
        let text = |value: &Value| value.as_str().filter(|text| !text.is_empty()).map(str::to_owned);
        let list = value.as_array().and_then(|values| values.iter().map(text).collect());
        list.ok_or_else(|| format!("must be a list of {}", self.0))
    }

    fn spell(&self, value: &Vec<String>) -> String {
        format!("{value:?}")
    }
}

/// A list of servers.
pub struct Hosts;

impl Hosts {
    fn entries(value: &Value) -> Result<Vec<Value>, String> {
        let is_entry = |value: &Value| value.is_object() || value.as_str().is_some_and(|text| !text.is_empty());
        let list = value.as_array().filter(|values| values.iter().all(is_entry));
        list.cloned().ok_or_else(|| "must be a list of servers, such as [\"https://api.example.com\"]".to_owned())
    }
}

impl Kind for Hosts {
    type Value = Vec<Grant>;

    fn read(&self, value: &Value) -> Result<Vec<Grant>, String> {
        let refused = |refused: Vec<super::hosts::Refused>| {
            refused.into_iter().map(|entry| entry.discreet).collect::<Vec<_>>().join("; ")
        };
        super::hosts::parse(&Self::entries(value)?).map_err(refused)
    }

    fn spell(&self, value: &Vec<Grant>) -> String {
        format!("{:?}", value.iter().map(ToString::to_string).collect::<Vec<_>>())
    }

    fn take(&self, key: &str, section: &mut Section<'_>) -> Option<Vec<Grant>> {
        section.take_hosts(key, Self::entries)
    }
}
