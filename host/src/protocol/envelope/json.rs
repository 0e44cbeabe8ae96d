//! JSON whose values stay as they were written.

use serde_core::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::fmt;

/// The members of an object in their order; a name may stand there twice.
pub struct Members<'a>(pub Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'a> Members<'a> {
    /// The last member of this name, as Json.NET takes it.
    pub fn get(&self, name: &str) -> Option<&'a RawValue> {
        self.0.iter().rev().find(|(known, _)| known == name).map(|(_, value)| *value)
    }

    /// The last member of this name in any case.
    pub fn get_in_any_case(&self, name: &str) -> Option<&'a RawValue> {
        self.0.iter().rev().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| *value)
    }

    /// The members of an object that is one.
    pub fn of(value: &'a RawValue) -> Option<Self> {
        serde_json::from_str(value.get()).ok()
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Members<'de>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an object")
            }

            fn visit_map<M: MapAccess<'de>>(self, map: M) -> Result<Self::Value, M::Error> {
                members(map)
            }
        }
        deserializer.deserialize_map(Reader)
    }
}

fn members<'de, M: MapAccess<'de>>(mut map: M) -> Result<Members<'de>, M::Error> {
    let mut members = Vec::with_capacity(8);
    while let Some((Text(name), value)) = map.next_entry()? {
        members.push((name, value));
    }
    Ok(Members(members))
}

/// `Data` and `Metadata` of an envelope, read in one pass. The last of each counts, as Json.NET takes it.
#[derive(Default)]
pub struct Envelope<'a> {
    pub data: Part<'a>,
    pub metadata: Part<'a>,
}

/// A part of an envelope.
#[derive(Default)]
pub enum Part<'a> {
    /// It is null, or there is none.
    #[default]
    Nothing,
    Object(Members<'a>),
    /// It is neither.
    Other,
}

impl<'de: 'a, 'a> Deserialize<'de> for Envelope<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Envelope<'de>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an object")
            }

            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Self::Value, M::Error> {
                let mut envelope = Envelope::default();
                while let Some(Text(name)) = map.next_key()? {
                    match &*name {
                        "Data" => envelope.data = map.next_value()?,
                        "Metadata" => envelope.metadata = map.next_value()?,
                        _ => drop(map.next_value::<IgnoredAny>()?),
                    }
                }
                Ok(envelope)
            }
        }
        deserializer.deserialize_map(Reader)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Part<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Part<'de>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("any value")
            }

            fn visit_map<M: MapAccess<'de>>(self, map: M) -> Result<Self::Value, M::Error> {
                members(map).map(Part::Object)
            }

            fn visit_unit<E>(self) -> Result<Self::Value, E> {
                Ok(Part::Nothing)
            }

            fn visit_seq<S: SeqAccess<'de>>(self, mut list: S) -> Result<Self::Value, S::Error> {
                while list.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Part::Other)
            }

            fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
                Ok(Part::Other)
            }

            fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
                Ok(Part::Other)
            }

            fn visit_u64<E>(self, _: u64) -> Result<Self::Value, E> {
                Ok(Part::Other)
            }

            fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
                Ok(Part::Other)
            }

            fn visit_str<E>(self, _: &str) -> Result<Self::Value, E> {
                Ok(Part::Other)
            }
        }
        deserializer.deserialize_any(Reader)
    }
}

/// The text of a JSON string; borrowed where nothing in it is escaped.
pub fn string(value: &str) -> Option<Cow<'_, str>> {
    if !value.starts_with('"') {
        return None;
    }
    serde_json::from_str(value).ok().map(|Text(text)| text)
}

/// A text that is read once: serde's own `Cow` is never borrowed, and a `&str` that would have to be unescaped is an error that quotes it.
struct Text<'a>(Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Text<'de>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a text")
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Text(Cow::Borrowed(text)))
            }

            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Text(Cow::Owned(text.to_owned())))
            }
        }
        deserializer.deserialize_str(Reader)
    }
}

/// The text that the Functions host means by a value: a string that holds the literal of a string is unwrapped once more, and any
/// other value is its own JSON.
pub fn text(value: &RawValue) -> Cow<'_, str> {
    let Some(outer) = string(value.get()) else { return Cow::Borrowed(value.get()) };
    let inner = string(&outer).map(Cow::into_owned);
    match inner {
        Some(inner) => Cow::Owned(inner),
        None => outer,
    }
}

/// A text, or a list of texts, as JSON.
pub fn written<T: serde_core::Serialize + ?Sized>(value: &T) -> String {
    serde_json::to_string(value).expect("a text is JSON")
}

/// An object of members whose values are JSON already.
pub fn object(members: impl IntoIterator<Item = (impl AsRef<str>, String)>) -> String {
    let mut text = String::from("{");
    for (name, value) in members {
        if text.len() > 1 {
            text.push(',');
        }
        text.push_str(&written(name.as_ref()));
        text.push(':');
        text.push_str(&value);
    }
    text.push('}');
    text
}

/// Whether a text is JSON.
pub fn is_json(text: &str) -> bool {
    serde_json::from_str::<&RawValue>(text).is_ok()
}

/// Whether a text is JSON, and neither a scalar nor a text.
pub fn is_object_or_list(text: &str) -> bool {
    text.trim_start().starts_with(['{', '[']) && is_json(text)
}

/// Whether a value is null.
pub fn is_null(value: &RawValue) -> bool {
    value.get() == "null"
}
